/*
 * stray.c - see stray.h.
 */
#include "git/stray.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "git/steps.h"
#include "platform/fs.h"

enum { FILE_BYTES_MAX = 16 << 20, WORDS_READ = 2, NAME_HASH = 12 };

/* ---- what is known there ---- */

/* Adds a line for the hash; zeros stand for none. */
static void add_hash(const char *word, size_t length, struct buf *ret)
{
	CLEANUP_FREE char *hash = xmemdup0(word, length);

	if (names_is_hash(hash) && strspn(hash, "0") < length)
		buf_add_format(ret, "%s\n", hash);
}

/* A line begins with one hash, in a log with two: from and to. */
static void add_file(const struct buf *text, struct buf *ret)
{
	size_t line = 0;

	while (line < text->length) {
		size_t end = line + strcspn(text->bytes + line, "\n");
		size_t at = line;

		for (int i = 0; i < WORDS_READ && at < end; i++) {
			size_t length = strcspn(text->bytes + at, " \t\n");

			add_hash(text->bytes + at, length, ret);
			at += length + 1;
		}
		line = end + 1;
	}
}

static int list_known(const struct repository *repository, const char *admin, struct buf *ret, struct err *err)
{
	static const char *const names[] = { "logs/HEAD",        "HEAD",        "ORIG_HEAD", "MERGE_HEAD",
		                             "CHERRY_PICK_HEAD", "REVERT_HEAD", "AUTO_MERGE" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		CLEANUP_FREE char *path = xasprintf("worktrees/%s/%s", admin, names[i]);
		CLEANUP_BUF struct buf text = BUF_INIT;
		int error = fs_read_file(repository->common, path, &text, FILE_BYTES_MAX);

		if (error < 0 && error != -ENOENT)
			return err_set(err, error, "cannot read '%s/%s'", repository->common_path, path);
		if (error == 0 && text.length > 0)
			add_file(&text, ret);
	}
	return 0;
}

/* ---- what of it no ref reaches ---- */

static int compare_words(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/*
 * Takes the lines "COMMIT PARENT…" apart, in place: the commits that are no other's parent, in the given order. Both
 * arrays are the caller's, with room for every word.
 */
static size_t find_ends(char *lines, const char **ends, const char **parents)
{
	size_t commits = 0;
	size_t parent_count = 0;
	size_t kept = 0;
	char *rest;

	for (char *line = strtok_r(lines, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *more;

		ends[commits++] = strtok_r(line, " ", &more);
		for (char *word = strtok_r(NULL, " ", &more); word; word = strtok_r(NULL, " ", &more))
			parents[parent_count++] = word;
	}
	if (parent_count > 0)
		qsort(parents, parent_count, sizeof(*parents), compare_words);
	for (size_t i = 0; i < commits; i++)
		if (parent_count == 0 || !bsearch(&ends[i], parents, parent_count, sizeof(*parents), compare_words))
			ends[kept++] = ends[i];
	return kept;
}

static size_t count_words(const char *text)
{
	size_t count = 0;

	for (; *text; text++)
		count += *text == '\n' || *text == ' ';
	return count;
}

/* ---- keeping ---- */

static int make_refs(const struct repository *repository, const struct git *git, const struct buf *updates, struct err *err)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("update-ref", "-m", "drover: salvaged", "--stdin"),
		                 .input = updates->bytes,
		                 .input_length = updates->length };
	struct command_result result = { 0 };
	int error = git_run(git, &call, &result, err);

	command_result_done(&result);
	return error < 0 ? err_wrap(err, "keeping commits in '%s'", repository->common_path) : 0;
}

static int keep_ends(const struct repository *repository, const struct git *git, const char *usual, char *lines,
                     struct strays *ret, struct err *err)
{
	size_t words = count_words(lines);
	CLEANUP_FREE const char **ends = xcalloc(words, sizeof(*ends));
	CLEANUP_FREE const char **parents = xcalloc(words, sizeof(*parents));
	size_t count = find_ends(lines, ends, parents);
	CLEANUP_BUF struct buf updates = BUF_INIT;
	CLEANUP_FREE char *first = NULL;
	struct repository_claim claim;
	int error;

	repository_claim_record(repository, &claim);
	for (size_t i = 0; i < count; i++) {
		CLEANUP_FREE char *ref = xasprintf("%s-%.*s", usual, NAME_HASH, ends[i]);
		CLEANUP_FREE char *lock = xasprintf("%s.lock", ref);

		repository_clear_lock_file(repository, lock, &claim); /* a killed try of ours left it */
		buf_add_format(&updates, "update %s %s\n", ref, ends[i]);
		if (i == 0)
			first = TAKE_PTR(ref);
	}
	error = make_refs(repository, git, &updates, err);
	if (error == 0)
		*ret = (struct strays){ .first = TAKE_PTR(first), .count = count };
	return error;
}

int stray_keep(const struct repository *repository, const char *admin, const char *usual, const char *covered,
               struct strays *ret, struct err *err)
{
	/* What has been pruned since is not ours to find. */
	struct git_call call = { .arguments = GIT_ARGUMENTS("rev-list", "--ignore-missing", "--parents", "--stdin", "--not",
		                                            "--all") };
	CLEANUP_BUF struct buf known = BUF_INIT;
	struct command_result result = { 0 };
	struct git git;
	int error;

	*ret = (struct strays){ 0 };
	error = list_known(repository, admin, &known, err);
	if (error < 0 || known.length == 0)
		return error;
	if (covered)
		buf_add_format(&known, "^%s\n", covered);
	call.input = known.bytes;
	call.input_length = known.length;
	steps_git_for_repository(repository, &git);
	error = git_run(&git, &call, &result, err);
	if (error == 0 && result.output.length > 0)
		error = keep_ends(repository, &git, usual, result.output.bytes, ret, err);
	command_result_done(&result);
	return error;
}

char *stray_describe(const struct strays *strays)
{
	if (strays->count <= 1)
		return xasprintf("commits that no branch has are kept as %s", strays->first);
	return xasprintf("commits that no branch has are kept as %s and %zu more", strays->first, strays->count - 1);
}

void strays_done(struct strays *strays)
{
	free(strays->first);
	*strays = (struct strays){ 0 };
}
