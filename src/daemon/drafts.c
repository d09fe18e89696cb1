#include "daemon/drafts.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "daemon/daemon.h"
#include "daemon/worktree_wish.h"

#define DEFAULT_GRACE_S 10.0
#define DEFAULT_RETRY_DELAY_S 1.0
#define SECONDS_MAX (10 * 365 * 86400.0)

static void draft_task_done(struct draft_task *task)
{
	free(task->name);
	free(task->spec);
	for (uint32_t i = 0; i < task->reference_count; i++)
		free(task->references[i].text);
	free(task->references);
}

void draft_free(struct draft *draft)
{
	for (uint32_t i = 0; i < draft->count; i++)
		draft_task_done(&draft->tasks[i]);
	free(draft->tasks);
	free(draft->environment);
	free(draft->base);
	free(draft->batch.name);
	free(draft->batch.cwd);
	free(draft->batch.top);
	free(draft->batch.common_dir);
	free(draft->batch.prefix);
	free(draft->batch.commit);
	json_decref(draft->names);
	free(draft);
}

/* A number of seconds from a spec, as nanoseconds. */
static int read_seconds(const json_t *spec, const char *field, double fallback, uint64_t *ret_ns, struct err *err)
{
	const json_t *value = json_object_get(spec, field);
	double seconds = json_is_number(value) ? json_number_value(value) : fallback;

	if (!isfinite(seconds) || seconds < 0 || seconds > SECONDS_MAX)
		return err_say(err, -EINVAL, "%s is %g: give seconds from 0 to %g", field, seconds, SECONDS_MAX);
	*ret_ns = (uint64_t)(seconds * 1e9);
	return 0;
}

static int read_numbers(struct daemon *daemon, const json_t *spec, struct draft_task *task, struct err *err)
{
	json_int_t retries = json_integer_value(json_object_get(spec, "retries"));
	int r;

	if (retries < 0 || retries > LIMIT_RETRIES)
		return err_say(err, -EINVAL, "retries is %lld: give a number from 0 to %d", (long long)retries,
		               LIMIT_RETRIES);
	task->retries_max = (uint32_t)retries;
	r = read_seconds(spec, "timeout_s", (double)daemon->settings.timeout_ns / 1e9, &task->timeout_ns, err);
	if (r == 0)
		r = read_seconds(spec, "grace_s", DEFAULT_GRACE_S, &task->grace_ns, err);
	if (r == 0)
		r = read_seconds(spec, "retry_delay_s", DEFAULT_RETRY_DELAY_S, &task->backoff_ns, err);
	return r;
}

/* A member's text, "" when there is none. */
static const char *find_text(const json_t *spec, const char *member)
{
	const char *text = json_string_value(json_object_get(spec, member));

	return text ? text : "";
}

static int read_words(const json_t *spec, struct draft_task *task, struct err *err)
{
	const char *name = json_string_value(json_object_get(spec, "name"));
	const char *priority = json_string_value(json_object_get(spec, "priority"));
	const char *worktree = json_string_value(json_object_get(spec, "worktree"));
	int found;

	if (name && !str_is_task_name(name))
		return err_say(err, -EINVAL,
		               "'%s' is no task name: use 1 to 64 of A-Z a-z 0-9 . _ -, not only digits, not "
		               "beginning with . or -",
		               name);
	if (strlen(find_text(spec, "cwd")) >= PATH_MAX || strlen(find_text(spec, "stdin")) >= PATH_MAX)
		return err_say(err, -EINVAL, "cwd or stdin has %d bytes or more, which no path may", PATH_MAX);
	task->name = xstrdup(name);
	found = priority ? priority_find(priority) : PRIORITY_P1;
	if (found < 0)
		return err_say(err, -EINVAL, "'%s' is no priority: use P0, P1 or P2", priority);
	task->priority = (uint8_t)found;
	if (worktree) {
		found = worktree_wish_find(worktree);
		if (found < 0)
			return err_say(err, -EINVAL, "'%s' is no worktree strategy: use none, auto or checkout", worktree);
		task->worktree = (uint8_t)found;
	}
	return 0;
}

static int check_command(const json_t *spec, struct err *err)
{
	const json_t *command = json_object_get(spec, "command");
	const char *shell = json_string_value(json_object_get(spec, "shell"));
	bool has_command = json_is_array(command);

	if (has_command == (shell != NULL))
		return err_say(err, -EINVAL, "a task needs either command or shell, not %s", shell ? "both" : "neither");
	if (has_command && (json_array_size(command) == 0 || !*json_string_value(json_array_get(command, 0))))
		return err_say(err, -EINVAL, "command is empty: give a program");
	if (shell && !*shell)
		return err_say(err, -EINVAL, "shell is empty: give a command");
	return 0;
}

static int check_settings(const json_t *spec, struct err *err)
{
	size_t index;
	json_t *setting;

	json_array_foreach (json_object_get(spec, "environment"), index, setting) {
		const char *text = json_string_value(setting);

		if (!strchr(text, '=') || text[0] == '=')
			return err_say(err, -EINVAL, "'%s' is no environment setting: write NAME=VALUE", text);
	}
	return 0;
}

static void add_references(struct draft_task *task, const json_t *list, bool is_any)
{
	size_t count = json_array_size(list);
	size_t index;
	json_t *text;

	if (count == 0)
		return;
	task->references = xrealloc(task->references, (task->reference_count + count) * sizeof(*task->references));
	json_array_foreach (list, index, text)
		task->references[task->reference_count++] =
			(struct draft_reference){ .text = xstrdup(json_string_value(text)), .is_any = is_any };
}

static uint32_t read_flags(const json_t *spec)
{
	uint32_t flags = 0;

	if (json_is_true(json_object_get(spec, "is_idempotent")))
		flags |= TASK_IDEMPOTENT;
	if (json_is_true(json_object_get(spec, "leave_running")))
		flags |= TASK_LEAVE_RUNNING;
	return flags;
}

static int check_spec(struct daemon *daemon, struct draft *draft, json_t *spec, struct draft_task *task, struct err *err)
{
	int r = check_command(spec, err);

	if (r == 0)
		r = check_settings(spec, err);
	if (r == 0)
		r = read_numbers(daemon, spec, task, err);
	if (r == 0)
		r = read_words(spec, task, err);
	if (r < 0)
		return r;
	if (task->name && json_object_get(draft->names, task->name))
		return err_say(err, -EEXIST, "two tasks of the batch are named '%s': give each its own name", task->name);
	return 0;
}

int draft_add(struct daemon *daemon, struct draft *draft, json_t *spec, struct err *err)
{
	struct draft_task task = { .worktree = (uint8_t)draft->worktree };
	int r = check_spec(daemon, draft, spec, &task, err);

	if (r < 0) {
		draft_task_done(&task);
		return r;
	}
	task.is_held = json_is_true(json_object_get(spec, "is_held"));
	task.flags = read_flags(spec);
	add_references(&task, json_object_get(spec, "after"), false);
	add_references(&task, json_object_get(spec, "after_any"), true);
	task.spec = json_dumps(spec, JSON_COMPACT);
	if (draft->count == draft->capacity) {
		draft->capacity = MAX(2 * draft->capacity, 16u);
		draft->tasks = xrealloc(draft->tasks, draft->capacity * sizeof(*draft->tasks));
	}
	if (task.name)
		json_object_set_new(draft->names, task.name, json_integer(draft->count));
	draft->tasks[draft->count++] = task;
	daemon->room.draft_tasks++;
	draft_count_bytes(daemon, draft, strlen(task.spec));
	return 0;
}

void draft_count_bytes(struct daemon *daemon, struct draft *draft, uint64_t bytes)
{
	draft->bytes += bytes;
	daemon->room.draft_bytes += bytes;
}

void draft_truncate(struct daemon *daemon, struct draft *draft, uint32_t count)
{
	while (draft->count > count) {
		struct draft_task *task = &draft->tasks[--draft->count];

		if (task->name)
			json_object_del(draft->names, task->name);
		draft->bytes -= strlen(task->spec);
		daemon->room.draft_bytes -= strlen(task->spec);
		daemon->room.draft_tasks--;
		draft_task_done(task);
	}
}
