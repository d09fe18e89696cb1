/*
 * removal.c - see removal.h. The proof is in removal_proof.c.
 */
#include "git/removal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "git/removal_proof.h"
#include "git/steps.h"
#include "platform/random.h"

#define ASIDE ".removing-"

enum { KEPT_NAMES_MAX = 1000 };

/* ---- carrying out ---- */

static char *aside_name(const struct record *intent)
{
	return xasprintf(ASIDE "%s", intent->trash);
}

/* Renames within the root; what is not there is success. 0 or -errno. */
static int move_within_root(const struct repository *repository, const char *from, const char *to)
{
	if (renameat2(repository->root, from, repository->root, to, RENAME_NOREPLACE) == 0 || errno == ENOENT)
		return 0;
	return -errno;
}

/*
 * The branch goes only as long as it is where it was proved to be elsewhere too. It stays when it has moved since, or
 * another's lock file is in the way: nothing is lost by that.
 */
static void drop_branch(struct repository *repository, const struct record *intent)
{
	CLEANUP_FREE char *ref = xasprintf("refs/heads/%s", intent->branch);
	struct git_call call = { .arguments = GIT_ARGUMENTS("update-ref", "-d", ref, intent->doomed) };
	struct command_result result = { 0 };
	struct git git;

	steps_git_for_repository(repository, &git);
	(void)git_try(&git, &call, &result, NULL);
	command_result_done(&result);
	git_done(&git);
}

/* What git processes, killed together with a helper that worked on this intent, left in the way. */
static void clear_lock_files(struct repository *repository, const struct record *intent)
{
	CLEANUP_FREE char *branch = xasprintf("refs/heads/%s.lock", intent->branch);
	CLEANUP_FREE char *salvage = xasprintf("refs/drover/salvage/%" PRIu64 ".lock", intent->task);
	struct repository_claim claim;

	repository_claim_intent(repository, intent, &claim);
	repository_clear_lock_file(repository, salvage, &claim);
	if (intent->doomed)
		repository_clear_lock_file(repository, branch, &claim);
	if (intent->admin) {
		CLEANUP_FREE char *index = xasprintf("worktrees/%s/index.lock", intent->admin);

		repository_clear_lock_file(repository, index, &claim);
	}
}

/* From the point of no return on. The lock is held. */
static int finish(struct repository *repository, const struct record *intent, struct err *err)
{
	CLEANUP_FREE char *aside = aside_name(intent);
	int error = repository_trash_worktree(repository, aside, intent->trash, err);

	FAILPOINT("removal_trashed");
	if (error == 0 && intent->doomed)
		drop_branch(repository, intent);
	return error == 0 ? repository_finish_intent(repository, intent, err) : error;
}

/*
 * Somebody else has the worktree's place since. Nothing is proved of what was moved aside, so it goes to a free name beside.
 * The files go first: from then on a killed helper can no longer lead to their deletion.
 */
static int keep_beside(struct repository *repository, const struct record *intent, const char *aside, char **ret_name,
                       struct err *err)
{
	int error = -EEXIST;

	for (unsigned n = 1; error == -EEXIST && n <= KEPT_NAMES_MAX; n++) {
		free(*ret_name);
		*ret_name = xasprintf("%s-kept-%u", intent->directory, n);
		error = move_within_root(repository, aside, *ret_name);
	}
	if (error < 0) {
		err_set(err, error, "cannot move '%s/%s' to '%s'", repository->root_path, aside, *ret_name);
		free(TAKE_PTR(*ret_name));
		return error;
	}
	FAILPOINT("removal_kept_beside");
	return repository_point_admin(repository, intent->admin, *ret_name, err);
}

/* *ret_beside (to be freed) is where the worktree is now when it could not go back, else NULL. */
static int settle(struct repository *repository, const struct record *intent, char **ret_beside, struct err *err)
{
	CLEANUP_FREE char *aside = aside_name(intent);
	int error;

	*ret_beside = NULL;
	clear_lock_files(repository, intent);
	if (!intent->admin || !repository_is_admin_of(repository, intent->admin, intent->directory))
		return finish(repository, intent, err);
	error = move_within_root(repository, aside, intent->directory);
	if (error == -EEXIST)
		error = keep_beside(repository, intent, aside, ret_beside, err);
	else if (error < 0)
		err_set(err, error, "cannot move '%s/%s' back", repository->root_path, aside);
	return error == 0 ? repository_drop_intent(repository, intent, err) : error;
}

int removal_settle(struct repository *repository, const struct record *intent, struct err *err)
{
	CLEANUP_FREE char *beside = NULL;

	return settle(repository, intent, &beside, err);
}

/* Puts the worktree back where it was, as if nothing had been asked; or beside, and then the report tells where. */
static void take_back(struct proof *proof, const struct record *intent)
{
	struct repository *repository = proof->repository;
	struct removal_report *report = &proof->report;
	CLEANUP_FREE char *beside = NULL;
	struct err err = ERR_INIT;

	if (repository_lock(repository, &err) < 0 || settle(repository, intent, &beside, &err) < 0)
		err_ignore(&err, "the intent stands, so the next helper does it");
	repository_unlock(repository);
	if (beside && report->text) {
		CLEANUP_FREE char *found = report->text;

		report->text = xasprintf("%s; and as its place was taken meanwhile, it is in '%s/%s' now", found,
		                         repository->root_path, beside);
	}
}

/* Only what still is the worktree that was proved: something else may stand there by now. */
static int move_aside(struct repository *repository, const struct record *intent, const char *aside)
{
	CLEANUP_FREE char *standing = repository_find_admin(repository, intent->directory);

	if (!standing || strcmp(standing, intent->admin) != 0)
		return -ESTALE;
	return move_within_root(repository, intent->directory, aside);
}

/*
 * Writes the intent; it is written once more when it has its result. From the first time on, what a killed git leaves in the
 * worktree's admin directory can be told from what others left.
 */
static int intend(struct repository *repository, const struct record *intent, struct err *err)
{
	int error = repository_lock(repository, err);

	if (error < 0)
		return error;
	error = repository_write_intent(repository, intent, err);
	repository_unlock(repository);
	return error;
}

/* `aside` is NULL when nothing stands there. */
static int begin(struct repository *repository, const struct record *intent, const char *aside, struct err *err)
{
	int error = repository_lock(repository, err);

	if (error < 0)
		return error;
	error = repository_write_intent(repository, intent, err);
	FAILPOINT("removal_intended");
	if (error == 0) {
		error = aside ? move_aside(repository, intent, aside) : 0;
		if (error < 0)
			err_set(err, error, "cannot move '%s/%s' aside", repository->root_path, intent->directory);
	}
	repository_unlock(repository);
	return error;
}

static int complete(struct repository *repository, const struct record *intent, struct err *err)
{
	int error = repository_lock(repository, err);

	if (error < 0)
		return error;
	if (intent->admin)
		error = repository_trash_admin(repository, intent->admin, intent->trash, err);
	FAILPOINT("removal_decided");
	if (error == 0)
		error = finish(repository, intent, err);
	repository_unlock(repository);
	return error;
}

static int make_intent(const struct removal_wish *wish, const struct proof *proof, struct record *ret, struct err *err)
{
	const struct site *site = proof->site;
	const struct record *known = &site->record;

	*ret = (struct record){
		.verb = RECORD_REMOVE,
		.task = known->task,
		.attempt = known->attempt,
		.owner = xstrdup(known->owner),
		.directory = xstrdup(known->directory),
		.branch = names_is_branch(known->branch) ? xstrdup(known->branch)
		                                         : xasprintf(NAMES_BRANCH_PREFIX "%s", known->directory),
		.commit = xstrdup(known->commit ? known->commit : proof->survey.head),
		.admin = xstrdup(site->admin),
		.trash = xasprintf("%s-%" PRIx64, known->directory, random_u64()),
		.is_asked = true,
		.doomed = wish->drops_branch ? xstrdup(proof->branch_tip) : NULL,
		.result = { .branch = xstrdup(known->branch), .is_removed = true },
	};
	if (names_is_hash(ret->commit) && names_is_branch(ret->branch))
		return 0;
	return err_say(err, -EILSEQ, "neither record nor HEAD of '%s' tell its commit and branch", site->path);
}

/* Saves, moves aside, looks for what came in between, and finishes. A report of what keeps it is no error. */
static int carry_out(struct proof *proof, struct record *intent, struct err *err)
{
	struct repository *repository = proof->repository;
	CLEANUP_FREE char *aside = proof->site->condition == SITE_OK ? aside_name(intent) : NULL;
	int error = proof->needs_salvage ? intend(repository, intent, err) : 0;

	if (error == 0)
		error = proof_save(proof, err);
	if (error < 0 || proof->report.outcome != REMOVAL_WOULD)
		return error;
	FAILPOINT("removal_saved");
	intent->result.commit = xstrdup(proof->saved);
	intent->result.salvage = xstrdup(proof->report.salvage);
	error = begin(repository, intent, aside, err);
	if (error < 0)
		return error;
	FAILPOINT("removal_moved_aside");
	if (aside && !proof_still_holds(proof, aside))
		return 0;
	FAILPOINT("removal_checked");
	error = complete(repository, intent, err);
	if (error < 0)
		return error;
	proof->report.outcome = REMOVAL_DONE;
	proof->report.is_branch_gone = intent->doomed != NULL;
	return 0;
}

static int remove_proved(struct proof *proof, struct err *err)
{
	CLEANUP(record_done) struct record intent = { 0 };
	int error = make_intent(proof->wish, proof, &intent, err);

	if (error < 0)
		return error;
	error = carry_out(proof, &intent, err);
	if (proof->report.outcome != REMOVAL_DONE)
		take_back(proof, &intent);
	return error;
}

/* ---- which one ---- */

static bool is_same_text(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

static const struct site *find_site(const struct inventory *inventory, const struct removal_wish *wish)
{
	for (size_t i = 0; i < inventory->count; i++) {
		const struct record *record = &inventory->sites[i].record;

		if (record->task == wish->task && record->attempt == wish->attempt &&
		    is_same_text(record->owner, wish->owner) && is_same_text(record->directory, wish->directory))
			return &inventory->sites[i];
	}
	return NULL;
}

/* Another call, perhaps by a daemon that died before the answer, was here before: what it did is told again. */
static void tell_gone(struct repository *repository, struct removal_report *ret)
{
	CLEANUP(record_done) struct record record = { 0 };

	ret->outcome = REMOVAL_GONE;
	ret->text = xstrdup("it is not there any more");
	if (repository_read_attempt(repository, &record, NULL) < 0 || record.verb != RECORD_REMOVE)
		return;
	ret->branch = xstrdup(record.branch);
	ret->salvage = xstrdup(record.result.salvage);
}

static int recover(struct repository *repository, struct err *err)
{
	uint32_t attempt = repository->attempt;
	int error = repository_lock(repository, err);

	if (error < 0)
		return error;
	repository->attempt = 0; /* nothing is spared: a preparation cut short is of no use to anybody who calls us */
	error = steps_recover(repository, err);
	repository->attempt = attempt;
	repository_unlock(repository);
	return error;
}

/* With the task's lock held. */
static int remove_locked(struct repository *repository, const struct removal_wish *wish, struct removal_report *ret,
                         struct err *err)
{
	CLEANUP(inventory_done) struct inventory inventory = { 0 };
	CLEANUP(proof_done) struct proof proof = { 0 };
	const struct site *site;
	int error = wish->is_dry_run ? 0 : recover(repository, err);

	if (error == 0)
		error = inventory_take_own(repository, wish->owner, &inventory, err);
	if (error < 0)
		return error;
	site = find_site(&inventory, wish);
	if (!site) {
		tell_gone(repository, ret);
		return 0;
	}
	proof = (struct proof){ .repository = repository, .wish = wish, .site = site };
	proof.report.path = xstrdup(site->path);
	proof.report.branch = xstrdup(site->record.branch);
	error = proof_make(&proof, err);
	if (error == 0 && proof.report.outcome == REMOVAL_WOULD && !wish->is_dry_run)
		error = remove_proved(&proof, err);
	if (error == 0) {
		*ret = proof.report;
		proof.report = (struct removal_report){ 0 };
	}
	return error;
}

static struct repository *find_root(const struct inventory *inventory, const struct site *site)
{
	return &inventory->roots[site ? site->root : 0];
}

int removal_run(const struct inventory *inventory, const struct removal_wish *wish, struct removal_report *ret,
                struct err *err)
{
	struct repository *repository = find_root(inventory, find_site(inventory, wish));
	struct err problem = ERR_INIT;
	struct stat st;
	int error;

	*ret = (struct removal_report){ 0 };
	if (repository->lock < 0 || repository->root < 0)
		return err_say(err, -ENOENT, "drover has made nothing in '%s'", repository->common_path);
	if (fstat(repository->root, &st) < 0 || st.st_uid != geteuid())
		return err_say(err, -ELOOP, "'%s' belongs to user %u, not to you: drover does not write there",
		               repository->root_path, (unsigned)st.st_uid);
	repository_set_task(repository, wish->owner, wish->task, wish->attempt);
	error = repository_lock_task(repository, &problem);
	if (error == 0) {
		error = remove_locked(repository, wish, ret, &problem);
		repository_unlock_task(repository);
	}
	if (error < 0) {
		removal_report_done(ret);
		ret->reason = error == -ETIMEDOUT || error == -EBUSY ? "busy" : "error";
		ret->text = xstrdup(problem.text);
	}
	return 0;
}

const char *removal_outcome_name(enum removal_outcome outcome)
{
	static const char *const names[REMOVAL_OUTCOME_MAX] = { "kept", "would-be-removed", "removed", "gone" };

	ASSERT(outcome < REMOVAL_OUTCOME_MAX);
	return names[outcome];
}

void removal_report_done(struct removal_report *report)
{
	free(report->text);
	free(report->hint);
	free(report->path);
	free(report->branch);
	free(report->salvage);
	*report = (struct removal_report){ 0 };
}
