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

/*
 * How many bytes at `at` a terminal must not get as they are: 1 for a control byte or one that is no UTF-8; all bytes of a
 * C1 control, of a sign that turns the direction of writing, breaks lines or is invisible; 0 when the character is harmless.
 */
size_t str_hostile_length(const void *at, size_t left);

/* Puts '?' for each byte that str_hostile_length() objects to: for log lines, where no memory is to be had. */
void str_blank_hostile(char *text, size_t length);

/* Adds `text` in a form that a terminal cannot be misled by: the bytes of str_hostile_length() become \xNN. */
void str_add_visible(struct buf *buf, const void *text, size_t length);

/* Cuts an incomplete UTF-8 sequence off the end of a text that was truncated. */
void str_trim_utf8(char *text);

/* True when the name matches [A-Za-z0-9._-]{1,64}, is not all digits, and does not begin with '-' or '.'. */
bool str_is_task_name(const char *name);
#define STR_TASK_NAME_RULE "1 to 64 of A-Z a-z 0-9 . _ -, not beginning with . or -, and not digits alone"

/* A whole decimal number from 0 to `limit`, nothing around it. Returns 0, -EINVAL or -ERANGE. */
int str_parse_u64(const char *text, uint64_t limit, uint64_t *ret);
