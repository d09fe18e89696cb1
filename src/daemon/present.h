/*
 * present.h - tasks, waits and events as the objects of proto/api.def.
 */
#pragma once

#include <jansson.h>

#include "base/buf.h"
#include "core/core.h"
#include "daemon/turn.h"
#include "store/store.h"

struct daemon;
struct roster_task;

enum {
	PRESENT_TEXT_MAX = 16 << 10,  /* bytes of a command that are shown, before escaping */
	PRESENT_LABEL_MAX = 1 << 10,  /* of a label */
	PRESENT_SPEC_MAX = 512 << 10, /* a spec with more is not shown */
};

/* Bytes that present_task() takes in a message, at the most or about. */
size_t present_task_size(const struct daemon *daemon, uint32_t index);

/* TASK, TASK_DETAILS, and the list that DROVER_AFTER holds; new references. */
json_t *present_task(struct daemon *daemon, uint32_t index);
json_t *present_details(struct daemon *daemon, uint32_t index);
json_t *present_predecessors(struct daemon *daemon, uint64_t task);

/* ATTEMPT for the latest attempt of a task as it is in `task`; without its log_path. New reference. */
json_t *present_attempt(const struct daemon *daemon, const struct task *task, const struct roster_task *texts);

/* Absolute path of an attempt's log; null for attempt 0. New reference. */
json_t *present_log_path(const struct daemon *daemon, uint64_t task, uint32_t attempt);

/* EVENT for a line of the event log; fields about the task are as they are now. New reference. */
json_t *present_event(struct daemon *daemon, const struct store_event *event, enum task_state state);

/* The same for an event that has just become durable. New reference. */
json_t *present_turn_event(struct daemon *daemon, const struct turn_event *event);

/* "task.running" … */
const char *present_event_kind(enum task_state state);

/* The state of an event kind made by present_event_kind(), TASK_STATE_MAX for any other. */
enum task_state present_event_state(const char *kind);

/* Adds the data of an event's line: attempt, and how it ended where it did. */
void present_add_event_data(struct buf *data, const struct turn_event *event);

/* STATUS and DAEMON_STATUS; new references. */
json_t *present_status(struct daemon *daemon);
json_t *present_daemon(struct daemon *daemon);

/* The command of a task_spec as one line for people. To be freed. */
char *present_command_line(const char *spec);
