/*
 * template.h - placeholders in commands, as in GNU parallel: {} the value, {.} without its extension, {/} its base name,
 * {//} its directory, {/.} base name without extension, {#} the task's number, {1} {2.} … the value of one source.
 *
 * In a word of an argv a placeholder becomes the value itself; in text for a shell it becomes the value quoted.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

/* One value from each source, and the number of the task, from 1. */
struct template_values {
	const char *const *texts;
	unsigned count;
	uint64_t number;
};

/* True when the text holds a placeholder. */
bool template_has_placeholder(const char *text);

/* Refuses {%}, and {N} beyond the number of sources. 0 or -EINVAL with a sentence. */
int template_check(const char *text, unsigned sources, struct err *err);

/* Adds the text with its placeholders replaced; with `is_quoted` for a shell. Several values of {} have blanks between. */
void template_expand(struct buf *buf, const char *text, const struct template_values *values, bool is_quoted);

/* Adds a value so that a POSIX shell reads it as one word. */
void template_add_quoted(struct buf *buf, const char *value);
