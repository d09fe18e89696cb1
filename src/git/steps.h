/*
 * steps.h - what prepare and collect have in common: calling git for a repository or one worktree, undoing a preparation,
 * finishing a removal.
 */
#pragma once

#include "git/repository.h"
#include "git/run.h"

/* A git for the repository as a whole: refs, configuration, worktree add. Strings stay the repository's. */
void steps_git_for_repository(const struct repository *repository, struct git *ret);

/* What git is told about one worktree: explicit paths, so that nothing in the worktree can send it elsewhere. */
struct steps_site {
	char *path;    /* of the worktree */
	char *git_dir; /* its admin directory */
	int directory; /* descriptor of the worktree, or of the common directory when it has vanished */
};

/* Sets *git to the worktree and *ret to what git points at. The filters git knows already stay. 0 or -errno. */
int steps_open_site(const struct repository *repository, const char *directory, const char *admin, struct git *git,
                    struct steps_site *ret, struct err *err);

/* Frees the site; git must not be used after it. */
void steps_site_done(struct steps_site *site);

/* The reason that git's own lock on the worktree shows. To be freed. */
char *steps_lock_reason(const struct record *record);

/* Work that git itself has put aside in a worktree's admin directory and that no ref holds. */
struct steps_unfinished {
	const char *name;   /* of the file or directory that tells it */
	const char *note;   /* a clause */
	const char *remedy; /* what to do in the worktree */
	bool is_merge;      /* a commit of the files as they are would leave out its other parent, or have conflicts in it */
};

/* The first of it, or NULL. */
const struct steps_unfinished *steps_find_unfinished(const char *git_dir);

/*
 * Undoes a preparation: worktree, admin directory, lock files, the new branch if it has no commit of its own, and the
 * intent. With `keep_branch` branch and intent stay, for another try of the same attempt. The repository's lock is held.
 */
int steps_undo_prepare(struct repository *repository, const struct record *intent, bool keep_branch, struct err *err);

/* Carries out or carries on a removal whose work is safe, and makes the intent the record. The lock is held. */
int steps_finish_removal(struct repository *repository, const struct record *intent, struct err *err);

/*
 * Settles every intent that a dead process left, except a preparation of this very attempt. The lock is held; every prepare
 * and collect that takes it does this first.
 */
int steps_recover(struct repository *repository, struct err *err);
