#include "cli/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/units.h"
#include "cli/events.h"
#include "cli/terminal.h"

enum { DRAW_PAUSE_MS = 100, ROWS_SHOWN_MAX = 12, BAR_WIDTH = 24, TITLE_WIDTH_MAX = 60 };

int progress_parse_mode(const char *text)
{
	static const char *const names[] = {
		[PROGRESS_NONE] = "none",
		[PROGRESS_PLAIN] = "plain",
		[PROGRESS_BAR] = "bar",
		[PROGRESS_JSON] = "json",
	};

	for (int mode = 0; mode < (int)ARRAY_SIZE(names); mode++)
		if (names[mode] && strcmp(names[mode], text) == 0)
			return mode;
	return -1;
}

static const char *text_of(const json_t *event, const char *member)
{
	const char *text = json_string_value(json_object_get(event, member));

	return text ? text : "";
}

static void add_head(struct buf *buf, const json_t *event, const char *title)
{
	buf_add_format(buf, "#%lld", (long long)json_integer_value(json_object_get(event, "task")));
	if (title[0] != '\0') {
		buf_add_byte(buf, ' ');
		terminal_add_cut(buf, title, TITLE_WIDTH_MAX);
	}
}

void progress_format(struct buf *buf, const json_t *event, const char *title, bool has_colour)
{
	const char *state = text_of(event, "state");
	const char *cause = text_of(event, "cause");
	json_int_t attempt = json_integer_value(json_object_get(event, "attempt"));
	const json_t *duration = json_object_get(event, "duration_s");
	char text[UNITS_TEXT_MAX];

	if (strcmp(state, "running") == 0) {
		add_head(buf, event, title);
		buf_add_text(buf, " started");
		if (attempt > 1)
			buf_add_format(buf, " (attempt %lld)", (long long)attempt);
		buf_add_byte(buf, '\n');
		return;
	}
	if (!events_is_final(state))
		return;
	add_head(buf, event, title);
	buf_add_format(buf, " %s%s%s", terminal_colour(has_colour, state), state, terminal_colour_end(has_colour));
	if (json_is_number(duration))
		buf_add_format(buf, " %s", units_format_duration(results_ns(duration), text));
	if (strcmp(state, "succeeded") == 0 || cause[0] == '\0') {
		buf_add_byte(buf, '\n');
		return;
	}
	/* "skipped: #11 failed" says the state already. */
	if (strncmp(cause, state, strlen(state)) == 0)
		cause += strlen(state);
	else
		buf_add_text(buf, ": ");
	terminal_add_cut(buf, cause, SIZE_MAX);
	buf_add_byte(buf, '\n');
}

static void write_error(struct progress *progress, const struct buf *text)
{
	if (text->length == 0)
		return;
	cli_flush(progress->cli);
	if (fd_write_all(STDERR_FILENO, text->bytes, text->length) < 0)
		progress->cli->has_write_failed = true;
}

static void remove_row(struct progress *progress, uint64_t id)
{
	for (size_t i = 0; i < progress->row_count; i++) {
		if (progress->rows[i].id != id)
			continue;
		free(progress->rows[i].title);
		progress->row_count--;
		memmove(&progress->rows[i], &progress->rows[i + 1], (progress->row_count - i) * sizeof(*progress->rows));
		return;
	}
}

/* States in which a task holds a slot have a row. */
static bool is_active(const char *state)
{
	return strcmp(state, "preparing") == 0 || strcmp(state, "running") == 0 || strcmp(state, "suspended") == 0 ||
	       strcmp(state, "stopping") == 0 || strcmp(state, "collecting") == 0;
}

static void put_row(struct progress *progress, uint64_t id, const char *title, const char *state, uint64_t now_ns)
{
	struct progress_row *row = NULL;

	for (size_t i = 0; i < progress->row_count && !row; i++)
		if (progress->rows[i].id == id)
			row = &progress->rows[i];
	if (!row) {
		if (progress->row_count == progress->row_capacity) {
			progress->row_capacity = MAX(progress->row_capacity * 2, (size_t)16);
			progress->rows = xrealloc(progress->rows, progress->row_capacity * sizeof(*progress->rows));
		}
		row = &progress->rows[progress->row_count++];
		*row = (struct progress_row){ .id = id, .title = xstrdup(title), .since_ns = now_ns };
	}
	if (strcmp(state, "running") == 0 && strcmp(row->state, "preparing") == 0)
		row->since_ns = now_ns;
	snprintf(row->state, sizeof(row->state), "%s", state);
}

/* Whether the line of this event is to last. */
static bool is_told(const struct progress *progress, const char *state)
{
	bool is_failure = events_is_final(state) && strcmp(state, "succeeded") != 0;

	if (progress->mode == PROGRESS_PLAIN)
		return true;
	if (progress->is_interrupted && strcmp(state, "cancelled") == 0)
		return false;
	if (progress->mode == PROGRESS_FAILURES)
		return is_failure;
	return progress->mode == PROGRESS_BAR && (is_failure || (progress->tells_ends && events_is_final(state)));
}

void progress_event(struct progress *progress, const json_t *event, const char *title, uint64_t now_ns)
{
	CLEANUP_BUF struct buf line = BUF_INIT;
	const char *state = text_of(event, "state");
	uint64_t id = (uint64_t)json_integer_value(json_object_get(event, "task"));

	if (progress->mode == PROGRESS_BAR && is_active(state))
		put_row(progress, id, title, state, now_ns);
	else if (progress->mode == PROGRESS_BAR)
		remove_row(progress, id);
	if (progress->mode == PROGRESS_JSON) {
		char *text = json_dumps(event, JSON_COMPACT);

		buf_add_format(&line, "%s\n", text ? text : "{}");
		free(text);
	} else if (is_told(progress, state)) {
		progress_format(&line, event, title, progress->cli->has_error_colour);
	}
	if (line.length > 0)
		progress_erase(progress);
	write_error(progress, &line);
}

static void add_bar(const struct progress *progress, struct buf *buf, uint64_t now_ns)
{
	const struct tally *tally = progress->tally;
	uint64_t ended = tally_ended(tally);
	uint64_t bad = ended - tally->succeeded;
	uint64_t filled = tally->total > 0 ? ended * BAR_WIDTH / tally->total : 0;
	char text[UNITS_TEXT_MAX];

	buf_add_byte(buf, '[');
	for (uint64_t i = 0; i < BAR_WIDTH; i++)
		buf_add_byte(buf, i < filled ? '#' : '.');
	buf_add_format(buf, "] %llu/%llu", (unsigned long long)ended, (unsigned long long)tally->total);
	if (progress->row_count > 0)
		buf_add_format(buf, ", %zu running", progress->row_count);
	if (bad > 0)
		buf_add_format(buf, ", %llu not succeeded", (unsigned long long)bad);
	buf_add_format(buf, ", %s", units_format_duration(now_ns, text));
}

/* Lines of the terminal that the block may take. */
static size_t rows_shown(const struct progress *progress)
{
	struct winsize size;
	size_t most = ROWS_SHOWN_MAX;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0)
		most = MIN(most, (size_t)MAX(size.ws_row / 2, 1));
	return MIN(most, progress->row_count);
}

/* One write for the whole block: cursor up over the old one, the new lines, what is left of the old ones cleared. */
void progress_draw(struct progress *progress, uint64_t now_ns, bool is_forced)
{
	CLEANUP_BUF struct buf block = BUF_INIT;
	CLEANUP_BUF struct buf line = BUF_INIT;
	unsigned width = terminal_width(STDERR_FILENO);
	size_t shown = rows_shown(progress);
	char text[UNITS_TEXT_MAX];

	if (progress->mode != PROGRESS_BAR || !progress->cli->is_error_terminal)
		return;
	if (!is_forced && now_ns < progress->drawn_ns + DRAW_PAUSE_MS * NS_PER_MS && progress->drawn_lines > 0)
		return;
	if (progress->drawn_lines > 0)
		buf_add_format(&block, "\033[%uA\r", progress->drawn_lines);
	for (size_t i = 0; i <= shown; i++) {
		const struct progress_row *row = &progress->rows[i];

		buf_clear(&line);
		if (i == shown)
			add_bar(progress, &line, now_ns);
		else
			buf_add_format(&line, "#%llu %.200s%s%s %s", (unsigned long long)row->id, row->title,
			               row->title[0] ? " " : "", row->state,
			               units_format_duration(now_ns - MIN(now_ns, row->since_ns), text));
		terminal_add_cut(&block, line.bytes, width > 1 ? width - 1 : 1);
		buf_add_text(&block, "\033[K\n");
	}
	buf_add_text(&block, "\033[J");
	write_error(progress, &block);
	progress->drawn_lines = (unsigned)shown + 1;
	progress->drawn_ns = now_ns;
}

void progress_erase(struct progress *progress)
{
	CLEANUP_BUF struct buf text = BUF_INIT;

	if (progress->drawn_lines == 0)
		return;
	buf_add_format(&text, "\033[%uA\r\033[J", progress->drawn_lines);
	progress->drawn_lines = 0;
	if (fd_write_all(STDERR_FILENO, text.bytes, text.length) < 0)
		progress->cli->has_write_failed = true;
}

void progress_done(struct progress *progress)
{
	for (size_t i = 0; i < progress->row_count; i++)
		free(progress->rows[i].title);
	free(progress->rows);
	progress->rows = NULL;
	progress->row_count = 0;
}
