/*
 * wait.c - `drover wait`: until tasks have ended.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/cli.h"
#include "cli/events.h"
#include "cli/notify.h"
#include "cli/pages.h"
#include "cli/refs.h"
#include "cli/results.h"
#include "client/stopwatch.h"

struct wait_options {
	bool is_all;
	bool is_quiet;
	bool is_json;
	const char *notify;
	const char *batch;
};

static const struct option_row wait_rows[] = {
	{ 0, "all", NULL, OPTION_FLAG, offsetof(struct wait_options, is_all), .meaning = "all unfinished tasks" },
	{ 0, "batch", "BATCH", OPTION_TEXT, offsetof(struct wait_options, batch),
	  .meaning = "the tasks of this batch: id or name", .values = OPTION_VALUES_BATCH },
	{ 'q', "quiet", NULL, OPTION_FLAG, offsetof(struct wait_options, is_quiet), .meaning = "no summary" },
	{ 0, "json", NULL, OPTION_FLAG, offsetof(struct wait_options, is_json), .meaning = "the summary as JSON" },
	{ 0, "notify", "WHEN", OPTION_TEXT, offsetof(struct wait_options, notify),
	  .meaning = "a notice at the end: auto (of what took over a minute), always or never", .fallback = "always",
	  .choices = NOTIFY_CHOICES },
};

/* What is waited for: ids with whether they have ended, ascending. */
struct waiting {
	struct cli *cli;
	struct client *client;
	const struct wait_options *options;
	const struct option_rest *rest;
	struct wait_entry {
		uint64_t id;
		bool has_ended;
	} *entries;
	size_t count;
	size_t capacity;
	struct tally tally;
	struct events events;
};

static int compare_entries(const void *a, const void *b)
{
	const struct wait_entry *left = a, *right = b;

	return left->id < right->id ? -1 : left->id > right->id;
}

static struct wait_entry *find_entry(const struct waiting *waiting, uint64_t id)
{
	struct wait_entry key = { .id = id };

	return waiting->count > 0 ? bsearch(&key, waiting->entries, waiting->count, sizeof(key), compare_entries) : NULL;
}

static void add_entry(struct waiting *waiting, const json_t *task)
{
	if (waiting->count == waiting->capacity) {
		waiting->capacity = MAX(waiting->capacity * 2, (size_t)64);
		waiting->entries = xrealloc(waiting->entries, waiting->capacity * sizeof(*waiting->entries));
	}
	waiting->entries[waiting->count++] =
		(struct wait_entry){ .id = (uint64_t)json_integer_value(json_object_get(task, "id")) };
}

/* Notes a task's state, from an event or a listing. */
static void note(struct waiting *waiting, uint64_t id, const json_t *task)
{
	struct wait_entry *entry = find_entry(waiting, id);
	const char *state = json_string_value(json_object_get(task, "state"));

	if (!entry || entry->has_ended || !state || !events_is_final(state))
		return;
	entry->has_ended = true;
	tally_add(&waiting->tally, state);
}

/* Every task named on the command line, by task.show. `handle` gets each. */
static int visit_named(struct waiting *waiting, void (*handle)(void *context, json_t *task))
{
	int status = 0;

	for (size_t i = 0; i < waiting->rest->count && status == 0; i++) {
		json_t *details = cli_call(waiting->cli, waiting->client, API_TASK_SHOW,
		                           json_pack("{s:o}", "task", refs_string(waiting->rest->texts[i])), &status);

		if (details)
			handle(waiting, json_object_get(details, "task"));
		json_decref(details);
	}
	return status;
}

static int visit_listed(struct waiting *waiting, void (*handle)(void *context, json_t *task))
{
	json_t *params = json_pack("{s:b}", "is_all", true);

	if (waiting->options->batch)
		json_object_set_new(params, "batch", refs_string(waiting->options->batch));
	return pages_visit(waiting->cli, waiting->client, params, handle, waiting);
}

static int visit(struct waiting *waiting, void (*handle)(void *context, json_t *task))
{
	return waiting->rest->count > 0 ? visit_named(waiting, handle) : visit_listed(waiting, handle);
}

static void handle_first(void *context, json_t *task)
{
	struct waiting *waiting = context;
	const char *state = json_string_value(json_object_get(task, "state"));

	/* --all is about what goes on now. */
	if (!waiting->options->is_all || (state && !events_is_final(state)))
		add_entry(waiting, task);
}

static void handle_again(void *context, json_t *task)
{
	note(context, (uint64_t)json_integer_value(json_object_get(task, "id")), task);
}

static void drop_duplicates(struct waiting *waiting)
{
	size_t kept = 0;

	if (waiting->count == 0)
		return;
	qsort(waiting->entries, waiting->count, sizeof(*waiting->entries), compare_entries);
	for (size_t i = 0; i < waiting->count; i++)
		if (kept == 0 || waiting->entries[kept - 1].id != waiting->entries[i].id)
			waiting->entries[kept++] = waiting->entries[i];
	waiting->count = kept;
}

static int follow(struct waiting *waiting)
{
	while (tally_ended(&waiting->tally) < waiting->count) {
		json_t *event = NULL;
		int status = 0;

		switch (events_next(&waiting->events, -1, &event)) {
		case EVENTS_NEW:
			note(waiting, (uint64_t)json_integer_value(json_object_get(event, "task")), event);
			json_decref(event);
			break;
		case EVENTS_GAP:
			status = visit(waiting, handle_again);
			break;
		case EVENTS_LOST:
			return waiting->events.exit_status;
		case EVENTS_NONE:
			break;
		}
		if (status != 0)
			return status;
	}
	return 0;
}

static void print_summary(struct waiting *waiting, uint64_t duration_ns)
{
	CLEANUP_BUF struct buf text = BUF_INIT;

	if (waiting->options->is_json) {
		json_t *summary = tally_json(&waiting->tally, 0, duration_ns);

		json_object_del(summary, "batch");
		cli_print_json(waiting->cli, summary);
		json_decref(summary);
	} else if (!waiting->options->is_quiet) {
		tally_format(&waiting->tally, duration_ns, &text);
		buf_add_format(&waiting->cli->out, "%s\n", text.bytes);
	}
}

/* Subscribed first and listed then, no end can slip between. */
static int wait_for_tasks(struct waiting *waiting)
{
	struct events_filter filter = { .after_seq = -1, .is_final_only = true };
	CLEANUP(stopwatch_done) struct stopwatch watch = STOPWATCH_INIT;
	bool is_gap;
	int status;

	stopwatch_start(&watch);
	waiting->events = (struct events){ .cli = waiting->cli, .client = waiting->client, .other_fd = -1 };
	status = events_subscribe(&waiting->events, &filter, &is_gap);
	if (status == 0)
		status = visit(waiting, handle_first);
	if (status != 0)
		return status;
	drop_duplicates(waiting);
	waiting->tally.total = waiting->count;
	status = visit(waiting, handle_again);
	if (status == 0)
		status = follow(waiting);
	if (status != 0)
		return status;
	print_summary(waiting, stopwatch_ns(&watch));
	notify_end(waiting->cli, waiting->options->notify, &waiting->tally, 0, stopwatch_ns(&watch));
	return waiting->tally.succeeded == waiting->count ? CLI_OK : CLI_FAILED;
}

static int handle_wait(struct cli *cli, int argc, char **argv)
{
	struct wait_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status)) {
		CLEANUP(client_cleanup) struct client *client = NULL;
		int ways = (rest.count > 0) + (options.batch != NULL) + options.is_all;

		if (ways != 1)
			status = cli_refuse(cli, "%s",
			                    ways == 0 ? "name the tasks, or give --batch or --all"
			                              : "give tasks, --batch or --all, but one of them");
		else
			status = cli_connect(cli, true, &client);
		if (status == 0) {
			struct waiting waiting = { .cli = cli, .client = client, .options = &options, .rest = &rest };

			status = wait_for_tasks(&waiting);
			free(waiting.entries);
		}
	}
	cli_done(cli, &options, &rest);
	return status;
}

const struct command command_wait = {
	.name = "wait",
	.usage = "TASK…   or   --batch=BATCH   or   --all",
	.summary = "waits until tasks have ended: status 0 when all succeeded, 1 when not",
	.arguments = OPTION_VALUES_TASK,
	.argument_choices = api_unfinished_choices,
	COMMAND_OPTIONS(wait_rows),
	.method = -1,
	.handle = handle_wait,
};
