/*
 * worktree_watch.h - sees when the worktree of a task that runs is deleted, replaced or moved away, by anybody.
 *
 * The directories that hold worktrees are watched (inotify), so nothing is polled and nothing costs while nothing happens. A
 * task whose worktree has gone gets the condition worktree-missing once; it runs on, for what it does may not be about
 * files. What its branch holds is kept when it is collected. Where inotify is not to be had, the collection is the first to
 * see it.
 */
#pragma once

#include <uv.h>

#include "base/macros.h"

struct daemon;

/* A part of the daemon's context. */
struct worktree_watch {
	int fd; /* −1 = nothing is watched */
	uv_poll_t *poll;
	struct watched_root {
		int number; /* of the watch */
		char *path;
	} * roots;
	uint32_t count;
};

/* Begins without a watch. */
void worktree_watch_init(struct daemon *daemon);

/* Watches over the worktree of the task at `index`, if it has one. Before it runs, or when it was found running. */
void worktree_watch_add(struct daemon *daemon, uint32_t index);

/* The same for every active task, and looks at each once: after a start. */
void worktree_watch_resume(struct daemon *daemon);

/* Ends it. */
void worktree_watch_done(struct daemon *daemon);
