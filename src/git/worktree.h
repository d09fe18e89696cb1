/*
 * worktree.h - an attempt's worktree: made before it, collected after it, removed when nothing is lost by it.
 *
 * These functions run in the helper program drover-worktree, one request a process, step after step, blocking. So the daemon
 * never blocks on git, the repository lock lives exactly as long as the work under it, and kill -9 at any point leaves an
 * intent record that the next call under the lock finishes or undoes. Each call is idempotent under (task, attempt).
 *
 * The helper reads one JSON object on standard input and writes one on standard output:
 *   {"error": {"code": "not-a-repository", "errno": 2, "message": "…"}}   or the result of the verb.
 * The objects are described at each verb below; JSON in and out is done by worktree_main.c.
 */
#pragma once

#include "base/err.h"

/* inspect: {"directory", "base": rev or null} → what a submission pins. Refuses no repository, bare, no commit, old git. */
struct worktree_inspection {
	char *top;           /* top of the main or linked worktree that the directory is in */
	char *common_dir;    /* absolute */
	char *prefix;        /* directory relative to top, "" for the top itself; otherwise it ends with '/' */
	char *commit;        /* full hash of base, HEAD when none was given */
};

/* prepare: {"task", "attempt", "owner", "name", "top", "common_dir", "commit", "lock_timeout_ms"} → {"path", "branch"} */
struct worktree_request {
	uint64_t task;
	uint32_t attempt;
	const char *owner;      /* what tells this database's task 7 from another's, [A-Za-z0-9-]{1,40}; may be NULL */
	const char *name;       /* of the task, NULL = none: path and branch then use the id */
	const char *top;        /* the repository's top, or a linked worktree's: .parallel-worktrees/ is made in the main
	                           worktree's where there is one, else here */
	const char *common_dir;
	const char *commit;     /* base, pinned at submission: full hash */
	uint64_t lock_timeout_ns; /* how long another's work on this repository is waited for, 0 = 60 s */
	/* collect only */
	const char *path;       /* as prepare gave them; both NULL: what the attempt's own record says, for when prepare's */
	const char *branch;     /* answer was lost */
	const char *message;    /* of the result commit: first line and body */
	bool has_succeeded;     /* false: the worktree stays unless is_again */
	bool is_again;          /* another attempt follows: this one's work goes to the salvage ref, the worktree is removed
	                           and the branch set back to base, where the next prepare takes it up */
	bool keep;              /* the worktree stays even after success (cleanupOnComplete: false) */
};

/*
 * collect → {"commit", "changed_files", "insertions", "deletions", "is_removed", "salvage": ref or null, "path": or null,
 * "branch", "note": sentence or null}. What is uncommitted (untracked files too, ignored ones not) becomes a commit on the
 * branch; the agent's own commits stay. A worktree with something in it that no commit of this repository can hold (another
 * repository, a submodule, files marked as not to be looked at) is not removed; the note says so.
 *
 * When the worktree has vanished the object has these fields, for what the branch holds, and "error" (worktree-missing) too.
 */
struct worktree_result {
	char *path;    /* NULL when nothing of ours is there any more */
	char *branch;
	char *commit;  /* tip of the branch after collecting; with is_again the attempt's last commit */
	char *salvage; /* the full name under refs/drover/salvage/ when one was needed, else NULL: <task>, with is_again
	                  <task>-<attempt>, and more behind it when that name holds something else */
	char *note;    /* what the user should know, NULL = nothing */
	uint64_t changed_files; /* between base and commit; renames count as two */
	uint64_t insertions;
	uint64_t deletions;
	bool is_removed;
	bool is_missing; /* the worktree was not there: worktree_collect returned -ESTALE */
};

/* version: {} → {"version"}: of the git that is used, to be freed. 0, -ENOSYS when it is too old, or -errno. */
int worktree_git_version(char **ret_version, struct err *err);

/* Looks at the directory; makes nothing. 0 or -errno with a sentence. */
int worktree_inspect(const char *directory, const char *base, struct worktree_inspection *ret, struct err *err);

/* Makes the attempt's worktree and branch, or finds the ones it made before. 0 or -errno. */
int worktree_prepare(const struct worktree_request *request, struct worktree_result *ret, struct err *err);

/*
 * Commits, counts, and removes or keeps. 0 or -errno; with -ESTALE (the worktree has vanished, or there never was one) *ret
 * is filled all the same. What is removed is in the trash then.
 */
int worktree_collect(const struct worktree_request *request, struct worktree_result *ret, struct err *err);

/*
 * Deletes what is in the repository's trash, for after the answer: it can take long. 0 or -errno for the first thing that
 * could not be deleted; the rest is gone all the same, and the next call tries again.
 */
int worktree_empty_trash(const struct worktree_request *request, struct err *err);

/*
 * The stable word for what one of these returned: "not-a-repository", "bare-repository", "no-commit", "bad-revision",
 * "git-too-old", "unsafe-owner", "worktree-missing", …; "git-failed" for what has none of its own.
 */
const char *worktree_error_word(int error);

/* Frees what a call above filled; fine with an empty one. */
void worktree_inspection_done(struct worktree_inspection *inspection);

/* As above. */
void worktree_result_done(struct worktree_result *result);
