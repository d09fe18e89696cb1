/*
 * guard.h - the ground the database stands on: the state directory, the files in it, the file system below.
 *
 * Looks and refuses; repairs nothing but the mode of the database itself. Never opens an existing database file while it is
 * open elsewhere in this process: closing it would drop SQLite's locks (POSIX locks belong to the process).
 */
#pragma once

#include "base/err.h"

/*
 * Refuses a state directory that is not the user's own or that others may write to, and a database or companion file that is
 * a link, has several names, or is not a plain file of the user. A mode other than 0600 that only lets others read is set
 * right. `committed_seq` > 0 wants the database to exist.
 * Makes an empty database file (0600, directory synced) when there is none. 0, -EPERM, -EILSEQ (database missing) or -errno.
 */
int guard_prepare(int state_fd, const char *state_dir, uint64_t committed_seq, struct err *err);

/*
 * The canonical path of the database into `path` (PATHS_MAX bytes), after making sure that it leads to `state_fd`: SQLite
 * opens by path and is told to follow no link in it. 0 or -errno.
 */
int guard_find_path(int state_fd, const char *state_dir, char *path, struct err *err);

/* Pid of a process that has a lock on the database, 0 when it cannot be learnt. Only while it is not open here. */
int guard_find_holder(int state_fd);

/* Fills *err for a write of `bytes` that found no room: what is short, space or inodes, and what is needed. -errno. */
int guard_say_full(int state_fd, const char *state_dir, uint64_t bytes, struct err *err);

/*
 * -ENOSPC with a sentence unless the file system has room for `bytes` (and what goes with them) and a few inodes, with
 * enough left over for the ends of running tasks. 0 or -errno.
 */
int guard_check_space(int state_fd, const char *state_dir, uint64_t bytes, struct err *err);

/* Name of the network or FUSE file system that `fd` lies on, NULL for others; the same of a file system's magic number. */
const char *guard_remote_name(int fd);
const char *guard_name_magic(uint32_t magic);
