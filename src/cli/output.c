#include "cli/output.h"

#include <string.h>
#include <unistd.h>

#include "base/fd.h"

enum { LINE_SHOWN_MAX = 16 << 10 };

static bool is_filtered(const struct output *output)
{
	return !output->is_raw && (output->is_error ? output->cli->is_error_terminal : output->cli->is_out_terminal);
}

static void add_tagged(struct output *output, struct buf *out, const char *bytes, size_t length)
{
	while (length > 0) {
		const char *newline = memchr(bytes, '\n', length);
		size_t step = newline ? (size_t)(newline - bytes) + 1 : length;

		if (!output->is_inside_line) {
			terminal_add_cut(out, output->tag, SIZE_MAX);
			buf_add_byte(out, '\t');
		}
		buf_add(out, bytes, step);
		output->is_inside_line = !newline;
		bytes += step;
		length -= step;
	}
}

static void add_plain(struct output *output, struct buf *out, const char *bytes, size_t length)
{
	if (output->tag) {
		add_tagged(output, out, bytes, length);
	} else if (length > 0) {
		buf_add(out, bytes, length);
		output->is_inside_line = bytes[length - 1] != '\n';
	}
}

static void write_error(struct output *output, struct buf *text)
{
	cli_flush(output->cli);
	if (fd_write_all(STDERR_FILENO, text->bytes, text->length) < 0)
		output->cli->has_write_failed = true;
}

static void pass(struct output *output, const char *bytes, size_t length)
{
	CLEANUP_BUF struct buf text = BUF_INIT;

	if (!output->is_error) {
		add_plain(output, &output->cli->out, bytes, length);
		if (output->cli->out.length >= CLI_FLUSH_BYTES)
			cli_flush(output->cli);
		return;
	}
	add_plain(output, &text, bytes, length);
	if (text.length > 0)
		write_error(output, &text);
}

/* Says how much of the line that ends here a terminal was spared. */
static void tell_hidden(struct output *output, struct buf *cut)
{
	if (output->line_hidden > 0)
		buf_add_format(cut, "\033[0m… [drover: %llu more bytes in this line]",
		               (unsigned long long)output->line_hidden);
	output->line_hidden = 0;
	output->line_bytes = 0;
}

/* Up to its end, which is not counted. A line that is written over and over (a live progress bar) is many. */
static size_t line_length(const char *bytes, size_t length)
{
	size_t at = 0;

	while (at < length && bytes[at] != '\n' && bytes[at] != '\r')
		at++;
	return at;
}

/* Lines of what is for a terminal, the long ones cut: scrolling through a line of a gigabyte is no way to read it. */
static void cut_lines(struct output *output, struct buf *cut, const char *bytes, size_t length)
{
	while (length > 0) {
		size_t step = line_length(bytes, length);
		size_t room = LINE_SHOWN_MAX - MIN(output->line_bytes, (size_t)LINE_SHOWN_MAX);
		size_t shown = MIN(step, room);

		while (shown > 0 && shown < step && ((unsigned char)bytes[shown] & 0xc0) == 0x80)
			shown--; /* no half character */
		buf_add(cut, bytes, shown);
		output->line_hidden += step - shown;
		output->line_bytes += step;
		if (step < length) {
			tell_hidden(output, cut);
			buf_add_byte(cut, bytes[step++]);
		}
		bytes += step;
		length -= step;
	}
}

void output_add(struct output *output, const char *bytes, size_t length)
{
	CLEANUP_BUF struct buf shown = BUF_INIT;
	CLEANUP_BUF struct buf cut = BUF_INIT;

	if (!is_filtered(output)) {
		pass(output, bytes, length);
		return;
	}
	terminal_filter_add(&output->filter, &shown, bytes, length);
	cut_lines(output, &cut, shown.bytes, shown.length);
	pass(output, cut.bytes, cut.length);
}

void output_add_dropped(struct output *output, uint64_t count)
{
	CLEANUP_BUF struct buf line = BUF_INIT;

	terminal_filter_end(&output->filter, &line);
	tell_hidden(output, &line);
	if (output->is_inside_line || line.length > 0)
		buf_add_byte(&line, '\n');
	buf_add_format(&line, "[drover: %llu bytes dropped]\n", (unsigned long long)count);
	pass(output, line.bytes, line.length);
	if (!is_filtered(output)) /* a file or a pipe: nobody may look into it before it is used */
		cli_tell(output->cli,
		         "%llu bytes of output are missing in the middle: a log keeps its beginning and its end only "
		         "(log.head "
		         "and log.tail in the configuration)",
		         (unsigned long long)count);
}

void output_end(struct output *output)
{
	CLEANUP_BUF struct buf line = BUF_INIT;

	terminal_filter_end(&output->filter, &line);
	tell_hidden(output, &line);
	if (output->is_inside_line && (output->tag || is_filtered(output)))
		buf_add_byte(&line, '\n');
	pass(output, line.bytes, line.length);
	output->is_inside_line = false;
}

int output_copy(struct output *output, struct logfile *file)
{
	char bytes[LOGFILE_PIECE_MAX];
	bool has_any = false;

	for (;;) {
		uint64_t dropped;
		ssize_t length = logfile_read(file, bytes, &dropped);

		if (length < 0)
			return (int)length;
		if (dropped > 0)
			output_add_dropped(output, dropped);
		if (length > 0)
			output_add(output, bytes, (size_t)length);
		if (length == 0 && dropped == 0)
			return has_any;
		has_any = true;
	}
}
