/*
 * control.c - `drover cancel`, `retry`, `release`, `suspend`, `resume`: what the user wants done to tasks that are there.
 */
#include "cli/cli.h"
#include "cli/refs.h"

struct control_options {
	bool is_all;
	bool is_json;
	const char *batch;
	const char *reason;
};

static const struct option_row control_rows[] = {
	{ 0, "batch", "BATCH", OPTION_TEXT, offsetof(struct control_options, batch),
	  .meaning = "all tasks of this batch: id or name", .values = OPTION_VALUES_BATCH },
	{ 0, "all", NULL, OPTION_FLAG, offsetof(struct control_options, is_all), .meaning = "all of your tasks" },
	{ 0, "json", NULL, OPTION_FLAG, offsetof(struct control_options, is_json),
	  .meaning = "the tasks as they are now, as JSON" },
	{ 0, "reason", "TEXT", OPTION_TEXT, offsetof(struct control_options, reason),
	  .meaning = "why; kept with the tasks" },
};

static json_t *make_params(const struct control_options *options, const struct option_rest *rest)
{
	json_t *params = json_object();

	if (rest->count > 0)
		json_object_set_new(params, "tasks", refs_rest_array(rest));
	if (options->batch)
		json_object_set_new(params, "batch", refs_string(options->batch));
	if (options->is_all)
		json_object_set_new(params, "is_all", json_true());
	if (options->reason)
		json_object_set_new(params, "reason", refs_string(options->reason));
	return params;
}

static int control(struct cli *cli, const struct control_options *options, const struct option_rest *rest,
                   enum api_method method, const char *done)
{
	int ways = (rest->count > 0) + (options->batch != NULL) + options->is_all;
	CLEANUP(client_cleanup) struct client *client = NULL;
	json_int_t count;
	json_t *result;
	int status;

	if (ways != 1)
		return cli_refuse(cli, ways == 0 ? "name the tasks, or give --batch or --all"
		                                 : "give tasks, --batch or --all, but one of them");
	status = cli_connect(cli, true, &client);
	if (status != 0)
		return status;
	result = cli_call(cli, client, method, make_params(options, rest), &status);
	if (!result)
		return status;
	count = json_integer_value(json_object_get(result, "count"));
	if (options->is_json)
		cli_print_json(cli, result);
	else if (count > 0)
		buf_add_format(&cli->out, "%s %lld task%s\n", done, (long long)count, count == 1 ? "" : "s");
	else if (json_array_size(json_object_get(result, "refused")) == 0)
		cli_tell(cli, "there was no such task");
	status = refs_tell_refused(cli, result) > 0 ? CLI_FAILED : CLI_OK;
	json_decref(result);
	return status;
}

static int handle_control(struct cli *cli, int argc, char **argv, enum api_method method, const char *done)
{
	struct control_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status))
		status = control(cli, &options, &rest, method, done);
	cli_done(cli, &options, &rest);
	return status;
}

static int handle_cancel(struct cli *cli, int argc, char **argv)
{
	return handle_control(cli, argc, argv, API_TASK_CANCEL, "cancelled");
}

const struct command command_cancel = {
	.name = "cancel",
	.usage = "[--reason=TEXT] TASK…   or   --batch=BATCH   or   --all",
	.summary = "ends tasks, or takes them off the queue",
	.arguments = OPTION_VALUES_TASK,
	.argument_choices = api_unfinished_choices,
	COMMAND_OPTIONS(control_rows),
	.method = API_TASK_CANCEL,
	.handle = handle_cancel,
};

static int handle_retry(struct cli *cli, int argc, char **argv)
{
	return handle_control(cli, argc, argv, API_TASK_RETRY, "queued again:");
}

const struct command command_retry = {
	.name = "retry",
	.usage = "TASK…   or   --batch=BATCH   or   --all",
	.summary = "runs finished tasks again",
	.arguments = OPTION_VALUES_TASK,
	.argument_choices = api_final_choices,
	COMMAND_OPTIONS(control_rows),
	.method = API_TASK_RETRY,
	.handle = handle_retry,
};

static int handle_release(struct cli *cli, int argc, char **argv)
{
	return handle_control(cli, argc, argv, API_TASK_RELEASE, "released");
}

const struct command command_release = {
	.name = "release",
	.usage = "TASK…   or   --batch=BATCH   or   --all",
	.summary = "lets held tasks go",
	.arguments = OPTION_VALUES_TASK,
	.argument_choices = "held",
	COMMAND_OPTIONS(control_rows),
	.method = API_TASK_RELEASE,
	.handle = handle_release,
};

static int handle_suspend(struct cli *cli, int argc, char **argv)
{
	return handle_control(cli, argc, argv, API_TASK_SUSPEND, "suspended");
}

const struct command command_suspend = {
	.name = "suspend",
	.usage = "[--reason=TEXT] TASK…   or   --batch=BATCH   or   --all",
	.summary = "freezes running tasks; their time limits stand still",
	.arguments = OPTION_VALUES_TASK,
	.argument_choices = "running",
	COMMAND_OPTIONS(control_rows),
	.method = API_TASK_SUSPEND,
	.handle = handle_suspend,
};

static int handle_resume(struct cli *cli, int argc, char **argv)
{
	return handle_control(cli, argc, argv, API_TASK_RESUME, "resumed");
}

const struct command command_resume = {
	.name = "resume",
	.usage = "TASK…   or   --batch=BATCH   or   --all",
	.summary = "lets suspended tasks go on",
	.arguments = OPTION_VALUES_TASK,
	.argument_choices = "suspended",
	COMMAND_OPTIONS(control_rows),
	.method = API_TASK_RESUME,
	.handle = handle_resume,
};
