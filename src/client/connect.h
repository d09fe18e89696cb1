/*
 * connect.h - finds the daemon of a state directory and connects to it; start.c: starts one when none answers.
 *
 * The lock file STATE/daemon.lock names the socket; the environment does not count, since cron and sudo lack it. Who may be
 * the daemon is decided by the keeper's and the daemon's locks, never here: any number of clients may try to start one at
 * once.
 */
#pragma once

#include <sys/types.h>

#include "base/paths.h"

struct connect_lock {
	pid_t pid; /* a hint, never evidence */
	char socket[PATHS_MAX];
	char version[64];
};

/* Reads STATE/daemon.lock. 0, -ENOENT when there is none, -EINVAL when it is damaged or not yet written, or another -errno.
 */
int connect_read_lock(const char *state_dir, struct connect_lock *ret, struct err *err);

/*
 * Connects to a unix socket, however long its path, and sees that its other end belongs to this user. Returns a
 * non-blocking, close-on-exec descriptor or -errno: -ENOENT, -ENOTDIR, -ECONNREFUSED mean that nobody listens, -EPERM a
 * stranger.
 */
int connect_socket(const char *path, struct err *err);

/* Reads the lock file and connects by it. A descriptor or -errno, as above. */
int connect_daemon(const char *state_dir, struct err *err);

/* True when the error of connect_daemon() means that no daemon runs (and not, say, that it is a stranger's). */
bool connect_is_absence(int code);

/*
 * Connects, and starts a daemon through its keeper when none answers, waiting up to 10 s. `*ret_was_started` tells whether
 * it had to. Inside a task (PARALLEL_TASK_ID is set) none is started. A descriptor or -errno with a sentence.
 */
int connect_start(const char *state_dir, bool *ret_was_started, struct err *err);

/* True when the state directory is there and this user cannot write to it. */
bool connect_wants_reader(const char *state_dir);

/* Starts what serves such a directory to this client alone, and connects. A descriptor or -errno with a sentence. */
int connect_reader(const char *state_dir, struct err *err);
