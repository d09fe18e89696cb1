/*
 * eventlog.c - `drover events`: the event log by its numbers, from the past into the future.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/units.h"
#include "cli/cli.h"
#include "cli/events.h"
#include "cli/refs.h"
#include "cli/results.h"
#include "cli/terminal.h"

enum { TASKS_MAX = 64 };

struct eventlog_options {
	bool is_following;
	bool is_json;
	bool is_final_only;
	const char *batch;
	struct option_list tasks;
	struct option_number since;
};

static const struct option_row events_rows[] = {
	{ 'f', "follow", NULL, OPTION_FLAG, offsetof(struct eventlog_options, is_following),
	  .meaning = "go on with what happens from now on, for ever" },
	{ 0, "since", "SEQ", OPTION_COUNT, offsetof(struct eventlog_options, since),
	  .meaning = "what came after the event of this number (0; with -f: the latest)", .limit = INT64_MAX },
	{ 0, "batch", "BATCH", OPTION_TEXT, offsetof(struct eventlog_options, batch),
	  .meaning = "only of this batch: id or name", .values = OPTION_VALUES_BATCH },
	{ 0, "task", "TASK", OPTION_NAMES, offsetof(struct eventlog_options, tasks), .meaning = "only of these tasks",
	  .values = OPTION_VALUES_TASK },
	{ 0, "ends", NULL, OPTION_FLAG, offsetof(struct eventlog_options, is_final_only),
	  .meaning = "only the ends of tasks" },
	{ 0, "json", NULL, OPTION_FLAG, offsetof(struct eventlog_options, is_json),
	  .meaning = "a JSON object for each line" },
};

struct eventlog {
	struct cli *cli;
	struct client *client;
	const struct eventlog_options *options;
	json_int_t tasks[TASKS_MAX]; /* ids of --task */
	size_t task_count;
	json_int_t after; /* number of the latest event seen */
};

/* Beside what DESIGN 6.1 tells of it: "failed: exit 3, attempt 2, after 1.5s". */
static void add_words(struct buf *line, const json_t *event)
{
	const char *state = json_string_value(json_object_get(event, "state"));
	const char *cause = json_string_value(json_object_get(event, "cause"));
	const json_t *duration = json_object_get(event, "duration_s");
	json_int_t attempt = json_integer_value(json_object_get(event, "attempt"));
	char text[UNITS_TEXT_MAX];

	buf_add_text(line, state ? state : json_string_value(json_object_get(event, "kind")));
	if (cause && state && strcmp(state, "succeeded") != 0)
		buf_add_format(line, ": %s", cause);
	if (attempt > 1)
		buf_add_format(line, ", attempt %lld", (long long)attempt);
	if (state && events_is_final(state) && json_is_number(duration))
		buf_add_format(line, ", after %s", units_format_duration(results_ns(duration), text));
}

static void print_event(struct eventlog *log, const json_t *event)
{
	json_int_t task = json_integer_value(json_object_get(event, "task"));
	json_int_t batch = json_integer_value(json_object_get(event, "batch"));
	const char *name = json_string_value(json_object_get(event, "name"));
	CLEANUP_BUF struct buf line = BUF_INIT;

	buf_add_format(&line, "%lld %s", (long long)json_integer_value(json_object_get(event, "seq")),
	               json_string_value(json_object_get(event, "at")));
	if (task > 0)
		buf_add_format(&line, " #%lld%s%s", (long long)task, name ? " " : "", name ? name : "");
	if (batch > 0)
		buf_add_format(&line, " (batch %lld)", (long long)batch);
	buf_add_byte(&line, ' ');
	add_words(&line, event);
	terminal_add_cut(&log->cli->out, line.bytes, SIZE_MAX);
	buf_add_byte(&log->cli->out, '\n');
}

static bool is_wanted(const struct eventlog *log, const json_t *event)
{
	json_int_t task = json_integer_value(json_object_get(event, "task"));

	for (size_t i = 0; i < log->task_count; i++)
		if (log->tasks[i] == task)
			return true;
	return log->task_count == 0;
}

static void handle_event(struct eventlog *log, const json_t *event)
{
	log->after = MAX(log->after, json_integer_value(json_object_get(event, "seq")));
	if (!is_wanted(log, event))
		return;
	if (log->options->is_json) {
		json_t *complete = cli_complete(API_OBJECT_EVENT, event);

		cli_print_json_line(log->cli, complete);
		json_decref(complete);
	} else {
		print_event(log, event);
	}
	if (log->cli->out.length >= CLI_FLUSH_BYTES)
		cli_flush(log->cli);
}

/* Says which events there are no more: in the stream for a program, beside it for people. */
static void tell_gap(struct eventlog *log, uint64_t from, uint64_t to)
{
	if (log->options->is_json) {
		json_t *gap = json_pack("{s:{s:I, s:I}}", "gap", "from", (json_int_t)from, "to", (json_int_t)to);

		cli_print_json_line(log->cli, gap);
		json_decref(gap);
		return;
	}
	cli_tell(log->cli, "the events from %llu to %llu are no longer kept", (unsigned long long)from,
	         (unsigned long long)to);
}

static json_t *make_params(const struct eventlog *log)
{
	json_t *params = json_object();

	if (log->options->batch)
		json_object_set_new(params, "batch", refs_string(log->options->batch));
	if (log->options->is_final_only)
		json_object_set_new(params, "is_final_only", json_true());
	return params;
}

/* Everything up to now, a page at a time. 0 or an exit status. */
static int print_past(struct eventlog *log)
{
	json_t *params = make_params(log);
	bool is_more = true;
	int status = 0;

	while (is_more && !log->cli->has_write_failed) {
		json_t *page, *event;
		json_int_t missing;
		size_t i;

		json_object_set_new(params, "after_seq", json_integer(log->after));
		page = cli_call(log->cli, log->client, API_EVENTS_LIST, json_incref(params), &status);
		if (!page)
			break;
		missing = json_integer_value(json_object_get(page, "missing_to"));
		/* Whoever asks for all there is, is told what there is. */
		if (missing > 0 && (log->options->since.is_set || log->after > 0))
			tell_gap(log, (uint64_t)json_integer_value(json_object_get(page, "missing_from")),
			         (uint64_t)missing);
		json_array_foreach (json_object_get(page, "events"), i, event)
			handle_event(log, event);
		log->after = MAX(log->after, json_integer_value(json_object_get(page, "next")));
		is_more = log->after < json_integer_value(json_object_get(page, "seq"));
		json_decref(page);
	}
	json_decref(params);
	return status;
}

static void handle_gap(struct eventlog *log)
{
	struct client_gap gap = client_gap(log->client);

	if (gap.is_new_log)
		cli_tell(log->cli, "the event log is another one than before: its numbers begin anew");
	if (gap.to > 0)
		tell_gap(log, gap.from, gap.to);
}

/* From number `after` on (−1 = the latest), for ever. */
static int follow(struct eventlog *log, int64_t after)
{
	struct events events = { .cli = log->cli, .client = log->client, .other_fd = -1, .is_endless = true };
	struct events_filter filter = { .batch = log->options->batch,
		                        .after_seq = after,
		                        .is_final_only = log->options->is_final_only };
	bool is_gap;
	int status = events_subscribe(&events, &filter, &is_gap);

	if (status != 0)
		return status;
	if (is_gap)
		handle_gap(log);
	while (!log->cli->has_write_failed) {
		json_t *event = NULL;

		switch (events_next(&events, -1, &event)) {
		case EVENTS_NEW:
			handle_event(log, event);
			json_decref(event);
			break;
		case EVENTS_GAP:
			handle_gap(log);
			break;
		case EVENTS_LOST:
			return events.exit_status;
		case EVENTS_NONE:
			break;
		}
	}
	return CLI_FAILED;
}

/* The ids of --task: a name means the task that has it now. */
static int find_tasks(struct eventlog *log)
{
	const struct option_list *tasks = &log->options->tasks;
	int status = 0;

	if (tasks->count > TASKS_MAX)
		return cli_refuse(log->cli, "--task: %zu tasks, and at most %d can be picked out", tasks->count, TASKS_MAX);
	for (size_t i = 0; i < tasks->count && status == 0; i++) {
		json_t *details = cli_call(log->cli, log->client, API_TASK_SHOW,
		                           json_pack("{s:o}", "task", refs_string(tasks->texts[i])), &status);

		log->tasks[log->task_count++] = json_integer_value(json_object_get(json_object_get(details, "task"), "id"));
		json_decref(details);
	}
	return status;
}

static int handle_events(struct cli *cli, int argc, char **argv)
{
	struct eventlog_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status)) {
		CLEANUP(client_cleanup) struct client *client = NULL;
		struct eventlog log = { .cli = cli, .options = &options, .after = (json_int_t)options.since.value };

		if (rest.count > 0)
			status = cli_refuse(cli, "unexpected '%.80s'; --task=%.80s picks out a task", rest.texts[0],
			                    rest.texts[0]);
		else
			status = cli_connect(cli, true, &client);
		log.client = client;
		if (status == 0)
			status = find_tasks(&log);
		if (status == 0)
			status = options.is_following ? follow(&log, options.since.is_set ? log.after : -1)
			                              : print_past(&log);
	}
	cli_done(cli, &options, &rest);
	return status;
}

const struct command command_events = {
	.name = "events",
	.usage = "[-f] [--since=SEQ] [--batch=BATCH] [--task=TASK] [--json]",
	.summary = "prints the event log: what happened, when, to which task",
	.more = "Each line begins with the event's number; numbers have no gaps, so a reader that remembers the last one it "
		"saw\n"
		"goes on with --since. With -f the end or death of the daemon is survived, and nothing is told twice. Old "
		"events\n"
		"are not kept for ever: what is missing is said. With --json each line is an 'event' of docs/protocol.md, "
		"or\n"
		"{\"gap\": {\"from\": SEQ, \"to\": SEQ}} for what is missing.",
	COMMAND_OPTIONS(events_rows),
	.method = API_EVENTS_LIST,
	.handle = handle_events,
};
