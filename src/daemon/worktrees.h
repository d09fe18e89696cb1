/*
 * worktrees.h - makes and collects attempts' worktrees through the helper, and keeps what it answered with the task.
 */
#pragma once

#include "core/core.h"

struct daemon;

/* What tells a task of this daemon's from one of the same id elsewhere, or in a state directory begun anew; to be freed. */
char *worktrees_owner(const struct daemon *daemon, const struct task *task);

/* True when such a name is of this state directory, whether the task is known or not. */
bool worktrees_is_own(const struct daemon *daemon, const char *owner);

/* PREPARE: answers PREPARED or PREPARE_FAILED. */
void worktrees_prepare(struct daemon *daemon, const struct effect *effect);

/* COLLECT: answers COLLECTED. */
void worktrees_collect(struct daemon *daemon, const struct effect *effect);
