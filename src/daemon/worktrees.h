/*
 * worktrees.h - makes and collects attempts' worktrees through the helper, and keeps what it answered with the task.
 */
#pragma once

#include "core/core.h"

struct daemon;

/* PREPARE: answers PREPARED or PREPARE_FAILED. */
void worktrees_prepare(struct daemon *daemon, const struct effect *effect);

/* COLLECT: answers COLLECTED. */
void worktrees_collect(struct daemon *daemon, const struct effect *effect);
