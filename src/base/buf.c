#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

void buf_done(struct buf *buf)
{
	free(buf->bytes);
	*buf = BUF_INIT;
}

void buf_clear(struct buf *buf)
{
	buf->length = 0;
	if (buf->bytes)
		buf->bytes[0] = '\0';
}

char *buf_reserve(struct buf *buf, size_t length)
{
	size_t wanted = buf->length + length + 1;

	ASSERT(wanted > length);
	if (wanted > buf->capacity) {
		size_t capacity = MAX(wanted, MAX(buf->capacity * 2, (size_t)64));

		buf->bytes = xrealloc(buf->bytes, capacity);
		buf->capacity = capacity;
	}
	return buf->bytes + buf->length;
}

void buf_add(struct buf *buf, const void *bytes, size_t length)
{
	char *room = buf_reserve(buf, length);

	if (length > 0)
		memcpy(room, bytes, length);
	buf->length += length;
	buf->bytes[buf->length] = '\0';
}

void buf_add_text(struct buf *buf, const char *text)
{
	buf_add(buf, text, strlen(text));
}

void buf_add_byte(struct buf *buf, char byte)
{
	buf_add(buf, &byte, 1);
}

void buf_add_format(struct buf *buf, const char *format, ...)
{
	va_list args;
	va_list again;
	int length;

	va_start(args, format);
	va_copy(again, args);
	length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	ASSERT(length >= 0);
	vsnprintf(buf_reserve(buf, (size_t)length), (size_t)length + 1, format, again);
	va_end(again);
	buf->length += (size_t)length;
}

void buf_drop(struct buf *buf, size_t length)
{
	ASSERT(length <= buf->length);
	if (length == 0)
		return;
	memmove(buf->bytes, buf->bytes + length, buf->length - length);
	buf->length -= length;
	buf->bytes[buf->length] = '\0';
}

char *buf_take(struct buf *buf)
{
	char *bytes = buf->bytes ? buf->bytes : xstrdup("");

	*buf = BUF_INIT;
	return bytes;
}
