/*
 * removal_proof.h - the proof that nothing is lost when a worktree is removed, and making good what is missing to it.
 */
#pragma once

#include "git/removal.h"
#include "git/survey.h"

/* Zero-initialise, then set the first three. */
struct proof {
	struct repository *repository; /* of the site's root, with the task's lock held */
	const struct removal_wish *wish;
	const struct site *site;
	struct survey survey;
	bool needs_salvage;           /* something is on no ref that stays */
	char *branch_tip;             /* of the branch that is to go; NULL = it does not exist */
	char *saved;                  /* commit that has everything, NULL = nothing was there to be looked at */
	char *salvage;                /* ref that keeps it, NULL = none was needed */
	struct removal_report report; /* outcome WOULD when nothing speaks against it */
};

/* Proves, or finds what speaks against it: all of it, so that the user is told once. 0 or -errno. */
int proof_make(struct proof *proof, struct err *err);

/* Puts what needs it on a salvage ref; the report tells when there is something that cannot be put there. 0 or -errno. */
int proof_save(struct proof *proof, struct err *err);

/*
 * Looks again, after the worktree was moved to `directory` of its root: true when it still is what proof_save() left and
 * nobody works in it. Else the report says what came in between.
 */
bool proof_still_holds(struct proof *proof, const char *directory);

/* Frees what was filled. */
void proof_done(struct proof *proof);
