#include "base/alloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

NORETURN void alloc_fail(void)
{
	static const char text[] = "drover: out of memory\n";

	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		abort();
	abort();
}

void *xmalloc(size_t size)
{
	void *memory = malloc(size ? size : 1);

	if (!memory)
		alloc_fail();
	return memory;
}

void *xcalloc(size_t count, size_t size)
{
	void *memory = calloc(count ? count : 1, size ? size : 1);

	if (!memory)
		alloc_fail();
	return memory;
}

void *xrealloc(void *pointer, size_t size)
{
	void *memory = realloc(pointer, size ? size : 1);

	if (!memory)
		alloc_fail();
	return memory;
}

char *xstrdup(const char *text)
{
	return text ? xmemdup0(text, strlen(text)) : NULL;
}

char *xmemdup0(const void *bytes, size_t length)
{
	char *copy = xrealloc(NULL, length + 1);

	if (length > 0)
		memcpy(copy, bytes, length);
	copy[length] = '\0';
	return copy;
}

char *xasprintf(const char *format, ...)
{
	char *text;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		alloc_fail();
	va_end(args);
	return text;
}

void free_pointer(void *pointer_to_pointer)
{
	void *pointer;

	memcpy(&pointer, pointer_to_pointer, sizeof(pointer));
	free(pointer);
}
