/*
 * methods_tasks.c - task.list, task.show, task.why, task.cancel, task.retry, task.release, clean.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "daemon/methods.h"
#include "daemon/present.h"

enum { REASON_MAX_BYTES = 4096 };

#define AGE_MAX_S (1000 * 366 * 86400.0) /* a thousand years */

/* Which tasks a listing takes. */
struct listing {
	const struct roster_batch *batch; /* NULL = all */
	uint32_t states;                  /* bit set; 0 = all */
	int64_t ended_after_ms;           /* finished ones only when later */
};

static bool takes(const struct daemon *daemon, const struct listing *listing, uint32_t index)
{
	const struct task *task = core_task_at(daemon->core, index);

	if (listing->batch && daemon->roster.tasks[index].batch != listing->batch)
		return false;
	if (listing->states && !(listing->states & 1u << task->state))
		return false;
	return !task_state_is_final(task->state) || task->ended_ms > listing->ended_after_ms;
}

static int read_listing(struct daemon *daemon, json_t *params, struct listing *ret, struct err *err)
{
	const char *batch = json_string_value(json_object_get(params, "batch"));
	struct listing listing = { .ended_after_ms = daemon->now_ms - (int64_t)(NS_PER_DAY / NS_PER_MS) };
	size_t i;
	json_t *name;

	if (batch) {
		listing.batch = roster_resolve_batch(&daemon->roster, batch);
		if (!listing.batch)
			return err_say(err, -ENOENT, "there is no batch '%s'", batch);
	}
	json_array_foreach (json_object_get(params, "states"), i, name) {
		int state = task_state_find(json_string_value(name));

		if (state < 0)
			return err_say(err, -EINVAL, "'%s' is no state of a task", json_string_value(name));
		listing.states |= 1u << state;
	}
	if (listing.batch || listing.states || json_is_true(json_object_get(params, "is_all")))
		listing.ended_after_ms = INT64_MIN;
	*ret = listing;
	return 0;
}

/* The first task with an id of at least `id`. */
static uint32_t seek(const struct daemon *daemon, uint64_t id)
{
	uint32_t index = core_index(daemon->core, id);

	if (index != TASK_NONE)
		return index;
	index = daemon->roster.first;
	while (index != TASK_NONE && daemon->roster.tasks[index].id < id)
		index = daemon->roster.tasks[index].next;
	return index;
}

static void method_task_list(void *context, struct request *request, json_t *params)
{
	struct daemon *daemon = context;
	json_int_t cursor = json_integer_value(json_object_get(params, "cursor"));
	json_int_t limit = json_integer_value(json_object_get(params, "limit"));
	size_t bytes = 0; /* of the answer, at the most: a page is one message */
	json_t *tasks;
	struct listing listing;
	struct err err = ERR_INIT;
	uint32_t index;
	int r = read_listing(daemon, params, &listing, &err);

	if (r < 0) {
		server_fail(request, r == -ENOENT ? API_ERROR_NOT_FOUND : API_ERROR_INVALID_PARAMS, NULL, NULL, "%s",
		            err.text);
		return;
	}
	if (limit <= 0 || limit > LIMIT_PAGE)
		limit = LIMIT_PAGE;
	tasks = json_array();
	for (index = seek(daemon, cursor > 0 ? (uint64_t)cursor : 0); index != TASK_NONE;
	     index = daemon->roster.tasks[index].next) {
		if (!takes(daemon, &listing, index))
			continue;
		bytes += present_task_size(daemon, index);
		if ((json_int_t)json_array_size(tasks) == limit || (json_array_size(tasks) > 0 && bytes > LIMIT_MESSAGE))
			break;
		json_array_append_new(tasks, present_task(daemon, index));
	}
	server_reply(request,
	             json_pack("{s:o, s:o}", "tasks", tasks, "cursor",
	                       index == TASK_NONE ? json_null() : json_integer((json_int_t)daemon->roster.tasks[index].id)));
}

static void method_task_show(void *context, struct request *request, json_t *params)
{
	struct daemon *daemon = context;
	const char *text = json_string_value(json_object_get(params, "task"));
	uint32_t index = roster_resolve(&daemon->roster, text);

	if (index == TASK_NONE)
		server_fail(request, API_ERROR_NOT_FOUND, NULL, "'drover ls --all' lists what is known",
		            "there is no task '%s'", text);
	else
		server_reply(request, present_details(daemon, index));
}

/* The tasks that a call means. */
struct selection {
	uint32_t *items;
	size_t count;
	size_t capacity;
};

static void select_task(struct selection *selection, uint32_t index)
{
	if (selection->count == selection->capacity) {
		selection->capacity = MAX(2 * selection->capacity, (size_t)16);
		selection->items = xrealloc(selection->items, selection->capacity * sizeof(*selection->items));
	}
	selection->items[selection->count++] = index;
}

static void select_all_of(struct daemon *daemon, struct selection *selection, const struct roster_batch *batch)
{
	for (uint32_t index = daemon->roster.first; index != TASK_NONE; index = daemon->roster.tasks[index].next)
		if (!batch || daemon->roster.tasks[index].batch == batch)
			select_task(selection, index);
}

/* False when the request was answered with an error. */
static bool read_selection(struct daemon *daemon, struct request *request, json_t *params, struct selection *selection)
{
	const char *batch_text = json_string_value(json_object_get(params, "batch"));
	const struct roster_batch *batch = batch_text ? roster_resolve_batch(&daemon->roster, batch_text) : NULL;
	size_t i;
	json_t *text;

	if (batch_text && !batch) {
		server_fail(request, API_ERROR_NOT_FOUND, NULL, NULL, "there is no batch '%s'", batch_text);
		return false;
	}
	json_array_foreach (json_object_get(params, "tasks"), i, text) {
		uint32_t index = roster_resolve(&daemon->roster, json_string_value(text));

		if (index == TASK_NONE) {
			server_fail(request, API_ERROR_NOT_FOUND, NULL, "'drover ls --all' lists what is known",
			            "there is no task '%s'", json_string_value(text));
			return false;
		}
		select_task(selection, index);
	}
	if (batch)
		select_all_of(daemon, selection, batch);
	else if (json_is_true(json_object_get(params, "is_all")))
		select_all_of(daemon, selection, NULL);
	return true;
}

/* What was done is told by its count; the lists are for people and fit into a message. */
static json_t *answer_selection(struct daemon *daemon, const struct selection *done, json_t *refused)
{
	json_t *tasks = json_array();
	size_t bytes = 0;

	for (size_t i = 0; i < done->count && i < LIMIT_PAGE && bytes < LIMIT_MESSAGE / 2; i++) {
		bytes += present_task_size(daemon, done->items[i]);
		json_array_append_new(tasks, present_task(daemon, done->items[i]));
	}
	return json_pack("{s:o, s:I, s:o}", "tasks", tasks, "count", (json_int_t)done->count, "refused", refused);
}

/* What a task "cannot be" when it refuses the input. */
static const char *const wished_words[INPUT_MAX] = {
	[INPUT_HALT] = "halted",      [INPUT_CANCEL] = "cancelled",  [INPUT_RETRY] = "retried",
	[INPUT_RELEASE] = "released", [INPUT_SUSPEND] = "suspended", [INPUT_RESUME] = "resumed",
};

/* One input to each selected task; those named one by one that cannot take it are told, of a whole batch they are passed
 * over. */
static void feed_selection(struct daemon *daemon, struct request *request, json_t *params, enum task_input input)
{
	bool is_named = json_array_size(json_object_get(params, "tasks")) > 0;
	const char *reason = json_string_value(json_object_get(params, "reason"));
	struct selection selection = { 0 };
	struct selection done = { 0 };
	json_t *refused;

	if (methods_refuse_writes(daemon, request))
		return;
	if (reason && strlen(reason) > REASON_MAX_BYTES) { /* it is kept with each task */
		server_fail(request, API_ERROR_TOO_LARGE, NULL, NULL, "the reason is longer than %d bytes",
		            REASON_MAX_BYTES);
		return;
	}
	if (!read_selection(daemon, request, params, &selection)) {
		free(selection.items);
		return;
	}
	refused = json_array();
	for (size_t i = 0; i < selection.count; i++) {
		const struct task *task = core_task_at(daemon->core, selection.items[i]);
		struct core_event event = {
			.kind = CORE_INPUT, .input = (uint8_t)input, .task = task->id, .attempt = task->attempt
		};

		bool is_ending = task->state == TASK_STOPPING || task->state == TASK_COLLECTING ||
		                 (input == INPUT_HALT && task_state_is_active(task->state));

		if (!is_named && input == INPUT_RETRY && task->state == TASK_SUCCEEDED)
			continue; /* of many, those that did not succeed are meant */
		if (turn_step(daemon, &event) == 0) {
			if (reason || !is_ending) /* else the words for what it came to are there already */
				roster_set_detail(roster_task(&daemon->roster, selection.items[i]), reason);
			select_task(&done, selection.items[i]);
		} else if (is_named && json_array_size(refused) < LIMIT_PAGE) {
			json_array_append_new(refused,
			                      json_sprintf("#%llu is %s: it cannot be %s", (unsigned long long)task->id,
			                                   task_state_name(task->state), wished_words[input]));
		}
	}
	methods_reply_durable(daemon, request, answer_selection(daemon, &done, refused));
	free(selection.items);
	free(done.items);
}

static void method_task_cancel(void *context, struct request *request, json_t *params)
{
	feed_selection(context, request, params, INPUT_CANCEL);
}

static void method_task_halt(void *context, struct request *request, json_t *params)
{
	feed_selection(context, request, params, INPUT_HALT);
}

static void method_task_retry(void *context, struct request *request, json_t *params)
{
	feed_selection(context, request, params, INPUT_RETRY);
}

static void method_task_release(void *context, struct request *request, json_t *params)
{
	feed_selection(context, request, params, INPUT_RELEASE);
}

static void method_task_suspend(void *context, struct request *request, json_t *params)
{
	feed_selection(context, request, params, INPUT_SUSPEND);
}

static void method_task_resume(void *context, struct request *request, json_t *params)
{
	feed_selection(context, request, params, INPUT_RESUME);
}

static void select_finished(struct daemon *daemon, struct selection *selection, int64_t ended_before_ms)
{
	for (uint32_t index = daemon->roster.first; index != TASK_NONE; index = daemon->roster.tasks[index].next) {
		const struct task *task = core_task_at(daemon->core, index);

		if (task_state_is_final(task->state) && task->ended_ms <= ended_before_ms)
			select_task(selection, index);
	}
}

static void method_clean(void *context, struct request *request, json_t *params)
{
	struct daemon *daemon = context;
	const json_t *age = json_object_get(params, "older_than_s");
	double age_s = json_number_value(age);
	struct selection selection = { 0 };
	json_t *refused, *worktrees;
	json_int_t count = 0;

	if (methods_refuse_writes(daemon, request))
		return;
	if (json_is_true(json_object_get(params, "is_all"))) {
		select_finished(daemon, &selection, INT64_MAX);
	} else if (json_is_number(age)) {
		if (!(age_s >= 0 && age_s <= AGE_MAX_S)) {
			server_fail(request, API_ERROR_INVALID_PARAMS, NULL, NULL,
			            "older_than_s is %g: give seconds from 0 to %g", age_s, AGE_MAX_S);
			return;
		}
		select_finished(daemon, &selection, daemon->now_ms - (int64_t)(age_s * 1000));
	} else if (!read_selection(daemon, request, params, &selection)) {
		free(selection.items);
		return;
	}
	refused = json_array();
	worktrees = json_array();
	for (size_t i = 0; i < selection.count; i++) {
		const struct roster_task *texts = &daemon->roster.tasks[selection.items[i]];
		unsigned long long id = texts->id;
		json_t *path = json_incref(json_object_get(texts->result, "path"));

		if (id > 0 && retention_forget(daemon, selection.items[i]) == 0) {
			count++;
			if (path && json_array_size(worktrees) < LIMIT_PAGE)
				json_array_append(worktrees, path);
		} else if (id > 0 && json_array_size(refused) < LIMIT_PAGE) { /* 0: named twice */
			json_array_append_new(refused,
			                      json_sprintf("#%llu is kept: it has not ended, or another task waits for it",
			                                   id));
		}
		json_decref(path);
	}
	free(selection.items);
	methods_reply_durable(daemon, request,
	                      json_pack("{s:I, s:o, s:o}", "count", count, "refused", refused, "worktrees", worktrees));
}

void methods_tasks_fill(server_handler handlers[API_METHOD_MAX])
{
	handlers[API_TASK_LIST] = method_task_list;
	handlers[API_TASK_SHOW] = method_task_show;
	handlers[API_TASK_WHY] = method_task_show;
	handlers[API_TASK_CANCEL] = method_task_cancel;
	handlers[API_TASK_HALT] = method_task_halt;
	handlers[API_TASK_RETRY] = method_task_retry;
	handlers[API_TASK_RELEASE] = method_task_release;
	handlers[API_TASK_SUSPEND] = method_task_suspend;
	handlers[API_TASK_RESUME] = method_task_resume;
	handlers[API_CLEAN] = method_clean;
}
