/*
 * db.c - `drover db check`, `backup`, `restore`.
 *
 * Where a daemon serves, it is asked; where none can, since the database is damaged, the daemon's program is run in this
 * one's place to look at it or to restore it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/paths.h"
#include "cli/cli.h"
#include "client/connect.h"
#include "version.h"

struct db_options {
	bool is_json;
	const char *from;
};

static const struct option_row json_rows[] = {
	{ 0, "json", NULL, OPTION_FLAG, offsetof(struct db_options, is_json), .meaning = "as JSON" },
};

static const struct option_row restore_rows[] = {
	{ 0, "from", "FILE", OPTION_TEXT, offsetof(struct db_options, from),
	  .meaning = "take rows from this copy of a database too, beside the snapshots" },
};

/* Becomes the daemon's program, which does `verb` with the database. Returns only when that fails. */
static int become_rescuer(struct cli *cli, const char *verb, const char *from)
{
	char state_dir[PATHS_MAX], program[PATHS_MAX];
	struct err err = ERR_INIT;

	if (paths_state_dir(state_dir, &err) < 0 || paths_program("drover-daemon", program, &err) < 0) {
		cli_tell(cli, "%s", err.text);
		return CLI_FAILED;
	}
	cli_flush(cli);
	if (from)
		execl(program, program, "--state", state_dir, "--db", verb, "--from", from, NULL);
	else
		execl(program, program, "--state", state_dir, "--db", verb, NULL);
	cli_tell(cli, "cannot run '%s': %s", program, strerror(errno));
	return CLI_FAILED;
}

static int check(struct cli *cli, const struct db_options *options)
{
	struct client_options client_options = { .name = "drover " DROVER_VERSION };
	CLEANUP(client_cleanup) struct client *client = NULL;
	struct client_error error = { 0 };
	struct err err = ERR_INIT;
	char state_dir[PATHS_MAX];
	int status = CLI_OK;
	json_t *answer;

	/* Where nothing can be written, a copy is looked at. */
	client_options.may_start = paths_state_dir(state_dir, &err) == 0 && connect_wants_reader(state_dir);

	if (client_open(&client_options, &client, &error) < 0)
		return error.code < 0 && connect_is_absence(error.cause.code) ? become_rescuer(cli, "check", NULL)
		                                                              : cli_fail(cli, &error);
	answer = cli_call(cli, client, API_DB_CHECK, NULL, &status);
	if (!answer)
		return status;
	if (options->is_json)
		cli_print_json(cli, answer);
	else if (json_is_true(json_object_get(answer, "ok")))
		buf_add_format(&cli->out, "the database is whole: %s\n",
		               json_string_value(json_object_get(answer, "message")));
	else
		cli_tell(cli, "%s", json_string_value(json_object_get(answer, "message")));
	status = json_is_true(json_object_get(answer, "ok")) ? CLI_OK : CLI_FAILED;
	json_decref(answer);
	return status;
}

static int backup(struct cli *cli, const struct db_options *options)
{
	CLEANUP(client_cleanup) struct client *client = NULL;
	int status = cli_connect(cli, true, &client);
	json_t *answer = status == 0 ? cli_call(cli, client, API_DB_BACKUP, NULL, &status) : NULL;

	if (!answer)
		return status;
	if (options->is_json)
		cli_print_json(cli, answer);
	else
		buf_add_format(&cli->out, "%s\n", json_string_value(json_object_get(answer, "path")));
	json_decref(answer);
	return CLI_OK;
}

static int restore(struct cli *cli, const struct db_options *options)
{
	return become_rescuer(cli, "restore", options->from);
}

/* Parses, refuses arguments, and calls the command's own function. */
static int handle(struct cli *cli, int argc, char **argv, int (*run)(struct cli *cli, const struct db_options *options))
{
	struct db_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status))
		status = rest.count > 0 ? cli_refuse(cli, "unexpected '%.80s'", rest.texts[0]) : run(cli, &options);
	cli_done(cli, &options, &rest);
	return status;
}

static int handle_check(struct cli *cli, int argc, char **argv)
{
	return handle(cli, argc, argv, check);
}

static int handle_backup(struct cli *cli, int argc, char **argv)
{
	return handle(cli, argc, argv, backup);
}

static int handle_restore(struct cli *cli, int argc, char **argv)
{
	return handle(cli, argc, argv, restore);
}

const struct command command_db_check = {
	.name = "db check",
	.usage = "[--json]",
	.summary = "verifies the whole database: status 0 when it is whole, 1 when not",
	COMMAND_OPTIONS(json_rows),
	.method = API_DB_CHECK,
	.handle = handle_check,
};

const struct command command_db_backup = {
	.name = "db backup",
	.usage = "[--json]",
	.summary = "takes a snapshot of the database and prints its path; the daemon takes one every six hours by itself",
	COMMAND_OPTIONS(json_rows),
	.method = API_DB_BACKUP,
	.handle = handle_backup,
};

const struct command command_db_restore = {
	.name = "db restore",
	.usage = "[--from FILE]",
	.summary = "makes a new database when it is damaged or lost, of what can be read, and says what is lost",
	.more = "It takes the rows that are right from the database itself, then from the snapshots; the event log and the\n"
		"slot file tell what came after. A task that may have run since is held, never run a second time. The old\n"
		"database and the report are kept in the state directory, in 'damaged-DATE'. Running tasks go on.",
	COMMAND_OPTIONS(restore_rows),
	.method = -1,
	.handle = handle_restore,
};
