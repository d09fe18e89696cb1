#include "config/batch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/limits.h"
#include "base/str.h"
#include "config/batch_graph.h"
#include "config/keys.h"

/* The name of the member in a task_spec for each key. */
static const struct config_key task_keys[] = {
	{ .name = "id", .type = CONFIG_KEY_NAME, .member = "name", .flags = CONFIG_KEY_NO_DEFAULT },
	{ .name = "name", .type = CONFIG_KEY_NAME, .member = "name", .flags = CONFIG_KEY_NO_DEFAULT },
	{ .name = "run", .type = CONFIG_KEY_RUN, .flags = CONFIG_KEY_NO_DEFAULT },
	{ .name = "after", .type = CONFIG_KEY_TEXTS, .member = "after", .flags = CONFIG_KEY_NO_DEFAULT },
	{ .name = "afterAny", .type = CONFIG_KEY_TEXTS, .member = "after_any", .flags = CONFIG_KEY_NO_DEFAULT },
	{ .name = "priority", .type = CONFIG_KEY_WORD, .member = "priority", .words = "P0 P1 P2" },
	{ .name = "timeout", .type = CONFIG_KEY_SECONDS, .member = "timeout_s" },
	{ .name = "grace", .type = CONFIG_KEY_SECONDS, .member = "grace_s" },
	{ .name = "retries", .type = CONFIG_KEY_COUNT, .member = "retries", .limit = LIMIT_RETRIES },
	{ .name = "retryDelay", .type = CONFIG_KEY_SECONDS, .member = "retry_delay_s" },
	{ .name = "env", .type = CONFIG_KEY_SETTINGS, .member = "environment" },
	{ .name = "cwd", .type = CONFIG_KEY_TEXT, .member = "cwd" },
	{ .name = "worktree", .type = CONFIG_KEY_WORKTREE, .member = "worktree" },
	{ .name = "base", .type = CONFIG_KEY_TEXT, .member = "base", .flags = CONFIG_KEY_DEFAULT_ONLY },
	{ .name = "idempotent", .type = CONFIG_KEY_BOOLEAN, .member = "is_idempotent" },
	{ .name = "leaveRunning", .type = CONFIG_KEY_BOOLEAN, .member = "leave_running" },
	{ .name = "splitOutput", .type = CONFIG_KEY_BOOLEAN, .member = "split_output" },
	{ .name = "stdin", .type = CONFIG_KEY_TEXT, .member = "stdin" },
	{ .name = "label", .type = CONFIG_KEY_TEXT, .member = "label", .flags = CONFIG_KEY_NO_DEFAULT },
	{ .name = "hold", .type = CONFIG_KEY_BOOLEAN, .member = "is_held" },
};

static const struct config_key batch_keys[] = {
	{ .name = "name", .type = CONFIG_KEY_NAME, .member = "name" },
	{ .name = "limit", .type = CONFIG_KEY_LIMIT, .member = "limit", .limit = LIMIT_SLOTS },
	{ .name = "defaults", .type = CONFIG_KEY_ANY },
	{ .name = "tasks", .type = CONFIG_KEY_ANY },
};

/* `run`: text for a shell, or a list of words. */
static int convert_run(const struct config_file *file, const struct config_node *node, json_t *spec, struct err *err)
{
	json_t *words;
	int code;

	if (node->kind == CONFIG_SCALAR) {
		if (config_node_is_null(node) || node->text[strspn(node->text, " \t\r\n")] == '\0')
			return config_fail(file, node, -EINVAL, err, "run: nothing to run");
		json_object_set_new(spec, "shell", json_string(node->text));
		return 0;
	}
	if (node->kind != CONFIG_LIST)
		return config_fail(file, node, -EINVAL, err, "run: give text for a shell or a list of words, not %s",
		                   config_node_describe(node));
	code = config_convert_texts(file, node, "run", &words, err);
	if (code < 0)
		return code;
	if (json_array_size(words) == 0 || json_string_length(json_array_get(words, 0)) == 0) {
		json_decref(words);
		return config_fail(file, node, -EINVAL, err, "run: the list names no program");
	}
	json_object_set_new(spec, "command", words);
	return 0;
}

/* One entry of a task or of the defaults. */
static int convert_entry(const struct config_file *file, const struct config_node *node, const struct config_key *key,
                         json_t *spec, struct err *err)
{
	json_t *value;
	int code;

	if (key->type == CONFIG_KEY_RUN)
		return convert_run(file, node, spec, err);
	code = config_convert(file, node, key, &value, err);
	if (code < 0)
		return code;
	if (key->type == CONFIG_KEY_SETTINGS && json_object_get(spec, key->member))
		value = config_merge_settings(json_object_get(spec, key->member), value);
	json_object_set_new(spec, key->member, value);
	return 0;
}

static int convert_defaults(const struct config_file *file, const struct config_node *map, struct batch_file *batch,
                            json_t *defaults, struct err *err)
{
	if (map->kind != CONFIG_MAP)
		return config_fail(file, map, -EINVAL, err, "defaults: give a map of task keys, not %s",
		                   config_node_describe(map));
	for (const struct config_node *entry = map->first; entry; entry = entry->next) {
		const struct config_key *key = config_key_find(task_keys, ARRAY_SIZE(task_keys), entry->key->text);
		int code;

		if (!key)
			return config_fail_unknown(file, entry->key, task_keys, ARRAY_SIZE(task_keys), err);
		if (key->flags & CONFIG_KEY_NO_DEFAULT)
			return config_fail(file, entry->key, -EINVAL, err,
			                   "'%s' belongs to a single task, not to the defaults", key->name);
		code = convert_entry(file, entry, key, defaults, err);
		if (code < 0)
			return code;
	}
	if (json_object_get(defaults, "base")) {
		batch->base = xstrdup(json_string_value(json_object_get(defaults, "base")));
		json_object_del(defaults, "base");
	}
	if (json_object_get(defaults, "worktree")) {
		batch->worktree = xstrdup(json_string_value(json_object_get(defaults, "worktree")));
		json_object_del(defaults, "worktree");
	}
	return 0;
}

static int convert_task(const struct config_file *file, const struct config_node *map, json_t *spec, struct err *err)
{
	if (map->kind != CONFIG_MAP)
		return config_fail(file, map, -EINVAL, err, "a task is a map with the key 'run', not %s",
		                   config_node_describe(map));
	for (const struct config_node *entry = map->first; entry; entry = entry->next) {
		const struct config_key *key = config_key_find(task_keys, ARRAY_SIZE(task_keys), entry->key->text);
		int code;

		if (!key)
			return config_fail_unknown(file, entry->key, task_keys, ARRAY_SIZE(task_keys), err);
		if (key->flags & CONFIG_KEY_DEFAULT_ONLY)
			return config_fail(file, entry->key, -EINVAL, err,
			                   "'%s' is one for the whole batch: put it under 'defaults'", key->name);
		if (key->type == CONFIG_KEY_NAME && json_object_get(spec, "name"))
			return config_fail(file, entry->key, -EINVAL, err,
			                   "'id' and 'name' mean the same: give one of them");
		code = convert_entry(file, entry, key, spec, err);
		if (code < 0)
			return code;
	}
	if (!json_object_get(spec, "shell") && !json_object_get(spec, "command"))
		return config_fail(file, map, -EINVAL, err, "this task has no 'run'");
	return 0;
}

static int convert_tasks(const struct config_file *file, const struct config_node *list, const json_t *defaults,
                         struct batch_file *batch, struct err *err)
{
	if (list->kind != CONFIG_LIST)
		return config_fail(file, list, -EINVAL, err, "tasks: give a list, not %s", config_node_describe(list));
	if (list->count == 0)
		return config_fail(file, list, -EINVAL, err, "tasks: the list is empty");
	if (list->count > LIMIT_DRAFT_TASKS)
		return config_fail(file, list, -EFBIG, err, "tasks: %u of them; at most %d are possible", list->count,
		                   LIMIT_DRAFT_TASKS);
	batch->has_timeout = true;
	for (const struct config_node *task = list->first; task; task = task->next) {
		json_t *spec = json_deep_copy(defaults);
		int code;

		json_array_append_new(batch->tasks, spec);
		code = convert_task(file, task, spec, err);
		if (code < 0)
			return code;
		batch->has_timeout = batch->has_timeout && json_object_get(spec, "timeout_s");
	}
	return batch_graph_check(file, list, err);
}

static int convert_batch_key(const struct config_file *file, const struct config_node *entry, const struct config_key *key,
                             struct batch_file *batch, struct err *err)
{
	json_t *value;
	int code;

	if (key->type == CONFIG_KEY_ANY)
		return 0;
	code = config_convert(file, entry, key, &value, err);
	if (code < 0)
		return code;
	if (json_is_string(value))
		batch->name = xstrdup(json_string_value(value));
	else
		batch->limit = (uint64_t)json_integer_value(value);
	json_decref(value);
	return 0;
}

static int convert_root(const struct config_file *file, const struct config_node *root, struct batch_file *batch,
                        struct err *err)
{
	const struct config_node *defaults_node, *tasks_node;
	json_t *defaults;
	int code = 0;

	if (!root || config_node_is_null(root))
		return config_fail(file, root, -EINVAL, err,
		                   "the file is empty; a batch file has the key 'tasks' with a list");
	if (root->kind != CONFIG_MAP)
		return config_fail(file, root, -EINVAL, err, "a batch file is a map with the key 'tasks', not %s",
		                   config_node_describe(root));
	for (const struct config_node *entry = root->first; entry; entry = entry->next) {
		const struct config_key *key = config_key_find(batch_keys, ARRAY_SIZE(batch_keys), entry->key->text);

		if (!key)
			return config_fail_unknown(file, entry->key, batch_keys, ARRAY_SIZE(batch_keys), err);
		code = convert_batch_key(file, entry, key, batch, err);
		if (code < 0)
			return code;
	}
	tasks_node = config_node_find(root, "tasks");
	if (!tasks_node)
		return config_fail(file, root, -EINVAL, err, "the key 'tasks' with a list of tasks is missing");
	defaults = json_object();
	defaults_node = config_node_find(root, "defaults");
	if (defaults_node && !config_node_is_null(defaults_node))
		code = convert_defaults(file, defaults_node, batch, defaults, err);
	if (code == 0)
		code = convert_tasks(file, tasks_node, defaults, batch, err);
	json_decref(defaults);
	return code;
}

int batch_file_convert(const struct config_file *file, struct batch_file *ret, struct err *err)
{
	struct batch_file batch = { .tasks = json_array() };
	int code = convert_root(file, config_file_root(file), &batch, err);

	if (code < 0) {
		batch_file_done(&batch);
		return code;
	}
	*ret = batch;
	return 0;
}

int batch_file_read(const char *path, struct batch_file *ret, struct err *err)
{
	CLEANUP(config_file_cleanup) struct config_file *file = NULL;
	int code = config_file_read(path, LIMIT_BATCH_FILE, &file, err);

	return code < 0 ? code : batch_file_convert(file, ret, err);
}

void batch_file_done(struct batch_file *batch)
{
	free(batch->name);
	free(batch->worktree);
	free(batch->base);
	json_decref(batch->tasks);
	*batch = (struct batch_file){ 0 };
}
