#include "daemon/history.h"

#include "daemon/present.h"

/* In a task's result, beside what worktree.h names. */
static const char member[] = "attempts";

/* Another attempt follows the one of `before`. */
static bool is_followed(const struct task *before, const struct task *now, enum task_input input)
{
	if (before->attempt == 0)
		return false;
	if (input == INPUT_RETRY)
		return true;
	if (!task_state_is_active(before->state))
		return false;
	if (now->attempt > before->attempt)
		return true;
	return now->state == TASK_QUEUED && !(now->marks & MARK_SAME_ATTEMPT);
}

static enum task_state state_of_cause(enum cause_kind kind)
{
	switch (kind) {
	case CAUSE_TIMEOUT: return TASK_TIMED_OUT;
	case CAUSE_CANCELLED: return TASK_CANCELLED;
	case CAUSE_REBOOT:
	case CAUSE_VANISHED:
	case CAUSE_SHIM_LOST: return TASK_LOST;
	default: return TASK_FAILED;
	}
}

/* The task as it was when the attempt had ended: the core may have begun the next one in the same step. */
static struct task at_end(const struct daemon *daemon, const struct task *before, const struct task *now,
                          const struct core_event *event)
{
	struct task ended = *before;

	if (event->input == INPUT_RETRY)
		return ended;
	ended.cause = now->cause;
	ended.state = (uint8_t)state_of_cause(now->cause.kind);
	if (event->input == INPUT_COLLECTED)
		return ended;
	ended.exit_code = event->input == INPUT_EXITED ? event->exit_code : -1;
	ended.exit_signal = event->input == INPUT_EXITED ? event->exit_signal : 0;
	ended.ended_ns = daemon->now_ns;
	ended.ended_ms = daemon->now_ms;
	if (event->usage.is_known)
		ended.usage = event->usage;
	return ended;
}

static json_int_t last_number(const json_t *list)
{
	size_t count = json_array_size(list);

	return count > 0 ? json_integer_value(json_object_get(json_array_get(list, count - 1), "attempt")) : 0;
}

/* Rows are written again with each change of the task, so nothing goes into them that says nothing. */
static json_t *without_nulls(json_t *object)
{
	const char *name;
	json_t *value;
	void *next;

	json_object_foreach_safe (object, next, name, value)
		if (json_is_null(value))
			json_object_del(object, name);
	return object;
}

bool history_note(struct daemon *daemon, uint32_t index, const struct task *before, const struct core_event *event,
                  struct task *ret)
{
	const struct task *now = core_task_at(daemon->core, index);
	struct roster_task *texts = roster_task(&daemon->roster, index);
	struct task ended;
	json_t *list;

	if (!is_followed(before, now, event->input))
		return false;
	ended = at_end(daemon, before, now, event);
	if (!texts->result)
		texts->result = json_object();
	list = json_object_get(texts->result, member);
	if (!list) {
		list = json_array();
		json_object_set_new(texts->result, member, list);
	}
	if (last_number(list) >= (json_int_t)ended.attempt)
		return false; /* it had ended before; since then it only waited */
	json_array_append_new(list, without_nulls(present_attempt(daemon, &ended, texts)));
	if (json_array_size(list) > HISTORY_ATTEMPTS_MAX)
		json_array_remove(list, 0);
	turn_mark_dirty(daemon, index);
	*ret = ended;
	return true;
}

json_t *history_present(struct daemon *daemon, uint32_t index)
{
	const struct task *task = core_task_at(daemon->core, index);
	const struct roster_task *texts = roster_task(&daemon->roster, index);
	const json_t *kept = json_object_get(texts->result, member);
	json_t *list = json_array();
	json_t *attempt;
	size_t i;

	json_array_foreach (kept, i, attempt) {
		uint32_t number = (uint32_t)json_integer_value(json_object_get(attempt, "attempt"));
		json_t *shown = json_copy(attempt);

		json_object_set_new(shown, "log_path", present_log_path(daemon, task->id, number));
		json_array_append_new(list, shown);
	}
	if ((json_int_t)task->attempt > last_number(kept)) {
		attempt = present_attempt(daemon, task, texts);
		json_object_set_new(attempt, "log_path", present_log_path(daemon, task->id, task->attempt));
		json_array_append_new(list, attempt);
	}
	return list;
}
