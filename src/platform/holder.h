/*
 * holder.h - who may be using a file that marks something as taken, such as git's *.lock files.
 *
 * Such a file has no owner in it and often no open descriptor behind it (git closes its lock before it starts an editor). So
 * this is a guess on the safe side: it may name a process that has nothing to do with the file.
 */
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include "base/macros.h"

/*
 * A process, not this one, that has the file open, or whose name begins with "git" and that stands in one of `directories`
 * (absolute, NULL-ended), names one in its arguments or environment, or cannot be seen into. 0 when there is none, −1 when
 * there is no telling. `proc` is where /proc is.
 */
pid_t holder_find(const char *proc, const struct stat *file, const char *const *directories);
