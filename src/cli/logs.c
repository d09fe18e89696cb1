/*
 * logs.c - `drover logs`: what a task wrote.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/cli.h"
#include "cli/events.h"
#include "cli/output.h"
#include "cli/refs.h"

enum { FOLLOW_PAUSE_MIN_MS = 5, FOLLOW_PAUSE_MAX_MS = 200 };

struct logs_options {
	bool is_following;
	bool is_raw;
	bool is_error; /* --stderr */
	struct option_number lines;
	struct option_number attempt;
};

static const struct option_row logs_rows[] = {
	{ 'f', "follow", NULL, OPTION_FLAG, offsetof(struct logs_options, is_following),
	  .meaning = "go on until the task has ended" },
	{ 'n', "lines", "N", OPTION_COUNT, offsetof(struct logs_options, lines), .meaning = "only the last N lines",
	  .limit = 1000000000 },
	{ 0, "attempt", "N", OPTION_COUNT, offsetof(struct logs_options, attempt),
	  .meaning = "of the N-th attempt instead of the latest", .limit = 1000000000 },
	{ 0, "raw", NULL, OPTION_FLAG, offsetof(struct logs_options, is_raw),
	  .meaning = "control characters as they are, also to a terminal" },
	{ 0, "stderr", NULL, OPTION_FLAG, offsetof(struct logs_options, is_error),
	  .meaning = "the standard error of a task with --split-output" },
};

struct reading {
	struct cli *cli;
	struct client *client;
	const struct logs_options *options;
	uint64_t id;
	uint64_t batch;
	json_int_t attempts; /* that it has had */
	char *path;
	struct logfile file;
	struct output output;
	json_int_t written; /* bytes of output of the latest attempt; −1 while that is not known */
	bool has_ended;
};

/* The log of the attempt asked for, beside that of the latest one: …/ID.ATTEMPT.log. To be freed. */
static char *path_of_attempt(const struct reading *reading, const char *latest)
{
	const char *slash = strrchr(latest, '/');

	if (!reading->options->attempt.is_set)
		return xstrdup(latest);
	return xasprintf("%.*s%llu.%llu.log", slash ? (int)(slash - latest + 1) : 0, latest, (unsigned long long)reading->id,
	                 (unsigned long long)reading->options->attempt.value);
}

/* Goes over to the log that an event or listing names: a new attempt has a new one. */
static void set_path(struct reading *reading, const json_t *task)
{
	const char *given = json_string_value(json_object_get(task, "log_path"));
	const char *state = json_string_value(json_object_get(task, "state"));
	CLEANUP_FREE char *name = NULL;
	CLEANUP_FREE char *path = NULL;

	reading->has_ended = reading->has_ended || (state && events_is_final(state));
	if (!given)
		return;
	name = path_of_attempt(reading, given);
	path = xasprintf("%s%s%s%s", name[0] == '/' ? "" : client_state_dir(reading->client), name[0] == '/' ? "" : "/",
	                 name, reading->options->is_error ? ".err" : "");
	if (reading->path && strcmp(reading->path, path) == 0)
		return;
	if (reading->file.fd >= 0 && output_copy(&reading->output, &reading->file) >= 0)
		output_end(&reading->output);
	logfile_close(&reading->file);
	free_pointer(&reading->path);
	reading->path = TAKE_PTR(path);
}

/* Passes on what is there. 1, 0, or -errno: -ENOENT while there is no log. */
static int copy(struct reading *reading)
{
	if (reading->file.fd < 0 && reading->path) {
		int code = logfile_open(reading->path, &reading->file);

		if (code < 0)
			return code;
		if (reading->options->lines.is_set)
			code = reading->options->lines.value > 0
			               ? logfile_seek_lines(&reading->file, reading->options->lines.value)
			               : logfile_seek_end(&reading->file);
		if (code < 0)
			return code;
	}
	return reading->file.fd < 0 ? 0 : output_copy(&reading->output, &reading->file);
}

/* How long the log must be: where one attempt has one log. */
static void note_written(struct reading *reading, const json_t *details)
{
	const json_t *bytes = json_object_get(details, "output_bytes");
	bool is_split = json_is_true(json_object_get(json_object_get(details, "spec"), "split_output"));

	reading->written = -1;
	if (json_is_integer(bytes) && !is_split && !reading->options->attempt.is_set)
		reading->written = json_integer_value(bytes);
}

static int show_task(struct reading *reading, const char *ref)
{
	int status = 0;
	json_t *details = cli_call(reading->cli, reading->client, API_TASK_SHOW,
	                           json_pack("{s:o}", "task", refs_string(ref)), &status);
	const json_t *task = json_object_get(details, "task");

	if (!details)
		return status;
	reading->id = (uint64_t)json_integer_value(json_object_get(task, "id"));
	reading->attempts = json_integer_value(json_object_get(task, "attempt"));
	reading->batch = (uint64_t)json_integer_value(json_object_get(task, "batch"));
	set_path(reading, task);
	note_written(reading, details);
	json_decref(details);
	return 0;
}

static int follow(struct reading *reading)
{
	struct events events = { .cli = reading->cli, .client = reading->client, .other_fd = -1 };
	CLEANUP_FREE char *batch = xasprintf("%llu", (unsigned long long)reading->batch);
	struct events_filter filter = { .after_seq = -1, .batch = batch };
	CLEANUP_FREE char *ref = xasprintf("%llu", (unsigned long long)reading->id);
	int pause_ms = FOLLOW_PAUSE_MIN_MS;
	bool is_gap;
	int status = events_subscribe(&events, &filter, &is_gap);

	/* Again, since it may have ended before the subscription. */
	if (status == 0)
		status = show_task(reading, ref);
	while (status == 0 && !reading->has_ended) {
		json_t *event = NULL;

		pause_ms = copy(reading) > 0 ? FOLLOW_PAUSE_MIN_MS : MIN(pause_ms * 2, FOLLOW_PAUSE_MAX_MS);
		switch (events_next(&events, pause_ms, &event)) {
		case EVENTS_NEW:
			if ((uint64_t)json_integer_value(json_object_get(event, "task")) == reading->id)
				set_path(reading, event);
			json_decref(event);
			break;
		case EVENTS_GAP:
			status = show_task(reading, ref);
			break;
		case EVENTS_LOST:
			return events.exit_status;
		case EVENTS_NONE:
			break;
		}
	}
	return status;
}

static int print_logs(struct reading *reading, const char *ref)
{
	int status = show_task(reading, ref);
	int code;

	if (status == 0 && reading->options->is_following && !reading->has_ended)
		status = follow(reading);
	if (status != 0)
		return status;
	code = copy(reading);
	output_end(&reading->output);
	if (code == -ENOENT && reading->options->attempt.is_set) {
		cli_tell(reading->cli, "#%llu has no attempt %llu: it has had %lld", (unsigned long long)reading->id,
		         (unsigned long long)reading->options->attempt.value, (long long)reading->attempts);
		return CLI_USAGE;
	}
	if (code < 0) {
		cli_tell(reading->cli, "cannot read the log of #%llu, '%s': %s", (unsigned long long)reading->id,
		         reading->path, strerror(-code));
		return CLI_FAILED;
	}
	if (reading->has_ended && reading->file.fd >= 0 && (json_int_t)reading->file.position < reading->written) {
		cli_tell(reading->cli, "the log of #%llu, '%s', is cut short: the last %lld of %lld bytes are missing",
		         (unsigned long long)reading->id, reading->path,
		         (long long)(reading->written - (json_int_t)reading->file.position), (long long)reading->written);
		return CLI_FAILED;
	}
	if (!reading->path)
		cli_tell(reading->cli, "#%llu has written nothing: it has not run%s", (unsigned long long)reading->id,
		         reading->has_ended ? "" : " yet");
	return CLI_OK;
}

static int handle_logs(struct cli *cli, int argc, char **argv)
{
	struct logs_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status)) {
		CLEANUP(client_cleanup) struct client *client = NULL;

		if (rest.count != 1)
			status = cli_refuse(cli, "give one task; %zu were given", rest.count);
		else if (options.is_following && options.attempt.is_set)
			status = cli_refuse(cli, "give -f, which follows all attempts, or --attempt, not both");
		else
			status = cli_connect(cli, true, &client);
		if (status == 0) {
			struct reading reading = {
				.cli = cli,
				.client = client,
				.options = &options,
				.file = LOGFILE_INIT,
				.written = -1,
				.output = { .cli = cli, .is_raw = options.is_raw },
			};

			status = print_logs(&reading, rest.texts[0]);
			logfile_close(&reading.file);
			free_pointer(&reading.path);
		}
	}
	cli_done(cli, &options, &rest);
	return status;
}

const struct command command_logs = {
	.name = "logs",
	.usage = "[-f] [-n N] [--attempt=N] [--raw] TASK",
	.summary = "prints what a task wrote",
	.more = "Between head and tail of a very long output the middle is not kept; a line says how many bytes are "
		"missing.",
	.arguments = OPTION_VALUES_TASK,
	COMMAND_OPTIONS(logs_rows),
	.method = -1,
	.handle = handle_logs,
};
