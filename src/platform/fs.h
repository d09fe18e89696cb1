/*
 * fs.h - files and trees beneath a directory descriptor.
 *
 * Every name here is relative to a descriptor and is walked without following a symbolic link, going above the descriptor,
 * or through the magic links of /proc. So a task that swaps a directory for a link gains nothing: the call fails with
 * -ELOOP or -EXDEV and touches nothing elsewhere.
 */
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include "base/err.h"

struct buf;

/*
 * Opens `path` beneath `dirfd`. `flags` are those of open(2), O_CLOEXEC is added; `mode` counts with O_CREAT only.
 * Returns a descriptor, or -errno: -ELOOP a symbolic link on the way, -EXDEV it would lead out.
 */
int fs_open_beneath(int dirfd, const char *path, int flags, mode_t mode) MUST_USE;

/* As fs_open_beneath for a directory, but also refuses to enter another mount (-EXDEV), bind mounts included. */
int fs_open_directory_same_mount(int dirfd, const char *path) MUST_USE;

/*
 * Makes the directory `name` directly in `dirfd` unless one is there, and opens it. Returns a descriptor, or -errno:
 * -ENOTDIR or -ELOOP when the name is taken by something else.
 */
int fs_make_directory(int dirfd, const char *name, mode_t mode) MUST_USE;

/*
 * Adds the contents of the regular file `path` to *buf. Returns 0 or -errno: -EFBIG above `limit` bytes, -EINVAL when it
 * is no regular file (a FIFO does not block the caller).
 */
int fs_read_file(int dirfd, const char *path, struct buf *buf, size_t limit) MUST_USE;

/*
 * Puts `length` bytes in the place of the file `name` (no '/'): after a crash there is the old file or the new one, and
 * when this returns 0 it is the new one, on disk. Writes `name`.new first; one writer for a name at a time is the
 * caller's business. Returns 0 or -errno; on an error the old file stands.
 */
int fs_write_atomic(int dirfd, const char *name, const void *bytes, size_t length, mode_t mode) MUST_USE;

/*
 * Removes `name`, which may be a file, a link, or a whole tree, and does not follow links or enter other mounts. A name that
 * is not there is success, and so are several callers at once. Directories without write permission get it. What cannot be
 * removed is left, the rest is removed all the same.
 * Returns 0, or the first -errno with the sentence: -EXDEV for a mount point, -EACCES, -EPERM ….
 */
int fs_remove_tree(int dirfd, const char *name, struct err *err) MUST_USE;
