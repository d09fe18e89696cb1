/*
 * frame.h - messages out of a stream of bytes: one a line, bounded. For both ends of the socket.
 *
 * Zero-initialised is empty. An empty frame holds no memory, so that idle connections cost none.
 */
#pragma once

#include "base/buf.h"

struct frame {
	struct buf bytes;
	size_t start;   /* of the first byte not yet handed out */
	size_t scanned; /* bytes before this, from the start, hold no line's end */
};

#define FRAME_INIT ((struct frame){ 0 })

/* Frees the memory; the frame is empty and usable again. */
void frame_done(struct frame *frame);

/* Adds bytes as they came. Lines handed out before are invalid afterwards. */
void frame_push(struct frame *frame, const void *bytes, size_t length);

/*
 * The next whole line, without its end: 1 with *ret_line (valid until the next push, NUL follows) and *ret_length, 0 when
 * there is none yet, -EMSGSIZE when it is longer than LIMIT_MESSAGE, complete or not; the stream cannot be read on then.
 */
int frame_next(struct frame *frame, const char **ret_line, size_t *ret_length);

/* True when a line has begun that frame_next() could not hand out yet. Meaningful after it returned 0. */
bool frame_is_partial(const struct frame *frame);
