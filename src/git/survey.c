#include "git/survey.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/alloc.h"
#include "base/str.h"
#include "git/stage.h"

enum { NAMES_SHOWN = 3, NAME_SHOWN_BYTES = 80 };

/* ---- questions to git ---- */

/* Runs git; *ret_line is its first line, to be freed, NULL when it ended badly with `miss` or printed nothing. */
static int ask(const struct git *git, const struct git_call *call, char **ret_line, struct err *err)
{
	struct command_result result = { 0 };
	int error = git_try(git, call, &result, err);

	if (error < 0)
		return error;
	*ret_line = NULL;
	if (result.status == 0 && result.output.length > 0)
		*ret_line = xmemdup0(result.output.bytes, strcspn(result.output.bytes, "\n"));
	else if (!WIFEXITED(result.status))
		error = git_failure(call, &result, err);
	command_result_done(&result);
	return error;
}

int survey_resolve(const struct git *git, const char *revision, char **ret, struct err *err)
{
	struct git_call call = { .arguments =
		                         GIT_ARGUMENTS("rev-parse", "--verify", "--quiet", "--end-of-options", revision) };

	return ask(git, &call, ret, err);
}

static int count_commits(const struct git *git, const struct git_call *call, uint64_t *ret, struct err *err)
{
	struct command_result result = { 0 };
	int error = git_run(git, call, &result, err);

	if (error < 0)
		return error;
	result.output.bytes[strcspn(result.output.bytes, "\n")] = '\0';
	error = str_parse_u64(result.output.bytes, UINT64_MAX, ret);
	command_result_done(&result);
	return error < 0 ? err_say(err, -EIO, "git rev-list printed no number") : 0;
}

int survey_count_ahead(const struct repository *repository, const char *commit, const char *ref, uint64_t *ret,
                       struct err *err)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("rev-list", "--count", commit, "--not", ref, "--") };
	struct git git;

	steps_git_for_repository(repository, &git);
	return count_commits(&git, &call, ret, err);
}

const char *survey_short_name(const char *ref)
{
	static const char *const before[] = { "refs/heads/", "refs/remotes/", "refs/tags/" };

	for (size_t i = 0; i < ARRAY_SIZE(before); i++)
		if (strncmp(ref, before[i], strlen(before[i])) == 0)
			return ref + strlen(before[i]);
	return ref;
}

/* ---- the ground ---- */

int survey_take_ground(const struct repository *repository, struct survey_ground *ret, struct err *err)
{
	struct git_call symbolic = { .arguments = GIT_ARGUMENTS("symbolic-ref", "--quiet", "HEAD") };
	struct git_call remotes = { .arguments = GIT_ARGUMENTS("for-each-ref", "--count=1", "--format=%(refname)",
		                                               "refs/remotes") };
	CLEANUP_FREE char *remote = NULL;
	CLEANUP_FREE char *commit = NULL;
	struct survey_ground ground = { 0 };
	struct git git;
	int error;

	steps_git_for_repository(repository, &git);
	error = survey_resolve(&git, "HEAD^{commit}", &commit, err);
	if (error == 0 && commit)
		error = ask(&git, &symbolic, &ground.main_ref, err);
	if (error == 0)
		error = ask(&git, &remotes, &remote, err);
	if (error < 0) {
		survey_ground_done(&ground);
		return error;
	}
	if (commit && !ground.main_ref)
		ground.main_ref = xstrdup("HEAD");
	if (ground.main_ref)
		ground.main_name = xstrdup(survey_short_name(ground.main_ref));
	ground.has_remotes = remote != NULL;
	*ret = ground;
	return 0;
}

void survey_ground_done(struct survey_ground *ground)
{
	free(ground->main_ref);
	free(ground->main_name);
	*ground = (struct survey_ground){ 0 };
}

/* ---- files ---- */

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* How many different names there are among the NUL-ended ones. */
static uint64_t count_different(const struct buf *names)
{
	CLEANUP_FREE const char **list = NULL;
	uint64_t different = 0;
	size_t count = 0;

	for (size_t at = 0; at < names->length; at += strlen(names->bytes + at) + 1)
		count++;
	list = xcalloc(count, sizeof(*list));
	count = 0;
	for (size_t at = 0; at < names->length; at += strlen(names->bytes + at) + 1)
		list[count++] = names->bytes + at;
	if (count > 0)
		qsort(list, count, sizeof(*list), compare_names);
	for (size_t i = 0; i < count; i++)
		different += i == 0 || strcmp(list[i - 1], list[i]) != 0;
	return different;
}

/* Adds the names of files that the index has otherwise than the commit. */
static int add_staged(const struct git *git, const char *commit, struct buf *names, struct err *err)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("diff-index", "--cached", "--name-only", "--no-renames",
		                                            "--no-ext-diff", "-z", commit, "--") };
	struct command_result result = { 0 };
	int error = git_run(git, &call, &result, err);

	if (error < 0)
		return error;
	buf_add(names, result.output.bytes, result.output.length);
	command_result_done(&result);
	return 0;
}

static int look_for_ignored(const struct git *git, struct survey *ret, struct err *err)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("ls-files", "-zoi", "--exclude-standard", "--directory") };
	CLEANUP_BUF struct buf shown = BUF_INIT;
	struct command_result result = { 0 };
	int error = git_run(git, &call, &result, err);

	if (error < 0)
		return error;
	for (size_t at = 0; at < result.output.length; at += strlen(result.output.bytes + at) + 1) {
		const char *name = result.output.bytes + at;

		if (ret->ignored++ >= NAMES_SHOWN)
			continue;
		buf_add_text(&shown, shown.length > 0 ? ", " : "");
		str_add_visible(&shown, name, MIN(strlen(name), (size_t)NAME_SHOWN_BYTES));
	}
	if (ret->ignored > NAMES_SHOWN)
		buf_add_text(&shown, ", …");
	if (shown.length > 0)
		ret->ignored_names = buf_take(&shown);
	command_result_done(&result);
	return 0;
}

static int look_at_files(const struct survey_place *place, const struct git *git, const char *git_dir, struct survey *ret,
                         struct err *err)
{
	CLEANUP(stage_listing_done) struct stage_listing listing = { 0 };
	const struct steps_unfinished *unfinished = steps_find_unfinished(git_dir);
	const char *against = place->against ? place->against : ret->head;
	int error = place->directory ? stage_list(git, &listing, err) : 0;

	if (error == 0 && against)
		error = add_staged(git, against, &listing.changed, err);
	if (error == 0 && place->directory)
		error = look_for_ignored(git, ret, err);
	if (error < 0)
		return error;
	ret->changed = count_different(&listing.changed);
	ret->untracked = count_different(&listing.untracked);
	if (place->directory)
		error = stage_leave_out_filtered(git, &listing, err);
	if (error < 0)
		return error;
	if (unfinished)
		ret->remedy = unfinished->remedy;
	if (unfinished)
		buf_add_format(&listing.note, "%s%s", listing.note.length > 0 ? "; " : "", unfinished->note);
	if (listing.note.length > 0)
		ret->obstacle = buf_take(&listing.note);
	return 0;
}

/* ---- commits ---- */

/* What is checked out. Where its branch is gone or was never born, what its base is: the files are compared with that. */
static int find_head(const struct git *git, const struct site *site, struct survey *ret, struct err *err)
{
	static const char before[] = "refs/heads/";
	struct git_call call = { .arguments = GIT_ARGUMENTS("symbolic-ref", "--quiet", "HEAD") };
	CLEANUP_FREE char *ref = NULL;
	int error = survey_resolve(git, "HEAD^{commit}", &ret->head, err);

	if (error == 0)
		error = ask(git, &call, &ref, err);
	if (error < 0)
		return error;
	if (!ret->head)
		ret->head = xstrdup(site->record.commit);
	if (ref && strncmp(ref, before, strlen(before)) == 0)
		ret->branch = xstrdup(ref + strlen(before));
	return 0;
}

/* These only inform: where they cannot be had (a shallow repository, say) they are not known. */
static void count_new(const struct git *git, const struct survey_ground *ground, struct survey *ret)
{
	struct git_call ahead = { .arguments = GIT_ARGUMENTS("rev-list", "--count", ret->head, "--not",
		                                             ground->main_ref ? ground->main_ref : "HEAD", "--") };
	struct git_call unpushed = { .arguments =
		                             GIT_ARGUMENTS("rev-list", "--count", ret->head, "--not", "--remotes", "--") };
	struct err err = ERR_INIT;

	if (ground->main_ref)
		ret->has_ahead = count_commits(git, &ahead, &ret->ahead, &err) == 0;
	if (ground->has_remotes)
		ret->has_unpushed = count_commits(git, &unpushed, &ret->unpushed, &err) == 0;
	err_ignore(&err, "as above");
}

int survey_open(const struct survey_place *place, struct git *git, struct steps_site *ret, struct err *err)
{
	const struct repository *repository = place->repository;
	const struct site *site = place->site;
	int error = repository_check_links(repository, site->admin, site->record.branch ? site->record.branch : "none", err);

	if (error == 0 && place->directory)
		error = steps_open_site(repository, place->directory, site->admin, git, ret, err);
	if (error == 0 && !place->directory) {
		steps_git_for_repository(repository, git);
		*ret = (struct steps_site){ .git_dir = xasprintf("%s/worktrees/%s", repository->common_path, site->admin),
			                    .directory = -1 };
		git->git_dir = ret->git_dir;
	}
	return error == 0 ? git_load_config(git, err) : error;
}

int survey_take(const struct survey_place *place, struct survey *ret, struct err *err)
{
	CLEANUP(steps_site_done) struct steps_site opened = { .directory = -1 };
	CLEANUP(git_done) struct git git = { .directory = -1, .kept_fd = -1 };
	struct survey survey = { 0 };
	struct git whole;
	int error = survey_open(place, &git, &opened, err);

	if (error == 0)
		error = find_head(&git, place->site, &survey, err);
	if (error == 0)
		error = look_at_files(place, &git, opened.git_dir, &survey, err);
	if (error < 0) {
		survey_done(&survey);
		return error;
	}
	steps_git_for_repository(place->repository, &whole);
	if (survey.head && place->ground)
		count_new(&whole, place->ground, &survey);
	*ret = survey;
	return 0;
}

void survey_done(struct survey *survey)
{
	free(survey->head);
	free(survey->branch);
	free(survey->ignored_names);
	free(survey->obstacle);
	*survey = (struct survey){ 0 };
}

/* ---- who else has a commit ---- */

/* How good a holder is: smaller is better; what people know before what drover keeps. */
static unsigned rank(const char *ref, const struct survey_holder *wanted)
{
	static const char *const order[] = { "refs/heads/", "refs/remotes/", "refs/tags/" };

	if (wanted->preferred && strcmp(ref, wanted->preferred) == 0)
		return 0;
	for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
		if (strncmp(ref, order[i], strlen(order[i])) == 0)
			return i + 1;
	return ARRAY_SIZE(order) + 1;
}

int survey_find_holder(const struct repository *repository, const struct survey_holder *wanted, char **ret_ref,
                       struct err *err)
{
	CLEANUP_FREE char *contains = xasprintf("--contains=%s", wanted->commit);
	struct git_call call = { .arguments = GIT_ARGUMENTS("for-each-ref", contains, "--format=%(refname)", "refs/heads",
		                                            "refs/remotes", "refs/tags",
		                                            wanted->may_be_salvage ? "refs/drover/salvage" : NULL) };
	struct command_result result = { 0 };
	struct git git;
	char *best = NULL;
	int error;

	steps_git_for_repository(repository, &git);
	error = git_run(&git, &call, &result, err);
	if (error < 0)
		return error;
	for (char *at = result.output.bytes, *next; at && *at; at = next) {
		size_t length = strcspn(at, "\n");

		next = at + length + (at[length] == '\n');
		at[length] = '\0';
		if (wanted->except && strcmp(at, wanted->except) == 0)
			continue;
		if (best && rank(best, wanted) <= rank(at, wanted))
			continue;
		free(best);
		best = xstrdup(at);
	}
	command_result_done(&result);
	*ret_ref = best;
	return 0;
}
