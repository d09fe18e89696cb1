/*
 * input.h - what `run` and `add` are to run: a command, and the values it is run with (sources.h).
 *
 *     COMMAND [ARG…] [::: VALUE…]… [:::: FILE…]…     -a FILE     standard input
 *
 * The rules for standard input are DESIGN 6.1's.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "cli/options.h"
#include "cli/sources.h"
#include "cli/template.h"

/* What {%} is written as while the daemon has not yet put the slot's number in its place; found in no value. */
enum { INPUT_SLOT_TEXT_MAX = 32 };

struct input {
	char **words; /* of the command, borrowed; the value itself is the command when there are none */
	size_t word_count;
	bool is_shell;     /* the single word is text for a shell */
	bool has_template; /* else the value is appended */
	bool has_slot;     /* {%} is among the placeholders */
	char slot_text[INPUT_SLOT_TEXT_MAX];
	struct sources sources;
};

struct input_request {
	char **words;
	size_t word_count;
	const struct option_list *files; /* -a */
	struct sources_options sources;
	int stdin_fd;
};

/* Reads everything. What was read is to be given to input_done() either way. 0, or -errno with a sentence. */
int input_read(const struct input_request *request, struct input *ret, struct err *err);

/* Frees what was read. */
void input_done(struct input *input);

/* The values of task `index` (from 0). They lie in `values`, which is used again from call to call. */
struct template_values input_values(const struct input *input, uint64_t index, struct source_values *values);

/* What a task runs: words of an argv, or text for a shell. */
struct input_command {
	struct buf bytes;  /* the words, each ended by NUL; or the shell's text */
	size_t word_count; /* 0 = text for a shell */
};

/* What a task runs. `command->bytes` is used again from call to call. */
void input_command(const struct input *input, const struct template_values *values, struct input_command *command);

/* Adds the values with blanks between, for labels; "" when there are none. */
void input_add_label(struct buf *buf, const struct template_values *values);

/* Adds a command as a shell would read it, on one line unless it holds line ends itself. */
void input_add_command_text(const struct input_command *command, struct buf *text);
