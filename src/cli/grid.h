/*
 * grid.h - a table for people: columns as wide as their cells, one of them giving way when the terminal is narrow.
 */
#pragma once

#include "base/buf.h"

enum { GRID_COLUMNS_MAX = 12 };

struct grid_column {
	const char *title;
	bool is_right;    /* numbers */
	bool is_flexible; /* gives way; at most one */
	bool is_state;    /* coloured by the word in it */
};

struct grid {
	const struct grid_column *columns;
	unsigned column_count;
	char **cells; /* row by row */
	size_t row_count;
	size_t row_capacity;
	unsigned next; /* column that grid_add() fills */
};

/* Adds the next cell (copied), or formatted text, going on to the next row after the last column. "" is shown as "-". */
void grid_add(struct grid *grid, const char *text);
void grid_add_format(struct grid *grid, const char *format, ...) PRINTF_LIKE(2, 3);

/* Writes titles and rows into `buf`, at most `width` columns (0 = any); frees the cells. */
void grid_finish(struct grid *grid, struct buf *buf, unsigned width, bool has_colour);
