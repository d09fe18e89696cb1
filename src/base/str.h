/*
 * str.h - text that comes from outside: is it valid, what did they mean, how is it shown.
 */
#pragma once

#include "base/macros.h"

struct buf;

/* True when the bytes are UTF-8 as RFC 3629 defines it (no surrogates, no overlong forms). */
bool str_is_utf8(const void *bytes, size_t length);

/*
 * The candidate nearest to `word`, or NULL when none is near enough to be meant (more than a third of its letters
 * differ, transpositions counting once). For "did you mean".
 */
const char *str_nearest(const char *word, const char *const *candidates, size_t count);

/* Adds `text` in a form that a terminal cannot be misled by: control bytes and invalid UTF-8 become \xNN. */
void str_add_visible(struct buf *buf, const void *text, size_t length);

/* Cuts an incomplete UTF-8 sequence off the end of a text that was truncated. */
void str_trim_utf8(char *text);

/* True when the name matches [A-Za-z0-9._-]{1,64}, is not all digits, and does not begin with '-' or '.'. */
bool str_is_task_name(const char *name);
#define STR_TASK_NAME_RULE "1 to 64 of A-Z a-z 0-9 . _ -, not beginning with . or -, and not digits alone"

/* A whole decimal number from 0 to `limit`, nothing around it. Returns 0, -EINVAL or -ERANGE. */
int str_parse_u64(const char *text, uint64_t limit, uint64_t *ret);
