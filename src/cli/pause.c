/*
 * pause.c - `drover pause`, `unpause`: nothing new starts, of everything or of one batch.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "cli/cli.h"
#include "cli/pause.h"
#include "cli/refs.h"
#include "cli/terminal.h"

struct pause_options {
	bool is_all;
	bool is_json;
	bool is_suspending;
	const char *batch;
};

static const struct option_row pause_rows[] = {
	{ 0, "batch", "BATCH", OPTION_TEXT, offsetof(struct pause_options, batch),
	  .meaning = "only this batch: id or name", .values = OPTION_VALUES_BATCH },
	{ 0, "suspend", NULL, OPTION_FLAG, offsetof(struct pause_options, is_suspending),
	  .meaning = "also suspend what runs; unpause resumes it" },
	{ 0, "json", NULL, OPTION_FLAG, offsetof(struct pause_options, is_json), .meaning = "the result as JSON" },
};

static const struct option_row unpause_rows[] = {
	{ 0, "batch", "BATCH", OPTION_TEXT, offsetof(struct pause_options, batch),
	  .meaning = "the pause of this batch: id or name", .values = OPTION_VALUES_BATCH },
	{ 0, "all", NULL, OPTION_FLAG, offsetof(struct pause_options, is_all),
	  .meaning = "all pauses, those of batches too" },
	{ 0, "json", NULL, OPTION_FLAG, offsetof(struct pause_options, is_json), .meaning = "the result as JSON" },
};

static const char *text_of(const json_t *object, const char *member)
{
	const char *text = json_string_value(json_object_get(object, member));

	return text ? text : "";
}

static void add_subject(struct buf *buf, const json_t *pause)
{
	const json_t *batch = json_object_get(pause, "batch");

	if (!json_is_integer(batch))
		buf_add_text(buf, "everything");
	else if (text_of(pause, "batch_name")[0] != '\0')
		buf_add_format(buf, "batch %s", text_of(pause, "batch_name"));
	else
		buf_add_format(buf, "batch %lld", (long long)json_integer_value(batch));
}

void pause_add_line(struct buf *out, const json_t *pause)
{
	CLEANUP_BUF struct buf line = BUF_INIT;

	add_subject(&line, pause);
	buf_add_format(&line, ", since %s", text_of(pause, "since"));
	if (text_of(pause, "who")[0] != '\0')
		buf_add_format(&line, " by %s", text_of(pause, "who"));
	if (json_is_true(json_object_get(pause, "is_suspending")))
		buf_add_text(&line, ", what ran is suspended");
	if (text_of(pause, "reason")[0] != '\0')
		buf_add_format(&line, ": %s", text_of(pause, "reason"));
	terminal_add_cut(out, line.bytes, SIZE_MAX);
	buf_add_byte(out, '\n');
}

/* Who pauses: the task that this runs in, or the user. */
static json_t *who(void)
{
	const char *task = getenv("PARALLEL_TASK_ID");
	const char *user = getenv("LOGNAME");

	if (task && task[0] != '\0')
		return json_sprintf("task #%.20s", task);
	if (!user || user[0] == '\0')
		user = getenv("USER");
	return user && user[0] != '\0' ? refs_string(user) : json_sprintf("uid %u", (unsigned)getuid());
}

static json_t *join(const struct option_rest *words)
{
	CLEANUP_BUF struct buf text = BUF_INIT;

	for (size_t i = 0; i < words->count; i++)
		buf_add_format(&text, "%s%s", i > 0 ? " " : "", words->texts[i]);
	return refs_string(text.bytes);
}

static json_t *make_params(const struct pause_options *options, const struct option_rest *rest)
{
	json_t *params = json_pack("{s:o, s:b}", "who", who(), "is_suspending", options->is_suspending);

	if (options->batch)
		json_object_set_new(params, "batch", refs_string(options->batch));
	if (rest->count > 0)
		json_object_set_new(params, "reason", join(rest));
	return params;
}

static void tell_count(struct cli *cli, const json_t *result, const char *done)
{
	json_int_t count = json_integer_value(json_object_get(result, "count"));

	if (count > 0)
		buf_add_format(&cli->out, "%s %lld task%s\n", done, (long long)count, count == 1 ? "" : "s");
}

static int pause_it(struct cli *cli, const struct pause_options *options, const struct option_rest *rest)
{
	CLEANUP(client_cleanup) struct client *client = NULL;
	int status = cli_connect(cli, true, &client);
	json_t *result;

	if (status != 0)
		return status;
	result = cli_call(cli, client, API_PAUSE, make_params(options, rest), &status);
	if (result && options->is_json) {
		cli_print_json(cli, result);
	} else if (result) {
		buf_add_text(&cli->out, "paused ");
		pause_add_line(&cli->out, json_object_get(result, "pause"));
		tell_count(cli, result, "suspended");
	}
	json_decref(result);
	return status;
}

static int handle_pause(struct cli *cli, int argc, char **argv)
{
	struct pause_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status))
		status = pause_it(cli, &options, &rest);
	cli_done(cli, &options, &rest);
	return status;
}

const struct command command_pause = {
	.name = "pause",
	.usage = "[--batch=BATCH] [--suspend] [REASON]…",
	.summary = "starts nothing new until unpause, over restarts too",
	COMMAND_OPTIONS(pause_rows),
	.method = API_PAUSE,
	.handle = handle_pause,
};

static void print_unpaused(struct cli *cli, const json_t *result)
{
	const json_t *ended = json_object_get(result, "ended");
	json_t *pause;
	size_t i;

	if (json_array_size(ended) == 0)
		buf_add_text(&cli->out, "nothing of it was paused\n");
	json_array_foreach (ended, i, pause) {
		buf_add_text(&cli->out, "no longer paused: ");
		pause_add_line(&cli->out, pause);
	}
	tell_count(cli, result, "resumed");
	json_array_foreach (json_object_get(result, "pauses"), i, pause) {
		buf_add_text(&cli->out, "still paused: ");
		pause_add_line(&cli->out, pause);
	}
}

static int unpause(struct cli *cli, const struct pause_options *options)
{
	CLEANUP(client_cleanup) struct client *client = NULL;
	int status = cli_connect(cli, true, &client);
	json_t *params, *result;

	if (status != 0)
		return status;
	params = json_pack("{s:b}", "is_all", options->is_all);
	if (options->batch)
		json_object_set_new(params, "batch", refs_string(options->batch));
	result = cli_call(cli, client, API_UNPAUSE, params, &status);
	if (result && options->is_json)
		cli_print_json(cli, result);
	else if (result)
		print_unpaused(cli, result);
	json_decref(result);
	return status;
}

static int handle_unpause(struct cli *cli, int argc, char **argv)
{
	struct pause_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status)) {
		if (rest.count > 0)
			status = cli_refuse(cli, "unexpected '%.80s'; 'drover resume %.80s' is for one task", rest.texts[0],
			                    rest.texts[0]);
		else if (options.batch && options.is_all)
			status = cli_refuse(cli, "give --batch or --all, but one of them");
		else
			status = unpause(cli, &options);
	}
	cli_done(cli, &options, &rest);
	return status;
}

const struct command command_unpause = {
	.name = "unpause",
	.usage = "[--batch=BATCH | --all]",
	.summary = "ends a pause and resumes what it suspended",
	COMMAND_OPTIONS(unpause_rows),
	.method = API_UNPAUSE,
	.handle = handle_unpause,
};
