#include "store/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/paths.h"
#include "base/units.h"

enum {
	SPACE_RESERVE = 4 << 20, /* bytes kept for the ends of what runs: a record of an end is about a kilobyte */
	SPACE_FACTOR = 3,        /* a row goes to the log, then to the database; an environment to a file */
	INODES_RESERVE = 16,
};

/* SQLite's lock bytes: PENDING_BYTE of its file format and the 511 behind it. */
enum { LOCK_START = 0x40000000, LOCK_LENGTH = 512 };

static int check_directory(int state_fd, const char *state_dir, struct err *err)
{
	struct stat status;

	if (fstat(state_fd, &status) < 0)
		return err_set(err, -errno, "cannot look at the state directory %s", state_dir);
	if (!S_ISDIR(status.st_mode))
		return err_say(err, -ENOTDIR, "the state directory %s is not a directory: remove it or set DROVER_STATE_DIR",
		               state_dir);
	if (status.st_uid != geteuid())
		return err_say(err, -EPERM, "the state directory %s belongs to user %u, drover runs as user %u: run it as "
		               "that user, or set DROVER_STATE_DIR to a directory of your own", state_dir, status.st_uid,
		               geteuid());
	if (status.st_mode & (S_IWGRP | S_IWOTH))
		return err_say(err, -EPERM, "others may write to the state directory %s (mode %04o): run 'chmod 700 %s' "
		               "after making sure that nobody changed what is in it", state_dir, status.st_mode & 07777,
		               state_dir);
	return 0;
}

/* Refuses what is not a plain file of ours with one name; -ENOENT (without a sentence) when there is none. */
static int check_file(int state_fd, const char *state_dir, const char *name, struct err *err)
{
	struct stat status;

	if (fstatat(state_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? -ENOENT : err_set(err, -errno, "cannot look at %s/%s", state_dir, name);
	if (S_ISLNK(status.st_mode))
		return err_say(err, -EPERM, "%s/%s is a symbolic link: move the file it points to here; a database reached "
		               "by two names is destroyed sooner or later", state_dir, name);
	if (!S_ISREG(status.st_mode))
		return err_say(err, -EPERM, "%s/%s is not a plain file: move it away", state_dir, name);
	if (status.st_nlink > 1)
		return err_say(err, -EPERM, "%s/%s has %lu names (hard links): copy it to a file of its own; a database "
		               "reached by two names is destroyed sooner or later. An interrupted 'drover db restore' is "
		               "finished by running it again", state_dir, name, (unsigned long)status.st_nlink);
	if (status.st_uid != geteuid() || (status.st_mode & (S_IWGRP | S_IWOTH)))
		return err_say(err, -EPERM, "%s/%s belongs to user %u and has mode %04o: others could have changed it; make "
		               "it yours with mode 0600 if you trust it", state_dir, name, status.st_uid,
		               status.st_mode & 07777);
	if ((status.st_mode & 0777) != 0600 && fchmodat(state_fd, name, 0600, 0) < 0)
		return err_set(err, -errno, "cannot set the mode of %s/%s to 0600", state_dir, name);
	return 0;
}

static int make_database(int state_fd, const char *state_dir, struct err *err)
{
	CLEANUP_FD int fd = openat(state_fd, PATHS_DATABASE, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_set(err, -errno, "cannot make %s/" PATHS_DATABASE " (drover needs a state directory it can write "
		               "to; DROVER_STATE_DIR chooses another)", state_dir);
	/* The umask may have taken bits away; SQLite gives its companion files the mode of this one. */
	if (fchmod(fd, 0600) < 0 || fsync(state_fd) < 0)
		return err_set(err, -errno, "cannot make %s/" PATHS_DATABASE, state_dir);
	return 0;
}

int guard_prepare(int state_fd, const char *state_dir, uint64_t committed_seq, struct err *err)
{
	static const char *const companions[] = { PATHS_DATABASE "-wal", PATHS_DATABASE "-shm", PATHS_DATABASE "-journal" };
	int result = check_directory(state_fd, state_dir, err);

	for (size_t i = 0; result == 0 && i < ARRAY_SIZE(companions); i++) {
		result = check_file(state_fd, state_dir, companions[i], err);
		if (result == -ENOENT)
			result = 0;
	}
	if (result < 0)
		return result;
	result = check_file(state_fd, state_dir, PATHS_DATABASE, err);
	if (result == -ENOENT && committed_seq > 0)
		return err_say(err, -EILSEQ, "%s/" PATHS_DATABASE " is missing, but events up to %llu were committed to it: "
		               "put it back together with its -wal file, or run 'drover db restore', which takes what is "
		               "there and says what is lost; to begin anew, move %s away", state_dir,
		               (unsigned long long)committed_seq, state_dir);
	if (result == -ENOENT)
		return make_database(state_fd, state_dir, err);
	return result;
}

int guard_find_path(int state_fd, const char *state_dir, char *path, struct err *err)
{
	char canonical[PATHS_MAX];
	struct stat by_path, by_fd;
	int length;

	if (!realpath(state_dir, canonical) || stat(canonical, &by_path) < 0 || fstat(state_fd, &by_fd) < 0)
		return err_set(err, -errno, "cannot find the state directory %s", state_dir);
	if (by_path.st_dev != by_fd.st_dev || by_path.st_ino != by_fd.st_ino)
		return err_say(err, -ESTALE, "the state directory %s was replaced while drover started: start it again",
		               state_dir);
	length = snprintf(path, PATHS_MAX, "%s/" PATHS_DATABASE, canonical);
	if (length < 0 || length >= PATHS_MAX)
		return err_say(err, -ENAMETOOLONG, "the path of the state directory %s is too long: %d bytes at most",
		               state_dir, PATHS_MAX - (int)sizeof(PATHS_DATABASE) - 1);
	return 0;
}

int guard_find_holder(int state_fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCK_START, .l_len = LOCK_LENGTH };
	CLEANUP_FD int fd = openat(state_fd, PATHS_DATABASE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid > 0 ? lock.l_pid : 0;
}

int guard_say_full(int state_fd, const char *state_dir, uint64_t bytes, struct err *err)
{
	char free_text[UNITS_TEXT_MAX], need_text[UNITS_TEXT_MAX];
	struct statvfs status;

	if (fstatvfs(state_fd, &status) < 0)
		return err_set(err, -errno, "cannot learn the free space of %s", state_dir);
	if (status.f_files > 0 && status.f_favail == 0)
		return err_say(err, -ENOSPC, "disk full: the file system of %s has no inodes free, this needs %d: remove "
		               "files there; drover goes on by itself then", state_dir, INODES_RESERVE);
	return err_say(err, -ENOSPC, "disk full: %s has %s free (a quota may allow less), this needs about %s: make room "
	               "there; drover goes on by itself then", state_dir,
	               units_format_size((uint64_t)status.f_bavail * status.f_frsize, free_text),
	               units_format_size(bytes * SPACE_FACTOR + SPACE_RESERVE, need_text));
}

int guard_check_space(int state_fd, const char *state_dir, uint64_t bytes, struct err *err)
{
	char free_text[UNITS_TEXT_MAX], need_text[UNITS_TEXT_MAX];
	uint64_t need = bytes * SPACE_FACTOR + SPACE_RESERVE;
	struct statvfs status;
	uint64_t available;

	if (fstatvfs(state_fd, &status) < 0)
		return err_set(err, -errno, "cannot learn the free space of %s", state_dir);
	available = (uint64_t)status.f_bavail * status.f_frsize;
	if (available < need)
		return err_say(err, -ENOSPC, "disk full: %s has %s free, this needs %s: make room there and try again",
		               state_dir, units_format_size(available, free_text), units_format_size(need, need_text));
	if (status.f_files > 0 && status.f_favail < INODES_RESERVE) /* 0: the file system makes inodes as it goes */
		return err_say(err, -ENOSPC, "disk full: the file system of %s has %llu inodes free, this needs %d: remove "
		               "files there and try again", state_dir, (unsigned long long)status.f_favail, INODES_RESERVE);
	return 0;
}

const char *guard_name_magic(uint32_t magic)
{
	/* Magic numbers from statfs(2) and linux/magic.h, written out since older headers lack some. */
	static const struct {
		uint32_t magic;
		const char *name;
	} remote[] = {
		{ 0x00006969, "NFS" },     { 0x0000517b, "SMB" },     { 0xfe534d42, "SMB2" },   { 0xff534d42, "CIFS" },
		{ 0x00c36400, "Ceph" },    { 0x01021997, "9p" },      { 0x65735546, "FUSE" },   { 0x5346414f, "AFS" },
		{ 0x73757245, "Coda" },    { 0x0bd00bd0, "Lustre" },  { 0x47504653, "GPFS" },   { 0x01161970, "GFS2" },
		{ 0x7461636f, "OCFS2" },   { 0x786f4256, "VirtualBox share" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(remote); i++)
		if (magic == remote[i].magic)
			return remote[i].name;
	return NULL;
}

const char *guard_remote_name(int fd)
{
	struct statfs status;

	return fstatfs(fd, &status) < 0 ? NULL : guard_name_magic((uint32_t)status.f_type);
}
