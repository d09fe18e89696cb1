/*
 * terminal.h - what a terminal can take: its width, colours, and foreign text that must not command it.
 */
#pragma once

#include "base/buf.h"

struct cli;

/* Fills in what `cli` knows of standard output and error. Colours: only on a terminal, never with NO_COLOR or TERM=dumb. */
void terminal_look(struct cli *cli);

/* Columns of the terminal on `fd` ($COLUMNS goes first), 0 when it is none. */
unsigned terminal_width(int fd);

/* Columns that UTF-8 text takes; invalid bytes count one. */
size_t terminal_text_width(const char *text);

/* Adds at most `width` columns of `text`, with "…" at the end when it is cut; without control characters. */
void terminal_add_cut(struct buf *buf, const char *text, size_t width);

/* Adds JSON text as it is, but for the characters that a terminal must not get: they become \uXXXX, which means the same. */
void terminal_add_json(struct buf *buf, const char *text);

/* The colour of a task's state, "" when there are no colours; end it with terminal_colour_end(). */
const char *terminal_colour(bool has_colour, const char *state);
const char *terminal_colour_end(bool has_colour);

/*
 * Foreign bytes on their way to a terminal. Printable text, tabs, line ends and colours (SGR) pass; every other control
 * becomes visible as \xNN. A carriage return passes with `keeps_returns` (a live progress bar), else it ends the line.
 * Sequences cut by the end of a piece wait for the next one.
 */
struct terminal_filter {
	bool keeps_returns;
	bool has_colour; /* some passed; the end sets them back */
	char waiting[32]; /* the beginning of a sequence */
	size_t waiting_length;
};

/* Adds a piece; terminal_filter_end() adds what still waits, made visible. */
void terminal_filter_add(struct terminal_filter *filter, struct buf *out, const char *bytes, size_t length);
void terminal_filter_end(struct terminal_filter *filter, struct buf *out);
