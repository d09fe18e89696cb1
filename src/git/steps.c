/*
 * steps.c - see steps.h.
 */
#include "git/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "git/removal.h"
#include "platform/fs.h"
#include "platform/random.h"

enum { DELETIONS_MAX = 2 };

#define PACKED_REFS_LOCK "packed-refs.lock"

void steps_git_for_repository(const struct repository *repository, struct git *ret)
{
	*ret = (struct git){
		.git_dir = repository->common_path,
		.common_dir = repository->common_path,
		.work_tree = repository->top_path,
		.directory = repository->common,
		.kept_fd = repository->lock,
	};
}

int steps_open_site(const struct repository *repository, const char *directory, const char *admin, struct git *git,
                    struct steps_site *ret, struct err *err)
{
	int fd = fs_open_beneath(repository->root, directory, O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		return err_set(err, fd, "cannot open the worktree '%s/%s'", repository->root_path, directory);
	*ret = (struct steps_site){
		.path = xasprintf("%s/%s", repository->root_path, directory),
		.git_dir = xasprintf("%s/worktrees/%s", repository->common_path, admin),
		.directory = fd,
	};
	git->git_dir = ret->git_dir;
	git->common_dir = repository->common_path;
	git->work_tree = ret->path;
	git->directory = fd;
	git->kept_fd = repository->lock;
	return 0;
}

void steps_site_done(struct steps_site *site)
{
	free(site->path);
	free(site->git_dir);
	fd_close(&site->directory);
	*site = (struct steps_site){ .directory = -1 };
}

char *steps_lock_reason(const struct record *record)
{
	return xasprintf("drover task %" PRIu64 " attempt %" PRIu32, record->task, record->attempt);
}

const struct steps_unfinished *steps_find_unfinished(const char *git_dir)
{
	/* A rebase leaves signs of the others too while it is stopped. */
	static const struct steps_unfinished signs[] = {
		{ "rebase-merge", "a rebase in it is not finished", "finish or abort the rebase", false },
		{ "rebase-apply", "a rebase in it is not finished", "finish or abort the rebase", false },
		{ "MERGE_HEAD", "a merge in it is not finished", "finish or abort the merge", true },
		{ "CHERRY_PICK_HEAD", "a cherry-pick in it is not finished", "finish or abort the cherry-pick", true },
		{ "REVERT_HEAD", "a revert in it is not finished", "finish or abort the revert", true },
		{ "sequencer", "a cherry-pick in it is not finished", "finish or abort the cherry-pick", true },
		{ "BISECT_LOG", "a bisection in it is not finished", "end it with 'git bisect reset'", false },
		{ "modules", "submodules were checked out in it", "see that nothing in them is lost, and remove it by hand",
		  false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(signs); i++) {
		CLEANUP_FREE char *sign = xasprintf("%s/%s", git_dir, signs[i].name);

		if (access(sign, F_OK) == 0)
			return &signs[i];
	}
	return NULL;
}

/* True unless git says that the ref is not there, or elsewhere. */
static bool may_be_at(const struct git *git, const char *ref, const char *commit)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("rev-parse", "--verify", "--quiet", ref) };
	struct command_result result = { 0 };
	bool is_gone;

	if (git_try(git, &call, &result, NULL) < 0)
		return true;
	is_gone = WIFEXITED(result.status) && WEXITSTATUS(result.status) == 1;
	if (result.status == 0 && result.output.length > 0)
		is_gone = strncmp(result.output.bytes, commit, strlen(commit)) != 0;
	command_result_done(&result);
	return !is_gone;
}

/*
 * 0 also when it never was made or has moved since: both are as they should be. -EINTR when git was killed, wherever it was.
 */
static int delete_empty_branch(struct repository *repository, const struct record *intent, struct err *err)
{
	CLEANUP_FREE char *ref = xasprintf("refs/heads/%s", intent->branch);
	struct git_call call = { .arguments = GIT_ARGUMENTS("update-ref", "-d", ref, intent->commit) };
	struct command_result result = { 0 };
	struct git git;
	int error;

	steps_git_for_repository(repository, &git);
	error = git_try(&git, &call, &result, err);
	if (error == 0 && WIFSIGNALED(result.status))
		error = err_say(err, -EINTR, "git update-ref was ended by signal %d", WTERMSIG(result.status));
	else if (error == 0 && result.status != 0 && may_be_at(&git, ref, intent->commit))
		error = git_failure(&call, &result, err);
	command_result_done(&result);
	git_done(&git);
	return error;
}

/* Takes away what a git of the intent's, killed, left at its branch and of an admin directory that it had just begun. */
static void clear_leavings(struct repository *repository, const struct record *intent)
{
	CLEANUP_FREE char *lock = xasprintf("refs/heads/%s.lock", intent->branch);
	struct repository_claim claim;

	repository_claim_intent(repository, intent, &claim);
	repository_clear_lock_file(repository, lock, &claim);
	repository_clear_lock_file(repository, PACKED_REFS_LOCK, &claim);
	repository_remove_empty_admins(repository, intent->directory, &claim);
}

int steps_undo_prepare(struct repository *repository, const struct record *intent, bool keep_branch, struct err *err)
{
	CLEANUP_FREE char *reason = steps_lock_reason(intent);
	CLEANUP_FREE char *admin = repository_search_admin(repository, intent->directory, reason);
	CLEANUP_FREE char *trash = xasprintf("%s-%" PRIx64, intent->directory, random_u64());
	int error = repository_trash_worktree(repository, intent->directory, trash, err);

	if (error == 0 && admin)
		error = repository_trash_admin(repository, admin, trash, err);
	if (error == 0)
		error = repository_unmake_worktree(repository, intent, err);
	if (error < 0)
		return error;
	clear_leavings(repository, intent);
	if (keep_branch)
		return 0;
	for (int try = 0; intent->is_new_branch && try < DELETIONS_MAX; try++) {
		error = delete_empty_branch(repository, intent, err);
		if (error != -EINTR)
			break;
		clear_leavings(repository, intent);
	}
	return error == 0 ? repository_drop_intent(repository, intent, err) : error;
}

int steps_finish_removal(struct repository *repository, const struct record *intent, struct err *err)
{
	CLEANUP_FREE char *standing = repository_find_admin(repository, intent->directory);
	int error = 0;

	FAILPOINT("worktree_remove_intent");
	/* The worktree goes first: while its admin directory stands, it can be told from anything else in that place. */
	if (standing && intent->admin && strcmp(standing, intent->admin) == 0)
		error = repository_trash_worktree(repository, intent->directory, intent->trash, err);
	FAILPOINT("worktree_half_removed");
	if (error == 0 && intent->admin && repository_is_admin_of(repository, intent->admin, intent->directory))
		error = repository_trash_admin(repository, intent->admin, intent->trash, err);
	FAILPOINT("worktree_removed");
	return error == 0 ? repository_finish_intent(repository, intent, err) : error;
}

static int settle(struct repository *repository, const struct record *intent, void *context UNUSED, struct err *err)
{
	bool is_own = repository_is_own(repository, intent);
	int error;

	if (intent->verb == RECORD_REMOVE)
		return intent->is_asked ? removal_settle(repository, intent, err)
		                        : steps_finish_removal(repository, intent, err);
	if (is_own && intent->attempt == repository->attempt)
		return 0; /* prepare itself looks how far it came */
	clear_leavings(repository, intent);
	if (repository_has_file(repository, PACKED_REFS_LOCK))
		return 0; /* the branch could not be deleted; a later call will */
	error = steps_undo_prepare(repository, intent, false, err);
	return error == -EBUSY ? 0 : error; /* another's lock is in the way of that branch, not in ours */
}

int steps_recover(struct repository *repository, struct err *err)
{
	int error = repository_visit_intents(repository, settle, NULL, err);

	if (error < 0)
		err_wrap(err, "clearing up after a killed drover-worktree");
	return error;
}
