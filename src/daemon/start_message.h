/*
 * start_message.h - builds the START order of an attempt from what was submitted.
 */
#pragma once

#include "base/buf.h"
#include "core/task.h"
#include "daemon/daemon.h"

/*
 * The bytes of a struct wire_start with its payload behind it, for `task` in its slot. Larger payloads are moved into a
 * memfd by the sender. Also writes the file that DROVER_AFTER names. 0 or -errno with a sentence.
 */
int start_message_build(struct daemon *daemon, const struct task *task, const struct roster_task *texts, struct buf *ret,
                        struct err *err);

/*
 * What a failed stage of a start was about, in words ("program 'x'", "directory '/y'"), to be freed; NULL when the stage's
 * own name says it all.
 */
char *start_message_object(const struct roster_task *texts, enum start_stage stage);

/* The working directory of an attempt: in its worktree, or where it was submitted. To be freed. */
char *start_message_directory(const struct roster_task *texts, const json_t *spec);
