/*
 * collect.c - what an attempt left becomes a commit; the worktree goes when nothing is lost by it. See worktree.h.
 *
 * Each step can be done again: a commit is made only when the files differ from every commit that an earlier, killed try can
 * have made, refs are moved with the value they are expected to have, and the removal is an intent that anybody finishes.
 * Nothing is removed before all of it is reachable from a ref. The repository's lock is taken for the removal only.
 */
#include <errno.h>
#include <poll.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "git/stage.h"
#include "git/steps.h"
#include "git/stray.h"
#include "platform/random.h"

#define SALVAGE "refs/drover/salvage/"

/* The commits and trees that decide what is to be done; NULL = there is none. */
enum lookup {
	BASE_TREE,
	BRANCH,
	BRANCH_TREE,
	BRANCH_PARENT,
	SAVED,
	SAVED_TREE,
	SAVED_PARENT,
	HEAD,
	HEAD_TREE,
	LOOKUP_MAX,
};

struct collection {
	struct worktree_request request; /* completed by what is known */
	struct record known;
	char *path; /* of the worktree, if the request did not say */
	struct repository repository;
	struct git git; /* for the worktree, or for the repository when there is no admin directory either */
	struct steps_site site;
	char *directory;
	char *admin; /* NULL = git knows of no such worktree */
	char *branch_ref;
	char *salvage_ref; /* the name that is tried first */
	char *stray;       /* ref for commits that nothing else has; NULL = there were none */
	char *found[LOOKUP_MAX];
	char *tree;         /* of the files */
	char *last;         /* the commit that holds the attempt's work */
	char *tip;          /* of the branch in the end */
	bool is_again;      /* as requested, unless the worktree cannot go */
	struct buf updates; /* for git update-ref --stdin */
	struct buf note;
	struct repository_claim claim; /* to what lies in the worktree's admin directory, and to its branch */
	struct worktree_result result;
};

static void collection_done(struct collection *collection)
{
	for (size_t i = 0; i < LOOKUP_MAX; i++)
		free(collection->found[i]);
	git_done(&collection->git);
	steps_site_done(&collection->site);
	record_done(&collection->known);
	free(collection->path);
	free(collection->directory);
	free(collection->admin);
	free(collection->branch_ref);
	free(collection->salvage_ref);
	free(collection->stray);
	free(collection->tree);
	free(collection->last);
	free(collection->tip);
	buf_done(&collection->updates);
	buf_done(&collection->note);
	worktree_result_done(&collection->result);
	repository_done(&collection->repository);
}

static bool is_same(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

static bool is_removal_wanted(const struct worktree_request *request)
{
	return request->is_again || (request->has_succeeded && !request->keep);
}

/* ---- looking ---- */

/* The name in the root that the request's path means. */
static int find_directory(struct collection *collection, struct err *err)
{
	const char *path = collection->request.path;
	const char *root = collection->repository.root_path;
	size_t length = strlen(root);

	if (!path || strncmp(path, root, length) != 0 || path[length] != '/' || !path[length + 1] ||
	    path[length + 1] == '.' || strchr(path + length + 1, '/'))
		return err_say(err, -EBADMSG, "'%s' is not a worktree in '%s'", path ? path : "", root);
	collection->directory = xstrdup(path + length + 1);
	return 0;
}

enum { LOOKS_MAX = 5, LOOK_AGAIN_MS = 20, TRIES_MAX = 10 };

static int open_worktree(struct collection *collection, struct err *err)
{
	struct repository *repository = &collection->repository;

	for (int look = 0; look < LOOKS_MAX && !collection->admin; look++) {
		if (look > 0) /* a foreign git at work beside us must not make it look lost */
			poll(NULL, 0, LOOK_AGAIN_MS);
		collection->admin = repository_find_admin(repository, collection->directory);
	}
	collection->result.is_missing = collection->admin == NULL;
	if (!collection->admin)
		collection->admin = repository_search_admin(repository, collection->directory, NULL);
	if (collection->admin) {
		int error = repository_check_links(repository, collection->admin, collection->request.branch, err);

		if (error < 0)
			return error;
	}
	if (!collection->result.is_missing)
		return steps_open_site(repository, collection->directory, collection->admin, &collection->git,
		                       &collection->site, err);
	steps_git_for_repository(repository, &collection->git);
	if (collection->admin) {
		/* Its HEAD still tells what was committed. The place where the worktree was is not looked at again. */
		collection->site.git_dir = xasprintf("%s/worktrees/%s", repository->common_path, collection->admin);
		collection->git.git_dir = collection->site.git_dir;
	}
	return 0;
}

static void add_questions(const struct collection *collection, struct buf *questions)
{
	buf_add_format(questions, "%s^{tree}\n", collection->request.commit);
	buf_add_format(questions, "%s^{commit}\n%s^{tree}\n%s^1\n", collection->branch_ref, collection->branch_ref,
	               collection->branch_ref);
	buf_add_format(questions, "%s^{commit}\n%s^{tree}\n%s^1\n", collection->salvage_ref, collection->salvage_ref,
	               collection->salvage_ref);
	if (collection->admin)
		buf_add_text(questions, "HEAD^{commit}\nHEAD^{tree}\n");
}

/* All of it in one call. A name that does not resolve is answered with "NAME missing". */
static int look_up(struct collection *collection, struct err *err)
{
	CLEANUP_BUF struct buf questions = BUF_INIT;
	struct git_call call = { .arguments = GIT_ARGUMENTS("cat-file", "--batch-check=%(objectname)") };
	struct command_result result = { 0 };
	const char *at;
	int error;

	add_questions(collection, &questions);
	call.input = questions.bytes;
	call.input_length = questions.length;
	error = git_run(&collection->git, &call, &result, err);
	at = result.output.bytes;
	for (int i = 0; error == 0 && at && *at && i < LOOKUP_MAX; i++) {
		size_t length = strcspn(at, "\n");

		if (strspn(at, "0123456789abcdef") == length)
			collection->found[i] = xmemdup0(at, length);
		at += length + (at[length] == '\n');
	}
	command_result_done(&result);
	if (error == 0 && !collection->found[BASE_TREE])
		error = err_say(err, -EIO, "the base commit %s of the task is not in the repository any more",
		                collection->request.commit);
	return error;
}

/* ---- committing ---- */

static void add_message(const struct worktree_request *request, struct buf *message)
{
	const char *given = request->message && *request->message ? request->message : "Work of a drover task";
	size_t length = strlen(given);

	while (length > 0 && given[length - 1] == '\n')
		length--;
	buf_add(message, given, length);
	buf_add_format(message, "\n\nDrover-Task: %" PRIu64 "\nDrover-Attempt: %" PRIu32 "\n", request->task,
	               request->attempt);
}

static int commit(struct collection *collection, const char *parent, struct err *err)
{
	CLEANUP_BUF struct buf message = BUF_INIT;
	struct git_call call = { .arguments = GIT_ARGUMENTS("commit-tree", "-p", parent, "-F", "-", collection->tree) };
	struct command_result result = { 0 };
	int error;

	add_message(&collection->request, &message);
	call.input = message.bytes;
	call.input_length = message.length;
	error = git_run(&collection->git, &call, &result, err);
	if (error < 0)
		return error;
	collection->last = xmemdup0(result.output.bytes, strcspn(result.output.bytes, "\n"));
	command_result_done(&result);
	return 0;
}

/* The commit that holds the files: HEAD, one that an earlier try made, or a new one. */
static int find_or_make_commit(struct collection *collection, struct err *err)
{
	char **found = collection->found;
	bool has_head = found[HEAD] != NULL;
	const char *head = has_head ? found[HEAD] : found[BRANCH] ? found[BRANCH] : collection->request.commit;
	const char *head_tree = has_head ? found[HEAD_TREE] : found[BRANCH] ? found[BRANCH_TREE] : found[BASE_TREE];
	const char *made = NULL;

	if (!collection->tree || is_same(collection->tree, head_tree))
		made = head;
	else if (is_same(collection->tree, found[BRANCH_TREE]) && is_same(found[BRANCH_PARENT], head))
		made = found[BRANCH];
	else if (is_same(collection->tree, found[SAVED_TREE]) &&
	         (is_same(found[SAVED_PARENT], head) || (collection->is_again && is_same(head, collection->request.commit))))
		made = found[SAVED]; /* the branch may be set back already, and with it HEAD */
	if (!made)
		return commit(collection, head, err);
	collection->last = xstrdup(made);
	return 0;
}

/* ---- refs ---- */

static int is_ancestor(const struct collection *collection, const char *older, const char *newer, bool *ret, struct err *err)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("merge-base", "--is-ancestor", older, newer) };
	struct command_result result = { 0 };
	int error = git_try(&collection->git, &call, &result, err);

	if (error < 0)
		return error;
	if (WIFEXITED(result.status) && WEXITSTATUS(result.status) <= 1)
		*ret = WEXITSTATUS(result.status) == 0;
	else
		error = git_failure(&call, &result, err);
	command_result_done(&result);
	return error;
}

static void update_ref(struct collection *collection, const char *ref, const char *commit_hash, const char *old)
{
	buf_add_format(&collection->updates, "update %s %s%s%s\n", ref, commit_hash, old ? " " : "", old ? old : "");
}

/* Keeps `commit_hash` under a salvage ref: the usual name, or a longer one rather than replace what is there. */
static void salvage(struct collection *collection, const char *commit_hash, const char *more)
{
	const char *saved = collection->found[SAVED];
	bool is_usual = !*more && (!saved || is_same(saved, commit_hash));
	CLEANUP_FREE char *ref = is_usual ? xstrdup(collection->salvage_ref)
	                                  : xasprintf("%s%s-%.12s", collection->salvage_ref, more, commit_hash);

	if (!is_usual || !saved)
		update_ref(collection, ref, commit_hash, NULL);
	if (!collection->result.salvage)
		collection->result.salvage = TAKE_PTR(ref);
}

/* The attempt is over for good: its work goes on the branch, or to the salvage ref when it left the branch. */
static int place(struct collection *collection, struct err *err)
{
	const char *branch = collection->found[BRANCH];
	bool is_on = !branch || is_same(branch, collection->last) || is_same(branch, collection->found[HEAD]);
	bool is_behind = false;
	int error = 0;

	if (!is_on)
		error = is_ancestor(collection, branch, collection->last, &is_on, err);
	if (error == 0 && !is_on)
		error = is_ancestor(collection, collection->last, branch, &is_behind, err);
	if (error < 0)
		return error;
	collection->tip = xstrdup(is_on ? collection->last : branch);
	if (is_on && !is_same(branch, collection->last))
		update_ref(collection, collection->branch_ref, collection->last, branch);
	if (!is_on && !is_behind)
		salvage(collection, collection->last, "");
	return 0;
}

/* Another attempt follows, from base: this one's work goes to the salvage ref alone. */
static int place_again(struct collection *collection, struct err *err)
{
	const char *branch = collection->found[BRANCH];
	const char *base = collection->request.commit;
	const char *head = collection->found[HEAD];
	bool is_covered = !branch || is_same(branch, base) || is_same(branch, collection->last) || is_same(branch, head);
	int error = 0;

	if (!is_covered)
		error = is_ancestor(collection, branch, collection->last, &is_covered, err);
	if (error < 0)
		return error;
	if (!is_same(collection->last, base))
		salvage(collection, collection->last, "");
	else if (collection->found[SAVED])
		collection->result.salvage = xstrdup(collection->salvage_ref); /* by an earlier try, whose removal failed */
	if (!is_covered)
		salvage(collection, branch, "-branch");
	if (branch && !is_same(branch, base))
		update_ref(collection, collection->branch_ref, base, branch);
	collection->tip = xstrdup(collection->last);
	return 0;
}

static int write_refs(struct collection *collection, struct err *err)
{
	CLEANUP_FREE char *reason = xasprintf("drover: task %" PRIu64 " attempt %" PRIu32, collection->request.task,
	                                      collection->request.attempt);
	struct git_call call = {
		.arguments = GIT_ARGUMENTS("update-ref", "-m", reason, "--stdin"),
		.input = collection->updates.bytes,
		.input_length = collection->updates.length,
	};
	struct command_result result = { 0 };
	int error;

	if (collection->updates.length == 0)
		return 0;
	error = git_run(&collection->git, &call, &result, err);
	command_result_done(&result);
	return error;
}

/* ---- counting ---- */

/* The number before `word` in " 3 files changed, 10 insertions(+), 1 deletion(-)", 0 when it is not there. */
static uint64_t parse_count(const char *line, const char *word)
{
	const char *at = strstr(line, word);

	if (!at)
		return 0;
	while (at > line && at[-1] == ' ')
		at--;
	while (at > line && at[-1] >= '0' && at[-1] <= '9')
		at--;
	return strtoull(at, NULL, 10);
}

static int count_changes(struct collection *collection, struct err *err)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("diff-tree", "-r", "--shortstat", "--no-ext-diff",
		                                            "--no-textconv", "--no-renames", "--ignore-submodules=none",
		                                            collection->request.commit, collection->tip) };
	struct command_result result = { 0 };
	int error;

	if (is_same(collection->request.commit, collection->tip))
		return 0;
	error = git_run(&collection->git, &call, &result, err);
	if (error == 0 && result.output.length > 0) {
		collection->result.changed_files = parse_count(result.output.bytes, " file");
		collection->result.insertions = parse_count(result.output.bytes, " insertion");
		collection->result.deletions = parse_count(result.output.bytes, " deletion");
	}
	command_result_done(&result);
	return error;
}

/* ---- the sequence ---- */

/*
 * Lock files in the way: those that a git of the task's, killed with it, or a killed try of ours left are removed, others'
 * waited for.
 */
static int settle_lock_files(struct collection *collection, struct err *err)
{
	const char *admin = collection->admin;
	char *const paths[] = {
		xasprintf("%s.lock", collection->branch_ref),
		xasprintf("%s.lock", collection->salvage_ref),
		admin ? xasprintf("worktrees/%s/index.lock", admin) : NULL,
		admin ? xasprintf("worktrees/%s/HEAD.lock", admin) : NULL,
	};
	int error = 0;

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		if (error == 0 && paths[i])
			error = repository_await_lock_file(&collection->repository, paths[i], &collection->claim, err);
		free(paths[i]);
	}
	return error;
}

static int stage(struct collection *collection, struct err *err)
{
	return stage_all(&collection->git, &collection->tree, &collection->note, err);
}

/* Does a step; while another's git gets in between with its lock files, waits for that and does it again. */
static int do_among_others(struct collection *collection, int (*step)(struct collection *, struct err *), struct err *err)
{
	int error = settle_lock_files(collection, err);

	for (int try = 1; error == 0; try++) {
		error = step(collection, err);
		if (error != -EBUSY || try == TRIES_MAX)
			break;
		poll(NULL, 0, LOOK_AGAIN_MS + (int)(random_u64() % (LOOK_AGAIN_MS * (unsigned)try)));
		error = settle_lock_files(collection, err);
	}
	return error;
}

/* What is in the middle of a merge is left as it is: a commit of it would hide that, and whose work was to be merged. */
static int stage_unless_merging(struct collection *collection, struct err *err)
{
	const struct steps_unfinished *unfinished = steps_find_unfinished(collection->site.git_dir);
	int error = unfinished && unfinished->is_merge ? 0 : do_among_others(collection, stage, err);

	if (unfinished)
		buf_add_format(&collection->note, "%s%s", collection->note.length > 0 ? "; " : "", unfinished->note);
	return error;
}

/*
 * Before the admin directory goes, by us or, where the worktree has vanished, by anybody's `git worktree prune`. What cannot
 * be kept keeps the worktree.
 */
static void keep_strays(struct collection *collection)
{
	CLEANUP(strays_done) struct strays strays = { 0 };
	struct worktree_result *result = &collection->result;
	struct err err = ERR_INIT;

	if (!collection->admin ||
	    (!result->is_missing && (collection->note.length > 0 || !is_removal_wanted(&collection->request))))
		return;
	if (stray_keep(&collection->repository, collection->admin, collection->salvage_ref, collection->found[HEAD], &strays,
	               &err) < 0)
		buf_add_text(&collection->note, err.text);
	if (strays.count == 0)
		return;
	result->note = stray_describe(&strays);
	collection->stray = TAKE_PTR(strays.first);
}

static int save_work(struct collection *collection, struct err *err)
{
	int error = 0;

	FAILPOINT("collect_started");
	repository_claim_record(&collection->repository, &collection->claim);
	if (!collection->result.is_missing) {
		error = git_load_config(&collection->git, err);
		if (error == 0)
			error = stage_unless_merging(collection, err);
	}
	if (error == 0)
		error = look_up(collection, err);
	if (error == 0)
		keep_strays(collection);
	collection->is_again = collection->request.is_again && collection->note.length == 0;
	if (error == 0)
		error = find_or_make_commit(collection, err);
	if (error == 0)
		error = collection->is_again ? place_again(collection, err) : place(collection, err);
	FAILPOINT("committed_not_placed");
	if (error == 0)
		error = do_among_others(collection, write_refs, err);
	FAILPOINT("work_saved");
	if (!collection->result.salvage)
		collection->result.salvage = TAKE_PTR(collection->stray);
	return error == 0 ? count_changes(collection, err) : error;
}

static struct record make_record(const struct collection *collection, enum record_verb verb)
{
	const struct worktree_request *request = &collection->request;

	return (struct record){
		.verb = verb,
		.task = request->task,
		.attempt = request->attempt,
		.owner = xstrdup(request->owner),
		.directory = xstrdup(collection->directory),
		.branch = xstrdup(request->branch),
		.commit = xstrdup(request->commit),
		.is_again = collection->is_again,
	};
}

static int remove_worktree(struct collection *collection, struct err *err)
{
	CLEANUP(record_done) struct record intent = make_record(collection, RECORD_REMOVE);
	struct repository *repository = &collection->repository;
	int error;

	intent.admin = xstrdup(collection->admin);
	intent.trash = xasprintf("%s-%" PRIx64, collection->directory, random_u64());
	collection->result.is_removed = !collection->result.is_missing;
	intent.result = collection->result; /* lent for writing */
	error = repository_lock(repository, err);
	if (error == 0) {
		error = steps_recover(repository, err);
		if (error == 0)
			error = repository_write_intent(repository, &intent, err);
		if (error == 0)
			error = steps_finish_removal(repository, &intent, err);
		repository_unlock(repository);
	}
	intent.result = (struct worktree_result){ 0 };
	return error;
}

static int keep_worktree(struct collection *collection, struct err *err)
{
	CLEANUP(record_done) struct record record = make_record(collection, RECORD_KEEP);

	if (!collection->result.is_missing)
		collection->result.path = xstrdup(collection->site.path);
	else if (collection->admin)
		repository_unlock_admin(&collection->repository, collection->admin);
	if (collection->note.length > 0 && !collection->result.note)
		collection->result.note = xasprintf("the worktree stays: %s", collection->note.bytes);
	return repository_write_record(&collection->repository, &record, err);
}

static int collect_locked(struct collection *collection, struct err *err)
{
	const struct worktree_request *request = &collection->request;
	int error = find_directory(collection, err);

	if (error == 0)
		error = open_worktree(collection, err);
	if (error == 0)
		error = save_work(collection, err);
	if (error < 0)
		return error;
	collection->result.branch = xstrdup(request->branch);
	collection->result.commit = xstrdup(collection->tip);
	return is_removal_wanted(request) && collection->note.length == 0 ? remove_worktree(collection, err)
	                                                                  : keep_worktree(collection, err);
}

/* What killed helpers left of this very attempt: a removal is finished, a preparation undone (there was no task in it). */
static int settle_own(struct collection *collection, struct err *err)
{
	CLEANUP(record_done) struct record intent = { 0 };
	struct repository *repository = &collection->repository;
	int error = repository_read_intent(repository, &intent, err);

	if (error < 0)
		return error == -ENOENT ? 0 : error;
	error = repository_lock(repository, err);
	if (error < 0)
		return error;
	error = intent.verb == RECORD_REMOVE ? steps_finish_removal(repository, &intent, err)
	                                     : steps_undo_prepare(repository, &intent, false, err);
	repository_unlock(repository);
	return error;
}

/* The attempt was collected before and its worktree is gone: the answer is the one of then. */
static bool find_answer(struct collection *collection)
{
	CLEANUP(record_done) struct record record = { 0 };

	if (repository_read_record(&collection->repository, &record, NULL) < 0 || record.verb != RECORD_REMOVE ||
	    record.attempt != collection->request.attempt || strcmp(record.branch, collection->request.branch) != 0)
		return false;
	collection->result = record.result;
	record.result = (struct worktree_result){ 0 };
	return true;
}

/* Without a place of its own the request means the one that prepare made: -ESTALE when there is none. */
static int complete_request(struct collection *collection, struct err *err)
{
	struct worktree_request *request = &collection->request;
	struct record *known = &collection->known;
	int error;

	if (request->path || request->branch)
		return 0;
	error = repository_read_record(&collection->repository, known, err);
	if (error < 0 && error != -ENOENT)
		return error;
	if (error < 0 || known->attempt != request->attempt || strcmp(known->commit, request->commit) != 0) {
		collection->result.is_missing = true;
		return err_say(err, -ESTALE, "attempt %" PRIu32 " of task %" PRIu64 " has no worktree", request->attempt,
		               request->task);
	}
	collection->path = xasprintf("%s/%s", collection->repository.root_path, known->directory);
	request->path = collection->path;
	request->branch = known->branch;
	return 0;
}

/* Everything once the repository is open. */
static int collect(struct collection *collection, struct err *err)
{
	const struct worktree_request *request = &collection->request;
	int error = repository_lock_task(&collection->repository, err);

	if (error == 0)
		error = settle_own(collection, err);
	if (error == 0)
		error = complete_request(collection, err);
	if (error < 0)
		return error;
	if (!names_is_branch(request->branch))
		return err_say(err, -EBADMSG, "'%s' is not a branch of drover's", request->branch ? request->branch : "");
	collection->branch_ref = xasprintf("refs/heads/%s", request->branch);
	collection->salvage_ref = request->is_again
	                                  ? xasprintf(SALVAGE "%" PRIu64 "-%" PRIu32, request->task, request->attempt)
	                                  : xasprintf(SALVAGE "%" PRIu64, request->task);
	if (!find_answer(collection))
		error = collect_locked(collection, err);
	if (error == 0 && collection->result.is_missing)
		error = err_say(err, -ESTALE, "the worktree '%s' was not there any more; its branch was kept",
		                request->path);
	return error;
}

int worktree_collect(const struct worktree_request *request, struct worktree_result *ret, struct err *err)
{
	struct collection collection = { .request = *request, .site = { .directory = -1 } };
	int error = repository_open(request, &collection.repository, err);

	if (error < 0)
		return error;
	error = collect(&collection, err);
	if (error == 0 || (error == -ESTALE && collection.result.is_missing)) {
		*ret = collection.result;
		collection.result = (struct worktree_result){ 0 };
	}
	collection_done(&collection);
	return error;
}
