/*
 * names.h - which directory and which branch an attempt gets. Pure: it is told what exists.
 */
#pragma once

#include "base/macros.h"

enum { NAMES_MAX = 160, NAMES_CANDIDATES = 64 };

#define NAMES_BRANCH_PREFIX "parallel/"

/* What names are made from. */
struct names_source {
	const char *name; /* of the task, NULL = none */
	uint64_t task;
	uint32_t attempt;
};

/* What is there already: names without the prefix, in any order. */
struct names_taken {
	char **names;
	size_t count;
};

/*
 * The `index`th choice: name, name-ID, name-ID-ATTEMPT, name-ID-ATTEMPT-2, …; without a usable name ID, ID-ATTEMPT,
 * ID-ATTEMPT-2, …. A name that git would refuse in a branch ("a..b", "a.lock", "a.") counts as none.
 */
void names_format(const struct names_source *source, unsigned index, char ret[NAMES_MAX]);

/*
 * True when `name` cannot stand beside what is taken: the same but for upper and lower case, or one would have to be a
 * directory and a file at once ("a" and "a/b").
 */
bool names_is_taken(const struct names_taken *taken, const char *name);

/* The first choice that is not taken. False when NAMES_CANDIDATES of them are. */
bool names_choose(const struct names_source *source, const struct names_taken *taken, char ret[NAMES_MAX]);

/* True for "parallel/" and a name of letters, digits, '.', '_' and '-': nothing that a path or command could misread. */
bool names_is_branch(const char *branch);

/* True for a full object name: 40 or 64 lower-case hexadecimal digits. */
bool names_is_hash(const char *hash);

/* Adds a copy of `length` bytes to the taken names. */
void names_taken_add(struct names_taken *taken, const char *name, size_t length);

/* Frees them. */
void names_taken_done(struct names_taken *taken);
