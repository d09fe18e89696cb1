#include "cli/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/str.h"
#include "cli/cli.h"

enum { WIDTH_MAX = 10000 };

void terminal_look(struct cli *cli)
{
	const char *no_colour = getenv("NO_COLOR");
	const char *kind = getenv("TERM");
	bool may_colour = !(no_colour && *no_colour) && !(kind && strcmp(kind, "dumb") == 0);

	cli->is_out_terminal = isatty(STDOUT_FILENO) == 1;
	cli->is_error_terminal = isatty(STDERR_FILENO) == 1;
	cli->has_out_colour = cli->is_out_terminal && may_colour;
	cli->has_error_colour = cli->is_error_terminal && may_colour;
	cli->width = cli->is_out_terminal ? terminal_width(STDOUT_FILENO) : 0;
}

unsigned terminal_width(int fd)
{
	const char *columns = getenv("COLUMNS");
	struct winsize size;
	uint64_t width;

	if (isatty(fd) != 1)
		return 0;
	if (columns && str_parse_u64(columns, WIDTH_MAX, &width) == 0 && width > 0)
		return (unsigned)width;
	if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		return size.ws_col;
	return 80;
}

/* Length in bytes of the character at `at`, 1 for invalid bytes. */
static size_t character_length(const char *at, size_t left)
{
	unsigned char first = (unsigned char)*at;
	size_t length = first < 0xc0 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;

	return length <= left && str_is_utf8(at, length) ? length : 1;
}

static unsigned decode(const char *at, size_t length)
{
	static const unsigned char masks[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
	unsigned value = (unsigned char)at[0] & masks[length];

	for (size_t i = 1; i < length; i++)
		value = value << 6 | ((unsigned char)at[i] & 0x3f);
	return value;
}

/* Two columns for East Asian wide characters and emoji, none for combining marks; near enough without locale tables. */
static unsigned character_width(unsigned value)
{
	if ((value >= 0x300 && value <= 0x36f) || value == 0x200b || value == 0x200d || (value >= 0xfe00 && value <= 0xfe0f))
		return 0;
	if ((value >= 0x1100 && value <= 0x115f) || (value >= 0x2e80 && value <= 0xa4cf) ||
	    (value >= 0xac00 && value <= 0xd7a3) || (value >= 0xf900 && value <= 0xfaff) ||
	    (value >= 0xfe30 && value <= 0xfe6f) || (value >= 0xff00 && value <= 0xff60) ||
	    (value >= 0x1f300 && value <= 0x1faff) || (value >= 0x20000 && value <= 0x3fffd))
		return 2;
	return 1;
}

size_t terminal_text_width(const char *text)
{
	size_t left = strlen(text), width = 0;

	while (left > 0) {
		size_t length = character_length(text, left);

		width += character_width(decode(text, length));
		text += length;
		left -= length;
	}
	return width;
}

void terminal_add_json(struct buf *buf, const char *text)
{
	size_t left = strlen(text);

	while (left > 0) {
		size_t step = *text == '\n' ? 0 : str_hostile_length(text, left);

		if (step > 1) {
			unsigned value = decode(text, step);

			if (value > 0xffff)
				buf_add_format(buf, "\\u%04x\\u%04x", 0xd800 + ((value - 0x10000) >> 10),
				               0xdc00 + ((value - 0x10000) & 0x3ff));
			else
				buf_add_format(buf, "\\u%04x", value);
		} else if (step == 1) {
			buf_add_format(buf, "\\u%04x", (unsigned char)*text);
		} else {
			step = character_length(text, left);
			buf_add(buf, text, step);
		}
		text += step;
		left -= step;
	}
}

void terminal_add_cut(struct buf *buf, const char *text, size_t width)
{
	CLEANUP_BUF struct buf shown = BUF_INIT;
	const char *at;
	size_t left, used = 0;

	str_add_visible(&shown, text, strlen(text));
	at = shown.bytes ? shown.bytes : "";
	if (terminal_text_width(at) <= width) {
		buf_add_text(buf, at);
		return;
	}
	for (left = strlen(at); left > 0 && width > 0;) {
		size_t length = character_length(at, left);
		unsigned columns = character_width(decode(at, length));

		if (used + columns > width - 1)
			break;
		buf_add(buf, at, length);
		used += columns;
		at += length;
		left -= length;
	}
	if (width > 0)
		buf_add_text(buf, "…");
}

const char *terminal_colour(bool has_colour, const char *state)
{
	static const struct {
		const char *state;
		const char *colour;
	} colours[] = {
		{ "succeeded", "\033[32m" }, { "failed", "\033[31m" },  { "timed_out", "\033[31m" }, { "lost", "\033[31m" },
		{ "cancelled", "\033[33m" }, { "skipped", "\033[33m" }, { "running", "\033[36m" },
	};

	for (size_t i = 0; has_colour && i < ARRAY_SIZE(colours); i++)
		if (strcmp(colours[i].state, state) == 0)
			return colours[i].colour;
	return "";
}

const char *terminal_colour_end(bool has_colour)
{
	return has_colour ? "\033[0m" : "";
}

enum piece { PIECE_PASS, PIECE_SHOW, PIECE_WAIT, PIECE_RETURN };

/* An escape sequence at `at`: only complete colour sequences, ESC [ digits and semicolons m, pass. */
static enum piece judge_escape(const char *at, size_t left, size_t *length)
{
	size_t i = 2;

	if (left < 2)
		return PIECE_WAIT;
	if (at[1] != '[')
		return PIECE_SHOW;
	while (i < left && i < sizeof(((struct terminal_filter *)0)->waiting) && strchr("0123456789;:", at[i]) &&
	       at[i] != '\0')
		i++;
	if (i == left && i < sizeof(((struct terminal_filter *)0)->waiting))
		return PIECE_WAIT;
	if (i == left || at[i] != 'm')
		return PIECE_SHOW;
	*length = i + 1;
	return PIECE_PASS;
}

/* What to do with the character at `at`, and its length. */
static enum piece judge(const char *at, size_t left, size_t *length)
{
	unsigned char first = (unsigned char)*at;
	size_t wanted = first < 0xc2 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 1;

	*length = 1;
	if (first == 0x1b)
		return judge_escape(at, left, length);
	if (first == '\r')
		return PIECE_RETURN;
	if (first == '\n' || first == '\t' || (first >= 0x20 && first < 0x7f))
		return PIECE_PASS;
	if (first < 0x80 || wanted == 1)
		return PIECE_SHOW;
	if (left < wanted) {
		for (size_t i = 1; i < left; i++)
			if (((unsigned char)at[i] & 0xc0) != 0x80)
				return PIECE_SHOW;
		return PIECE_WAIT;
	}
	if (str_hostile_length(at, wanted) > 0)
		return PIECE_SHOW;
	*length = wanted;
	return PIECE_PASS;
}

/* Handles what can be decided; returns how many bytes that was. */
static size_t filter_some(struct terminal_filter *filter, struct buf *out, const char *bytes, size_t length)
{
	size_t at = 0, passed = 0;

	while (at < length) {
		size_t step;
		enum piece piece = judge(bytes + at, length - at, &step);

		if (piece == PIECE_RETURN && (filter->keeps_returns || (at + 1 < length && bytes[at + 1] == '\n')))
			piece = PIECE_PASS;
		if (piece == PIECE_RETURN && at + 1 == length)
			piece = PIECE_WAIT;
		if (piece == PIECE_PASS) {
			filter->has_colour = filter->has_colour || bytes[at] == '\033';
			at += step;
			continue;
		}
		buf_add(out, bytes + passed, at - passed);
		passed = at;
		if (piece == PIECE_WAIT)
			return at;
		if (piece == PIECE_RETURN)
			buf_add_byte(out, '\n');
		else
			buf_add_format(out, "\\x%02x", (unsigned char)bytes[at]);
		at++;
		passed = at;
	}
	buf_add(out, bytes + passed, at - passed);
	return at;
}

void terminal_filter_add(struct terminal_filter *filter, struct buf *out, const char *bytes, size_t length)
{
	CLEANUP_BUF struct buf joined = BUF_INIT;
	size_t done;

	if (filter->waiting_length > 0) {
		buf_add(&joined, filter->waiting, filter->waiting_length);
		buf_add(&joined, bytes, length);
		bytes = joined.bytes;
		length = joined.length;
		filter->waiting_length = 0;
	}
	done = filter_some(filter, out, bytes, length);
	ASSERT(length - done <= sizeof(filter->waiting));
	memcpy(filter->waiting, bytes + done, length - done);
	filter->waiting_length = length - done;
}

void terminal_filter_end(struct terminal_filter *filter, struct buf *out)
{
	if (filter->waiting_length == 1 && filter->waiting[0] == '\r')
		buf_add_byte(out, '\n');
	else
		str_add_visible(out, filter->waiting, filter->waiting_length);
	filter->waiting_length = 0;
	if (filter->has_colour)
		buf_add_text(out, "\033[0m"); /* what comes next is not the task's */
	filter->has_colour = false;
}
