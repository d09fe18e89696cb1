/*
 * history.h - the attempts of a task before its latest one. The latest is in the task itself; when another follows, how it
 * went is kept with the task's result, the oldest going when there are many.
 */
#pragma once

#include "daemon/daemon.h"

enum { HISTORY_ATTEMPTS_MAX = 100 };

/*
 * After an input has gone through the core: notes the attempt that it ended, when another is to follow. `before` is the task
 * as it was before the step. Marks the task's row. True when there is such an attempt; *ret is the task as it was at its
 * end.
 */
bool history_note(struct daemon *daemon, uint32_t index, const struct task *before, const struct core_event *event,
                  struct task *ret);

/* All attempts that are known, oldest first, as ATTEMPT objects; a new reference. */
json_t *history_present(struct daemon *daemon, uint32_t index);
