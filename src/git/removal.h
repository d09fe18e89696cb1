/*
 * removal.h - removes a worktree that the user no longer wants, when it is proved that nothing is lost by it.
 *
 * The proof: nothing in it differs from its commit, that commit is on a ref that stays, nobody works in it, git has it
 * locked for nobody else. What is missing to the proof, `salvage` can make good: a commit of everything on
 * refs/drover/salvage/.
 *
 * Then: intent → moved aside within the root → looked at again, for what came in between → git's admin directory to the
 * trash → the files to the trash → record. Until the admin directory has gone, whoever finds the intent of a killed helper
 * puts the worktree back, or beside its place as DIRECTORY-kept-N if that has been taken since; from then on, finishes. So a
 * worktree is never taken away on a proof that was not completed.
 */
#pragma once

#include "git/inventory.h"

struct removal_wish {
	const char *owner; /* these four say which; owner may be NULL */
	uint64_t task;
	uint32_t attempt;
	const char *directory;
	bool is_over;       /* the caller knows that its task has ended: it need not have been collected */
	bool is_abandoned;  /* nor if nobody knows, by the user's word */
	bool salvages;      /* what no ref has goes to a salvage ref */
	bool drops_ignored; /* files that git ignores are lost */
	bool drops_branch;  /* the branch goes too: only if all of it is elsewhere */
	bool is_dry_run;    /* prove, and do nothing */
};

enum removal_outcome { REMOVAL_KEPT, REMOVAL_WOULD, REMOVAL_DONE, REMOVAL_GONE, REMOVAL_OUTCOME_MAX };

struct removal_report {
	enum removal_outcome outcome; /* GONE: there was nothing any more */
	const char *reason;           /* KEPT: one word: uncollected unfinished replaced locked in-use mounted dirty ignored
	                                 unreachable	   obstacle branch busy error; else NULL */
	char *text;                   /* the proof, or what was found instead */
	char *hint;                   /* what to do about it; NULL = nothing */
	char *path;
	char *branch;
	char *salvage; /* ref, NULL = none */
	bool is_branch_gone;
	uint64_t changed;
	uint64_t untracked;
	uint64_t ignored;
};

/*
 * Removes one worktree of the inventory's repository, or says why not: both are a report, and 0. -errno when the repository
 * could not be used at all. The inventory is only used for its roots: what is there is looked at anew under the locks.
 */
int removal_run(const struct inventory *inventory, const struct removal_wish *wish, struct removal_report *ret,
                struct err *err);

/*
 * Settles the intent of a killed removal_run: puts the worktree back, or finishes. The lock is held. 0 or -errno.
 */
int removal_settle(struct repository *repository, const struct record *intent, struct err *err);

/* "kept", "would-be-removed", "removed", "gone". */
const char *removal_outcome_name(enum removal_outcome outcome);

/* Frees what a report points to; fine with an empty one. */
void removal_report_done(struct removal_report *report);
