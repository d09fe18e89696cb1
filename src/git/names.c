/*
 * names.c - see names.h.
 */
#include "git/names.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/limits.h"
#include "base/str.h"

_Static_assert(LIMIT_NAME + 20 + 10 + 10 + 4 <= NAMES_MAX, "name-ID-ATTEMPT-N fits");

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text);
	size_t end_length = strlen(end);

	return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* Beyond the rules for a task's name: those of git-check-ref-format(1) that such a name can still break. */
static bool is_usable(const char *name)
{
	return name && str_is_task_name(name) && !strstr(name, "..") && !ends_with(name, ".lock") && !ends_with(name, ".");
}

void names_format(const struct names_source *source, unsigned index, char ret[NAMES_MAX])
{
	char id[24];
	const char *first = is_usable(source->name) ? source->name : id;

	snprintf(id, sizeof(id), "%" PRIu64, source->task);
	if (first == id && index > 0)
		index++; /* there is no ID-ID */
	if (index == 0)
		snprintf(ret, NAMES_MAX, "%s", first);
	else if (index == 1)
		snprintf(ret, NAMES_MAX, "%s-%s", first, id);
	else if (first == id)
		snprintf(ret, NAMES_MAX, "%s-%" PRIu32, id, source->attempt);
	else
		snprintf(ret, NAMES_MAX, "%s-%s-%" PRIu32, first, id, source->attempt);
	if (index > 2) {
		size_t length = strlen(ret);

		snprintf(ret + length, NAMES_MAX - length, "-%u", index - 1);
	}
}

/* `inner` is `outer` followed by "/…", but for case. */
static bool is_inside(const char *inner, const char *outer)
{
	size_t length = strlen(outer);

	return strncasecmp(inner, outer, length) == 0 && inner[length] == '/';
}

bool names_is_taken(const struct names_taken *taken, const char *name)
{
	for (size_t i = 0; i < taken->count; i++) {
		const char *other = taken->names[i];

		if (strcasecmp(other, name) == 0 || is_inside(other, name) || is_inside(name, other))
			return true;
	}
	return false;
}

bool names_choose(const struct names_source *source, const struct names_taken *taken, char ret[NAMES_MAX])
{
	for (unsigned i = 0; i < NAMES_CANDIDATES; i++) {
		char candidate[NAMES_MAX];

		names_format(source, i, candidate);
		if (!names_is_taken(taken, candidate)) {
			memcpy(ret, candidate, sizeof(candidate));
			return true;
		}
	}
	return false;
}

bool names_is_branch(const char *branch)
{
	size_t prefix = strlen(NAMES_BRANCH_PREFIX);
	const char *name;

	if (!branch || strncmp(branch, NAMES_BRANCH_PREFIX, prefix) != 0)
		return false;
	name = branch + prefix;
	return *name && *name != '.' && *name != '-' && strlen(name) < NAMES_MAX && !strstr(name, "..") &&
	       name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")] == '\0';
}

bool names_is_hash(const char *hash)
{
	size_t length = hash ? strlen(hash) : 0;

	return (length == 40 || length == 64) && strspn(hash, "0123456789abcdef") == length;
}

void names_taken_add(struct names_taken *taken, const char *name, size_t length)
{
	if ((taken->count & (taken->count - 1)) == 0) /* grows at powers of two */
		taken->names = xrealloc(taken->names, MAX(taken->count * 2, (size_t)1) * sizeof(*taken->names));
	taken->names[taken->count++] = xmemdup0(name, length);
}

void names_taken_done(struct names_taken *taken)
{
	for (size_t i = 0; i < taken->count; i++)
		free(taken->names[i]);
	free(taken->names);
	*taken = (struct names_taken){ 0 };
}
