/*
 * inspect.c - looks at a directory before anything is submitted for it. Makes nothing. See worktree.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* Says what is wrong with the directory, from git's words for it. */
static int explain(const char *directory, const struct git_call *call, const struct command_result *result, struct err *err)
{
	const char *said = result->errors.bytes ? result->errors.bytes : "";
	int error;

	if (strstr(said, "not a git repository"))
		return err_say(err, -ENOENT, "'%s' is in no git repository: run 'git init' there, or do without", directory);
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

static int find_places(const struct git *git, const char *directory, struct worktree_inspection *ret, struct err *err)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("rev-parse", "--path-format=absolute", "--is-bare-repository",
	                                                    "--is-inside-work-tree", "--git-common-dir", "--show-toplevel",
	                                                    "--show-prefix") };
	struct command_result result = { 0 };
	int error = git_try(git, &call, &result, err);

	if (error < 0)
		return error;
	if (result.status != 0)
		error = explain(directory, &call, &result, err);
	else
		error = parse_places(directory, &result.output, ret, err);
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
		error = err_say(err, -ENODATA, "the repository at '%s' has no commit yet: commit something first",
		                directory);
	command_result_done(&result);
	return error;
}

int worktree_inspect(const char *directory, const char *base, struct worktree_inspection *ret, struct err *err)
{
	CLEANUP_FD int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct git git = { .directory = fd, .kept_fd = -1 };
	struct worktree_inspection inspection = { 0 };
	int error;

	if (fd < 0)
		return err_set(err, errno == ENOENT ? -ENOTDIR : -errno, "the directory '%s' cannot be opened", directory);
	error = check_version(&git, NULL, err);
	if (error == 0)
		error = find_places(&git, directory, &inspection, err);
	if (error == 0)
		error = find_commit(&git, directory, base, &inspection.commit, err);
	if (error < 0) {
		worktree_inspection_done(&inspection);
		return error;
	}
	*ret = inspection;
	return 0;
}
