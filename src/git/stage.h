/*
 * stage.h - everything in a worktree that is not ignored, as a tree object.
 *
 * Not `git add -A`: that runs git inside each repository it finds in the worktree, with that repository's own configuration.
 * Here such a repository is seen and told, and nothing in it is run.
 *
 * Nor are filters run. A file that has changed and that a configured filter would change on its way into a commit (git-lfs,
 * git-crypt) is therefore left out and told: committed as it stands, it would be the secret or the video itself.
 */
#pragma once

#include "git/run.h"

/* What the worktree holds, by its own index. Paths are as git prints them: any bytes but NUL. */
struct stage_listing {
	struct buf changed;   /* NUL-ended paths that are modified, gone or unmerged */
	struct buf untracked; /* NUL-ended paths that are new and not ignored */
	struct buf note;      /* empty, or a clause that says why removing the worktree would lose something */
	bool has_conflicts;   /* that are not resolved */
};

/*
 * Takes apart `git ls-files -z -v -s -m -o`. `directory` is the worktree's descriptor, for looking whether a submodule is
 * checked out. 0 or -EBADMSG.
 */
int stage_parse(const struct buf *output, int directory, struct stage_listing *ret);

/*
 * What the worktree holds now: paths as git's index of it has them and as its files are. Its filters must be emptied. 0 or
 * -errno.
 */
int stage_list(const struct git *git, struct stage_listing *ret, struct err *err);

/*
 * Takes out of the listing what cannot be committed because a filter would have to be run on it; the note says so. 0 or
 * -errno.
 */
int stage_leave_out_filtered(const struct git *git, struct stage_listing *listing, struct err *err);

/* Frees what stage_parse filled. */
void stage_listing_done(struct stage_listing *listing);

/*
 * Brings the worktree's index up to date with its files and writes it as a tree: *ret_tree (to be freed) is its hash. *note
 * gets the listing's note. While it has conflicts nothing is done, and *ret_tree stays as it is. git must be set to the
 * worktree, its filters emptied. 0 or -errno.
 */
int stage_all(const struct git *git, char **ret_tree, struct buf *note, struct err *err);
