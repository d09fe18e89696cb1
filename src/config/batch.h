/*
 * batch.h - batch files: what to run together, and how.
 *
 * A file is checked as a whole before anything is sent: unknown keys, types, names, and dependencies within the file. What
 * only the daemon can know (tasks of other batches, revisions) is left to it.
 */
#pragma once

#include <jansson.h>

#include "config/tree.h"

struct batch_file {
	char *name;       /* of the batch, NULL when the file gives none */
	uint64_t limit;   /* most tasks at once, 0 = not given */
	char *worktree;   /* default strategy, NULL when not given: none, auto, checkout */
	char *base;       /* revision for worktrees, NULL when not given */
	json_t *tasks;    /* list of task_spec objects of the interface, in the file's order, defaults merged in */
	bool has_timeout; /* every task has a time limit of its own */
};

/*
 * Reads a batch file; "-" is standard input. Errors point at file:line:column. 0 or -errno.
 */
int batch_file_read(const char *path, struct batch_file *ret, struct err *err);

/* The same from an already read tree. */
int batch_file_convert(const struct config_file *file, struct batch_file *ret, struct err *err);

/* Frees what the structure holds. */
void batch_file_done(struct batch_file *batch);

/* The path "a -> b -> a" of a circle is cut to this many bytes. */
enum { BATCH_PATH_MAX = 400 };
