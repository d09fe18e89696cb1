/*
 * lock.h - locks of open file descriptions (F_OFD_SETLK, fcntl(2)): they end with the last descriptor of their description,
 * so never outlive their process, and two descriptors opened apart conflict even within one process.
 *
 * A descriptor that carries a lock must be close-on-exec, or a child holds the lock on.
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"

/* Tries to take a write lock on `length` bytes at `offset` (length 0: to the end). 0, -EAGAIN when it is held, or -errno. */
int lock_take(int fd, uint64_t offset, uint64_t length) MUST_USE;

/* Gives such a lock back. */
void lock_release(int fd, uint64_t offset, uint64_t length);

/* True when another open file description holds a lock that conflicts. */
bool lock_is_held(int fd, uint64_t offset, uint64_t length);

/*
 * Replaces the words in a lock file. Within what it had before no room on the disk is needed, which truncating first would
 * give away. 0 or -errno.
 */
int lock_file_write(int fd, const char *text, size_t length);

/*
 * Opens (makes, 0600) the lock file `name` in the directory, takes the lock on all of it and writes our pid into it, for
 * messages only. *ret_fd holds the lock. -EAGAIN when another process has it, with a sentence that names it; or -errno.
 */
int lock_file_take(int dir_fd, const char *name, int *ret_fd, struct err *err) MUST_USE;
