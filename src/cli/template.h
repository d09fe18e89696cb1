/*
 * template.h - placeholders in commands, as in GNU parallel: {} the values, {.} without their extension, {/} their base
 * names, {//} their directories, {/.} base names without extension, {#} the task's number, {%} its slot's number, {1} {2.} …
 * one of the values, {-1} the last.
 *
 * In a word of an argv a placeholder becomes the value itself; in text for a shell it becomes the value quoted.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

/* The values of one task, and its number, from 1. */
struct template_values {
	const char *const *texts;
	size_t count;
	uint64_t number;
	const char *slot; /* what {%} becomes: a text that the daemon replaces at the start */
};

/* True when the text holds a placeholder. */
bool template_has_placeholder(const char *text);

/* True when the text holds {%}. */
bool template_has_slot(const char *text);

/* Refuses {N} beyond the number of values a task has. 0 or -EINVAL with a sentence. */
int template_check(const char *text, size_t count, struct err *err);

/*
 * Adds the text with its placeholders replaced; with `is_quoted` for a shell. Several values of {} have blanks between; {N}
 * of a task with fewer values is empty.
 */
void template_expand(struct buf *buf, const char *text, const struct template_values *values, bool is_quoted);

/* Adds a value so that a POSIX shell reads it as one word. */
void template_add_quoted(struct buf *buf, const char *value);
