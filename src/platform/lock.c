#include "platform/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

static struct flock range(short type, uint64_t offset, uint64_t length)
{
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)offset, .l_len = (off_t)length };
}

int lock_take(int fd, uint64_t offset, uint64_t length)
{
	struct flock lock = range(F_WRLCK, offset, length);

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

void lock_release(int fd, uint64_t offset, uint64_t length)
{
	struct flock lock = range(F_UNLCK, offset, length);

	fcntl(fd, F_OFD_SETLK, &lock); /* unlocking what we hold does not fail */
}

bool lock_is_held(int fd, uint64_t offset, uint64_t length)
{
	struct flock lock = range(F_WRLCK, offset, length);

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* Who holds it, by the file's own words, for the message. */
static void read_holder(int fd, char *text, size_t size)
{
	ssize_t got = pread(fd, text, size - 1, 0);

	text[got > 0 ? got : 0] = '\0';
	text[strspn(text, "0123456789")] = '\0';
}

static int write_holder(int fd)
{
	char text[32];
	int length = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	return lock_file_write(fd, text, (size_t)length);
}

int lock_file_write(int fd, const char *text, size_t length)
{
	char blank[512];
	struct stat status;
	off_t end = (off_t)length;

	if (fstat(fd, &status) < 0)
		return -errno;
	memset(blank, '\n', sizeof(blank));
	while (end < status.st_size) { /* first: what is left of an older text is not to be read as part of this one */
		ssize_t written = pwrite(fd, blank, MIN(sizeof(blank), (size_t)(status.st_size - end)), end);

		if (written <= 0)
			return -ENOSPC;
		end += written;
	}
	if (pwrite(fd, text, length, 0) != (ssize_t)length)
		return -ENOSPC;
	return ftruncate(fd, (off_t)length) < 0 ? -errno : 0;
}

int lock_file_take(int dir_fd, const char *name, int *ret_fd, struct err *err)
{
	CLEANUP_FD int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct stat status;
	char holder[32];
	int r;

	if (fd < 0)
		return err_set(err, -errno, "open the lock file '%s'", name);
	if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || status.st_uid != geteuid())
		return err_say(err, -EPERM, "the lock file '%s' is not a plain file of this user: remove it", name);
	r = lock_take(fd, 0, 0);
	if (r == -EAGAIN) {
		read_holder(fd, holder, sizeof(holder));
		return err_say(err, -EAGAIN, "'%s' is held by another process%s%s", name, holder[0] ? ", pid " : "", holder);
	}
	if (r < 0)
		return err_set(err, r, "lock '%s'", name);
	r = write_holder(fd);
	err_ignore(r < 0 ? err : NULL, "the pid is for messages only: a full disk does not matter");
	*ret_fd = TAKE_FD(fd);
	return 0;
}
