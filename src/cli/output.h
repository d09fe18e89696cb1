/*
 * output.h - tasks' output on its way to this program's standard output or error.
 */
#pragma once

#include "cli/cli.h"
#include "cli/logfile.h"
#include "cli/terminal.h"

struct output {
	struct cli *cli;
	bool is_error;   /* goes to standard error */
	bool is_raw;     /* a terminal gets the bytes as they are */
	const char *tag; /* before each line, or NULL */
	bool is_inside_line;
	size_t line_bytes;    /* of the line begun, while a terminal is shown it */
	uint64_t line_hidden; /* of them not shown */
	struct terminal_filter filter;
};

/* Adds bytes. What goes to standard error is written at once, after what standard output has. */
void output_add(struct output *output, const char *bytes, size_t length);

/* Says that `count` bytes of the task's output were not kept, on a line of its own. */
void output_add_dropped(struct output *output, uint64_t count);

/* The end of a task's output: what waits in the filter, and a line's end where lines must not be joined. */
void output_end(struct output *output);

/* Adds what the file has now. Returns 1 when it had something, 0 when not, or -errno. */
int output_copy(struct output *output, struct logfile *file);
