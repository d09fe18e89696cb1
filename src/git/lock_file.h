/*
 * lock_file.h - the sentence about one of git's lock files that stands in the way.
 */
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include "base/err.h"

/* Says which file it is, how old, who may hold it (0 = nobody was seen), and what to do. Returns -EBUSY. */
int lock_file_say(const char *path, const struct stat *file, pid_t holder, struct err *err);

/*
 * The same when git has said that it found one ("Unable to create '…': File exists"): -EBUSY, also when the file has gone
 * since. 0 when git did not say so.
 */
int lock_file_explain(const char *said, struct err *err);
