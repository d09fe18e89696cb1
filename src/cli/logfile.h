/*
 * logfile.h - reads the log of an attempt while it grows or afterwards.
 *
 * A place in the file is the same place in the task's output. What was dropped between head and tail is a hole; the hole may
 * grow over bytes that were just read, so each piece is checked again after reading.
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"

enum { LOGFILE_PIECE_MAX = 64 << 10 };

struct logfile {
	int fd; /* −1 = not open */
	off_t position;
};

#define LOGFILE_INIT ((struct logfile){ .fd = -1 })

/* Opens it at the beginning. 0, or -errno (-ENOENT: not yet, or no longer). */
int logfile_open(const char *path, struct logfile *ret);

/* For CLEANUP(). */
void logfile_close(struct logfile *file);

/*
 * The next piece into `bytes`: its length; 0 when there is none now. *ret_dropped is the number of bytes that are missing
 * before it (then the length may be 0 although there is more: ask again). -errno on failure.
 */
ssize_t logfile_read(struct logfile *file, char bytes[LOGFILE_PIECE_MAX], uint64_t *ret_dropped);

/* Moves to the beginning of the last `lines` lines (of those kept at the end). 0 or -errno. */
int logfile_seek_lines(struct logfile *file, uint64_t lines);

/* Moves to the end of what is there now. 0 or -errno. */
int logfile_seek_end(struct logfile *file);
