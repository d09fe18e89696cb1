#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/str.h"
#include "cli/complete.h"
#include "cli/terminal.h"
#include "version.h"

enum { COMMANDS_MAX = 64, HELP_NAME_WIDTH = 16 };

/* What a double keeps of any decimal number: with more, 0.1 would be shown as 0.10000000000000001. */
enum { REAL_DIGITS = 15 };

/* clang-format off */
const struct command *const cli_commands[] = {
	&command_run,
	&command_add,
	&command_ls,
	&command_show,
	&command_why,
	&command_logs,
	&command_events,
	&command_wait,
	&command_cancel,
	&command_retry,
	&command_release,
	&command_suspend,
	&command_resume,
	&command_pause,
	&command_unpause,
	&command_worktree_ls,
	&command_worktree_rm,
	&command_worktree_prune,
	&command_status,
	&command_daemon_start,
	&command_daemon_stop,
	&command_daemon_restart,
	&command_daemon_status,
	&command_db_check,
	&command_db_backup,
	&command_db_restore,
	&command_clean,
	&command_doctor,
	&command_completion,
	&command_version,
	&command_help,
	NULL,
};
/* clang-format on */

struct option_set cli_option_set(const struct command *command)
{
	return (struct option_set){ .rows = command->options,
		                    .count = command->option_count,
		                    .stops_at_first = command->runs_commands };
}

/* To a pipe without a reader: the last words are said, then SIGPIPE ends this program, as it would have at once. */
static int write_with_last_words(struct cli *cli)
{
	void (*say)(void *context) = cli->on_reader_left;
	struct sigaction usual;
	int code;

	sigaction(SIGPIPE, &(struct sigaction){ .sa_handler = SIG_IGN }, &usual);
	code = fd_write_all(STDOUT_FILENO, cli->out.bytes, cli->out.length);
	sigaction(SIGPIPE, &usual, NULL);
	if (code != -EPIPE)
		return code;
	cli->on_reader_left = NULL;
	buf_clear(&cli->out);
	say(cli->reader_context);
	raise(SIGPIPE);
	return code;
}

static int write_out(struct cli *cli)
{
	if (cli->on_reader_left)
		return write_with_last_words(cli);
	return fd_write_all(STDOUT_FILENO, cli->out.bytes, cli->out.length);
}

void cli_flush(struct cli *cli)
{
	int code;

	if (cli->out.length == 0)
		return;
	code = cli->has_write_failed ? 0 : write_out(cli);
	buf_clear(&cli->out);
	if (code == 0)
		return;
	cli->has_write_failed = true;
	cli_tell(cli, "cannot write to standard output: %s", strerror(-code));
}

void cli_tell(struct cli *cli, const char *format, ...)
{
	CLEANUP_BUF struct buf line = BUF_INIT;
	char text[ERR_TEXT_MAX + 256];
	va_list args;

	cli_flush(cli);
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	buf_add_text(&line, "drover: ");
	/* Errors of files show the line they are about, so line ends are kept. */
	for (char *at = text, *end;; at = end + 1) {
		end = strchr(at, '\n');
		str_add_visible(&line, at, end ? (size_t)(end - at) : strlen(at));
		buf_add_byte(&line, '\n');
		if (!end)
			break;
	}
	if (fd_write_all(STDERR_FILENO, line.bytes, line.length) < 0)
		cli->has_write_failed = true;
}

int cli_refuse(struct cli *cli, const char *format, ...)
{
	char text[ERR_TEXT_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	cli_tell(cli, "%s", text);
	cli_tell(cli, "'drover %s --help' tells how it is used", cli->command->name);
	return CLI_USAGE;
}

int cli_fail(struct cli *cli, const struct client_error *error)
{
	cli_tell(cli, "%s", error->text);
	if (error->hint[0] != '\0')
		cli_tell(cli, "%s", error->hint);
	return error->exit_status;
}

int cli_connect(struct cli *cli, bool may_start, struct client **ret)
{
	struct client_options options = { .name = "drover " DROVER_VERSION, .may_start = may_start };
	struct client_error error = { 0 };

	if (client_open(&options, ret, &error) == 0)
		return 0;
	return cli_fail(cli, &error);
}

json_t *cli_call(struct cli *cli, struct client *client, enum api_method method, json_t *params, int *ret_status)
{
	struct client_error error = { 0 };
	json_t *result = client_call(client, method, params, &error);

	if (!result)
		*ret_status = cli_fail(cli, &error);
	return result;
}

static void print_json(struct cli *cli, const json_t *value, size_t flags)
{
	char *text = json_dumps(value, flags | JSON_REAL_PRECISION(REAL_DIGITS));

	ASSERT(text);
	if (cli->is_out_terminal)
		terminal_add_json(&cli->out, text);
	else
		buf_add_text(&cli->out, text);
	buf_add_byte(&cli->out, '\n');
	free(text);
}

void cli_print_json(struct cli *cli, const json_t *value)
{
	print_json(cli, value, cli->is_out_terminal ? JSON_INDENT(2) : 0);
}

void cli_print_json_line(struct cli *cli, const json_t *value)
{
	print_json(cli, value, JSON_COMPACT);
}

json_t *cli_complete(int object, const json_t *value)
{
	const struct api_object_info *info = api_object_info(object);
	json_t *complete = json_object();

	for (unsigned i = 0; i < info->field_count; i++) {
		json_t *field = json_object_get(value, info->fields[i].name);

		json_object_set_new(complete, info->fields[i].name, field ? json_incref(field) : json_null());
	}
	return complete;
}

int cli_object_of(int object, const char *field)
{
	const struct api_object_info *info = api_object_info(object);

	for (unsigned i = 0; i < info->field_count; i++)
		if (strcmp(info->fields[i].name, field) == 0)
			return info->fields[i].of;
	NEVER("the definition has the field");
}

void cli_print_help(struct cli *cli, const struct command *command)
{
	struct buf *out = &cli->out;

	if (command) {
		struct option_set set = cli_option_set(command);

		buf_add_format(out, "Usage: drover %s%s%s\n\nIt %s.\n", command->name, command->usage[0] ? " " : "",
		               command->usage, command->summary);
		if (command->method >= 0)
			buf_add_format(out, "Calls %s, which %s.\n", api_method_info((enum api_method)command->method)->name,
			               api_method_info((enum api_method)command->method)->meaning);
		if (command->more)
			buf_add_format(out, "\n%s\n", command->more);
		buf_add_text(out, "\nOptions:\n");
		options_add_help(&set, out);
		return;
	}
	buf_add_text(
		out,
		"Usage: drover COMMAND [OPTION]… [ARGUMENT]…\n\n"
		"Runs commands in parallel on this machine, each in a git worktree where wanted, and loses nothing.\n\n");
	for (size_t i = 0; cli_commands[i]; i++)
		buf_add_format(out, "  %-*s %s\n", HELP_NAME_WIDTH, cli_commands[i]->name, cli_commands[i]->summary);
	buf_add_text(out, "\n'drover COMMAND --help' tells more. A task is named by its id, its name or BATCH/NAME.\n");
}

bool cli_parse(struct cli *cli, int argc, char **argv, void *values, struct option_rest *rest, int *ret_status)
{
	struct option_set set = cli_option_set(cli->command);
	struct err err = ERR_INIT;
	bool is_help;

	if (options_parse(&set, argc, argv, values, rest, &is_help, &err) < 0) {
		*ret_status = cli_refuse(cli, "%s", err.text);
		return false;
	}
	if (!is_help)
		return true;
	cli_print_help(cli, cli->command);
	*ret_status = CLI_OK;
	return false;
}

void cli_done(struct cli *cli, void *values, struct option_rest *rest)
{
	struct option_set set = cli_option_set(cli->command);

	options_done(&set, values);
	free(rest->texts);
}

const struct command *cli_find_command(int argc, char **argv, int *ret_words)
{
	for (size_t i = 0; cli_commands[i]; i++) {
		const char *name = cli_commands[i]->name;
		const char *space = strchr(name, ' ');

		if (!space && argc > 0 && strcmp(name, argv[0]) == 0) {
			*ret_words = 1;
			return cli_commands[i];
		}
		if (space && argc > 1 && strncmp(name, argv[0], (size_t)(space - name)) == 0 &&
		    argv[0][space - name] == '\0' && strcmp(space + 1, argv[1]) == 0) {
			*ret_words = 2;
			return cli_commands[i];
		}
	}
	return NULL;
}

/* The words after `prefix` (a group such as "daemon", or "") that would have been possible. */
static size_t list_names(const char *prefix, const char **names)
{
	size_t length = strlen(prefix);
	size_t count = 0;

	for (size_t i = 0; cli_commands[i]; i++) {
		const char *name = cli_commands[i]->name;

		ASSERT(count < COMMANDS_MAX);
		if (length == 0)
			names[count++] = name;
		else if (strncmp(name, prefix, length) == 0 && name[length] == ' ')
			names[count++] = name + length + 1;
	}
	return count;
}

static void print_group_help(struct cli *cli, const char *group)
{
	size_t length = strlen(group);

	buf_add_format(&cli->out, "Usage: drover %s VERB [OPTION]…\n\n", group);
	for (size_t i = 0; cli_commands[i]; i++)
		if (strncmp(cli_commands[i]->name, group, length) == 0 && cli_commands[i]->name[length] == ' ')
			buf_add_format(&cli->out, "  %-*s %s\n", HELP_NAME_WIDTH, cli_commands[i]->name,
			               cli_commands[i]->summary);
}

static int refuse_command(struct cli *cli, int argc, char **argv)
{
	CLEANUP_BUF struct buf known = BUF_INIT;
	const char *names[COMMANDS_MAX];
	size_t count = list_names(argv[0], names);
	bool is_help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
	const char *group = count > 0 ? argv[0] : "";
	const char *word = count > 0 ? (argc > 1 ? argv[1] : "") : argv[0];
	const char *nearest;

	if (count > 0 && is_help) {
		print_group_help(cli, group);
		return CLI_OK;
	}
	if (count == 0)
		count = list_names("", names);
	nearest = str_nearest(word, names, count);
	for (size_t i = 0; i < count; i++)
		buf_add_format(&known, "%s%s", i > 0 ? ", " : "", names[i]);
	if (word[0] == '\0')
		cli_tell(cli, "'drover %s' needs one of: %s", group, known.bytes);
	else if (nearest)
		cli_tell(cli, "unknown command '%.80s%s%.80s'; did you mean '%s%s%s'?", group, group[0] ? " " : "", word,
		         group, group[0] ? " " : "", nearest);
	else
		cli_tell(cli, "unknown command '%.80s%s%.80s'; 'drover help' lists them", group, group[0] ? " " : "", word);
	return CLI_USAGE;
}

static int dispatch(struct cli *cli, int argc, char **argv)
{
	int words;

	if (argc == 0) {
		cli_print_help(cli, NULL);
		cli_flush(cli);
		cli_tell(cli, "give a command");
		return CLI_USAGE;
	}
	if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
		cli_print_help(cli, NULL);
		return CLI_OK;
	}
	if (strcmp(argv[0], "--version") == 0 || strcmp(argv[0], "-V") == 0)
		return command_version.handle(cli, 0, argv);
	if (strcmp(argv[0], "__complete") == 0)
		return complete_words(cli, argc - 1, argv + 1);
	cli->command = cli_find_command(argc, argv, &words);
	if (!cli->command && argv[0][0] == '-') {
		cli_tell(cli, "unknown option %.80s; options follow the command, as in 'drover run -j 4 …'", argv[0]);
		return CLI_USAGE;
	}
	if (!cli->command)
		return refuse_command(cli, argc, argv);
	return cli->command->handle(cli, argc - words, argv + words);
}

int cli_main(int argc, char **argv)
{
	struct cli cli = { .command = &command_version };
	int status;

	/* Whoever reads our output may leave: then this program ends quietly, as cat does. Tasks are not its children. */
	sigaction(SIGPIPE, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL);
	json_set_alloc_funcs(xmalloc, free);
	terminal_look(&cli);
	status = dispatch(&cli, MAX(argc - 1, 0), argv + MIN(argc, 1));
	cli_flush(&cli);
	buf_done(&cli.out);
	return status == CLI_OK && cli.has_write_failed ? CLI_FAILED : status;
}

struct version_options {
	bool is_json;
};

static const struct option_row version_rows[] = {
	{ .name = "json", .kind = OPTION_FLAG, .offset = offsetof(struct version_options, is_json), .meaning = "as JSON" },
};

static int handle_version(struct cli *cli, int argc, char **argv)
{
	struct version_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	cli->command = &command_version;
	if (cli_parse(cli, argc, argv, &options, &rest, &status)) {
		if (options.is_json) {
			json_t *value = json_pack("{s:s, s:i}", "version", DROVER_VERSION, "protocol", API_PROTOCOL);

			cli_print_json(cli, value);
			json_decref(value);
		} else {
			buf_add_format(&cli->out, "drover %s\n", DROVER_VERSION);
		}
	}
	cli_done(cli, &options, &rest);
	return status;
}

const struct command command_version = {
	.name = "version",
	.usage = "[--json]",
	.summary = "tells the version of this program",
	COMMAND_OPTIONS(version_rows),
	.method = -1,
	.handle = handle_version,
};

static int handle_help(struct cli *cli, int argc, char **argv)
{
	const char *names[COMMANDS_MAX];
	const struct command *command;
	int words;

	if (argc == 0 || argv[0][0] == '-') {
		cli_print_help(cli, NULL);
		return CLI_OK;
	}
	command = cli_find_command(argc, argv, &words);
	if (!command && argc == 1 && list_names(argv[0], names) > 0) {
		print_group_help(cli, argv[0]);
		return CLI_OK;
	}
	if (!command)
		return refuse_command(cli, argc, argv);
	cli_print_help(cli, command);
	return CLI_OK;
}

const struct command command_help = {
	.name = "help",
	.usage = "[COMMAND]",
	.summary = "explains a command, or lists all",
	.arguments = OPTION_VALUES_DROVER,
	.method = -1,
	.handle = handle_help,
};

int cli_signal_number(const char *name)
{
	for (int number = 1; number < NSIG; number++) {
		const char *known = sigabbrev_np(number);

		if (known && strncmp(name, "SIG", 3) == 0 && strcmp(known, name + 3) == 0)
			return number;
	}
	return 0;
}
