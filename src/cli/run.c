/*
 * run.c - `drover run` and `drover add`.
 */
#include "base/limits.h"
#include "cli/cli.h"
#include "cli/notify.h"
#include "cli/submit.h"
#include "cli/watch.h"

struct run_options {
	struct submit_options submit;
	bool keeps_order;
	bool is_raw;
	const char *notify;
	bool is_tagged;
	bool is_json;
	const char *progress;
};

#define PLACE(field) .offset = offsetof(struct run_options, field)

/* The last rows are of `run` alone. */
enum { RUN_ONLY_ROWS = 9 };

static const struct option_row run_rows[] = {
	{ 'f', "file", "FILE", OPTION_TEXT, PLACE(submit.file),
	  .meaning = "run the batch file FILE (YAML or JSON; - is standard input)", .values = OPTION_VALUES_FILE },
	{ 'a', "values", "FILE", OPTION_LIST, PLACE(submit.values_files),
	  .meaning = "values from FILE, one a line (- is standard input)", .values = OPTION_VALUES_FILE },
	{ '0', "null", NULL, OPTION_FLAG, PLACE(submit.is_nul_separated),
	  .meaning = "values in files end with NUL instead of a line's end" },
	{ 'C', "colsep", "REGEX", OPTION_TEXT, PLACE(submit.column_separator),
	  .meaning = "values are rows: cut where REGEX matches (\\t is a tab), {1} {2} … are the columns" },
	{ 'n', "max-args", "N", OPTION_COUNT, PLACE(submit.records_per_task),
	  .meaning = "N values for each task (1); -n 0 gives it none", .limit = LIMIT_DRAFT_TASKS },
	{ 'N', "max-replace-args", "N", OPTION_COUNT, PLACE(submit.records_per_task), .meaning = "the same",
	  .limit = LIMIT_DRAFT_TASKS },
	{ 0, "link", NULL, OPTION_FLAG, PLACE(submit.links_all),
	  .meaning = "values of all sources side by side, not each with each" },
	{ 'j', "jobs", "N", OPTION_TEXT, PLACE(submit.jobs),
	  .meaning = "at most N of these tasks at once, or auto: what the machine bears" },
	{ 'w', "worktree", "STRATEGY", OPTION_TEXT, PLACE(submit.worktree),
	  .meaning = "each task in a git worktree of its own: auto, checkout or none", .fallback = "checkout",
	  .choices = "none|auto|checkout" },
	{ 0, "base", "REV", OPTION_TEXT, PLACE(submit.base), .meaning = "revision that worktrees start from (HEAD)" },
	{ 0, "priority", "P0|P1|P2", OPTION_TEXT, PLACE(submit.priority), .meaning = "P0 goes first, P2 last (P1)",
	  .choices = api_priority_choices },
	{ 0, "after", "TASK", OPTION_NAMES, PLACE(submit.after), .meaning = "only when these tasks have succeeded",
	  .values = OPTION_VALUES_TASK },
	{ 0, "after-any", "TASK", OPTION_NAMES, PLACE(submit.after_any),
	  .meaning = "only when these tasks have ended, however", .values = OPTION_VALUES_TASK },
	{ 0, "name", "NAME", OPTION_TEXT, PLACE(submit.name),
	  .meaning = "name of the task; may be a template such as 'lint-{#}'" },
	{ 0, "batch", "NAME", OPTION_TEXT, PLACE(submit.batch), .meaning = "name of the batch" },
	{ 0, "timeout", "TIME", OPTION_DURATION, PLACE(submit.timeout),
	  .meaning = "end an attempt that runs longer: 90s, 1h30m" },
	{ 0, "grace", "TIME", OPTION_DURATION, PLACE(submit.grace),
	  .meaning = "between asking a task to end and ending it (10s)" },
	{ 0, "retries", "N", OPTION_COUNT, PLACE(submit.retries), .meaning = "try a failed task again up to N times",
	  .limit = LIMIT_RETRIES },
	{ 0, "retry-delay", "TIME", OPTION_DURATION, PLACE(submit.retry_delay),
	  .meaning = "before the first retry, doubling up to 10m (1s)" },
	{ 0, "idempotent", NULL, OPTION_FLAG, PLACE(submit.is_idempotent),
	  .meaning = "may be run again when its end could not be learnt" },
	{ 0, "leave-running", NULL, OPTION_FLAG, PLACE(submit.leaves_running),
	  .meaning = "what a task leaves running at its end goes on" },
	{ 0, "split-output", NULL, OPTION_FLAG, PLACE(submit.splits_output),
	  .meaning = "keep standard error apart from standard output" },
	{ 0, "stdin", "FILE", OPTION_TEXT, PLACE(submit.stdin_file),
	  .meaning = "standard input of each task (/dev/null); - is the file that is ours", .values = OPTION_VALUES_FILE },
	{ 0, "hold", NULL, OPTION_FLAG, PLACE(submit.is_held), .meaning = "wait for 'drover release'" },
	{ 0, "env", "NAME=VALUE", OPTION_LIST, PLACE(submit.environment),
	  .meaning = "set a variable; NAME alone keeps its present value" },
	{ 0, "clean-env", NULL, OPTION_FLAG, PLACE(submit.has_clean_environment),
	  .meaning = "pass on only PATH, HOME and the like" },
	{ 0, "cwd", "DIR", OPTION_TEXT, PLACE(submit.cwd), .meaning = "run in DIR", .values = OPTION_VALUES_DIRECTORY },
	{ 0, "dry-run", NULL, OPTION_FLAG, PLACE(submit.is_dry_run), .meaning = "print the commands, run nothing" },
	{ 0, "json", NULL, OPTION_FLAG, PLACE(is_json), .meaning = "results as JSON" },
	{ 'q', "quiet", NULL, OPTION_FLAG, PLACE(submit.is_quiet), .meaning = "no ids, progress, table or summary" },
	{ 'k', "keep-order", NULL, OPTION_FLAG, PLACE(keeps_order), .meaning = "outputs in the order of the values" },
	{ 0, "tag", NULL, OPTION_FLAG, PLACE(is_tagged),
	  .meaning = "the task's name or value before each line of its output" },
	{ 0, "raw", NULL, OPTION_FLAG, PLACE(is_raw),
	  .meaning = "control characters in outputs as they are, also to a terminal" },
	{ 0, "joblog", "FILE", OPTION_TEXT, PLACE(submit.joblog),
	  .meaning = "write a line for each task that ran, in GNU parallel's columns", .values = OPTION_VALUES_FILE },
	{ 0, "resume", NULL, OPTION_FLAG, PLACE(submit.is_resumed), .meaning = "leave out what the job log has" },
	{ 0, "resume-failed", NULL, OPTION_FLAG, PLACE(submit.is_resumed_failed),
	  .meaning = "leave out what the job log has as succeeded" },
	{ 0, "results", "DIR", OPTION_TEXT, PLACE(submit.results),
	  .meaning = "also write outputs to DIR/1/VALUE/stdout and stderr", .values = OPTION_VALUES_DIRECTORY },
	{ 0, "notify", "WHEN", OPTION_TEXT, PLACE(notify),
	  .meaning = "a notice at the end: auto (of what took over a minute), always or never", .fallback = "always",
	  .choices = NOTIFY_CHOICES },
	{ 0, "progress", "MODE", OPTION_TEXT, PLACE(progress), .meaning = "bar, plain, json or none, on standard error",
	  .choices = "bar|plain|json|none" },
};

/* The mode asked for, or the one that fits; −1 when there is none of that name. */
static int find_mode(const struct cli *cli, const struct run_options *options)
{
	if (options->progress)
		return progress_parse_mode(options->progress);
	if (options->submit.is_quiet || options->is_json)
		return PROGRESS_NONE;
	return cli->is_error_terminal ? PROGRESS_BAR : PROGRESS_FAILURES;
}

static int run(struct cli *cli, const struct run_options *options, const struct option_rest *rest)
{
	struct watch_options watch_options = {
		.is_quiet = options->submit.is_quiet,
		.keeps_order = options->keeps_order,
		.is_raw = options->is_raw,
		.notify = options->notify,
		.is_tagged = options->is_tagged,
		.is_json = options->is_json,
	};
	CLEANUP(client_cleanup) struct client *client = NULL;
	struct submit_result submitted;
	int mode = find_mode(cli, options);
	int status;

	ASSERT(mode >= 0);
	watch_options.progress = (enum progress_mode)mode;
	status = submit_batch(cli, &options->submit, rest, &submitted, &client);
	if (status == 0 && submitted.count > 0) {
		status = watch_batch(cli, client, &submitted, &watch_options);
	} else if (status == 0) {
		struct tally tally = { 0 };
		json_t *summary = tally_json(&tally, 0, 0);

		if (options->is_json)
			cli_print_json(cli, summary);
		else if (!options->submit.is_quiet && !options->submit.is_dry_run)
			cli_tell(cli, submitted.is_resumed ? "all of it is done, so there is nothing to run"
			                                   : "there are no values, so there is nothing to run");
		json_decref(summary);
	}
	submit_done(&submitted);
	return status;
}

static int handle_run(struct cli *cli, int argc, char **argv)
{
	struct run_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status)) {
		options.submit.splits_output = options.submit.splits_output || options.submit.results;
		status = run(cli, &options, &rest);
	}
	cli_done(cli, &options, &rest);
	return status;
}

static void print_ids(struct cli *cli, const struct run_options *options, const struct submit_result *submitted)
{
	if (options->is_json) {
		json_t *ids = json_array();
		json_t *value;

		for (uint64_t i = 0; i < submitted->count; i++)
			json_array_append_new(ids, json_integer((json_int_t)(submitted->first + i)));
		value = json_pack("{s:o, s:I, s:o}", "batch",
		                  submitted->count > 0 ? json_integer((json_int_t)submitted->batch) : json_null(), "tasks",
		                  (json_int_t)submitted->count, "ids", ids);
		cli_print_json(cli, value);
		json_decref(value);
		return;
	}
	for (uint64_t i = 0; i < submitted->count && !options->submit.is_quiet; i++)
		buf_add_format(&cli->out, "%llu\n", (unsigned long long)(submitted->first + i));
}

static int handle_add(struct cli *cli, int argc, char **argv)
{
	struct run_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status)) {
		CLEANUP(client_cleanup) struct client *client = NULL;
		struct submit_result submitted;

		status = submit_batch(cli, &options.submit, &rest, &submitted, &client);
		if (status == 0)
			print_ids(cli, &options, &submitted);
		submit_done(&submitted);
	}
	cli_done(cli, &options, &rest);
	return status;
}

#define INPUT_HELP                                                                                                          \
	"Several words are a program and its arguments, run without a shell; a single word with a blank in it is text "     \
	"for\n"                                                                                                             \
	"sh -c. Values follow ':::', or are the lines of files after '::::' or -a, or of standard input when the command\n" \
	"holds a placeholder and nothing else gives values. Several sources are combined, each with each; ':::+' and\n"     \
	"'::::+' go side by side with the source before. Placeholders: {} value, {.} without extension, {/} base name,\n"   \
	"{//} directory, {/.} base name without extension, {#} number of the task, {%} of its slot, {1} {2} {-1} one of\n"  \
	"several values. Without a placeholder the values are the last arguments."

const struct command command_run = {
	.name = "run",
	.usage = "[OPTION]… [--] COMMAND [ARG]… [::: VALUE…]… [:::: FILE…]…   or   -f FILE",
	.summary = "runs tasks and waits for them",
	.more = INPUT_HELP
	"\n\nCtrl-C once: nothing more is started; twice: what runs is cancelled. When this program ends, tasks go on.\n"
	"Exit status: that of a single plain command (127 when there is no such program, 126 when it could not be started\n"
	"otherwise), else 0 when all succeeded and 1 when not; 130 when interrupted.\n"
	"The notice at the end is a bell and, where the terminal has them, a desktop notice; besides, the command that\n"
	"'notify: [PROGRAM, ARGUMENT…]' in your config.yaml names, with DROVER_NOTICE, DROVER_RESULT, DROVER_TASKS,\n"
	"DROVER_SUCCEEDED, DROVER_NOT_SUCCEEDED, DROVER_DURATION_S and DROVER_BATCH set. 'notifyAfter: TIME' there sets\n"
	"from when on auto is (1m).",
	COMMAND_OPTIONS(run_rows),
	.arguments = OPTION_VALUES_COMMAND,
	.runs_commands = true,
	.method = API_BATCH_COMMIT,
	.handle = handle_run,
};

const struct command command_add = {
	.name = "add",
	.usage = "[OPTION]… [--] COMMAND [ARG]… [::: VALUE…]… [:::: FILE…]…   or   -f FILE",
	.summary = "queues tasks and prints their ids",
	.more = INPUT_HELP,
	.options = run_rows,
	.option_count = ARRAY_SIZE(run_rows) - RUN_ONLY_ROWS,
	.arguments = OPTION_VALUES_COMMAND,
	.runs_commands = true,
	.method = API_BATCH_COMMIT,
	.handle = handle_add,
};
