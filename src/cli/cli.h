/*
 * cli.h - the program `drover`: what its commands share.
 *
 * A command is a row: its name, what --help says, its options, its handler. One file per family of commands.
 */
#pragma once

#include <jansson.h>

#include "base/buf.h"
#include "cli/options.h"
#include "client/client.h"

/* Exit statuses of DESIGN 6.1; errors of the interface bring their own. */
enum {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_UNREACHABLE = 3,
	CLI_NOT_STARTED = 126, /* as in shells: of a single plain command */
	CLI_NO_PROGRAM = 127,
	CLI_INTERRUPTED = 130,
};

/* Output that comes piece by piece is written when so much has gathered. */
enum { CLI_FLUSH_BYTES = 64 << 10 };

struct command;

/* What every handler gets. */
struct cli {
	const struct command *command;
	struct buf out; /* for standard output; written by cli_flush() */
	bool is_out_terminal;
	bool is_error_terminal;
	bool has_out_colour;
	bool has_error_colour;
	bool has_write_failed;
	unsigned width; /* of the terminal on standard output, 0 = none: do not cut */
	void (*on_reader_left)(void *context); /* last words when nobody reads standard output any more; NULL = none */
	void *reader_context;
};

struct command {
	const char *name;    /* "run", "daemon start" */
	const char *usage;   /* what follows the name */
	const char *summary; /* one line */
	const char *more;    /* further paragraphs of its help, or NULL */
	const struct option_row *options;
	size_t option_count;
	enum option_values arguments; /* what its arguments are */
	const char *argument_choices; /* OPTION_VALUES_CHOICES: the words; _TASK: states that make sense, NULL = any */
	bool runs_commands; /* its options end at the first word that is none */
	int method;         /* enum api_method that it calls, whose meaning the help quotes; −1 = none */
	int (*handle)(struct cli *cli, int argc, char **argv); /* arguments behind the name; returns the exit status */
};

#define COMMAND_OPTIONS(rows) .options = (rows), .option_count = ARRAY_SIZE(rows)

/* Runs the program. Returns its exit status. */
int cli_main(int argc, char **argv);

/* The row that the words begin with, or NULL; *ret_words is how many of them name it. */
const struct command *cli_find_command(int argc, char **argv, int *ret_words);

/* The options of a command as the parser wants them. */
struct option_set cli_option_set(const struct command *command);

/*
 * Parses a handler's arguments. True to go on; false when *ret_status is to be returned (help was printed, or the usage was
 * wrong and has been told). What was parsed is to be given to cli_done() either way.
 */
bool cli_parse(struct cli *cli, int argc, char **argv, void *values, struct option_rest *rest, int *ret_status);

/* Frees what cli_parse() made. */
void cli_done(struct cli *cli, void *values, struct option_rest *rest);

/* Tells of wrong usage: "drover run: sentence" and where to look. Returns CLI_USAGE. */
int cli_refuse(struct cli *cli, const char *format, ...) PRINTF_LIKE(2, 3);

/* One line on standard error after what standard output has: "drover: sentence". Control characters are made visible. */
void cli_tell(struct cli *cli, const char *format, ...) PRINTF_LIKE(2, 3);

/* Tells an error and its hint. Returns its exit status. */
int cli_fail(struct cli *cli, const struct client_error *error);

/* Connects, starting a daemon when `may_start`; tells why when it cannot. 0 or an exit status. */
int cli_connect(struct cli *cli, bool may_start, struct client **ret);

/* A call with its error told. NULL when it failed; then *ret_status is the exit status. Steals `params`. */
json_t *cli_call(struct cli *cli, struct client *client, enum api_method method, json_t *params, int *ret_status);

/* Writes what is waiting for standard output. After a failure (disk full, say) the exit status will be 1. */
void cli_flush(struct cli *cli);

/* Adds a JSON value and a newline to the output: on one line, or indented on a terminal. */
void cli_print_json(struct cli *cli, const json_t *value);

/* One line, also on a terminal: whoever asks for JSON of a stream reads line by line. */
void cli_print_json_line(struct cli *cli, const json_t *value);

/* An object with every field of the interface's definition `object`, unknown ones null, in its order; a new reference. */
json_t *cli_complete(int object, const json_t *value);

/* Index of the definition of `field` in the definition `object`, for cli_complete(). */
int cli_object_of(int object, const char *field);

/* Prints the help of a command, or of all. */
void cli_print_help(struct cli *cli, const struct command *command);

/* The rows of commands: help, see commands.c. Ends with a row without a name. */
extern const struct command *const cli_commands[];

/* Handlers, by file. */
extern const struct command command_run, command_add;                              /* run.c */
extern const struct command command_ls, command_show, command_why, command_status; /* list.c */
extern const struct command command_logs;                                          /* logs.c */
extern const struct command command_events;                                        /* eventlog.c */
extern const struct command command_wait;                                          /* wait.c */
extern const struct command command_cancel, command_retry, command_release;        /* control.c */
extern const struct command command_suspend, command_resume;                       /* control.c */
extern const struct command command_pause, command_unpause;                       /* pause.c */
extern const struct command command_daemon_start, command_daemon_stop;             /* daemon.c */
extern const struct command command_daemon_restart, command_daemon_status;         /* daemon.c */
extern const struct command command_worktree_ls, command_worktree_rm;              /* worktree.c */
extern const struct command command_worktree_prune;                                /* worktree.c */
extern const struct command command_clean;                                         /* clean.c */
extern const struct command command_db_check, command_db_backup, command_db_restore;       /* db.c */
extern const struct command command_doctor;                                        /* doctor.c */
extern const struct command command_completion;                                   /* completion.c */
extern const struct command command_version, command_help;                         /* cli.c */

/* Number of a signal by its name, "SIGKILL"; 0 when unknown. */
int cli_signal_number(const char *name);
