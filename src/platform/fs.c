/*
 * fs.c - see fs.h. Trees are removed without recursion and with two descriptors, however deep they are: a directory inside a
 * directory of the tree is first moved up to the tree's top. It does not care for speed across many threads.
 */
#include "platform/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"

enum {
	REMOVE_PASSES_MAX = 1000000, /* a pass takes a level away; who adds as fast is not followed for ever */
	NAME_ROOM = 256 + sizeof(".new"),
};

static int open_resolved(int dirfd, const char *path, struct open_how how)
{
	how.flags |= O_CLOEXEC;
	for (;;) {
		long fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));

		if (fd >= 0)
			return (int)fd;
		/* EAGAIN: something was renamed on the way, and the kernel cannot tell whether the walk stayed beneath. */
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
	}
}

int fs_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)flags,
		.mode = flags & (O_CREAT | __O_TMPFILE) ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	return open_resolved(dirfd, path, how);
}

int fs_open_directory_same_mount(int dirfd, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};

	return open_resolved(dirfd, path, how);
}

int fs_make_directory(int dirfd, const char *name, mode_t mode)
{
	ASSERT(!strchr(name, '/'));
	if (mkdirat(dirfd, name, mode) < 0 && errno != EEXIST)
		return -errno;
	return fs_open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
}

int fs_read_file(int dirfd, const char *path, struct buf *buf, size_t limit)
{
	CLEANUP_FD int fd = -1;
	struct stat st;

	/* O_NONBLOCK: opening a FIFO must not wait for its writer. */
	fd = fs_open_beneath(dirfd, path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	return fd_read_all(fd, buf, buf->length + limit);
}

static int create_new(int dirfd, const char *name, mode_t mode)
{
	for (int try = 0; try < 2; try++) {
		int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);

		if (fd >= 0)
			return fd;
		if (errno != EEXIST)
			return -errno;
		/* Left by a writer that was killed: there is only one at a time. */
		if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
			return -errno;
	}
	return -EEXIST;
}

static int write_synced(int dirfd, const char *name, const void *bytes, size_t length, mode_t mode)
{
	CLEANUP_FD int fd = create_new(dirfd, name, mode);
	int error;

	if (fd < 0)
		return fd;
	error = fd_write_all(fd, bytes, length);
	if (error == 0 && fsync(fd) < 0)
		error = -errno;
	return error;
}

int fs_write_atomic(int dirfd, const char *name, const void *bytes, size_t length, mode_t mode)
{
	char fresh[NAME_ROOM];
	int error;

	ASSERT(!strchr(name, '/'));
	if (snprintf(fresh, sizeof(fresh), "%s.new", name) > NAME_MAX)
		return -ENAMETOOLONG;
	error = write_synced(dirfd, fresh, bytes, length, mode);
	if (error == 0 && renameat(dirfd, fresh, dirfd, name) < 0)
		error = -errno;
	if (error == 0 && fsync(dirfd) < 0)
		error = -errno;
	if (error < 0)
		(void)unlinkat(dirfd, fresh, 0); /* gone already when only the last fsync failed */
	return error;
}

/* ---- removing trees ---- */

struct removal {
	int top;          /* the tree's top directory */
	uint64_t moved;   /* directories moved up so far: makes their names */
	uint64_t seen;    /* entries of the top met in this pass */
	uint64_t removed; /* entries removed or moved up in this pass */
	struct err first; /* the first thing that could not be removed */
};

static void note_failure(struct removal *removal, int error, const char *name)
{
	CLEANUP_BUF struct buf shown = BUF_INIT;

	if (removal->first.code != 0)
		return;
	str_add_visible(&shown, name, strlen(name));
	if (error == -EXDEV || error == -EBUSY)
		err_say(&removal->first, -EXDEV, "'%s' is a mount point and was left alone", shown.bytes);
	else
		err_set(&removal->first, error, "cannot remove '%s'", shown.bytes);
}

/* Removes what is no directory with something in it. 0 when it is gone, -ENOTEMPTY when it is such a directory, else -errno.
 */
static int remove_plain(int dirfd, const char *name)
{
	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	return errno == EEXIST ? -ENOTEMPTY : errno == ENOTDIR ? -EPERM : -errno;
}

/* chmod that neither follows a link nor needs to be able to read the directory. */
static void make_accessible(int dirfd, const char *name)
{
	CLEANUP_FD int fd = fs_open_beneath(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	char path[sizeof("/proc/self/fd/") + 12];

	if (fd < 0)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	(void)chmod(path, 0700); /* what it was for fails by itself if this did */
}

/* Opens a directory of the tree such that its entries can be removed. */
static int open_for_removal(int dirfd, const char *name)
{
	struct stat st;
	int fd = fs_open_directory_same_mount(dirfd, name);

	if (fd == -EACCES) {
		make_accessible(dirfd, name);
		fd = fs_open_directory_same_mount(dirfd, name);
	}
	if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 0700) != 0700)
		(void)fchmod(fd, 0700); /* as above */
	return fd;
}

/* Moves the directory `name` of `parent` up to the top under a name of its own. 0 or -errno. */
static int move_up(struct removal *removal, int parent, const char *name)
{
	char fresh[40];

	for (bool is_retry = false;;) {
		snprintf(fresh, sizeof(fresh), ".moved-%d-%llu", (int)getpid(), (unsigned long long)removal->moved++);
		if (renameat2(parent, name, removal->top, fresh, RENAME_NOREPLACE) == 0 || errno == ENOENT)
			return 0;
		if (errno == EEXIST)
			continue;
		if (errno != EACCES || is_retry)
			return -errno;
		is_retry = true;
		make_accessible(parent, name); /* moving a directory elsewhere writes its ".." */
	}
}

typedef int removal_visit(struct removal *removal, int dirfd, const char *name);

/* Calls visit for each entry; an entry that cannot be dealt with is noted. Takes the descriptor over. */
static void visit_entries(struct removal *removal, int fd, removal_visit *visit)
{
	DIR *directory = fdopendir(fd);
	const struct dirent *entry;

	if (!directory) {
		note_failure(removal, -errno, ".");
		fd_close(&fd);
		return;
	}
	while ((entry = readdir(directory))) {
		int error;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		error = visit(removal, fd, entry->d_name);
		if (error == 0)
			removal->removed++;
		else
			note_failure(removal, error, entry->d_name);
	}
	closedir(directory);
}

static int remove_or_move_up(struct removal *removal, int dirfd, const char *name)
{
	int error = remove_plain(dirfd, name);

	return error == -ENOTEMPTY ? move_up(removal, dirfd, name) : error;
}

static int remove_entry_of_top(struct removal *removal, int dirfd, const char *name)
{
	int error = remove_plain(dirfd, name);
	int child;

	removal->seen++;
	if (error != -ENOTEMPTY)
		return error;
	child = open_for_removal(dirfd, name);
	if (child < 0)
		return child == -ENOENT ? 0 : child;
	visit_entries(removal, child, remove_or_move_up);
	error = remove_plain(dirfd, name);
	return error == -ENOTEMPTY && removal->removed > 0 ? 0 : error; /* the next pass meets it again */
}

int fs_remove_tree(int dirfd, const char *name, struct err *err)
{
	struct removal removal = { .top = -1 };
	int error = remove_plain(dirfd, name);

	if (error == 0)
		return 0;
	if (error == -ENOTEMPTY) {
		removal.top = open_for_removal(dirfd, name);
		error = removal.top < 0 ? removal.top : 0;
	}
	if (error < 0) {
		note_failure(&removal, error, name);
		if (err)
			*err = removal.first;
		return removal.first.code;
	}
	for (int pass = 0; pass < REMOVE_PASSES_MAX; pass++) {
		int again = fs_open_directory_same_mount(removal.top, ".");

		removal.seen = removal.removed = 0;
		if (again < 0)
			break;
		visit_entries(&removal, again, remove_entry_of_top);
		if (removal.seen == 0 || removal.removed == 0)
			break;
	}
	fd_close(&removal.top);
	error = remove_plain(dirfd, name);
	if (error == 0)
		return 0;
	note_failure(&removal, error, name);
	if (err)
		*err = removal.first;
	return removal.first.code;
}
