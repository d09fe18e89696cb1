#include "proto/frame.h"

#include <errno.h>
#include <string.h>

#include "base/limits.h"

void frame_done(struct frame *frame)
{
	buf_done(&frame->bytes);
	*frame = FRAME_INIT;
}

void frame_push(struct frame *frame, const void *bytes, size_t length)
{
	if (length > 0)
		buf_add(&frame->bytes, bytes, length);
}

/* No line is left: gives back what was handed out, and all memory when nothing else is there. */
static void compact(struct frame *frame)
{
	size_t left = frame->bytes.length - frame->start;

	if (left == 0) {
		frame_done(frame);
		return;
	}
	buf_drop(&frame->bytes, frame->start);
	frame->start = 0;
	frame->scanned = left;
}

int frame_next(struct frame *frame, const char **ret_line, size_t *ret_length)
{
	size_t left = frame->bytes.length - frame->start;
	char *line, *end;

	ASSERT(frame->scanned <= left);
	if (left == 0) {
		compact(frame);
		return 0;
	}
	line = frame->bytes.bytes + frame->start;
	end = memchr(line + frame->scanned, '\n', left - frame->scanned);
	if ((end ? (size_t)(end - line) : left) > LIMIT_MESSAGE)
		return -EMSGSIZE;
	if (!end) {
		compact(frame);
		return 0;
	}
	*end = '\0';
	*ret_line = line;
	*ret_length = (size_t)(end - line);
	frame->start += *ret_length + 1;
	frame->scanned = 0;
	return 1;
}

bool frame_is_partial(const struct frame *frame)
{
	return frame->bytes.length > frame->start;
}
