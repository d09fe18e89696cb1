/*
 * worktree.c - `drover worktree ls`, `rm`, `prune`: what drover made in a repository, and removing it without losing work.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/units.h"
#include "cli/cli.h"
#include "cli/grid.h"
#include "cli/refs.h"
#include "cli/results.h"
#include "cli/terminal.h"

static const char *text_of(const json_t *object, const char *member)
{
	const char *text = json_string_value(json_object_get(object, member));

	return text ? text : "";
}

static long long number_of(const json_t *object, const char *member)
{
	return (long long)json_integer_value(json_object_get(object, member));
}

static bool is_known(const json_t *object, const char *member)
{
	return json_is_number(json_object_get(object, member));
}

/* {"cwd"} or {"is_all"}; NULL when there is no working directory, which was told. */
static json_t *make_scope(struct cli *cli, bool is_all)
{
	CLEANUP_FREE char *cwd = NULL;

	if (is_all)
		return json_pack("{s:b}", "is_all", true);
	cwd = getcwd(NULL, 0);
	if (cwd)
		return json_pack("{s:o}", "cwd", refs_string(cwd));
	cli_tell(cli, "the working directory is not there any more: go elsewhere, or give --all");
	return NULL;
}

/* The next page's parameters: those of the page before with its cursor. False at the end. */
static bool next_page(json_t *params, const json_t *result)
{
	json_t *cursor = json_object_get(result, "cursor");

	if (!json_is_string(cursor))
		return false;
	json_object_set(params, "cursor", cursor);
	return true;
}

/* The directory to be looked at is in no repository. Others are told to make one; who looks for worktrees is elsewhere. */
static bool is_elsewhere(const struct client_error *error)
{
	return error->code == API_ERROR_NOT_A_REPOSITORY && strstr(error->text, "is in no git repository");
}

/* A call about the worktrees of a place; NULL when it failed, with *ret_status. */
static json_t *call(struct cli *cli, struct client *client, enum api_method method, json_t *params, int *ret_status)
{
	struct client_error error = { 0 };
	json_t *result = client_call(client, method, json_incref(params), &error);

	if (result)
		return result;
	if (is_elsewhere(&error) && !json_object_get(params, "worktrees")) {
		cli_tell(cli, "'%s' is in no git repository: cd into one, or give --all", text_of(params, "cwd"));
		*ret_status = error.exit_status;
	} else {
		*ret_status = cli_fail(cli, &error);
	}
	return NULL;
}

/* Adds the list `member` of a page to the one of all. */
static void gather(json_t *all, const json_t *page, const char *member)
{
	json_array_extend(all, json_object_get(page, member));
}

static int tell_problems(struct cli *cli, const json_t *problems)
{
	json_t *problem;
	size_t i;

	json_array_foreach (problems, i, problem)
		cli_tell(cli, "%s", json_string_value(problem));
	return json_array_size(problems) > 0 ? CLI_FAILED : CLI_OK;
}

/* ---- ls ---- */

struct list_options {
	bool is_all;
	bool is_json;
};

static const struct option_row list_rows[] = {
	{ 'a', "all", NULL, OPTION_FLAG, offsetof(struct list_options, is_all),
	  .meaning = "those of all repositories in which known tasks had worktrees" },
	{ 0, "json", NULL, OPTION_FLAG, offsetof(struct list_options, is_json),
	  .meaning = "as JSON: {\"worktrees\": [...]}" },
};

static void add_files(struct grid *grid, const json_t *worktree)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	long long changed = number_of(worktree, "changed");
	long long untracked = number_of(worktree, "untracked");

	if (strcmp(text_of(worktree, "condition"), "ok") != 0)
		buf_add_text(&text, text_of(worktree, "condition"));
	else if (!is_known(worktree, "changed"))
		buf_add_text(&text, "unreadable");
	else if (changed + untracked == 0)
		buf_add_text(&text, "clean");
	if (changed > 0)
		buf_add_format(&text, "%s%lld changed", text.length > 0 ? " " : "", changed);
	if (untracked > 0)
		buf_add_format(&text, "%s%lld new", text.length > 0 ? " " : "", untracked);
	if (number_of(worktree, "ignored") > 0)
		buf_add_format(&text, " (%lld ignored)", number_of(worktree, "ignored"));
	grid_add(grid, text.bytes);
}

static void add_commits(struct grid *grid, const json_t *worktree)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	const char *base = text_of(worktree, "base_branch");

	if (is_known(worktree, "unmerged") && number_of(worktree, "unmerged") == 0)
		buf_add_format(&text, "in %s", base);
	else if (is_known(worktree, "unmerged"))
		buf_add_format(&text, "%lld ahead of %s", number_of(worktree, "unmerged"), base);
	if (number_of(worktree, "unpushed") > 0)
		buf_add_format(&text, "%s%lld not pushed", text.length > 0 ? ", " : "", number_of(worktree, "unpushed"));
	grid_add(grid, text.bytes ? text.bytes : "");
}

static void add_row(struct grid *grid, const json_t *worktree)
{
	char text[UNITS_TEXT_MAX];

	grid_add_format(grid, "%lld", number_of(worktree, "task"));
	grid_add(grid, text_of(worktree, "id"));
	grid_add(grid, text_of(worktree, "state"));
	add_files(grid, worktree);
	add_commits(grid, worktree);
	grid_add(grid, is_known(worktree, "disk_bytes")
	                       ? units_format_size((uint64_t)number_of(worktree, "disk_bytes"), text)
	                       : "");
	grid_add(grid, is_known(worktree, "age_s")
	                       ? units_format_duration(results_ns(json_object_get(worktree, "age_s")), text)
	                       : "");
	grid_add(grid, text_of(worktree, "branch"));
	grid_add(grid, text_of(worktree, "path"));
}

static void print_list(struct cli *cli, const json_t *worktrees)
{
	static const struct grid_column columns[] = {
		{ .title = "TASK", .is_right = true },
		{ .title = "ID" },
		{ .title = "STATE", .is_state = true },
		{ .title = "FILES" },
		{ .title = "COMMITS" },
		{ .title = "DISK", .is_right = true },
		{ .title = "AGE", .is_right = true },
		{ .title = "BRANCH" },
		{ .title = "PATH", .is_flexible = true },
	};
	struct grid grid = { .columns = columns, .column_count = ARRAY_SIZE(columns) };
	json_t *worktree;
	size_t i;

	if (json_array_size(worktrees) == 0 && cli->is_out_terminal) {
		buf_add_text(&cli->out, "no worktrees of drover's\n");
		return;
	}
	json_array_foreach (worktrees, i, worktree)
		add_row(&grid, worktree);
	grid_finish(&grid, &cli->out, cli->width, cli->has_out_colour);
}

/* Each worktree with every field of its definition. */
static void print_list_json(struct cli *cli, const json_t *worktrees)
{
	json_t *value = json_pack("{s:[]}", "worktrees");
	json_t *worktree;
	size_t i;

	json_array_foreach (worktrees, i, worktree)
		json_array_append_new(json_object_get(value, "worktrees"), cli_complete(API_OBJECT_WORKTREE, worktree));
	cli_print_json(cli, value);
	json_decref(value);
}

static int list(struct cli *cli, const struct list_options *options)
{
	CLEANUP(client_cleanup) struct client *client = NULL;
	json_t *params = make_scope(cli, options->is_all);
	json_t *worktrees = json_array();
	json_t *problems = json_array();
	int status = params ? cli_connect(cli, true, &client) : CLI_USAGE;
	bool is_more = status == CLI_OK;

	while (is_more) {
		json_t *page = call(cli, client, API_WORKTREE_LIST, params, &status);

		gather(worktrees, page, "worktrees");
		gather(problems, page, "problems");
		is_more = page && next_page(params, page);
		json_decref(page);
	}
	if (status == CLI_OK && options->is_json)
		print_list_json(cli, worktrees);
	else if (status == CLI_OK)
		print_list(cli, worktrees);
	if (status == CLI_OK)
		status = tell_problems(cli, problems);
	json_decref(worktrees);
	json_decref(problems);
	json_decref(params);
	return status;
}

static int handle_list(struct cli *cli, int argc, char **argv)
{
	struct list_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status))
		status = rest.count > 0 ? cli_refuse(cli, "unexpected '%.80s'", rest.texts[0]) : list(cli, &options);
	cli_done(cli, &options, &rest);
	return status;
}

const struct command command_worktree_ls = {
	.name = "worktree ls",
	.usage = "[--all] [--json]",
	.summary = "lists the worktrees that drover made in this repository, and what is in them",
	COMMAND_OPTIONS(list_rows),
	.method = API_WORKTREE_LIST,
	.handle = handle_list,
};

/* ---- rm and prune ---- */

/* "worktree fix of task 12" */
static void add_subject(struct buf *buf, const json_t *removal)
{
	CLEANUP_FREE char *number = xasprintf("%lld", number_of(removal, "task"));

	buf_add_text(buf, "worktree ");
	if (strcmp(number, text_of(removal, "id")) != 0) {
		terminal_add_cut(buf, text_of(removal, "id"), SIZE_MAX);
		buf_add_byte(buf, ' ');
	}
	buf_add_format(buf, "of task %s ", number);
}

static void add_sentence(struct buf *buf, const json_t *removal)
{
	static const struct {
		const char *outcome;
		const char *words;
	} rows[] = { { "removed", "removed" },
		     { "would-be-removed", "would be removed" },
		     { "gone", "is gone" },
		     { "kept", "stays" } };
	const char *outcome = text_of(removal, "outcome");

	add_subject(buf, removal);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (strcmp(outcome, rows[i].outcome) == 0)
			buf_add_text(buf, rows[i].words);
	buf_add_text(buf, ": ");
	terminal_add_cut(buf, text_of(removal, "text"), SIZE_MAX);
	if (text_of(removal, "hint")[0] != '\0') {
		buf_add_text(buf, "\n  ");
		terminal_add_cut(buf, text_of(removal, "hint"), SIZE_MAX);
	}
}

static bool is_kept(const json_t *removal)
{
	return strcmp(text_of(removal, "outcome"), "kept") == 0;
}

/* What was refused to somebody who asked for it is an error; what a prune leaves is a part of its report. */
static void print_removals(struct cli *cli, const json_t *removals, bool is_prune)
{
	json_t *removal;
	size_t i;

	json_array_foreach (removals, i, removal) {
		CLEANUP_BUF struct buf line = BUF_INIT;

		add_sentence(&line, removal);
		if (is_kept(removal) && !is_prune)
			cli_tell(cli, "%s", line.bytes);
		else
			buf_add_format(&cli->out, "%s\n", line.bytes);
	}
	cli_flush(cli);
}

static void print_removals_json(struct cli *cli, const json_t *removals, const json_t *problems)
{
	json_t *value = json_pack("{s:[], s:O}", "results", "problems", problems);
	json_t *removal;
	size_t i;

	json_array_foreach (removals, i, removal)
		json_array_append_new(json_object_get(value, "results"), cli_complete(API_OBJECT_WORKTREE_REMOVAL, removal));
	cli_print_json(cli, value);
	json_decref(value);
}

static bool has_kept(const json_t *removals)
{
	json_t *removal;
	size_t i;

	json_array_foreach (removals, i, removal)
		if (is_kept(removal))
			return true;
	return false;
}

/* Calls the method page by page and tells what became of each worktree. Steals `params`. */
static int remove_worktrees(struct cli *cli, enum api_method method, json_t *params, bool is_json)
{
	CLEANUP(client_cleanup) struct client *client = NULL;
	bool is_prune = method == API_WORKTREE_PRUNE;
	json_t *removals = json_array();
	json_t *problems = json_array();
	int status = cli_connect(cli, true, &client);
	bool is_more = status == CLI_OK;

	/* Whoever stands in a worktree is in its way; this program is not meant. */
	if (chdir("/") < 0)
		cli_tell(cli, "cannot go to /: a worktree around the working directory will stay");
	while (is_more) {
		json_t *page = call(cli, client, method, params, &status);

		if (!is_json)
			print_removals(cli, json_object_get(page, "results"), is_prune);
		gather(removals, page, "results");
		gather(problems, page, "problems");
		is_more = page && next_page(params, page);
		json_decref(page);
	}
	if (is_json && status == CLI_OK)
		print_removals_json(cli, removals, problems);
	if (status == CLI_OK)
		status = tell_problems(cli, problems);
	if (status == CLI_OK && !is_prune && has_kept(removals))
		status = CLI_FAILED;
	json_decref(removals);
	json_decref(problems);
	json_decref(params);
	return status;
}

struct remove_options {
	bool salvage;
	bool drop_ignored;
	bool delete_branch;
	bool abandoned;
	bool is_dry_run;
	bool is_json;
};

static const struct option_row remove_rows[] = {
	{ 's', "salvage", NULL, OPTION_FLAG, offsetof(struct remove_options, salvage),
	  .meaning = "commit what is in no commit to refs/drover/salvage/TASK first, untracked files too" },
	{ 0, "drop-ignored", NULL, OPTION_FLAG, offsetof(struct remove_options, drop_ignored),
	  .meaning = "files that git ignores may be lost" },
	{ 0, "delete-branch", NULL, OPTION_FLAG, offsetof(struct remove_options, delete_branch),
	  .meaning = "the branch too; only when another branch or a tag has all of it" },
	{ 0, "abandoned", NULL, OPTION_FLAG, offsetof(struct remove_options, abandoned),
	  .meaning = "also where this daemon does not know the task, and another might still run it" },
	{ 'n', "dry-run", NULL, OPTION_FLAG, offsetof(struct remove_options, is_dry_run),
	  .meaning = "tell what would be done, and why" },
	{ 0, "json", NULL, OPTION_FLAG, offsetof(struct remove_options, is_json),
	  .meaning = "as JSON: {\"results\": [...], \"problems\": [...]}" },
};

/* A path as the daemon knows it: absolute and without links, whether its last part is there or not; to be freed. */
static char *make_path(const char *word)
{
	char *whole = realpath(word, NULL);
	CLEANUP_FREE char *parent = xstrdup(word);
	CLEANUP_FREE char *found = NULL;
	char *slash;

	if (whole)
		return whole;
	while ((slash = strrchr(parent, '/')) && slash[1] == '\0' && slash > parent)
		*slash = '\0';
	slash = strrchr(parent, '/');
	if (!slash)
		return xstrdup(word);
	*slash = '\0';
	found = realpath(parent[0] ? parent : "/", NULL);
	return found ? xasprintf("%s/%s", found, slash + 1) : xstrdup(word);
}

/* What begins like a path is one: names of tasks begin with a letter or digit. */
static json_t *make_words(const struct option_rest *rest)
{
	json_t *words = json_array();

	for (size_t i = 0; i < rest->count; i++) {
		bool is_path = rest->texts[i][0] == '/' || rest->texts[i][0] == '.';
		CLEANUP_FREE char *path = is_path ? make_path(rest->texts[i]) : NULL;

		json_array_append_new(words, refs_string(path ? path : rest->texts[i]));
	}
	return words;
}

static int handle_remove(struct cli *cli, int argc, char **argv)
{
	struct remove_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status)) {
		CLEANUP_FREE char *cwd = getcwd(NULL, 0);

		if (rest.count == 0)
			status = cli_refuse(cli, "name worktrees or their tasks; 'drover worktree ls' lists them");
		else
			status = remove_worktrees(cli, API_WORKTREE_REMOVE,
			                          json_pack("{s:o, s:o*, s:b, s:b, s:b, s:b, s:b}", "worktrees",
			                                    make_words(&rest), "cwd", cwd ? refs_string(cwd) : NULL,
			                                    "salvage", options.salvage, "drop_ignored", options.drop_ignored,
			                                    "delete_branch", options.delete_branch, "is_abandoned",
			                                    options.abandoned, "is_dry_run", options.is_dry_run),
			                          options.is_json);
	}
	cli_done(cli, &options, &rest);
	return status;
}

const struct command command_worktree_rm = {
	.name = "worktree rm",
	.usage = "[OPTION]… TASK|ID|PATH…",
	.summary = "removes worktrees when nothing is lost by it, and says why that is so",
	.arguments = OPTION_VALUES_WORKTREE,
	.more = "A worktree is removed when nothing in it differs from its commit, that commit is on a branch that stays, "
		"no\n"
		"process works in it, and its task has ended. Otherwise it stays, and what is missing is told; --salvage "
		"makes\n"
		"good what can be kept in a commit ('git log refs/drover/salvage/TASK' shows it). The branch stays.",
	COMMAND_OPTIONS(remove_rows),
	.method = API_WORKTREE_REMOVE,
	.handle = handle_remove,
};

struct prune_options {
	bool is_all;
	bool drop_ignored;
	bool is_dry_run;
	bool is_json;
};

static const struct option_row prune_rows[] = {
	{ 'a', "all", NULL, OPTION_FLAG, offsetof(struct prune_options, is_all),
	  .meaning = "in all repositories in which known tasks had worktrees" },
	{ 0, "drop-ignored", NULL, OPTION_FLAG, offsetof(struct prune_options, drop_ignored),
	  .meaning = "files that git ignores may be lost" },
	{ 'n', "dry-run", NULL, OPTION_FLAG, offsetof(struct prune_options, is_dry_run),
	  .meaning = "tell what would be done, and why" },
	{ 0, "json", NULL, OPTION_FLAG, offsetof(struct prune_options, is_json),
	  .meaning = "as JSON: {\"results\": [...], \"problems\": [...]}" },
};

static int prune(struct cli *cli, const struct prune_options *options)
{
	json_t *params = make_scope(cli, options->is_all);

	if (!params)
		return CLI_USAGE;
	json_object_set_new(params, "drop_ignored", json_boolean(options->drop_ignored));
	json_object_set_new(params, "is_dry_run", json_boolean(options->is_dry_run));
	return remove_worktrees(cli, API_WORKTREE_PRUNE, params, options->is_json);
}

static int handle_prune(struct cli *cli, int argc, char **argv)
{
	struct prune_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status))
		status = rest.count > 0
		                 ? cli_refuse(cli, "unexpected '%.80s'; 'drover worktree rm' takes names", rest.texts[0])
		                 : prune(cli, &options);
	cli_done(cli, &options, &rest);
	return status;
}

const struct command command_worktree_prune = {
	.name = "worktree prune",
	.usage = "[OPTION]…",
	.summary = "removes the worktrees of finished tasks by which nothing is lost, and explains the rest",
	.more = "Also finishes or undoes what was cut short, forgets what has vanished, and empties drover's trash. "
		"Worktrees that\n"
		"drover did not make are never touched, and git's own prune and gc are never run.",
	COMMAND_OPTIONS(prune_rows),
	.method = API_WORKTREE_PRUNE,
	.handle = handle_prune,
};
