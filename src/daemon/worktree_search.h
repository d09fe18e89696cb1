/*
 * worktree_search.h - where the worktrees are looked for that a call means: page by page, or by a word of the user's.
 */
#pragma once

#include <jansson.h>

#include "base/macros.h"

struct daemon;

/* A request to the helper's verb list. The caller owns what is in it. */
struct worktree_search {
	const char *word; /* borrowed; for worktree_search_word */
	json_t *place;    /* {"common_dir", "top"} or {"directory"}, and "after" where it goes on */
	json_t *select;   /* which of them, NULL = all */
	char *common_dir; /* of the place, as its tasks have it, with is_all; else NULL */
};

/*
 * The place of the page that the parameters (cwd or is_all, cursor) mean. With is_all these are the repositories of known
 * tasks, one after another. False when there is none any more.
 */
bool worktree_search_page(const struct daemon *daemon, const json_t *params, struct worktree_search *ret);

/* The cursor for the page after one that ended at `after` (NULL = with the last of its place); NULL = there is none. */
char *worktree_search_cursor(const struct daemon *daemon, const char *common_dir, const char *after);

/*
 * What ret->word means at its nth try (0, 1), with cwd of the parameters: an absolute path that; a number first a task; any
 * other word first what `ls` shows in this repository. False when it means nothing there.
 */
bool worktree_search_word(const struct daemon *daemon, const json_t *params, unsigned try, struct worktree_search *ret);

/* True for digits only. */
bool worktree_search_is_number(const char *word);
