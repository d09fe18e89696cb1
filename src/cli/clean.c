/*
 * clean.c - `drover clean`: forgets finished tasks and their logs.
 */
#include "base/units.h"
#include "cli/cli.h"
#include "cli/refs.h"
#include "cli/terminal.h"

struct clean_options {
	bool is_all;
	bool is_json;
	struct option_number older_than;
};

static const struct option_row clean_rows[] = {
	{ 0, "older-than", "TIME", OPTION_DURATION, offsetof(struct clean_options, older_than),
	  .meaning = "those that ended longer ago than this, e.g. 7d" },
	{ 0, "all", NULL, OPTION_FLAG, offsetof(struct clean_options, is_all), .meaning = "all finished tasks" },
	{ 0, "json", NULL, OPTION_FLAG, offsetof(struct clean_options, is_json), .meaning = "the result as JSON" },
};

enum { PATHS_SHOWN = 5 };

/* What a forgotten task leaves is not forgotten with it. */
static void tell_worktrees(struct cli *cli, const json_t *result)
{
	const json_t *paths = json_object_get(result, "worktrees");
	size_t count = json_array_size(paths);

	if (count == 0)
		return;
	buf_add_format(&cli->out,
	               "%zu worktree%s: 'drover worktree ls' there tells what is in %s, 'drover worktree rm' removes %s\n",
	               count, count == 1 ? " stays" : "s stay", count == 1 ? "it" : "them", count == 1 ? "it" : "them");
	for (size_t i = 0; i < count && i < PATHS_SHOWN; i++) {
		buf_add_text(&cli->out, "  ");
		terminal_add_cut(&cli->out, json_string_value(json_array_get(paths, i)), SIZE_MAX);
		buf_add_byte(&cli->out, '\n');
	}
	if (count > PATHS_SHOWN)
		buf_add_text(&cli->out, "  …\n");
}

static int clean(struct cli *cli, const struct clean_options *options, const struct option_rest *rest)
{
	int ways = (rest->count > 0) + options->older_than.is_set + options->is_all;
	CLEANUP(client_cleanup) struct client *client = NULL;
	json_t *params, *result;
	json_int_t count;
	int status;

	if (ways != 1)
		return cli_refuse(cli, "%s",
		                  ways == 0 ? "name the tasks, or give --older-than or --all"
		                            : "give tasks, --older-than or --all, but one of them");
	status = cli_connect(cli, true, &client);
	if (status != 0)
		return status;
	params = json_object();
	if (rest->count > 0)
		json_object_set_new(params, "tasks", refs_rest_array(rest));
	if (options->older_than.is_set)
		json_object_set_new(params, "older_than_s",
		                    json_real((double)options->older_than.value / (double)NS_PER_SEC));
	if (options->is_all)
		json_object_set_new(params, "is_all", json_true());
	result = cli_call(cli, client, API_CLEAN, params, &status);
	if (!result)
		return status;
	count = json_integer_value(json_object_get(result, "count"));
	if (options->is_json) {
		cli_print_json(cli, result);
	} else {
		buf_add_format(&cli->out, "forgot %lld task%s\n", (long long)count, count == 1 ? "" : "s");
		tell_worktrees(cli, result);
	}
	/* With --all and --older-than what must stay, stays, and that is no failure. */
	status = refs_tell_refused(cli, result) > 0 && rest->count > 0 ? CLI_FAILED : CLI_OK;
	json_decref(result);
	return status;
}

static int handle_clean(struct cli *cli, int argc, char **argv)
{
	struct clean_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status))
		status = clean(cli, &options, &rest);
	cli_done(cli, &options, &rest);
	return status;
}

const struct command command_clean = {
	.name = "clean",
	.usage = "TASK…   or   --older-than=TIME   or   --all",
	.summary = "forgets finished tasks and their logs",
	.more = "Their worktrees and branches stay; 'drover worktree' lists and removes the former.",
	.arguments = OPTION_VALUES_TASK,
	.argument_choices = api_final_choices,
	COMMAND_OPTIONS(clean_rows),
	.method = API_CLEAN,
	.handle = handle_clean,
};
