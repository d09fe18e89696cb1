#include "daemon/worktrees.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/crc32c.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/present.h"

/* Whom an answer is for. */
struct order {
	uint64_t task;
	uint32_t attempt;
	bool is_again;
};

static struct order *new_order(const struct task *task, bool is_again)
{
	struct order *order = xcalloc(1, sizeof(*order));

	*order = (struct order){ .task = task->id, .attempt = task->attempt, .is_again = is_again };
	return order;
}

char *worktrees_owner(const struct daemon *daemon, const struct task *task)
{
	return xasprintf("%08x-%lld", crc32c(0, daemon->state_dir, strlen(daemon->state_dir)), (long long)task->created_ms);
}

bool worktrees_is_own(const struct daemon *daemon, const char *owner)
{
	CLEANUP_FREE char *before = xasprintf("%08x-", crc32c(0, daemon->state_dir, strlen(daemon->state_dir)));

	return strncmp(owner, before, strlen(before)) == 0;
}

/* The fields that both verbs take. */
static json_t *make_request(const struct daemon *daemon, const struct task *task, const struct roster_task *texts)
{
	const struct roster_batch *batch = texts->batch;
	CLEANUP_FREE char *owner = worktrees_owner(daemon, task);
	json_t *request = json_pack("{s:I, s:I, s:s?, s:s, s:s, s:s, s:s}", "task", (json_int_t)task->id, "attempt",
	                            (json_int_t)task->attempt, "name", texts->name, "top", batch->top, "common_dir",
	                            batch->common_dir, "commit", batch->commit, "owner", owner);

	ASSERT(request); /* a task with a worktree has a repository: methods_submit.c */
	return request;
}

/* Keeps the named fields of an answer with the task; null ones are taken away. */
static void keep_fields(struct roster_task *texts, json_t *answer)
{
	static const char *const names[] = { "path",          "branch",     "commit",    "salvage",
		                             "changed_files", "insertions", "deletions", "note" };

	if (!texts->result)
		texts->result = json_object();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		json_t *value = json_object_get(answer, names[i]);

		if (json_is_null(value) && strcmp(names[i], "salvage") != 0) /* an earlier attempt's stays */
			json_object_del(texts->result, names[i]);
		else if (value && !json_is_null(value))
			json_object_set(texts->result, names[i], value);
	}
	if (json_is_true(json_object_get(answer, "is_removed")))
		json_object_del(texts->result, "path");
}

/* The task's texts if the answer still is about its latest attempt. */
static struct roster_task *find_texts(struct daemon *daemon, const struct order *order)
{
	uint32_t index = core_index(daemon->core, order->task);

	if (index == TASK_NONE || core_task_at(daemon->core, index)->attempt != order->attempt)
		return NULL;
	turn_mark_dirty(daemon, index);
	return roster_task(&daemon->roster, index);
}

static bool is_transient(int error)
{
	return error == -EAGAIN || error == -EBUSY || error == -ETIMEDOUT || error == -ECANCELED || error == -EMFILE ||
	       error == -ENFILE || error == -ENOMEM;
}

static void on_prepared(struct daemon *daemon, void *context, json_t *result, const char *code UNUSED, const struct err *err)
{
	CLEANUP_FREE struct order *order = context;
	struct roster_task *texts = find_texts(daemon, order);
	struct core_event event = { .kind = CORE_INPUT, .task = order->task, .attempt = order->attempt, .exit_code = -1 };

	FAILPOINT("prepared_not_recorded");
	if (!texts)
		return;
	if (!err) {
		keep_fields(texts, result);
		worktree_watch_add(daemon, core_index(daemon->core, order->task));
		event.input = INPUT_PREPARED;
	} else {
		roster_set_detail(texts, err->text);
		event.input = INPUT_PREPARE_FAILED;
		event.is_transient = is_transient(err->code);
		event.cause = (struct cause){ .kind = CAUSE_PREPARE_FAILED, .value = (uint64_t)-err->code };
	}
	daemon_feed(daemon, &event);
}

void worktrees_prepare(struct daemon *daemon, const struct effect *effect)
{
	const struct task *task = core_find(daemon->core, effect->task);

	if (!task || task->attempt != effect->attempt || task->phase != PHASE_WORKTREE)
		return;
	jobs_run(daemon, "prepare", make_request(daemon, task, roster_task(&daemon->roster, effect->index)), on_prepared,
	         new_order(task, false));
	FAILPOINT("prepare_ordered");
}

static void on_collected(struct daemon *daemon, void *context, json_t *result, const char *code, const struct err *err)
{
	CLEANUP_FREE struct order *order = context;
	struct roster_task *texts = find_texts(daemon, order);
	struct core_event event = {
		.kind = CORE_INPUT,
		.input = INPUT_COLLECTED,
		.task = order->task,
		.attempt = order->attempt,
		.exit_code = -1,
	};

	FAILPOINT("collected_not_recorded");
	if (!texts)
		return;
	if (strcmp(code, "worktree-missing") == 0)
		texts->conditions |= CONDITION_WORKTREE_MISSING;
	else if (!err)
		texts->conditions &= ~(uint32_t)CONDITION_WORKTREE_MISSING; /* it has come back */
	if (result)
		keep_fields(texts, result);
	if (order->is_again) /* the next attempt gets its own */
		json_object_del(texts->result, "branch");
	if (err) {
		if (core_find(daemon->core, order->task)->cause.kind != CAUSE_START_FAILED) /* that is what it ended by */
			roster_set_detail(texts, err->text);
		event.cause.kind = CAUSE_COLLECT_FAILED;
		log_warning("task %llu: its worktree stays as it is: %s", (unsigned long long)order->task, err->text);
	}
	daemon_feed(daemon, &event);
}

/* First line and body of the result commit. */
static char *make_message(const struct task *task, const struct roster_task *texts)
{
	CLEANUP_FREE char *command = present_command_line(texts->spec);

	if (texts->name)
		return xasprintf("%s\n\n%s\n", texts->name, command);
	return xasprintf("drover task %llu\n\n%s\n", (unsigned long long)task->id, command);
}

void worktrees_collect(struct daemon *daemon, const struct effect *effect)
{
	const struct task *task = core_find(daemon->core, effect->task);
	struct roster_task *texts;
	CLEANUP_FREE char *message = NULL;
	json_t *request;
	bool is_again;

	if (!task || task->attempt != effect->attempt || task->state != TASK_COLLECTING)
		return;
	texts = roster_task(&daemon->roster, effect->index);
	is_again = core_will_retry(daemon->core, task->id);
	message = make_message(task, texts);
	request = make_request(daemon, task, texts);
	json_object_set(request, "path", json_object_get(texts->result, "path"));
	json_object_set(request, "branch", json_object_get(texts->result, "branch"));
	json_object_set_new(request, "message", json_string(message));
	json_object_set_new(request, "has_succeeded", json_boolean(task->outcome == TASK_SUCCEEDED));
	json_object_set_new(request, "is_again", json_boolean(is_again));
	json_object_set_new(request, "keep", json_boolean(texts->batch->keeps_worktrees));
	jobs_run(daemon, "collect", request, on_collected, new_order(task, is_again));
	FAILPOINT("collect_ordered");
}
