/*
 * stray.h - commits that nothing but a worktree's admin directory knows: its HEAD's log, ORIG_HEAD, MERGE_HEAD and the like.
 *
 * They would be garbage as soon as the admin directory goes. What refs reach is none of this, and usually nothing is left.
 */
#pragma once

#include "git/repository.h"

struct strays {
	char *first;  /* ref that was made, NULL = none was needed */
	size_t count; /* refs made */
};

/*
 * Keeps those of `admin` that no ref reaches, nor the commit `covered` (NULL = none), as <usual>-<hash>: only the ends of
 * lines of commits. `usual` is a full ref name. The task's lock is held. 0 or -errno, with a sentence.
 */
int stray_keep(const struct repository *repository, const char *admin, const char *usual, const char *covered,
               struct strays *ret, struct err *err);

/* What was kept, as a clause; to be freed. */
char *stray_describe(const struct strays *strays);

/* Frees what was filled. */
void strays_done(struct strays *strays);
