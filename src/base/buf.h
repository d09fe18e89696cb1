/*
 * buf.h - a growing byte buffer. Zero-initialised is empty; a NUL always follows the bytes, so `bytes` is a string too.
 */
#pragma once

#include "base/macros.h"

struct buf {
	char *bytes; /* NULL while nothing was added */
	size_t length;
	size_t capacity;
};

#define BUF_INIT ((struct buf){ 0 })

/* Frees the memory; the buffer is empty and usable again. */
void buf_done(struct buf *buf);

/* Empties the buffer, keeping its memory. */
void buf_clear(struct buf *buf);

/* Room for `length` more bytes; returns where they go. The caller adds to buf->length what it wrote. */
char *buf_reserve(struct buf *buf, size_t length);

/* Adds bytes, a string, one byte, or formatted text at the end. */
void buf_add(struct buf *buf, const void *bytes, size_t length);
void buf_add_text(struct buf *buf, const char *text);
void buf_add_byte(struct buf *buf, char byte);
void buf_add_format(struct buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);

/* Drops the first `length` bytes. */
void buf_drop(struct buf *buf, size_t length);

/* Hands the bytes over as a string to be freed with free(); the buffer is empty afterwards. Never NULL. */
char *buf_take(struct buf *buf);

#define CLEANUP_BUF CLEANUP(buf_done)
