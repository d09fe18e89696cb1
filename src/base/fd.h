/*
 * fd.h - file descriptors: −1 is none, closed once, handed over visibly.
 */
#pragma once

#include "base/macros.h"

/*
 * Closes *fd unless it is −1 and sets it to −1. close() is never tried again: on Linux the descriptor is gone even after
 * EINTR, and its number may belong to someone else by then. Keeps errno.
 */
void fd_close(int *fd);

/* Hands a descriptor over: the variable is −1 afterwards. */
#define TAKE_FD(fd)                                                                                                         \
	({                                                                                                                  \
		int *take_fd_ = &(fd);                                                                                      \
		int take_value_ = *take_fd_;                                                                                \
		*take_fd_ = -1;                                                                                             \
		take_value_;                                                                                                \
	})

#define CLEANUP_FD CLEANUP(fd_close)

/* Writes all bytes, past short writes and EINTR. Returns 0 or -errno. */
int fd_write_all(int fd, const void *bytes, size_t length) MUST_USE;

/*
 * Reads to the end of file into *buf (struct buf), at most `limit` bytes.
 * Returns 0, -EFBIG when there is more, or -errno.
 */
struct buf;
int fd_read_all(int fd, struct buf *buf, size_t limit) MUST_USE;

/* Sets or clears O_NONBLOCK. Returns 0 or -errno. */
int fd_set_nonblocking(int fd, bool nonblocking);
