/*
 * list.c - `drover ls`, `show`, `why`, `status`: what is there and how it is.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/units.h"
#include "cli/cli.h"
#include "cli/grid.h"
#include "cli/pages.h"
#include "cli/pause.h"
#include "cli/refs.h"
#include "cli/results.h"
#include "cli/template.h"
#include "cli/terminal.h"

struct list_options {
	bool is_all;
	bool is_json;
	const char *batch;
	struct option_list states;
};

static const struct option_row ls_rows[] = {
	{ 'a', "all", NULL, OPTION_FLAG, offsetof(struct list_options, is_all),
	  .meaning = "also tasks that ended more than a day ago" },
	{ 0, "batch", "BATCH", OPTION_TEXT, offsetof(struct list_options, batch),
	  .meaning = "only of this batch: id or name", .values = OPTION_VALUES_BATCH },
	{ 0, "state", "STATE", OPTION_NAMES, offsetof(struct list_options, states), .meaning = "only in these states",
	  .choices = api_state_choices },
	{ 0, "json", NULL, OPTION_FLAG, offsetof(struct list_options, is_json), .meaning = "as JSON: {\"tasks\": [...]}" },
};

static const char *text_of(const json_t *object, const char *member)
{
	const char *text = json_string_value(json_object_get(object, member));

	return text ? text : "";
}

/* A command as one line, quoted where a shell would need it. */
static void add_command(struct buf *buf, const json_t *task)
{
	const json_t *words = json_object_get(task, "command");
	json_t *word;
	size_t i;

	if (json_array_size(words) == 3 && strcmp(json_string_value(json_array_get(words, 0)), "sh") == 0 &&
	    strcmp(json_string_value(json_array_get(words, 1)), "-c") == 0) {
		buf_add_text(buf, json_string_value(json_array_get(words, 2)));
		return;
	}
	json_array_foreach (words, i, word) {
		if (i > 0)
			buf_add_byte(buf, ' ');
		template_add_quoted(buf, json_string_value(word));
	}
}

static void add_row(struct grid *grid, const json_t *task)
{
	CLEANUP_BUF struct buf command = BUF_INIT;
	const json_t *duration = json_object_get(task, "duration_s");
	const char *state = text_of(task, "state");
	const char *note = text_of(task, "cause");
	char text[UNITS_TEXT_MAX];

	if (note[0] == '\0' && strcmp(text_of(task, "reason"), "none") != 0)
		note = text_of(task, "reason");
	/* The same reason as of --hold, but nothing was done to this task. */
	if (strcmp(note, "user-hold") == 0 && strcmp(state, "queued") == 0)
		note = "paused";
	add_command(&command, task);
	grid_add_format(grid, "%lld", (long long)json_integer_value(json_object_get(task, "id")));
	grid_add(grid, text_of(task, "name"));
	grid_add(grid, text_of(task, "batch_name"));
	grid_add(grid, state);
	grid_add(grid, json_is_number(duration) ? units_format_duration(results_ns(duration), text) : "");
	grid_add(grid, strcmp(state, "succeeded") == 0 ? "" : note);
	grid_add(grid, command.bytes);
}

static void print_tasks(struct cli *cli, const json_t *tasks)
{
	static const struct grid_column columns[] = {
		{ .title = "ID", .is_right = true },
		{ .title = "NAME" },
		{ .title = "BATCH" },
		{ .title = "STATE", .is_state = true },
		{ .title = "TIME", .is_right = true },
		{ .title = "NOTE" },
		{ .title = "COMMAND", .is_flexible = true },
	};
	struct grid grid = { .columns = columns, .column_count = ARRAY_SIZE(columns) };
	json_t *task;
	size_t i;

	if (json_array_size(tasks) == 0 && cli->is_out_terminal) {
		buf_add_text(&cli->out, "no tasks\n");
		return;
	}
	json_array_foreach (tasks, i, task)
		add_row(&grid, task);
	grid_finish(&grid, &cli->out, cli->width, cli->has_out_colour);
}

struct listing {
	int object; /* definition of a task */
	json_t *tasks;
};

static void add_task(void *context, json_t *task)
{
	struct listing *listing = context;

	json_array_append_new(listing->tasks, cli_complete(listing->object, task));
}

/* All pages; each task with every field of its definition. NULL when a page could not be had. */
static json_t *fetch_tasks(struct cli *cli, struct client *client, const struct list_options *options, int *ret_status)
{
	struct listing listing = {
		.object = cli_object_of(api_method_info(API_TASK_LIST)->result, "tasks"),
		.tasks = json_array(),
	};
	json_t *params = json_pack("{s:b}", "is_all", options->is_all);

	if (options->batch)
		json_object_set_new(params, "batch", refs_string(options->batch));
	if (options->states.count > 0)
		json_object_set_new(params, "states", refs_array(&options->states));
	*ret_status = pages_visit(cli, client, params, add_task, &listing);
	if (*ret_status == 0)
		return listing.tasks;
	json_decref(listing.tasks);
	return NULL;
}

static int list(struct cli *cli, const struct list_options *options)
{
	CLEANUP(client_cleanup) struct client *client = NULL;
	int status = cli_connect(cli, true, &client);
	json_t *tasks;

	if (status != 0)
		return status;
	tasks = fetch_tasks(cli, client, options, &status);
	if (!tasks)
		return status;
	if (options->is_json) {
		json_t *value = json_pack("{s:O}", "tasks", tasks);

		cli_print_json(cli, value);
		json_decref(value);
	} else {
		print_tasks(cli, tasks);
	}
	json_decref(tasks);
	return CLI_OK;
}

static int handle_ls(struct cli *cli, int argc, char **argv)
{
	struct list_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status)) {
		if (rest.count > 0)
			status = cli_refuse(cli, "unexpected '%.80s'; 'drover show %.80s' tells about one task",
			                    rest.texts[0], rest.texts[0]);
		else
			status = list(cli, &options);
	}
	cli_done(cli, &options, &rest);
	return status;
}

const struct command command_ls = {
	.name = "ls",
	.usage = "[OPTION]…",
	.summary = "lists tasks: unfinished ones and those of the last day",
	COMMAND_OPTIONS(ls_rows),
	.method = API_TASK_LIST,
	.handle = handle_ls,
};

struct json_options {
	bool is_json;
};

static const struct option_row json_rows[] = {
	{ 0, "json", NULL, OPTION_FLAG, offsetof(struct json_options, is_json), .meaning = "as JSON" },
};

/* One line "name  value", unless the value is null, empty or false. */
static void add_fact(struct buf *out, const char *name, const json_t *value)
{
	CLEANUP_BUF struct buf line = BUF_INIT;
	CLEANUP_FREE char *text = NULL;

	if (!value || json_is_null(value) || json_is_false(value) || (json_is_array(value) && json_array_size(value) == 0))
		return;
	if (!json_is_string(value))
		text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
	terminal_add_cut(&line, json_is_string(value) ? json_string_value(value) : text, SIZE_MAX);
	buf_add_format(out, "%-20s %s\n", name, line.bytes ? line.bytes : "");
}

static void add_facts(struct buf *out, const json_t *object, int definition, const char *const *skipped)
{
	const struct api_object_info *info = api_object_info(definition);

	for (unsigned i = 0; i < info->field_count; i++) {
		bool is_skipped = false;

		for (size_t j = 0; skipped[j]; j++)
			is_skipped = is_skipped || strcmp(skipped[j], info->fields[i].name) == 0;
		if (!is_skipped)
			add_fact(out, info->fields[i].name, json_object_get(object, info->fields[i].name));
	}
}

static void add_dependencies(struct buf *out, const json_t *after)
{
	json_t *dependency;
	size_t i;

	json_array_foreach (after, i, dependency) {
		const char *name = text_of(dependency, "name");

		buf_add_format(out, "%-20s #%lld%s%s%s%s%s\n", i == 0 ? "after" : "",
		               (long long)json_integer_value(json_object_get(dependency, "id")), name[0] ? " " : "", name,
		               text_of(dependency, "state")[0] ? " " : "", text_of(dependency, "state"),
		               json_is_true(json_object_get(dependency, "is_any")) ? " (any end will do)" : "");
	}
}

/* Every attempt in a line; the paths of the logs are what 'logs --attempt' reads. */
static void add_attempts(struct cli *cli, const json_t *attempts)
{
	static const struct grid_column columns[] = {
		{ .title = "ATTEMPT", .is_right = true },
		{ .title = "STATE", .is_state = true },
		{ .title = "STARTED" },
		{ .title = "TIME", .is_right = true },
		{ .title = "CAUSE" },
		{ .title = "LOG" },
	};
	struct grid grid = { .columns = columns, .column_count = ARRAY_SIZE(columns) };
	char text[UNITS_TEXT_MAX];
	json_t *attempt;
	size_t i;

	json_array_foreach (attempts, i, attempt) {
		const json_t *duration = json_object_get(attempt, "duration_s");

		grid_add_format(&grid, "%lld", (long long)json_integer_value(json_object_get(attempt, "attempt")));
		grid_add(&grid, text_of(attempt, "state"));
		grid_add(&grid, text_of(attempt, "started_at"));
		grid_add(&grid, json_is_number(duration) ? units_format_duration(results_ns(duration), text) : "");
		grid_add(&grid, text_of(attempt, "cause"));
		grid_add(&grid, text_of(attempt, "log_path"));
	}
	if (grid.row_count > 0)
		buf_add_byte(&cli->out, '\n');
	if (grid.row_count > 0)
		grid_finish(&grid, &cli->out, 0, cli->has_out_colour); /* paths are to be copied, so they are not cut */
}

static void print_details(struct cli *cli, const json_t *details)
{
	static const char *const skipped_task[] = { "command", NULL };
	static const char *const skipped_rest[] = { "task", "wait", "spec", "after", "attempts", NULL };
	const json_t *task = json_object_get(details, "task");
	int result = api_method_info(API_TASK_SHOW)->result;
	CLEANUP_BUF struct buf command = BUF_INIT;
	CLEANUP_BUF struct buf shown = BUF_INIT;

	add_facts(&cli->out, task, cli_object_of(result, "task"), skipped_task);
	add_command(&command, task);
	terminal_add_cut(&shown, command.bytes ? command.bytes : "", SIZE_MAX);
	buf_add_format(&cli->out, "%-20s %s\n", "command", shown.bytes ? shown.bytes : "");
	add_facts(&cli->out, details, result, skipped_rest);
	add_dependencies(&cli->out, json_object_get(details, "after"));
	add_fact(&cli->out, "waits", json_object_get(json_object_get(details, "wait"), "text"));
	add_attempts(cli, json_object_get(details, "attempts"));
}

static json_t *complete_all(int object, const json_t *list)
{
	json_t *complete = json_array();
	json_t *item;
	size_t i;

	json_array_foreach (list, i, item)
		json_array_append_new(complete, cli_complete(object, item));
	return complete;
}

/* {…the task's fields, …the other fields}: `show --json`. */
static json_t *flatten(const json_t *details)
{
	int result = api_method_info(API_TASK_SHOW)->result;
	json_t *flat = cli_complete(cli_object_of(result, "task"), json_object_get(details, "task"));
	json_t *rest = cli_complete(result, details);

	json_object_set_new(rest, "attempts",
	                    complete_all(cli_object_of(result, "attempts"), json_object_get(rest, "attempts")));
	json_object_del(rest, "task");
	json_object_update(flat, rest);
	json_decref(rest);
	return flat;
}

/* "; worktree-missing", for each condition. */
static void add_conditions(struct buf *line, const json_t *conditions)
{
	json_t *condition;
	size_t i;

	json_array_foreach (conditions, i, condition)
		buf_add_format(line, "; %s", json_string_value(condition));
}

/* Why it waits, or how it ended, in a line. */
static void print_why(struct cli *cli, const json_t *details)
{
	const json_t *task = json_object_get(details, "task");
	const json_t *wait = json_object_get(details, "wait");
	const char *name = text_of(task, "name");
	const char *cause = text_of(task, "cause");
	const char *text = json_is_object(wait) ? text_of(wait, "text") : cause;
	const char *state = text_of(task, "state");
	CLEANUP_BUF struct buf line = BUF_INIT;
	CLEANUP_BUF struct buf shown = BUF_INIT;

	/* Some causes begin with the state: "skipped: #12 failed". */
	if (strncmp(text, state, strlen(state)) != 0)
		buf_add_format(&line, "%s%s", state, text[0] ? ": " : "");
	buf_add_text(&line, text);
	add_conditions(&line, json_object_get(details, "conditions"));
	terminal_add_cut(&shown, line.bytes, SIZE_MAX);
	buf_add_format(&cli->out, "#%lld%s%s is %s\n", (long long)json_integer_value(json_object_get(task, "id")),
	               name[0] ? " " : "", name, shown.bytes);
	add_dependencies(&cli->out, json_is_object(wait) ? json_object_get(details, "after") : NULL);
}

static int show_one(struct cli *cli, const char *ref, enum api_method method, bool is_json)
{
	CLEANUP(client_cleanup) struct client *client = NULL;
	int status = cli_connect(cli, true, &client);
	json_t *details;

	if (status != 0)
		return status;
	details = cli_call(cli, client, method, json_pack("{s:o}", "task", refs_string(ref)), &status);
	if (!details)
		return status;
	if (is_json) {
		json_t *flat = flatten(details);

		cli_print_json(cli, flat);
		json_decref(flat);
	} else if (method == API_TASK_WHY) {
		print_why(cli, details);
	} else {
		print_details(cli, details);
	}
	json_decref(details);
	return CLI_OK;
}

static int handle_one(struct cli *cli, int argc, char **argv, enum api_method method)
{
	struct json_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status))
		status = rest.count == 1 ? show_one(cli, rest.texts[0], method, options.is_json)
		                         : cli_refuse(cli, "give one task; %zu were given", rest.count);
	cli_done(cli, &options, &rest);
	return status;
}

static int handle_show(struct cli *cli, int argc, char **argv)
{
	return handle_one(cli, argc, argv, API_TASK_SHOW);
}

const struct command command_show = {
	.name = "show",
	.usage = "[--json] TASK",
	.summary = "tells everything about a task",
	.arguments = OPTION_VALUES_TASK,
	COMMAND_OPTIONS(json_rows),
	.method = API_TASK_SHOW,
	.handle = handle_show,
};

static int handle_why(struct cli *cli, int argc, char **argv)
{
	return handle_one(cli, argc, argv, API_TASK_WHY);
}

const struct command command_why = {
	.name = "why",
	.usage = "[--json] TASK",
	.summary = "tells why a task waits, or how it ended",
	.arguments = OPTION_VALUES_TASK,
	COMMAND_OPTIONS(json_rows),
	.method = API_TASK_WHY,
	.handle = handle_why,
};

static void print_status(struct cli *cli, const json_t *value)
{
	static const char *const names[] = { "slots", "running", "queued", "suspended", "batches" };
	json_t *count, *problem, *pause;
	const char *state;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		add_fact(&cli->out, names[i], json_object_get(value, names[i]));
	add_fact(&cli->out, "level", json_object_get(value, "level_name"));
	buf_add_format(&cli->out, "%-20s", "tasks");
	json_object_foreach (json_object_get(value, "states"), state, count)
		if (json_integer_value(count) > 0)
			buf_add_format(&cli->out, " %lld %s", (long long)json_integer_value(count), state);
	buf_add_byte(&cli->out, '\n');
	json_array_foreach (json_object_get(value, "pauses"), i, pause) {
		buf_add_format(&cli->out, "%-20s ", "paused");
		pause_add_line(&cli->out, pause);
	}
	json_array_foreach (json_object_get(value, "problems"), i, problem)
		add_fact(&cli->out, "problem", problem);
}

static int handle_status(struct cli *cli, int argc, char **argv)
{
	struct json_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status)) {
		CLEANUP(client_cleanup) struct client *client = NULL;
		json_t *value = NULL;

		if (rest.count > 0)
			status = cli_refuse(cli, "unexpected '%.80s'", rest.texts[0]);
		else
			status = cli_connect(cli, true, &client);
		if (status == 0)
			value = cli_call(cli, client, API_STATUS, NULL, &status);
		if (value && options.is_json) {
			json_t *complete = cli_complete(api_method_info(API_STATUS)->result, value);

			cli_print_json(cli, complete);
			json_decref(complete);
		} else if (value) {
			print_status(cli, value);
		}
		json_decref(value);
	}
	cli_done(cli, &options, &rest);
	return status;
}

const struct command command_status = {
	.name = "status",
	.usage = "[--json]",
	.summary = "tells how things are",
	COMMAND_OPTIONS(json_rows),
	.method = API_STATUS,
	.handle = handle_status,
};
