/*
 * worktree_wish.h - the words for what a submission may say about worktrees.
 */
#pragma once

#include <string.h>

#include "daemon/roster.h"

/* "none" "auto" "checkout" → enum worktree_wish, −1 when unknown. */
static inline int worktree_wish_find(const char *word)
{
	static const char *const words[WORKTREE_WISH_MAX] = { "none", "auto", "checkout" };

	for (int i = 0; i < WORKTREE_WISH_MAX; i++)
		if (strcmp(words[i], word) == 0)
			return i;
	return -1;
}
