/*
 * alloc.h - heap memory that is there or the process ends.
 *
 * Recovery after the end of a process is a tested path; half-handled allocation failures are not. What a client sizes is
 * checked against limits.h first. The core does not allocate at all.
 */
#pragma once

#include "base/macros.h"

/* `size` bytes, contents undefined; never NULL (a size of 0 gives one byte). For libraries that take a malloc of ours. */
void *xmalloc(size_t size);

/* Ends the process: for libraries that only report that there was no memory. */
NORETURN void alloc_fail(void);

/* `size` zeroed bytes; never NULL (a size of 0 gives one byte). Freed with free(). */
void *xcalloc(size_t count, size_t size);

/* realloc that never fails; `size` bytes, contents beyond the old size undefined. */
void *xrealloc(void *pointer, size_t size);

/* A copy of the string, or NULL for NULL. Freed with free(). */
char *xstrdup(const char *text);

/* A copy of `length` bytes with a NUL behind. Freed with free(). */
char *xmemdup0(const void *bytes, size_t length);

/* printf into new memory. Freed with free(). */
char *xasprintf(const char *format, ...) PRINTF_LIKE(1, 2);

/* For CLEANUP(): frees what a `char *`, `void *` … variable points to. */
void free_pointer(void *pointer_to_pointer);

#define CLEANUP_FREE CLEANUP(free_pointer)
