/*
 * joblog.h - a line for each task that ran, in the columns of GNU parallel's --joblog, and who is done by such a file.
 *
 * A task is known by its number, that of {#}: from 1, in the order of the values. Later lines of a number count.
 */
#pragma once

#include <jansson.h>

#include "base/err.h"

struct joblog {
	int fd;
};

#define JOBLOG_INIT ((struct joblog){ .fd = -1 })

/* Numbers that need not run again. */
struct joblog_done {
	uint64_t *words; /* a bit each */
	size_t word_count;
	uint64_t bytes; /* of the file, up to the end of its last whole line */
};

/* Opens the file, and cuts it off after `kept_bytes`: 0 begins anew. 0 or -errno with a sentence. */
int joblog_open(const char *path, uint64_t kept_bytes, struct joblog *ret, struct err *err);

/* For CLEANUP(). */
void joblog_close(struct joblog *log);

/*
 * Adds the line of a task's final event, unless it never ran. `command` is as a shell would read it. 0, or -errno when the
 * line was not written.
 */
int joblog_add(struct joblog *log, uint64_t number, const json_t *event, const char *command);

/*
 * Reads which numbers are there; with `only_succeeded` those whose last line tells of success. A file that is not there is
 * empty. 0 or -errno with a sentence that names the line. joblog_done_free() either way.
 */
int joblog_read(const char *path, bool only_succeeded, struct joblog_done *ret, struct err *err);

/* True when the task need not run again. */
bool joblog_is_done(const struct joblog_done *done, uint64_t number);

/* Frees what was read. */
void joblog_done_free(struct joblog_done *done);
