/*
 * options.h - options of commands as rows: parsed by them, and listed by --help from them.
 *
 * "-x VALUE", "-xVALUE", "-x=VALUE" where a value may be left out, "-xyz" for flags, "--name VALUE",
 * "--name=VALUE"; "--" ends them. An option given twice counts the
 * last time, except for lists. Values are borrowed from argv.
 */
#pragma once

#include "base/err.h"

struct buf;

enum option_kind {
	OPTION_FLAG,     /* bool */
	OPTION_TEXT,     /* const char * */
	OPTION_LIST,     /* struct option_list: may be given several times */
	OPTION_NAMES,    /* struct option_list: the same, and commas separate as well */
	OPTION_COUNT,    /* struct option_number: 0 … limit */
	OPTION_DURATION, /* struct option_number, nanoseconds: needs a unit unless 0 */
};

/* What the values of an option, or the arguments of a command, are: for the completion of shells. */
enum option_values {
	OPTION_VALUES_ANY, /* nothing can be said */
	OPTION_VALUES_FILE,
	OPTION_VALUES_DIRECTORY,
	OPTION_VALUES_TASK,
	OPTION_VALUES_BATCH,
	OPTION_VALUES_WORKTREE,
	OPTION_VALUES_COMMAND, /* a program and its arguments */
	OPTION_VALUES_DROVER,  /* a command of this program */
	OPTION_VALUES_CHOICES, /* of a command's arguments: see there */
	OPTION_VALUES_MAX
};

struct option_row {
	char letter; /* 0 = none */
	const char *name;
	const char *value; /* its value's name in the help; NULL for flags */
	enum option_kind kind;
	size_t offset; /* of its place in the command's own structure */
	const char *meaning;
	uint64_t limit;       /* OPTION_COUNT */
	enum option_values values;
	const char *choices;  /* not NULL: the only values, with '|' between them or behind each; others are refused */
	const char *fallback; /* not NULL: "--name" alone means this, and a value needs "=" */
};

struct option_list {
	const char **texts;
	size_t count;
};

struct option_number {
	uint64_t value;
	bool is_set;
};

/* What is not an option, in order; points into argv. */
struct option_rest {
	char **texts;
	size_t count;
};

struct option_set {
	const struct option_row *rows;
	size_t count;
	bool stops_at_first; /* what follows the first non-option is not looked at: it is somebody else's command */
};

/*
 * Parses argv[0 … argc) into `values`; `rest->texts` is to be freed. *ret_help: --help or -h was among them (and nothing
 * else was checked further). 0, or -EINVAL with a sentence that names the nearest known option.
 */
int options_parse(const struct option_set *set, int argc, char **argv, void *values, struct option_rest *rest,
                  bool *ret_help, struct err *err);

/* Frees the lists in `values`. */
void options_done(const struct option_set *set, void *values);

/* The next word of `choices` from *at on: its start, with *ret_length, or NULL at the end. For loops. */
const char *options_next_choice(const char **at, size_t *ret_length);

/* Adds the rows as lines "  -x, --name=VALUE  meaning". */
void options_add_help(const struct option_set *set, struct buf *buf);
