/*
 * inspect.c - looks at a directory before anything is submitted for it. Makes nothing. See worktree.h.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/str.h"
#include "git/run.h"
#include "git/worktree.h"

enum { GIT_MAJOR = 2, GIT_MINOR = 38 };

/* "git version 2.39.5", perhaps with more behind it. */
static bool is_new_enough(const char *version)
{
	static const char before[] = "git version ";
	unsigned long major;
	char *end;

	if (strncmp(version, before, strlen(before)) != 0)
		return false;
	major = strtoul(version + strlen(before), &end, 10);
	return major > GIT_MAJOR || (major == GIT_MAJOR && *end == '.' && strtoul(end + 1, NULL, 10) >= GIT_MINOR);
}

static int check_version(const struct git *git, char **ret_version, struct err *err)
{
	CLEANUP_BUF struct buf shown = BUF_INIT;
	struct git_call call = { .arguments = GIT_ARGUMENTS("version") };
	struct command_result result = { 0 };
	const char *version;
	int error = git_run(git, &call, &result, err);

	if (error < 0)
		return error;
	version = result.output.bytes ? result.output.bytes : "";
	if (!is_new_enough(version)) {
		str_add_visible(&shown, version, strcspn(version, "\n"));
		error = err_say(err, -ENOSYS, "drover needs git %d.%d or newer, and here is '%s': install a newer git",
		                GIT_MAJOR, GIT_MINOR, shown.bytes);
	}
	if (error == 0 && ret_version)
		*ret_version = xmemdup0(version + strlen("git version "), strcspn(version + strlen("git version "), "\n"));
	command_result_done(&result);
	return error;
}

int worktree_git_version(char **ret_version, struct err *err)
{
	CLEANUP_FD int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct git git = { .directory = fd, .kept_fd = -1 };

	return fd < 0 ? err_set(err, -errno, "open /") : check_version(&git, ret_version, err);
}

/* What git names in lines of their own below `words`, with ", " between them. Empty when it did not say the words. */
static void list_named(const char *said, const char *words, struct buf *ret)
{
	const char *at = strstr(said, words);

	for (at = at ? strchr(at, '\n') : NULL; at && at[1] == '\t'; at = strchr(at + 1, '\n')) {
		buf_add_text(ret, ret->length > 0 ? ", '" : "'");
		str_add_visible(ret, at + 2, strcspn(at + 2, "\n"));
		buf_add_byte(ret, '\'');
	}
}

/* The repository is of a kind that this git does not know. 0 when that is not what it said. */
static int explain_format(const char *directory, const char *said, const char *version, struct err *err)
{
	CLEANUP_BUF struct buf extensions = BUF_INIT;

	list_named(said, "unknown repository extension", &extensions);
	if (extensions.length > 0)
		return err_say(
			err, -ENOSYS,
			"the repository at '%s' has the extension %s, which git %s does not know: install a newer git",
			directory, extensions.bytes, version);
	if (strstr(said, "Expected git repo version"))
		return err_say(err, -ENOSYS,
		               "the repository at '%s' has a format that git %s does not know: install a newer git",
		               directory, version);
	return 0;
}

/* The '.git' at the directory or the nearest above it, to be freed; NULL when there is none. */
static char *find_dot_git(const char *directory)
{
	CLEANUP_FREE char *at = realpath(directory, NULL);
	char *end = at;

	while (end) {
		CLEANUP_FREE char *found = xasprintf("%s/.git", at);
		struct stat st;

		if (lstat(found, &st) == 0)
			return TAKE_PTR(found);
		end = strrchr(at, '/');
		if (end)
			*end = '\0';
	}
	return NULL;
}

static int explain_none(const char *directory, struct err *err)
{
	CLEANUP_FREE char *damaged = find_dot_git(directory);

	if (!damaged)
		return err_say(err, -ENOENT, "'%s' is in no git repository: run 'git init' there, or do without", directory);
	return err_say(
		err, -EUCLEAN,
		"'%s' is there, but git does not take it for a repository: its HEAD, objects or refs are damaged, or it "
		"points to what is gone; repair it, or move it away",
		damaged);
}

/* Says what is wrong with the directory, from git's words for it. */
static int explain(const char *directory, const struct git_call *call, const struct command_result *result,
                   const char *version, struct err *err)
{
	const char *said = result->errors.bytes ? result->errors.bytes : "";
	int error = explain_format(directory, said, version, err);

	if (error < 0)
		return error;
	if (strstr(said, "not a git repository"))
		return explain_none(directory, err);
	if (strstr(said, "cannot use bare repository") || strstr(said, "must be run in a work tree"))
		return err_say(err, -EOPNOTSUPP, "'%s' is a bare repository, or inside one: name a checkout", directory);
	error = git_failure(call, result, err);
	if (error == -EPERM)
		return err_say(err, -EPERM,
		               "the repository at '%s' belongs to another user: see safe.directory in git-config(1)",
		               directory);
	return err_wrap(err, "looking at '%s'", directory);
}

/* The next line of rev-parse's output, to be freed; NULL at the end. */
static char *next_line(const char **at)
{
	size_t length = strcspn(*at, "\n");
	char *line = **at ? xmemdup0(*at, length) : NULL;

	*at += length + ((*at)[length] == '\n');
	return line;
}

static int parse_places(const char *directory, const struct buf *output, struct worktree_inspection *ret, struct err *err)
{
	const char *at = output->bytes ? output->bytes : "";
	CLEANUP_FREE char *is_bare = next_line(&at);
	CLEANUP_FREE char *is_inside = next_line(&at);

	ret->common_dir = next_line(&at);
	ret->top = next_line(&at);
	ret->prefix = next_line(&at); /* an empty line at the top */
	if (*at || !ret->prefix || !str_is_utf8(output->bytes, output->length))
		return err_say(err, -EILSEQ, "the repository's path at '%s' has a line break or is not UTF-8: rename it",
		               directory);
	if (!is_bare || strcmp(is_bare, "true") == 0)
		return err_say(err, -EOPNOTSUPP, "'%s' is a bare repository: name a checkout", directory);
	if (!is_inside || strcmp(is_inside, "true") != 0)
		return err_say(err, -ENOENT, "'%s' is not in a checkout of its repository", directory);
	return 0;
}

static int find_places(const struct git *git, const char *directory, const char *version, struct worktree_inspection *ret,
                       struct err *err)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("rev-parse", "--path-format=absolute", "--is-bare-repository",
		                                            "--is-inside-work-tree", "--git-common-dir", "--show-toplevel",
		                                            "--show-prefix") };
	struct command_result result = { 0 };
	int error = git_try(git, &call, &result, err);

	if (error < 0)
		return error;
	if (result.status != 0)
		error = explain(directory, &call, &result, version, err);
	else
		error = parse_places(directory, &result.output, ret, err);
	command_result_done(&result);
	return error;
}

/* HEAD leads to no commit: nothing was committed yet, or the commit that it names is not there. */
static int explain_head(const struct git *git, const char *directory, struct err *err)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("rev-parse", "--verify", "--quiet", "HEAD") };
	struct command_result result = { 0 };
	int error = git_try(git, &call, &result, err);

	if (error < 0)
		return error;
	if (result.status == 0)
		error = err_say(
			err, -EUCLEAN,
			"the repository at '%s' is damaged: the commit %.*s of its HEAD is not there; see 'git fsck'",
			directory, (int)strcspn(result.output.bytes, "\n"), result.output.bytes);
	else
		error = err_say(err, -ENODATA, "the repository at '%s' has no commit yet: commit something first",
		                directory);
	command_result_done(&result);
	return error;
}

static int find_commit(const struct git *git, const char *directory, const char *base, char **ret, struct err *err)
{
	CLEANUP_FREE char *revision = xasprintf("%s^{commit}", base ? base : "HEAD");
	CLEANUP_BUF struct buf shown = BUF_INIT;
	struct git_call call = { .arguments =
		                         GIT_ARGUMENTS("rev-parse", "--verify", "--quiet", "--end-of-options", revision) };
	struct command_result result = { 0 };
	int error = git_try(git, &call, &result, err);

	if (error < 0)
		return error;
	if (base)
		str_add_visible(&shown, base, strlen(base));
	if (result.status == 0 && result.output.length >= 40)
		*ret = xmemdup0(result.output.bytes, strcspn(result.output.bytes, "\n"));
	else if (base)
		error = err_say(err, -EINVAL, "'%s' names no commit in the repository at '%s'",
		                shown.bytes ? shown.bytes : "", directory);
	else
		error = explain_head(git, directory, err);
	command_result_done(&result);
	return error;
}

/* ---- what would fail later ---- */

/* A partial clone has .promisor files beside its packs. A sparse one needs not all files, and is tried. */
static bool is_partial(const char *common_dir)
{
	CLEANUP_FREE char *packs = xasprintf("%s/objects/pack", common_dir);
	CLEANUP_FREE char *sparse = xasprintf("%s/config.worktree", common_dir);
	DIR *listing = access(sparse, F_OK) < 0 ? opendir(packs) : NULL;
	const struct dirent *entry;
	bool is_found = false;

	while (listing && !is_found && (entry = readdir(listing))) {
		const char *end = strrchr(entry->d_name, '.');

		is_found = end && strcmp(end, ".promisor") == 0;
	}
	if (listing)
		closedir(listing);
	return is_found;
}

/* drover fetches nothing, so what a partial clone has left where it came from must be fetched by the user. */
static int check_complete(const struct git *git, const struct worktree_inspection *found, struct err *err)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("rev-list", "--objects", "--no-walk", "--no-object-names",
		                                            "--missing=print", found->commit) };
	struct command_result result = { 0 };
	unsigned long missing = 0;
	int error;

	if (!is_partial(found->common_dir))
		return 0;
	error = git_run(git, &call, &result, err);
	if (error < 0)
		return error;
	for (const char *at = result.output.bytes; at && *at; at += strcspn(at, "\n") + 1)
		missing += *at == '?';
	if (missing > 0)
		error = err_say(
			err, -EREMOTE,
			"'%s' is a partial clone and lacks objects of commit %.12s (%lu seen), which drover does not "
			"fetch: run 'git fetch --refetch --no-filter' there, or check that commit out once",
			found->top, found->commit, missing);
	command_result_done(&result);
	return error;
}

/* In a worktree the tasks stand where they were submitted, so the commit must have that directory. */
static int check_directory(const struct git *git, const struct worktree_inspection *found, struct err *err)
{
	CLEANUP_FREE char *object = xasprintf("%s:%s", found->commit, found->prefix);
	struct git_call call = { .arguments =
	                                 GIT_ARGUMENTS("rev-parse", "--verify", "--quiet", "--end-of-options", object) };
	struct command_result result = { 0 };
	int error = found->prefix[0] ? git_try(git, &call, &result, err) : 0;

	if (error == 0 && result.status != 0)
		error = err_say(err, -ENOTDIR,
		                "the directory '%s' is not in commit %.10s, so a worktree would not have it: commit it, or "
		                "submit from another directory (--cwd='%s')",
		                found->prefix, found->commit, found->top);
	command_result_done(&result);
	return error;
}

/* A branch will have to be written, and a worktree beside the main one. */
static int check_writable(const struct worktree_inspection *found, struct err *err)
{
	CLEANUP_FREE char *main_top = xstrdup(found->common_dir);
	char *end = strrchr(main_top, '/');
	bool is_main = end && end > main_top && strcmp(end, "/.git") == 0;
	const char *const places[] = { found->common_dir, is_main ? main_top : found->top };

	if (is_main)
		*end = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (faccessat(AT_FDCWD, places[i], W_OK | X_OK, AT_EACCESS) < 0)
			return err_set(err, errno == EROFS ? -EROFS : -EACCES,
			               "'%s' must be writable, for a branch and a worktree", places[i]);
	return 0;
}

int worktree_inspect(const char *directory, const char *base, struct worktree_inspection *ret, struct err *err)
{
	CLEANUP_FD int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct git git = { .directory = fd, .kept_fd = -1 };
	struct worktree_inspection inspection = { 0 };
	CLEANUP_FREE char *version = NULL;
	int error;

	if (fd < 0)
		return err_set(err, errno == ENOENT ? -ENOTDIR : -errno, "the directory '%s' cannot be opened", directory);
	error = check_version(&git, &version, err);
	if (error == 0)
		error = find_places(&git, directory, version, &inspection, err);
	if (error == 0)
		error = find_commit(&git, directory, base, &inspection.commit, err);
	if (error == 0)
		error = check_complete(&git, &inspection, err);
	if (error == 0)
		error = check_writable(&inspection, err);
	if (error == 0)
		error = check_directory(&git, &inspection, err);
	if (error < 0) {
		worktree_inspection_done(&inspection);
		return error;
	}
	*ret = inspection;
	return 0;
}
