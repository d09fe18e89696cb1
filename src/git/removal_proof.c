#include "git/removal_proof.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/str.h"
#include "git/stage.h"
#include "git/stray.h"
#include "platform/fs.h"
#include "platform/occupants.h"

#define PROC "/proc"
#define SALVAGE "refs/drover/salvage/"

enum { SHORT_HASH = 12 };

/* ---- the report ---- */

/* Appends ", what" to a sentence. */
static void append(char **text, const char *separator, const char *more)
{
	char *whole = *text && *more ? xasprintf("%s%s%s", *text, separator, more) : xstrdup(*text ? *text : more);

	free(*text);
	*text = whole;
}

/* One thing that speaks against it; the first gives the reason. */
static void object(struct proof *proof, const char *reason, const char *hint, const char *format, ...) PRINTF_LIKE(4, 5);

static void object(struct proof *proof, const char *reason, const char *hint, const char *format, ...)
{
	struct removal_report *report = &proof->report;
	char text[ERR_TEXT_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	str_trim_utf8(text);
	report->outcome = REMOVAL_KEPT;
	report->reason = report->reason ? report->reason : reason;
	append(&report->text, "; ", text);
	if (hint)
		append(&report->hint, "; ", hint);
}

static bool is_refused(const struct proof *proof)
{
	return proof->report.reason != NULL;
}

static char *count_files(const struct survey *survey)
{
	if (survey->untracked == 0)
		return xasprintf("%" PRIu64 " changed file%s", survey->changed, survey->changed == 1 ? "" : "s");
	if (survey->changed == 0)
		return xasprintf("%" PRIu64 " untracked file%s", survey->untracked, survey->untracked == 1 ? "" : "s");
	return xasprintf("%" PRIu64 " changed and %" PRIu64 " untracked files", survey->changed, survey->untracked);
}

/* ---- whose it is, and who is in it ---- */

static void check_standing(struct proof *proof)
{
	const struct site *site = proof->site;
	const struct removal_wish *wish = proof->wish;
	bool is_collected = site->has_record && site->record.verb == RECORD_KEEP;

	if (site->condition == SITE_UNFINISHED)
		object(proof, "unfinished", "try again in a moment", "another drover is at work on it");
	else if (site->condition == SITE_REPLACED)
		object(proof, "replaced", "move that away, then 'drover worktree prune'",
		       "in its place is something else, which drover does not touch");
	else if (site->lock_reason && !site->is_locked_by_us)
		object(proof, "locked", "'git worktree unlock' takes the lock off", "it was locked by hand: '%s'",
		       site->lock_reason);
	else if (!is_collected && !wish->is_over && !wish->is_abandoned)
		object(proof, "uncollected", "--abandoned if that certainly is not so",
		       "no daemon has collected it, and its task is not known here: another daemon may still run it");
}

static void check_processes(struct proof *proof, int directory)
{
	CLEANUP_BUF struct buf shown = BUF_INIT;
	struct occupant occupant;

	if (occupants_find_process(PROC, directory, &occupant) <= 0) /* where /proc cannot be read nobody is seen */
		return;
	str_add_visible(&shown, occupant.command, strlen(occupant.command));
	object(proof, "in-use", "end it, or let it go elsewhere", "process %d (%s) works in it", (int)occupant.pid,
	       shown.bytes ? shown.bytes : "");
}

static void check_occupants(struct proof *proof)
{
	CLEANUP_FD int fd = fs_open_beneath(proof->repository->root, proof->site->record.directory, O_PATH | O_DIRECTORY, 0);
	CLEANUP_BUF struct buf point = BUF_INIT;
	CLEANUP_BUF struct buf shown = BUF_INIT;

	if (fd < 0)
		return; /* the survey says why */
	check_processes(proof, fd);
	if (occupants_find_mount(PROC, proof->site->path, &point) <= 0)
		return;
	str_add_visible(&shown, point.bytes, point.length);
	object(proof, "mounted", "unmount it", "something is mounted at '%s'", shown.bytes);
}

/* ---- files ---- */

/* --salvage is of no use then, so no other hint mentions it. */
static void object_to_obstacle(struct proof *proof)
{
	const struct survey *survey = &proof->survey;
	const char *remedy = survey->remedy ? survey->remedy : "finish that, or take it out, by hand";
	CLEANUP_FREE char *hint = proof->site->condition == SITE_OK
	                                  ? xasprintf("%s, in '%s'", remedy, proof->site->path)
	                                  : xstrdup("its files are gone: 'git worktree prune' gives up the rest");

	object(proof, "obstacle", hint, "%s", survey->obstacle);
}

static void check_files(struct proof *proof)
{
	const struct survey *survey = &proof->survey;
	CLEANUP_FREE char *files = count_files(survey);

	if (survey->obstacle)
		object_to_obstacle(proof);
	if (survey->changed + survey->untracked > 0 && !proof->wish->salvages) {
		CLEANUP_FREE char *hint = xasprintf("--salvage keeps %s under " SALVAGE ", then removes it",
		                                    survey->changed + survey->untracked == 1 ? "it" : "them");

		object(proof, "dirty", survey->obstacle ? NULL : hint, "%s not committed", files);
	}
	if (survey->changed + survey->untracked > 0)
		proof->needs_salvage = true;
	if (survey->ignored > 0 && !proof->wish->drops_ignored)
		object(proof, "ignored", "--drop-ignored if nobody needs them",
		       "%" PRIu64 " ignored file%s or director%s would be lost: %s", survey->ignored,
		       survey->ignored == 1 ? "" : "s", survey->ignored == 1 ? "y" : "ies", survey->ignored_names);
}

/* ---- commits ---- */

/* " (3 ahead of main)", "" when that is not known; to be freed. */
static char *describe_ahead(const struct survey_ground *ground, const struct survey *survey)
{
	if (!survey->has_ahead)
		return xstrdup("");
	if (survey->ahead == 0)
		return xasprintf(" (all in %s)", ground->main_name);
	return xasprintf(" (%" PRIu64 " ahead of %s)", survey->ahead, ground->main_name);
}

/* Where its commit is besides in its HEAD; *ret_words are a clause, to be freed. */
static int check_commits(struct proof *proof, const struct survey_ground *ground, char **ret_words, struct err *err)
{
	const struct record *record = &proof->site->record;
	struct survey *survey = &proof->survey;
	CLEANUP_FREE char *own = record->branch ? xasprintf("refs/heads/%s", record->branch) : NULL;
	CLEANUP_FREE char *ahead = describe_ahead(ground, survey);
	CLEANUP_FREE char *holder = NULL;
	struct survey_holder wanted = { .commit = survey->head, .preferred = own, .may_be_salvage = true };
	int error = survey_find_holder(proof->repository, &wanted, &holder, err);

	if (error < 0)
		return error;
	if (!holder && !proof->wish->salvages)
		object(proof, "unreachable",
		       survey->obstacle ? NULL
		                        : "--salvage keeps them under " SALVAGE ", then removes it; or make a branch of it",
		       "its commits up to %.*s are on no branch", SHORT_HASH, survey->head);
	if (!holder)
		proof->needs_salvage = true;
	else if (record->commit && strcmp(survey->head, record->commit) == 0)
		*ret_words = xstrdup("nothing was committed in it");
	else
		*ret_words = xasprintf("its commits are on %s%s", survey_short_name(holder), ahead);
	return 0;
}

/* ---- the branch, when it is to go too ---- */

/* Another worktree that has the branch checked out, to be freed; NULL when there is none. */
static int find_checkout(struct proof *proof, const char *ref, char **ret, struct err *err)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("for-each-ref", "--format=%(worktreepath)", ref) };
	struct command_result result = { 0 };
	struct git git;
	int error;

	steps_git_for_repository(proof->repository, &git);
	error = git_run(&git, &call, &result, err);
	if (error < 0)
		return error;
	if (result.output.length > 1) {
		*ret = xmemdup0(result.output.bytes, strcspn(result.output.bytes, "\n"));
		if (strcmp(*ret, proof->site->path) == 0) {
			free(*ret);
			*ret = NULL;
		}
	}
	command_result_done(&result);
	return 0;
}

static void object_to_branch(struct proof *proof, const struct survey_ground *ground)
{
	const char *branch = proof->site->record.branch;
	uint64_t count = 0;

	if (ground->main_ref &&
	    survey_count_ahead(proof->repository, proof->branch_tip, ground->main_ref, &count, NULL) == 0)
		object(proof, "branch", "merge or push it, or leave --delete-branch out",
		       "branch %s is %" PRIu64 " ahead of %s, and nowhere else", branch, count, ground->main_name);
	else
		object(proof, "branch", "merge or push it, or leave --delete-branch out",
		       "branch %s has commits that are nowhere else", branch);
}

static int check_branch(struct proof *proof, const struct survey_ground *ground, char **ret_words, struct err *err)
{
	const char *branch = proof->site->record.branch;
	CLEANUP_FREE char *ref = xasprintf("refs/heads/%s", branch ? branch : "");
	CLEANUP_FREE char *revision = xasprintf("%s^{commit}", ref);
	CLEANUP_FREE char *holder = NULL;
	CLEANUP_FREE char *checkout = NULL;
	struct survey_holder wanted = { .preferred = ground->main_ref, .except = ref };
	struct git git;
	int error;

	if (!names_is_branch(branch)) {
		object(proof, "branch", "leave --delete-branch out", "it is on no branch of drover's");
		return 0;
	}
	steps_git_for_repository(proof->repository, &git);
	error = survey_resolve(&git, revision, &proof->branch_tip, err);
	if (error < 0 || !proof->branch_tip)
		return error;
	wanted.commit = proof->branch_tip;
	error = survey_find_holder(proof->repository, &wanted, &holder, err);
	if (error == 0)
		error = find_checkout(proof, ref, &checkout, err);
	if (error < 0)
		return error;
	if (!holder)
		object_to_branch(proof, ground);
	else if (checkout)
		object(proof, "branch", "leave --delete-branch out", "branch %s is checked out in '%s'", branch, checkout);
	else
		*ret_words = xasprintf("branch %s goes too: all of it is in %s", branch, survey_short_name(holder));
	return 0;
}

/* ---- together ---- */

/* The proof in words: what is clean, where the commits are. */
static void tell(struct proof *proof, const char *commits, const char *branch)
{
	struct removal_report *report = &proof->report;
	const struct survey *survey = &proof->survey;

	report->outcome = REMOVAL_WOULD;
	if (proof->site->condition == SITE_MISSING)
		append(&report->text, "", "it had vanished");
	else if (survey->changed + survey->untracked == 0)
		append(&report->text, "", "clean");
	if (survey->ignored > 0) {
		CLEANUP_FREE char *ignored = xasprintf("ignored files go with it (%s)", survey->ignored_names);

		append(&report->text, "; ", ignored);
	}
	if (proof->needs_salvage) {
		CLEANUP_FREE char *files = count_files(survey);
		CLEANUP_FREE char *saved =
			xasprintf("%s %s " SALVAGE "%" PRIu64,
		                  survey->changed + survey->untracked > 0 ? files : "its commits",
		                  proof->wish->is_dry_run ? "would be kept as" : "kept as", proof->site->record.task);

		append(&report->text, "; ", saved);
	}
	if (commits)
		append(&report->text, "; ", commits);
	if (branch)
		append(&report->text, "; ", branch);
}

static int survey(struct proof *proof, const struct survey_ground *ground, struct err *err)
{
	const struct site *site = proof->site;
	struct survey_place place = {
		.repository = proof->repository,
		.ground = ground,
		.site = site,
		.directory = site->condition == SITE_OK ? site->record.directory : NULL,
	};
	int error = site->admin ? survey_take(&place, &proof->survey, err) : 0;

	proof->report.changed = proof->survey.changed;
	proof->report.untracked = proof->survey.untracked;
	proof->report.ignored = proof->survey.ignored;
	if (error == 0 && site->admin && !proof->survey.head)
		object(proof, "error", NULL, "which commit it is on cannot be told");
	return error;
}

int proof_make(struct proof *proof, struct err *err)
{
	CLEANUP(survey_ground_done) struct survey_ground ground = { 0 };
	CLEANUP_FREE char *commits = NULL;
	CLEANUP_FREE char *branch = NULL;
	int error;

	check_standing(proof);
	if (is_refused(proof))
		return 0;
	if (proof->site->condition == SITE_OK)
		check_occupants(proof);
	error = survey_take_ground(proof->repository, &ground, err);
	if (error == 0)
		error = survey(proof, &ground, err);
	if (error < 0)
		return error;
	check_files(proof);
	if (proof->survey.head)
		error = check_commits(proof, &ground, &commits, err);
	if (error == 0 && proof->wish->drops_branch)
		error = check_branch(proof, &ground, &branch, err);
	if (error == 0 && !is_refused(proof))
		tell(proof, commits, branch);
	return error;
}

/* ---- salvage ---- */

/* The files as a tree; what that leaves out (content that a filter would have to change) keeps the worktree. */
static int write_tree(struct proof *proof, const struct git *git, bool is_there, char **ret_tree, struct err *err)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("write-tree") };
	CLEANUP_BUF struct buf note = BUF_INIT;
	struct command_result result = { 0 };
	int error;

	if (is_there) {
		error = stage_all(git, ret_tree, &note, err);
		if (error < 0 || note.length == 0)
			return error;
		free(TAKE_PTR(proof->report.text)); /* the proof does not hold */
		object(proof, "obstacle", "commit it, or take it out, by hand", "%s", note.bytes);
		return 0;
	}
	error = git_run(git, &call, &result, err);
	if (error == 0)
		*ret_tree = xmemdup0(result.output.bytes, strcspn(result.output.bytes, "\n"));
	command_result_done(&result);
	return error;
}

/* An earlier call that was killed has made the very commit. */
static int find_made(const struct git *git, const char *ref, const char *tree, const char *parent, char **ret,
                     struct err *err)
{
	CLEANUP_FREE char *its_tree = xasprintf("%s^{tree}", ref);
	CLEANUP_FREE char *its_parent = xasprintf("%s^1", ref);
	CLEANUP_FREE char *found_tree = NULL;
	CLEANUP_FREE char *found_parent = NULL;
	int error = survey_resolve(git, its_tree, &found_tree, err);

	if (error == 0)
		error = survey_resolve(git, its_parent, &found_parent, err);
	if (error == 0 && found_tree && found_parent && strcmp(found_tree, tree) == 0 && strcmp(found_parent, parent) == 0)
		error = survey_resolve(git, ref, ret, err);
	return error;
}

static int commit(struct proof *proof, const struct git *git, const char *tree, struct err *err)
{
	const struct record *record = &proof->site->record;
	CLEANUP_FREE char *message = xasprintf("What drover task %" PRIu64 " left uncommitted\n\nDrover-Task: %" PRIu64
	                                       "\nDrover-Attempt: %" PRIu32 "\n",
	                                       record->task, record->task, record->attempt);
	struct git_call call = {
		.arguments = GIT_ARGUMENTS("commit-tree", "-p", proof->survey.head, "-F", "-", tree),
		.input = message,
		.input_length = strlen(message),
	};
	struct command_result result = { 0 };
	int error = git_run(git, &call, &result, err);

	if (error == 0)
		proof->saved = xmemdup0(result.output.bytes, strcspn(result.output.bytes, "\n"));
	command_result_done(&result);
	return error;
}

/* Keeps proof->saved under the usual name, or under a longer one rather than replace what that holds. */
static int keep(struct proof *proof, const struct git *git, const char *usual, struct err *err)
{
	struct git_call call = { 0 };
	CLEANUP_FREE char *standing = NULL;
	struct command_result result = { 0 };
	int error = survey_resolve(git, usual, &standing, err);

	if (error < 0)
		return error;
	proof->salvage = standing && strcmp(standing, proof->saved) != 0
	                         ? xasprintf("%s-%.*s", usual, SHORT_HASH, proof->saved)
	                         : xstrdup(usual);
	call.arguments = GIT_ARGUMENTS("update-ref", "-m", "drover: salvaged", proof->salvage, proof->saved);
	error = git_run(git, &call, &result, err);
	command_result_done(&result);
	return error;
}

/* The name in the sentence becomes the one that was used, which can be longer. */
static void correct_text(struct proof *proof, const char *usual)
{
	char *at = strstr(proof->report.text, usual);
	char *text;

	if (!at || strcmp(usual, proof->salvage) == 0)
		return;
	text = xasprintf("%.*s%s%s", (int)(at - proof->report.text), proof->report.text, proof->salvage, at + strlen(usual));
	free(proof->report.text);
	proof->report.text = text;
}

/* What only the admin directory knows goes on refs too. */
static int save_strays(struct proof *proof, const char *usual, struct err *err)
{
	CLEANUP(strays_done) struct strays strays = { 0 };
	CLEANUP_FREE char *words = NULL;
	int error = proof->site->admin ? stray_keep(proof->repository, proof->site->admin, usual, NULL, &strays, err) : 0;

	if (error < 0 || strays.count == 0)
		return error;
	words = stray_describe(&strays);
	append(&proof->report.text, "; ", words);
	if (!proof->report.salvage)
		proof->report.salvage = TAKE_PTR(strays.first);
	return 0;
}

/* Files, and what is checked out. */
static int save_checkout(struct proof *proof, const char *usual, struct err *err)
{
	const struct site *site = proof->site;
	struct survey_place place = {
		.repository = proof->repository,
		.site = site,
		.directory = site->condition == SITE_OK ? site->record.directory : NULL,
	};
	CLEANUP(steps_site_done) struct steps_site opened = { .directory = -1 };
	CLEANUP(git_done) struct git git = { .directory = -1, .kept_fd = -1 };
	CLEANUP_FREE char *tree = NULL;
	int error;

	if (!proof->needs_salvage) {
		proof->saved = xstrdup(proof->survey.head);
		return 0;
	}
	error = survey_open(&place, &git, &opened, err);
	if (error == 0 && proof->survey.changed + proof->survey.untracked > 0) {
		error = write_tree(proof, &git, place.directory != NULL, &tree, err);
		if (error == 0 && is_refused(proof))
			return 0;
		if (error == 0)
			error = find_made(&git, usual, tree, proof->survey.head, &proof->saved, err);
		if (error == 0 && !proof->saved)
			error = commit(proof, &git, tree, err);
	} else if (error == 0) {
		proof->saved = xstrdup(proof->survey.head);
	}
	if (error == 0)
		error = keep(proof, &git, usual, err);
	if (error < 0)
		return error;
	correct_text(proof, usual);
	proof->report.salvage = xstrdup(proof->salvage);
	return 0;
}

int proof_save(struct proof *proof, struct err *err)
{
	CLEANUP_FREE char *usual = xasprintf(SALVAGE "%" PRIu64, proof->site->record.task);
	int error = save_checkout(proof, usual, err);

	return error == 0 && !is_refused(proof) ? save_strays(proof, usual, err) : error;
}

/* ---- again ---- */

bool proof_still_holds(struct proof *proof, const char *directory)
{
	struct survey_place place = {
		.repository = proof->repository, .site = proof->site, .directory = directory, .against = proof->saved
	};
	CLEANUP(survey_done) struct survey again = { 0 };
	CLEANUP_FD int fd = fs_open_beneath(proof->repository->root, directory, O_PATH | O_DIRECTORY, 0);
	struct removal_report *report = &proof->report;
	CLEANUP_FREE char *proved = TAKE_PTR(report->text);
	struct err err = ERR_INIT;

	if (survey_take(&place, &again, &err) < 0)
		object(proof, "error", NULL, "%s", err.text);
	else if (!again.head || strcmp(again.head, proof->survey.head) != 0 || again.changed + again.untracked > 0 ||
	         again.obstacle || (again.ignored > 0 && !proof->wish->drops_ignored))
		object(proof, "in-use", "look who works in it, and try again", "something in it changed just now");
	if (fd >= 0)
		check_processes(proof, fd);
	if (is_refused(proof))
		return false;
	report->text = TAKE_PTR(proved);
	return true;
}

void proof_done(struct proof *proof)
{
	survey_done(&proof->survey);
	free(proof->branch_tip);
	free(proof->saved);
	free(proof->salvage);
	removal_report_done(&proof->report);
}
