/*
 * blob.c - see blob.h. Names are "name" or "directory/name"; txn.c checked them. No link is followed.
 */
#include "store/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

enum { BLOB_NAME_MAX = 160 };

/* Opens the directory of a blob, making it when `may_make`; *ret_base is the name in it. -1 with errno. */
static int open_directory(int state_fd, const char *name, bool may_make, const char **ret_base)
{
	const char *slash = strchr(name, '/');
	char directory[BLOB_NAME_MAX] = ".";

	*ret_base = slash ? slash + 1 : name;
	if (slash) {
		snprintf(directory, sizeof(directory), "%.*s", (int)(slash - name), name);
		if (may_make && mkdirat(state_fd, directory, 0700) == 0 && fsync(state_fd) < 0)
			return -1;
	}
	return openat(state_fd, directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Writes the contents under a temporary name, syncs them, gives them their name. 0 or -errno. */
static int write_blob(int directory_fd, const char *base, const char *bytes, size_t length)
{
	CLEANUP_FD int fd = -1;
	char temporary[BLOB_NAME_MAX];
	int result;

	snprintf(temporary, sizeof(temporary), "%s.new", base);
	if (unlinkat(directory_fd, temporary, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(directory_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	result = fd_write_all(fd, bytes, length);
	if (result == 0 && fsync(fd) < 0)
		result = -errno;
	if (result == 0 && renameat2(directory_fd, temporary, directory_fd, base, RENAME_NOREPLACE) < 0 && errno != EEXIST)
		result = -errno;
	if (result < 0)
		unlinkat(directory_fd, temporary, 0);
	return result;
}

static int make_blob(int state_fd, const char *state_dir, const struct operation *operation, const char *bytes,
                     struct err *err)
{
	CLEANUP_FD int directory_fd = -1;
	const char *name = bytes;
	const char *base;
	struct stat status;
	int result = 0;

	directory_fd = open_directory(state_fd, name, true, &base);
	if (directory_fd < 0)
		return err_set(err, -errno, "cannot open the directory of %s/%s", state_dir, name);
	if (fstatat(directory_fd, base, &status, AT_SYMLINK_NOFOLLOW) < 0)
		result = write_blob(directory_fd, base, bytes + operation->id, operation->size - operation->id);
	/* Also when it was there: whoever made it may have died before this. */
	if (result == 0 && fsync(directory_fd) < 0)
		result = -errno;
	if (result == -ENOSPC || result == -EDQUOT)
		return err_say(err, result, "disk full: cannot write %s/%s: make room on its file system", state_dir, name);
	return result == 0 ? 0 : err_set(err, result, "cannot write %s/%s", state_dir, name);
}

int blob_make_all(int state_fd, const char *state_dir, const struct store_txn *txn, struct err *err)
{
	struct operation operation;
	const char *bytes;
	size_t at = 0;
	int result = 0;

	while (result == 0 && txn_next(&txn->blobs, &at, &operation, &bytes))
		if (operation.kind == OPERATION_PUT_BLOB)
			result = make_blob(state_fd, state_dir, &operation, bytes, err);
	return result;
}

/* Dropped and wanted again: it stays. */
static bool is_put_after(const struct store_txn *txn, size_t at, const char *name)
{
	struct operation operation;
	const char *bytes;

	while (txn_next(&txn->blobs, &at, &operation, &bytes))
		if (operation.kind == OPERATION_PUT_BLOB && strcmp(bytes, name) == 0)
			return true;
	return false;
}

void blob_drop_all(int state_fd, const struct store_txn *txn)
{
	struct operation operation;
	const char *bytes;
	size_t at = 0;

	while (txn_next(&txn->blobs, &at, &operation, &bytes)) {
		CLEANUP_FD int directory_fd = -1;
		const char *base;

		if (operation.kind != OPERATION_DROP_BLOB || is_put_after(txn, at, bytes))
			continue;
		directory_fd = open_directory(state_fd, bytes, false, &base);
		if (directory_fd >= 0)
			unlinkat(directory_fd, base, 0);
	}
}
