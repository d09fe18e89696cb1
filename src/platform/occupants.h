/*
 * occupants.h - what is in a directory besides its files: processes that work there, mounts; and how much it holds.
 *
 * For whoever is about to remove it. All of it is a look at one instant, and only as far as this user can see: others'
 * processes and other mount namespaces may stay hidden.
 */
#pragma once

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

enum { OCCUPANT_COMMAND_MAX = 32 };

struct occupant {
	pid_t pid;
	char command[OCCUPANT_COMMAND_MAX]; /* its name as the kernel has it: any bytes */
};

/*
 * Looks for a process whose working or root directory is the directory of the descriptor or lies below it, whatever path it
 * has there. `proc` is the path of /proc. 1 with *ret filled, 0 when none was seen, or -errno when `proc` cannot be read.
 */
int occupants_find_process(const char *proc, int directory, struct occupant *ret);

/*
 * Looks in the text of a mountinfo file (proc(5)) for a mount at or below `path`, which is absolute and without links. True
 * with the mount point in *ret_point.
 */
bool occupants_parse_mounts(const char *text, size_t length, const char *path, struct buf *ret_point);

/* The same with the mounts that this process sees in `proc`. 1, 0 or -errno. */
int occupants_find_mount(const char *proc, const char *path, struct buf *ret_point);

/*
 * Adds up the disk space of the tree below the directory, without following links or entering other mounts. A file with
 * several links counts in part, so that the whole is what its removal would free, on average. 0 or -errno for the first
 * directory that could not be read; *ret_bytes then holds the rest.
 */
int occupants_measure(int directory, uint64_t *ret_bytes);
