#include "platform/holder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"

enum { NAME_BYTES = 32, TEXT_BYTES_MAX = 1 << 20 };

static bool is_in(const char *path, const char *directory)
{
	size_t length = strlen(directory);

	return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static bool is_git(int process)
{
	CLEANUP_FD int fd = openat(process, "comm", O_RDONLY | O_CLOEXEC);
	char name[NAME_BYTES] = "";

	return fd >= 0 && read(fd, name, sizeof(name) - 1) > 0 && strncmp(name, "git", 3) == 0;
}

static bool stands_in(int process, const char *const *directories)
{
	char path[PATH_MAX];
	ssize_t length = readlinkat(process, "cwd", path, sizeof(path) - 1);

	if (length < 0)
		return errno == EACCES || errno == EPERM;
	path[length] = '\0';
	for (size_t i = 0; directories[i]; i++)
		if (is_in(path, directories[i]))
			return true;
	return false;
}

/* One of the directories is named in the process's arguments or environment: --git-dir=…, GIT_DIR=…. */
static bool mentions(int process, const char *name, const char *const *directories)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	CLEANUP_FD int fd = openat(process, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fd_read_all(fd, &text, TEXT_BYTES_MAX) < 0)
		return fd < 0 && errno == EACCES;
	for (size_t i = 0; directories[i]; i++)
		if (text.length > 0 && memmem(text.bytes, text.length, directories[i], strlen(directories[i])))
			return true;
	return false;
}

static bool has_open(int process, const struct stat *file)
{
	int fd = openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *listing = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	bool is_found = false;
	struct stat st;

	if (!listing)
		fd_close(&fd);
	while (listing && !is_found && (entry = readdir(listing)))
		is_found = fstatat(dirfd(listing), entry->d_name, &st, 0) == 0 && st.st_ino == file->st_ino &&
		           st.st_dev == file->st_dev;
	if (listing)
		closedir(listing);
	return is_found;
}

static bool may_hold(int process, const struct stat *file, const char *const *directories)
{
	if (is_git(process) && (stands_in(process, directories) || mentions(process, "cmdline", directories) ||
	                        mentions(process, "environ", directories)))
		return true;
	return has_open(process, file);
}

pid_t holder_find(const char *proc, const struct stat *file, const char *const *directories)
{
	DIR *listing = opendir(proc);
	const struct dirent *entry;
	pid_t found = listing ? 0 : -1;

	while (listing && found == 0 && (entry = readdir(listing))) {
		CLEANUP_FD int process = -1;
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (pid <= 0 || pid == getpid())
			continue;
		process = openat(dirfd(listing), entry->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (process >= 0 && may_hold(process, file, directories))
			found = pid;
	}
	if (listing)
		closedir(listing);
	return found;
}
