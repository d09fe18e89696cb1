/*
 * sources.h - where the values of tasks come from, and how they are combined.
 *
 *     ::: VALUE…     :::: FILE…     -a FILE     standard input     :::+ and ::::+ linked to the source before
 *
 * A source is a list of rows, a row is one value, or several where a column separator divides it. Sources are combined, the
 * last one changing fastest; linked ones go side by side. One combination is a record; a task takes one record, or as many
 * as asked for, and its values are those of its records one after another.
 */
#pragma once

#include <regex.h>

#include "base/buf.h"
#include "base/err.h"

enum { SOURCES_MAX = 32 };

struct source {
	const char **values;
	size_t count;
	size_t capacity;
	size_t *starts; /* of each row, where columns divide rows; else NULL: each value is a row */
	size_t starts_capacity;
	size_t row_count;
	bool is_linked;  /* with the source before */
	struct buf text; /* what the values point into when they were read from a file */
};

struct sources {
	struct source items[SOURCES_MAX];
	unsigned count; /* 0 = exactly one task, placeholders stand for themselves */
	uint64_t record_count;
	uint64_t task_count;
	uint64_t records_per_task; /* 0 = the task gets no values */
	bool links_all;            /* short sources begin again */
	bool has_separator;
	regex_t separator; /* of columns */
	char line_end;     /* of values in files: '\n' or NUL */
};

struct sources_options {
	const char *column_separator; /* extended regular expression, \t a tab; NULL = none */
	uint64_t records_per_task;
	bool links_all;
	bool is_nul_separated;
};

/* Begins without sources. 0, or -EINVAL for an expression that is none. sources_done() either way. */
int sources_init(struct sources *sources, const struct sources_options *options, struct err *err);

/* Frees what was read. */
void sources_done(struct sources *sources);

/* A new source, linked to the one before if asked. NULL with a sentence when there are too many. */
struct source *sources_add(struct sources *sources, bool is_linked, struct err *err);

/* Adds one row to the source; `text` is borrowed, and cut where columns end. 0 or -EFBIG with a sentence. */
int sources_add_row(struct sources *sources, struct source *source, char *text, struct err *err);

/* Reads a source to its end from `fd`; `name` is for messages. 0 or -errno with a sentence. */
int sources_read(struct sources *sources, struct source *source, int fd, const char *name, struct err *err);

/* Counts records and tasks. 0 or -EFBIG with a sentence. */
int sources_count_tasks(struct sources *sources, struct err *err);

/* How many values each task has; SIZE_MAX when that differs between them. */
size_t sources_width(const struct sources *sources);

/* The values of one task; grows as needed. */
struct source_values {
	const char **texts;
	size_t count;
	size_t capacity;
};

/* The values of task `index` (from 0) into `values`, which is used again from call to call. */
void sources_get(const struct sources *sources, uint64_t index, struct source_values *values);

/* Frees the list, not the values. */
void source_values_done(struct source_values *values);
