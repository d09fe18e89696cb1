/*
 * resolve.c - see resolve.h.
 *
 * The rule: a task is run again only when it is certain that it has not run. What waits and may have run since is held, so
 * that its owner decides; what ran and left no record of its end is lost.
 */
#include "store/resolve.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

static const char event_prefix[] = "task.";

/* The number behind "NAME": in the flat JSON that the daemon writes; `absent` when it is not there. */
static int32_t find_number(const char *data, const char *name, int32_t absent)
{
	const char *at = data ? strstr(data, name) : NULL;

	return at ? (int32_t)strtol(at + strlen(name), NULL, 10) : absent;
}

static uint8_t find_cause(const char *data)
{
	static const char name[] = "\"cause\":\"";
	const char *at = data ? strstr(data, name) : NULL;

	for (unsigned kind = 0; at && kind < CAUSE_MAX; kind++) {
		const char *word = cause_kind_name(kind);
		size_t length = strlen(word);

		if (strncmp(at + strlen(name), word, length) == 0 && at[strlen(name) + length] == '"')
			return (uint8_t)kind;
	}
	return CAUSE_NONE;
}

bool resolve_read_event(const struct store_event *row, struct newest_event *ret)
{
	int state;

	if (row->task == 0 || strncmp(row->kind, event_prefix, strlen(event_prefix)) != 0)
		return false;
	state = task_state_find(row->kind + strlen(event_prefix));
	if (state < 0)
		return false;
	*ret = (struct newest_event){
		.seq = row->seq,
		.at_ms = row->at_ms,
		.attempt = (uint32_t)find_number(row->data, "\"attempt\":", 0),
		.exit_code = find_number(row->data, "\"exit_code\":", -1),
		.exit_signal = find_number(row->data, "\"signal\":", 0),
		.state = (uint8_t)state,
		.cause = find_cause(row->data),
	};
	if (ret->cause == CAUSE_EXIT && ret->exit_code >= 0)
		ret->cause_value = (uint64_t)ret->exit_code;
	else if (ret->cause == CAUSE_SIGNAL)
		ret->cause_value = (uint64_t)ret->exit_signal;
	return true;
}

/* No attempt, no timer. */
static void clear_attempt(struct task *task)
{
	task->phase = PHASE_NONE;
	task->slot = TASK_NONE;
	task->due_ns = NEVER_NS;
	task->outcome = TASK_STATE_MAX;
	task->marks = 0;
}

static enum resolve_fate hold(struct task *task)
{
	clear_attempt(task);
	task->state = TASK_HELD;
	return RESOLVE_HELD;
}

static void end(struct task *task, enum task_state state)
{
	clear_attempt(task);
	task->state = (uint8_t)state;
	task->outcome = (uint8_t)state;
	task->waits_for = 0;
	task->ended_ns = MAX(task->ended_ns, (uint64_t)1);
}

static enum resolve_fate lose(struct task *task)
{
	end(task, TASK_LOST);
	task->cause = (struct cause){ .kind = CAUSE_VANISHED };
	return RESOLVE_ENDED;
}

static enum resolve_fate take_event(struct task *task, const struct newest_event *event)
{
	end(task, event->state);
	task->attempt = event->attempt;
	task->cause = (struct cause){ .kind = event->cause, .value = event->cause_value };
	if (event->cause == CAUSE_TIMEOUT)
		task->cause.value = task->timeout_ns;
	task->exit_code = event->exit_code;
	task->exit_signal = event->exit_signal;
	task->ended_ms = event->at_ms;
	task->usage = (struct usage){ 0 };
	return RESOLVE_TOLD;
}

/* As if it ran: the start looks at the record and finds the shim, or the end. */
static enum resolve_fate take_attempt(struct store_task *row, const struct salvage_attempt *attempt)
{
	struct task *task = &row->task;

	clear_attempt(task);
	task->state = TASK_RUNNING;
	task->phase = PHASE_PROCESS;
	task->slot = attempt->slot;
	task->attempt = attempt->attempt;
	task->waits_for = 0;
	task->started_ns = MAX(task->started_ns, (uint64_t)1);
	task->ended_ns = 0;
	task->due_ns = task->timeout_ns > 0 ? MAX(task->ready_ns, (uint64_t)1) + task->timeout_ns : NEVER_NS;
	row->nonce = attempt->nonce;
	return RESOLVE_TOLD;
}

/* True when nothing can have happened to the task since its row was written. */
static bool is_latest(const struct resolve_facts *facts, const struct task *task)
{
	const struct newest_event *event = facts->event;

	if (!facts->has_state || (facts->state_seq < facts->top_seq && !facts->is_log_complete))
		return false;
	return event->seq == 0 || (event->state == task->state && event->attempt == task->attempt);
}

static enum resolve_fate resolve(const struct resolve_facts *facts, struct store_task *row)
{
	const struct salvage_attempt *attempt = facts->attempt;
	const struct newest_event *event = facts->event;
	struct task *task = &row->task;
	bool has_newer_event = event->seq > 0 && (!facts->has_state || event->seq > facts->state_seq ||
	                                          event->state != task->state || event->attempt != task->attempt);
	enum task_state state = has_newer_event ? event->state : task->state;
	uint32_t seen; /* the first attempt of which nothing is known but what the slot file says */

	if (facts->is_slot_file_lost && task_state_is_active(state))
		return lose(task);
	if (is_latest(facts, task) && !(facts->has_lost_dependency && task->state == TASK_BLOCKED))
		return RESOLVE_KEPT;
	if (has_newer_event)
		task->attempt = MAX(task->attempt, event->attempt);
	seen = task_state_is_active(state) ? task->attempt : task->attempt + 1;
	if (attempt && facts->is_slot_free && attempt->attempt >= seen)
		return take_attempt(row, attempt);
	if (has_newer_event && task_state_is_final(state))
		return take_event(task, event);
	if (task_state_is_final(state))
		return RESOLVE_KEPT;
	return task_state_is_active(state) ? lose(task) : hold(task);
}

enum resolve_fate resolve_task(const struct resolve_facts *facts, struct store_task *task)
{
	struct task before = task->task;
	enum resolve_fate fate;

	if (!facts->has_state) {
		task->task.state = TASK_HELD;
		task->task.priority = PRIORITY_P1;
		task->task.exit_code = -1;
		clear_attempt(&task->task);
	}
	fate = resolve(facts, task);
	if (!task_find_fault(&task->task))
		return fate;
	/* An event or a row that tells of what cannot be: what is certain is what was submitted. */
	task->task = (struct task){
		.id = before.id,
		.batch = before.batch,
		.timeout_ns = before.timeout_ns,
		.grace_ns = before.grace_ns,
		.backoff_ns = before.backoff_ns,
		.retries_max = MIN(before.retries_max, (uint32_t)LIMIT_RETRIES),
		.flags = before.flags,
		.created_ms = before.created_ms,
		.exit_code = -1,
		.priority = PRIORITY_P1,
		.attempt = before.attempt,
	};
	return task_state_is_active(before.state) ? lose(&task->task) : hold(&task->task);
}
