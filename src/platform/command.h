/*
 * command.h - runs one program to its end and keeps what it printed.
 *
 * For helpers that may block; the daemon never calls it. The child gets exactly the arguments and environment given, default
 * signal dispositions, an empty signal mask, a process group of its own, and no descriptors beside 0, 1, 2 and `kept_fd`.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

struct command {
	const char *const *argv;        /* ends with NULL; argv[0] is looked for in this process's PATH */
	const char *const *environment; /* ends with NULL */
	const void *input;              /* for its standard input; NULL = /dev/null */
	size_t input_length;
	size_t output_limit; /* bytes of standard output it may print */
	uint64_t timeout_ns;
	int directory; /* descriptor of its working directory, −1 = this process's */
	int kept_fd;   /* the child has it as descriptor 3 and hands it on; −1 = none */
};

struct command_result {
	struct buf output;
	struct buf errors; /* the first COMMAND_ERRORS_MAX bytes of standard error, the rest is dropped */
	int status;        /* as from waitpid */
};

enum { COMMAND_ERRORS_MAX = 8192, COMMAND_KEPT_FD = 3 };

/*
 * Runs the command; *ret is filled whenever it ran to its end, well or badly. On an error *ret is empty and nothing of its
 * process group is left: -ENOENT or -EACCES it could not be started, -ETIMEDOUT, -EFBIG it printed more than
 * output_limit. What it left running in the background is not waited for.
 */
int command_run(const struct command *command, struct command_result *ret, struct err *err);

/* Frees what command_run filled. */
void command_result_done(struct command_result *result);
