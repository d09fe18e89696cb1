/*
 * repository.h - drover's own files in a repository: the locks, the records, the root of the worktrees, the trash.
 *
 *   <common dir>/drover/lock         OFD locks on one descriptor: byte 0 the repository, byte 1 the emptying of the trash,
 *                                    a byte from 2 on each task. The git processes we start hold the same open file, so
 *                                    after kill -9 of this process the locks last until they have ended too.
 *   <common dir>/drover/intents/     records of what is being done, <task>-<attempt>.json
 *   <common dir>/drover/worktrees/   records of what is done, <task>.json for the latest attempt, and <task>-<attempt>.json
 *                                    for those before it whose worktrees stayed
 *   <common dir>/drover/making/      an admin directory before it has its place
 *   <common dir>/drover/trash/       admin directories of removed worktrees
 *   <top>/.parallel-worktrees/       the worktrees; .gitignore with "*"; .trash/ for what is to be deleted
 *
 * Order of locks: task, then repository. Everything below the two directories is reached without following links. This
 * module runs no git.
 */
#pragma once

#include "git/names.h"
#include "git/record.h"

#define REPOSITORY_ROOT ".parallel-worktrees"
#define REPOSITORY_TRASH ".trash" /* in the root */

enum { REPOSITORY_KEY_MAX = 80 };

struct repository {
	char *common_path; /* canonical */
	char *top_path;    /* directory that holds .parallel-worktrees */
	char *root_path;
	char *key; /* of the task: "7", or "OWNER.7" */
	int common;
	int intents;
	int records;
	int making;
	int admin_trash;
	int lock;
	int root;
	uint64_t task;
	uint32_t attempt;
	uint64_t lock_timeout_ns;
};

/*
 * Opens all of it for the request's task, making what is missing (.gitignore first). Takes no lock. 0 or -errno: -ENOENT no
 * such repository, -ELOOP a link or something foreign stands where our directory should be.
 */
int repository_open(const struct worktree_request *request, struct repository *ret, struct err *err);

/*
 * Opens what of all this is there, and makes nothing; descriptors of what is not there are −1. It stands for no task until
 * repository_set_task. 0 or -errno.
 */
int repository_look(const char *common_dir, const char *top, struct repository *ret, struct err *err);

/* Makes the repository stand for another task's attempt; task 0 is nobody's. No task's lock may be held. */
void repository_set_task(struct repository *repository, const char *owner, uint64_t task, uint32_t attempt);

/* Closes it, which frees the locks unless a git of ours still runs. */
void repository_done(struct repository *repository);

/* Waits for the task's lock. 0 or -ETIMEDOUT with a sentence. */
int repository_lock_task(struct repository *repository, struct err *err);

/* Gives it back. */
void repository_unlock_task(struct repository *repository);

/* Waits for the repository's lock. 0 or -ETIMEDOUT with a sentence that names who had it last. */
int repository_lock(struct repository *repository, struct err *err);

/* Frees the repository's lock. */
void repository_unlock(struct repository *repository);

/* Takes the lock of the task that a record belongs to, if nobody works on it. True also when it is our own task. */
bool repository_try_lock_other(struct repository *repository, const struct record *record);

/* Gives it back; our own task's stays. */
void repository_unlock_other(struct repository *repository, const struct record *record);

/* Takes the right to empty the trash, if nobody has it. */
bool repository_try_lock_trash(struct repository *repository);

/* Gives it back. */
void repository_unlock_trash(struct repository *repository);

/* "7" or "OWNER.7": what tells a task from all others in this repository. */
void repository_format_key(const char *owner, uint64_t task, char ret[REPOSITORY_KEY_MAX]);

/* True when the record is about the task that the repository was opened for. */
bool repository_is_own(const struct repository *repository, const struct record *record);

/* Writes the intent, durably. */
int repository_write_intent(struct repository *repository, const struct record *record, struct err *err);

/* Removes the intent. */
int repository_drop_intent(struct repository *repository, const struct record *record, struct err *err);

/*
 * What was intended is done: makes the intent the task's record, durably. The record of an earlier attempt whose worktree
 * stays is kept beside it; an intent about an earlier attempt takes that attempt's record away.
 */
int repository_finish_intent(struct repository *repository, const struct record *record, struct err *err);

/* Replaces the task's record. */
int repository_write_record(struct repository *repository, const struct record *record, struct err *err);

/* Reads the task's record. 0, -ENOENT, or -errno; one that cannot be understood is set aside and counts as absent. */
int repository_read_record(struct repository *repository, struct record *ret, struct err *err);

/* Reads the intent of this task and attempt, as above. */
int repository_read_intent(struct repository *repository, struct record *ret, struct err *err);

/* As repository_read_record, for the record of this attempt, be it the latest or not. */
int repository_read_attempt(struct repository *repository, struct record *ret, struct err *err);

typedef void repository_see(void *context, struct record *record);

/*
 * Calls see for each record there is, with `is_intent` for each intent: no lock is taken, so they may be of work under way.
 * See may move the record's strings out. A repository that stands for a task shows those of its key only, or of one that
 * begins like it: thousands of others are not read for one. 0 or -errno.
 */
int repository_see_records(struct repository *repository, bool is_intent, repository_see *see, void *context,
                           struct err *err);

typedef int repository_visit(struct repository *repository, const struct record *intent, void *context, struct err *err);

/* Calls visit for each intent there is, with its task's lock held; those of tasks being worked on are left out. */
int repository_visit_intents(struct repository *repository, repository_visit *visit, void *context, struct err *err);

/*
 * Adds the directories and branches (without prefix) that intents name, except this attempt's own: not to be taken before
 * those are settled.
 */
int repository_list_intended(struct repository *repository, struct names_taken *directories, struct names_taken *branches,
                             struct err *err);

/* Removes records of removed worktrees that are older than a week. */
void repository_forget_old(struct repository *repository);

/* Adds the names in the root. */
int repository_list_root(struct repository *repository, struct names_taken *ret, struct err *err);

/*
 * Makes the intent's worktree, without files, and its admin directory, as git-worktree(1) and gitrepository-layout(5) have
 * them. The admin directory comes to its place by one rename, complete and locked for `reason`: a foreign `git worktree
 * prune` takes away what `git worktree add` is just making, even after that has succeeded. Only for a repository with refs
 * in files and without configuration per worktree. The repository's lock is held. 0 or -errno.
 */
int repository_make_worktree(struct repository *repository, const struct record *intent, const char *reason,
                             struct err *err);

/* Removes what a killed repository_make_worktree left outside worktree and admin directory. */
int repository_unmake_worktree(struct repository *repository, const struct record *intent, struct err *err);

/* True when the repository is one for repository_make_worktree. */
bool repository_is_plain(const struct repository *repository);

/*
 * The admin directory of the worktree `directory`, if that is a directory whose .git file and the admin directory's gitdir
 * file point at each other: its name in <common dir>/worktrees/ (to be freed), else NULL.
 */
char *repository_find_admin(struct repository *repository, const char *directory);

/*
 * The admin directory that says it belongs to `directory`, whether that is there or not, or that is not complete but was
 * locked for `reason` (NULL = there is none such): its name (to be freed) or NULL.
 */
char *repository_search_admin(struct repository *repository, const char *directory, const char *reason);

/* True when the admin directory is there and says that it belongs to `directory`. */
bool repository_is_admin_of(struct repository *repository, const char *admin, const char *directory);

/*
 * -ELOOP when one of the files that git would write for this worktree is a symbolic link: git follows those, and a task in
 * its sandbox can make them. Once no task runs in the worktree the answer holds.
 */
int repository_check_links(const struct repository *repository, const char *admin, const char *branch, struct err *err);

/* Makes git look for the admin directory's worktree in `directory` from now on. 0 or -errno. */
int repository_point_admin(struct repository *repository, const char *admin, const char *directory, struct err *err);

/* Takes git's own lock off, so that `git worktree prune` may have what became of a vanished worktree. */
void repository_unlock_admin(struct repository *repository, const char *admin);

/* Moves the worktree to the trash under a name that begins with `trash`; one that is not there is success. 0 or -errno. */
int repository_trash_worktree(struct repository *repository, const char *directory, const char *trash, struct err *err);

/* The same for an admin directory. */
int repository_trash_admin(struct repository *repository, const char *admin, const char *trash, struct err *err);

/*
 * Deletes the trash, whoever put it there, unless another process is at it. Call it without the repository's lock.
 * 0 or -errno for the first thing that could not be deleted.
 */
int repository_empty_trash(struct repository *repository, struct err *err);

/*
 * A stretch of time in which some places in the repository were only a task's and ours. What has been made there since then
 * by somebody who is dead now may be repaired; anything else is somebody else's. Wall clock, as files have it.
 */
struct repository_claim {
	int64_t since_ms;
	int64_t until_ms;
};

/* From the intent to now. Nothing when there is no intent. */
void repository_claim_intent(const struct repository *repository, const struct record *intent, struct repository_claim *ret);

/* From the end of the task's preparation, which its record tells, to now. Nothing when it is not that. */
void repository_claim_record(const struct repository *repository, struct repository_claim *ret);

/* True when the file `path` (beneath the common directory) is there. */
bool repository_has_file(const struct repository *repository, const char *path);

/* Removes git's lock file `path` if the claim says that it is ours and nobody is seen to hold it. Does not wait. */
void repository_clear_lock_file(const struct repository *repository, const char *path, const struct repository_claim *claim);

/*
 * The same, but waits until it is gone, as long as the lock timeout while somebody is seen to hold it, a few seconds
 * otherwise. 0, or -EBUSY with a sentence: another's lock file is never removed.
 */
int repository_await_lock_file(const struct repository *repository, const char *path, const struct repository_claim *claim,
                               struct err *err);

/*
 * Removes admin directories whose names git would make from `directory` and that kill -9 left with nothing in them, or only
 * with an empty `locked` file that the claim covers.
 */
void repository_remove_empty_admins(struct repository *repository, const char *directory,
				    const struct repository_claim *claim);
