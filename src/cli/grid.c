#include "cli/grid.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/terminal.h"

enum { GAP = 2, FLEXIBLE_MIN = 10 };

void grid_add(struct grid *grid, const char *text)
{
	CLEANUP_BUF struct buf shown = BUF_INIT;

	ASSERT(grid->column_count <= GRID_COLUMNS_MAX);
	if (grid->next == 0) {
		if (grid->row_count == grid->row_capacity) {
			grid->row_capacity = MAX(grid->row_capacity * 2, (size_t)16);
			grid->cells = xrealloc(grid->cells, grid->row_capacity * grid->column_count * sizeof(*grid->cells));
		}
		grid->row_count++;
	}
	terminal_add_cut(&shown, text && *text ? text : "-", SIZE_MAX);
	grid->cells[(grid->row_count - 1) * grid->column_count + grid->next] = buf_take(&shown);
	grid->next = (grid->next + 1) % grid->column_count;
}

void grid_add_format(struct grid *grid, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	grid_add(grid, text);
}

static void measure(const struct grid *grid, size_t widths[GRID_COLUMNS_MAX], unsigned width)
{
	size_t total = 0;

	for (unsigned column = 0; column < grid->column_count; column++) {
		widths[column] = terminal_text_width(grid->columns[column].title);
		for (size_t row = 0; row < grid->row_count; row++)
			widths[column] =
				MAX(widths[column], terminal_text_width(grid->cells[row * grid->column_count + column]));
		total += widths[column] + (column > 0 ? GAP : 0);
	}
	if (width == 0 || total <= width)
		return;
	for (unsigned column = 0; column < grid->column_count; column++) {
		size_t excess = total - width;

		if (grid->columns[column].is_flexible)
			widths[column] = widths[column] > excess + FLEXIBLE_MIN ? widths[column] - excess : FLEXIBLE_MIN;
	}
}

static void add_cell(struct buf *buf, const struct grid_column *column, const char *text, size_t width, bool has_colour)
{
	size_t used = MIN(terminal_text_width(text), width);
	const char *colour = column->is_state ? terminal_colour(has_colour, text) : "";

	if (column->is_right)
		buf_add_format(buf, "%*s", (int)(width - used), "");
	buf_add_text(buf, colour);
	terminal_add_cut(buf, text, width);
	if (*colour)
		buf_add_text(buf, terminal_colour_end(has_colour));
	if (!column->is_right)
		buf_add_format(buf, "%*s", (int)(width - used), "");
}

void grid_finish(struct grid *grid, struct buf *buf, unsigned width, bool has_colour)
{
	size_t widths[GRID_COLUMNS_MAX];

	measure(grid, widths, width);
	for (size_t row = 0; row <= grid->row_count; row++) {
		for (unsigned column = 0; column < grid->column_count; column++) {
			const struct grid_column *info = &grid->columns[column];
			const char *text = row == 0 ? info->title : grid->cells[(row - 1) * grid->column_count + column];

			if (column > 0)
				buf_add_format(buf, "%*s", GAP, "");
			add_cell(buf, info, text, widths[column], has_colour && row > 0);
		}
		while (buf->length > 0 && buf->bytes[buf->length - 1] == ' ')
			buf->bytes[--buf->length] = '\0';
		buf_add_byte(buf, '\n');
	}
	for (size_t i = 0; i < grid->row_count * grid->column_count; i++)
		free(grid->cells[i]);
	free(grid->cells);
	grid->cells = NULL;
	grid->row_count = grid->row_capacity = 0;
}
