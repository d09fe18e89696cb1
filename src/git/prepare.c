/*
 * prepare.c - makes an attempt's worktree. See worktree.h.
 *
 * Under the task's lock throughout, so that nothing else works on this task; under the repository's lock only for what
 * cannot be done twice at once (choosing names, branch, admin directory). The checkout of the files is done without it. The
 * intent stands from before the first step to after the last.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "git/steps.h"
#include "platform/random.h"

enum { TRIES_MAX = 3, JITTER_MIN_MS = 20, JITTER_MS = 100 };

struct preparation {
	const struct worktree_request *request;
	struct repository repository;
	struct git git; /* for the repository */
	struct record intent;
	bool has_branch; /* the intent's branch exists */
	char *admin;
};

static void preparation_done(struct preparation *preparation)
{
	git_done(&preparation->git);
	record_done(&preparation->intent);
	free(preparation->admin);
	repository_done(&preparation->repository);
}

static void give_result(const struct preparation *preparation, const struct record *record, struct worktree_result *ret)
{
	*ret = (struct worktree_result){
		.path = xasprintf("%s/%s", preparation->repository.root_path, record->directory),
		.branch = xstrdup(record->branch),
		.commit = xstrdup(record->commit),
	};
}

static bool is_for_request(const struct preparation *preparation, const struct record *record)
{
	return record->verb == RECORD_PREPARE && record->attempt == preparation->request->attempt &&
	       strcmp(record->commit, preparation->request->commit) == 0;
}

/* ---- branch and directory ---- */

/* What branches there are under parallel/: names without the prefix, and the same with their commits in `ret_listing`. */
static int list_branches(struct preparation *preparation, struct names_taken *ret, struct buf *ret_listing, struct err *err)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("for-each-ref", "--format=%(objectname) %(refname)",
	                                                    "refs/heads/parallel") };
	static const char prefix[] = " refs/heads/" NAMES_BRANCH_PREFIX;
	struct command_result result = { 0 };
	int error = git_run(&preparation->git, &call, &result, err);

	for (const char *at = result.output.bytes; error == 0 && at && *at; at += strcspn(at, "\n") + 1) {
		const char *name = strchr(at, ' ');
		size_t length = strcspn(name, "\n");

		if (length >= sizeof(prefix) && strncmp(name, prefix, sizeof(prefix) - 1) == 0)
			names_taken_add(ret, name + sizeof(prefix) - 1, length - (sizeof(prefix) - 1));
		else
			error = err_say(err, -EEXIST,
			                "a branch named 'parallel' is in the way of 'parallel/TASK': rename it");
	}
	buf_add(ret_listing, result.output.bytes, result.output.length);
	command_result_done(&result);
	return error;
}

/* True when the branch is listed at `commit`. */
static bool is_branch_at(const struct buf *listing, const char *branch, const char *commit)
{
	CLEANUP_FREE char *line = xasprintf("%s refs/heads/%s\n", commit, branch);

	return listing->length > 0 && strstr(listing->bytes, line) != NULL;
}

/* A branch of this task's that has nothing on it: of an attempt before, or of a try that was killed. NULL when none. */
static char *find_own_branch(struct preparation *preparation, const struct record *killed, const struct buf *listing)
{
	struct record before = { 0 };
	char *found = NULL;

	if (killed->branch && is_branch_at(listing, killed->branch, preparation->request->commit))
		return xstrdup(killed->branch);
	if (repository_read_record(&preparation->repository, &before, NULL) == 0 && before.verb == RECORD_REMOVE &&
	    before.is_again && is_branch_at(listing, before.branch, preparation->request->commit))
		found = xstrdup(before.branch);
	record_done(&before);
	return found;
}

static int choose_branch(struct preparation *preparation, const struct record *killed, struct names_taken *taken,
                         struct err *err)
{
	const struct worktree_request *request = preparation->request;
	struct names_source source = { .name = request->name, .task = request->task, .attempt = request->attempt };
	CLEANUP_BUF struct buf listing = BUF_INIT;
	char name[NAMES_MAX];
	int error = list_branches(preparation, taken, &listing, err);

	if (error < 0)
		return error;
	preparation->intent.branch = find_own_branch(preparation, killed, &listing);
	preparation->has_branch = preparation->intent.branch != NULL;
	preparation->intent.is_new_branch = !preparation->has_branch || killed->is_new_branch;
	if (preparation->has_branch)
		return 0;
	while (names_choose(&source, taken, name)) {
		CLEANUP_FREE char *damaged = xasprintf("refs/heads/" NAMES_BRANCH_PREFIX "%s", name);
		CLEANUP_FREE char *lock = xasprintf("%s.lock", damaged);

		/* Taken too: one that git does not list, being damaged, and one that somebody is about to make or remove. */
		if (!repository_has_file(&preparation->repository, damaged) &&
		    !repository_has_file(&preparation->repository, lock)) {
			preparation->intent.branch = xasprintf(NAMES_BRANCH_PREFIX "%s", name);
			return 0;
		}
		names_taken_add(taken, name, strlen(name));
	}
	return err_say(err, -EEXIST, "every branch name for task %s is taken: delete old parallel/ branches",
	               preparation->repository.key);
}

static int choose_names(struct preparation *preparation, const struct record *killed, struct err *err)
{
	const struct worktree_request *request = preparation->request;
	struct names_source source = { .name = request->name, .task = request->task, .attempt = request->attempt };
	struct names_taken directories = { 0 };
	struct names_taken branches = { 0 };
	char name[NAMES_MAX];
	int error = repository_list_root(&preparation->repository, &directories, err);

	if (error == 0)
		error = repository_list_intended(&preparation->repository, &directories, &branches, err);
	if (error == 0)
		error = choose_branch(preparation, killed, &branches, err);
	if (error == 0 && !names_choose(&source, &directories, name))
		error = err_say(err, -EEXIST, "every directory name for task %s in '%s' is taken: remove old worktrees",
		                preparation->repository.key, preparation->repository.root_path);
	if (error == 0)
		preparation->intent.directory = xstrdup(name);
	names_taken_done(&directories);
	names_taken_done(&branches);
	return error;
}

/* ---- making ---- */

static int make_branch(struct preparation *preparation, struct err *err)
{
	const struct record *intent = &preparation->intent;
	CLEANUP_FREE char *ref = xasprintf("refs/heads/%s", intent->branch);
	struct git_call call = { .arguments = GIT_ARGUMENTS("update-ref", "-m", "drover: base of the task", ref,
	                                                    intent->commit, "") };
	struct command_result result = { 0 };
	int error = git_run(&preparation->git, &call, &result, err);

	command_result_done(&result);
	return error;
}

/* By git itself where the layout is not the plain one. Slower, and a foreign prune can hit it: hence the tries. */
static int add_worktree(struct preparation *preparation, const char *reason, struct err *err)
{
	const struct record *intent = &preparation->intent;
	CLEANUP_FREE char *path = xasprintf("%s/%s", preparation->repository.root_path, intent->directory);
	struct git_call call = { .arguments = GIT_ARGUMENTS("worktree", "add", "--lock", "--reason", reason, "--no-checkout",
	                                                    "--", path, intent->branch) };
	struct command_result result = { 0 };
	int error = git_run(&preparation->git, &call, &result, err);

	command_result_done(&result);
	return error;
}

/* The admin directory, if worktree and admin directory stand and belong together. */
static int find_made(struct preparation *preparation, struct err *err)
{
	const char *directory = preparation->intent.directory;

	free(preparation->admin);
	preparation->admin = repository_find_admin(&preparation->repository, directory);
	return preparation->admin ? 0 : err_say(err, -EIO, "the worktree '%s' vanished while it was made", directory);
}

/* As above, and git sees it as it should be: for what git made, or a killed try. A foreign prune may have been at it. */
static int verify(struct preparation *preparation, struct err *err)
{
	const struct record *intent = &preparation->intent;
	struct git_call call = { .arguments = GIT_ARGUMENTS("rev-parse", "HEAD^{commit}", "--symbolic-full-name", "HEAD") };
	CLEANUP_FREE char *expected = xasprintf("%s\nrefs/heads/%s\n", intent->commit, intent->branch);
	CLEANUP(steps_site_done) struct steps_site site = { .directory = -1 };
	struct git git = { .directory = -1, .kept_fd = -1 };
	struct command_result result = { 0 };
	int error = find_made(preparation, err);

	if (error == 0)
		error = steps_open_site(&preparation->repository, intent->directory, preparation->admin, &git, &site, err);
	if (error == 0)
		error = git_run(&git, &call, &result, err);
	if (error == 0 && (result.output.length == 0 || strcmp(result.output.bytes, expected) != 0))
		error = err_say(err, -EIO, "the worktree '%s' is not on branch '%s'", intent->directory, intent->branch);
	command_result_done(&result);
	if (error < 0) {
		free(preparation->admin);
		preparation->admin = NULL;
	}
	return error;
}

static int make_once(struct preparation *preparation, struct err *err)
{
	struct repository *repository = &preparation->repository;
	CLEANUP_FREE char *reason = steps_lock_reason(&preparation->intent);
	int error = repository_write_intent(repository, &preparation->intent, err);

	FAILPOINT("intent_worktree_written");
	if (error == 0 && !preparation->has_branch)
		error = make_branch(preparation, err);
	if (error < 0)
		return error;
	FAILPOINT("branch_created");
	if (repository_is_plain(repository)) {
		error = repository_make_worktree(repository, &preparation->intent, reason, err);
		return error == 0 ? find_made(preparation, err) : error;
	}
	error = add_worktree(preparation, reason, err);
	return error == 0 ? verify(preparation, err) : error;
}

static void start_intent(struct preparation *preparation)
{
	const struct worktree_request *request = preparation->request;

	record_done(&preparation->intent);
	preparation->intent = (struct record){
		.verb = RECORD_PREPARE,
		.task = request->task,
		.attempt = request->attempt,
		.owner = xstrdup(request->owner),
		.commit = xstrdup(request->commit),
	};
}

/* Somebody else's `git worktree prune` or `git gc` can still hit us: then once more, not in step with it. */
static void wait_a_little(void)
{
	poll(NULL, 0, JITTER_MIN_MS + (int)(random_u64() % JITTER_MS));
}

/*
 * Makes branch and worktree. `killed` is what an earlier try of this attempt left, or an empty record; it is used up.
 */
static int make(struct preparation *preparation, struct record *killed, struct err *err)
{
	for (int try = 1;; try++) {
		struct err undoing = ERR_INIT;
		bool is_last = try == TRIES_MAX;
		int error;

		start_intent(preparation);
		error = choose_names(preparation, killed, err);
		if (error < 0)
			return error;
		error = make_once(preparation, err);
		if (error == 0)
			return 0;
		is_last = is_last || error != -EIO; /* what has a code of its own does not go away by itself */
		if (steps_undo_prepare(&preparation->repository, &preparation->intent, !is_last, &undoing) < 0 || is_last)
			return error;
		record_done(killed);
		*killed = preparation->intent;
		preparation->intent = (struct record){ 0 };
		wait_a_little();
	}
}

/* Goes on with what a killed try of this attempt left when it is sound, else undoes it; *ret_killed then tells its names. */
static int take_up(struct preparation *preparation, struct record *ret_killed, struct err *err)
{
	struct err unsound = ERR_INIT;
	int error = repository_read_intent(&preparation->repository, ret_killed, err);

	if (error < 0)
		return error == -ENOENT ? 0 : error;
	if (is_for_request(preparation, ret_killed)) {
		preparation->intent = *ret_killed;
		*ret_killed = (struct record){ 0 };
		if (verify(preparation, &unsound) == 0)
			return 0;
		*ret_killed = preparation->intent;
		preparation->intent = (struct record){ 0 };
	}
	return steps_undo_prepare(&preparation->repository, ret_killed, is_for_request(preparation, ret_killed), err);
}

static int make_locked(struct preparation *preparation, struct err *err)
{
	CLEANUP(record_done) struct record killed = { 0 };
	int error = steps_recover(&preparation->repository, err);

	if (error == 0)
		error = take_up(preparation, &killed, err);
	return error == 0 && !preparation->admin ? make(preparation, &killed, err) : error;
}

/* ---- checkout ---- */

/*
 * Writes the files. Filters are emptied: what the repository or the user configured is not run outside a task, so files
 * under LFS are their pointers until the task fetches them.
 */
static int check_out(struct preparation *preparation, struct err *err)
{
	const struct record *intent = &preparation->intent;
	struct git_call call = { .arguments = GIT_ARGUMENTS("read-tree", "--reset", "-u", intent->commit) };
	CLEANUP_FREE char *lock = xasprintf("worktrees/%s/index.lock", preparation->admin);
	CLEANUP(steps_site_done) struct steps_site site = { .directory = -1 };
	CLEANUP(git_done) struct git git = { .directory = -1, .kept_fd = -1 };
	struct command_result result = { 0 };
	struct repository_claim claim;
	int error = steps_open_site(&preparation->repository, intent->directory, preparation->admin, &git, &site, err);

	if (error == 0)
		error = git_load_config(&git, err);
	if (error == 0) {
		repository_claim_intent(&preparation->repository, intent, &claim);
		repository_clear_lock_file(&preparation->repository, lock, &claim);
		error = git_run(&git, &call, &result, err);
	}
	command_result_done(&result);
	return error;
}

static int undo_after(struct preparation *preparation, int error, struct err *err)
{
	struct err undoing = ERR_INIT;

	if (repository_lock(&preparation->repository, &undoing) < 0)
		return error; /* the intent stands, so the next call undoes it */
	if (steps_undo_prepare(&preparation->repository, &preparation->intent, false, &undoing) < 0)
		err_ignore(&undoing, "as above");
	repository_unlock(&preparation->repository);
	return err_wrap(err, "checking out the files of task %s", preparation->repository.key);
}

/* Everything after the task's lock is held. */
static int prepare_locked(struct preparation *preparation, struct err *err)
{
	struct repository *repository = &preparation->repository;
	int error = repository_lock(repository, err);

	if (error < 0)
		return error;
	error = make_locked(preparation, err);
	repository_unlock(repository);
	if (error < 0)
		return error;
	FAILPOINT("worktree_added");
	error = check_out(preparation, err);
	if (error < 0)
		return undo_after(preparation, error, err);
	FAILPOINT("worktree_checked_out");
	return repository_finish_intent(repository, &preparation->intent, err);
}

/* The attempt's worktree stands already: the answer to the first call was lost. */
static bool find_finished(struct preparation *preparation, struct worktree_result *ret)
{
	CLEANUP(record_done) struct record record = { 0 };
	CLEANUP_FREE char *admin = NULL;

	if (repository_read_record(&preparation->repository, &record, NULL) < 0 || !is_for_request(preparation, &record))
		return false;
	admin = repository_find_admin(&preparation->repository, record.directory);
	if (admin)
		give_result(preparation, &record, ret);
	return admin != NULL;
}

/*
 * A call of a daemon that is gone, late: the attempt has been collected since, by order of the next daemon. Making its
 * worktree once more would leave it there for ever.
 */
static bool is_collected(struct preparation *preparation)
{
	CLEANUP(record_done) struct record record = { 0 };

	return repository_read_record(&preparation->repository, &record, NULL) == 0 && record.verb != RECORD_PREPARE &&
	       record.attempt == preparation->request->attempt &&
	       strcmp(record.commit, preparation->request->commit) == 0;
}

int worktree_prepare(const struct worktree_request *request, struct worktree_result *ret, struct err *err)
{
	struct preparation preparation = { .request = request };
	int error = repository_open(request, &preparation.repository, err);

	if (error < 0)
		return error;
	steps_git_for_repository(&preparation.repository, &preparation.git);
	error = repository_lock_task(&preparation.repository, err);
	if (error == 0 && request->owner && is_collected(&preparation))
		error = err_say(err, -ESTALE, "attempt %u of task %s has been collected already", request->attempt,
		                preparation.repository.key);
	if (error == 0 && !find_finished(&preparation, ret)) {
		error = prepare_locked(&preparation, err);
		if (error == 0)
			give_result(&preparation, &preparation.intent, ret);
	}
	preparation_done(&preparation);
	return error;
}
