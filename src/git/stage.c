/*
 * stage.c - see stage.h.
 */
#include "git/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/str.h"
#include "platform/fs.h"

#define GITLINK_MODE "160000 "

static void note_once(struct buf *note, const char *path, size_t length, const char *what)
{
	if (note->length > 0)
		return;
	buf_add_byte(note, '\'');
	str_add_visible(note, path, length);
	buf_add_text(note, "' ");
	buf_add_text(note, what);
}

/* Something is there under the name, whatever it is. */
static bool is_there(int directory, const char *path)
{
	CLEANUP_FD int fd = fs_open_beneath(directory, path, O_PATH | O_NOFOLLOW, 0);

	return fd >= 0 || (fd != -ENOENT && fd != -ENOTDIR);
}

static void add_path(struct buf *paths, const char *path)
{
	buf_add(paths, path, strlen(path) + 1);
}

/* "MODE HASH STAGE\tPATH" behind the tag. */
static int parse_tracked(char tag, const char *entry, int directory, struct stage_listing *ret)
{
	const char *path = strchr(entry, '\t');

	if (!path || path - entry < 8 || !path[1])
		return -EBADMSG;
	path++;
	if (strncmp(entry, GITLINK_MODE, strlen(GITLINK_MODE)) == 0) {
		CLEANUP_FREE char *inside = xasprintf("%s/.git", path);

		if (is_there(directory, inside))
			note_once(&ret->note, path, strlen(path), "in it is a repository of its own");
	}
	if (tag >= 'a' && tag <= 'z')
		note_once(&ret->note, path, strlen(path), "is marked as assume-unchanged");
	if (tag == 'S' && is_there(directory, path))
		note_once(&ret->note, path, strlen(path), "is marked as skip-worktree, and yet there");
	if (path[-2] != '0') {
		note_once(&ret->note, path, strlen(path), "has conflicts in it that are not resolved");
		ret->has_conflicts = true;
	}
	if (tag == 'C' || tag == 'c' || tag == 'M' || tag == 'm')
		add_path(&ret->changed, path);
	return 0;
}

static int parse_entry(const char *entry, int directory, struct stage_listing *ret)
{
	size_t length = strlen(entry);

	if (length < 3 || entry[1] != ' ')
		return -EBADMSG;
	if (entry[0] != '?')
		return parse_tracked(entry[0], entry + 2, directory, ret);
	if (entry[length - 1] == '/') /* git does not look into it, and neither do we */
		note_once(&ret->note, entry + 2, length - 3, "in it is a repository of its own");
	else
		add_path(&ret->untracked, entry + 2);
	return 0;
}

int stage_parse(const struct buf *output, int directory, struct stage_listing *ret)
{
	struct stage_listing listing = { 0 };

	for (size_t at = 0; at < output->length; at += strlen(output->bytes + at) + 1) {
		int error = parse_entry(output->bytes + at, directory, &listing);

		if (error < 0) {
			stage_listing_done(&listing);
			return error;
		}
	}
	*ret = listing;
	return 0;
}

void stage_listing_done(struct stage_listing *listing)
{
	buf_done(&listing->changed);
	buf_done(&listing->untracked);
	buf_done(&listing->note);
}

int stage_list(const struct git *git, struct stage_listing *ret, struct err *err)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("ls-files", "-zvsmo", "--exclude-standard") };
	struct command_result result = { 0 };
	int error = git_run(git, &call, &result, err);

	if (error < 0)
		return error;
	error = stage_parse(&result.output, git->directory, ret);
	if (error < 0)
		err_say(err, error, "git ls-files printed something that drover does not understand");
	else if (result.errors.length > 0 && strstr(result.errors.bytes, "could not open directory"))
		note_once(&ret->note, ".", 1, "has a directory in it that cannot be read"); /* git only warns of it */
	command_result_done(&result);
	return error;
}

/* ---- filters ---- */

/* Only the content of regular files goes through filters; what is gone has none. */
static bool is_regular(int directory, const char *path)
{
	CLEANUP_FD int fd = fs_open_beneath(directory, path, O_PATH | O_NOFOLLOW, 0);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static const char *next_text(const struct buf *texts, size_t *at)
{
	const char *text = *at < texts->length ? texts->bytes + *at : NULL;

	if (text)
		*at += strlen(text) + 1;
	return text;
}

/*
 * Keeps those of `paths` that may be committed as they are. `answer` is of `git check-attr -z filter` for these paths: path,
 * "filter" and value of each, in order, from `*at` on.
 */
static int keep_unfiltered(const struct git *git, const struct buf *answer, size_t *at, struct buf *paths, struct buf *note)
{
	CLEANUP_BUF struct buf kept = BUF_INIT;
	const char *path;

	for (size_t read = 0; (path = next_text(paths, &read));) {
		const char *told = next_text(answer, at);
		const char *attribute = next_text(answer, at);
		const char *filter = next_text(answer, at);
		CLEANUP_BUF struct buf why = BUF_INIT;

		if (!filter || strcmp(told, path) != 0 || strcmp(attribute, "filter") != 0)
			return -EBADMSG;
		if (!git_has_clean_filter(git, filter) || !is_regular(git->directory, path)) {
			add_path(&kept, path);
			continue;
		}
		buf_add_text(&why, "is not committed: it has the filter '");
		str_add_visible(&why, filter, strlen(filter));
		buf_add_text(&why, "', which drover does not run; commit it there yourself");
		note_once(note, path, strlen(path), why.bytes);
	}
	buf_clear(paths);
	buf_add(paths, kept.bytes, kept.length);
	return 0;
}

int stage_leave_out_filtered(const struct git *git, struct stage_listing *listing, struct err *err)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("check-attr", "-z", "--stdin", "filter") };
	CLEANUP_BUF struct buf paths = BUF_INIT;
	struct command_result result = { 0 };
	size_t at = 0;
	int error;

	buf_add(&paths, listing->changed.bytes, listing->changed.length);
	buf_add(&paths, listing->untracked.bytes, listing->untracked.length);
	if (paths.length == 0 || !git_has_clean_filter(git, NULL))
		return 0;
	call.input = paths.bytes;
	call.input_length = paths.length;
	error = git_run(git, &call, &result, err);
	if (error < 0)
		return error;
	error = keep_unfiltered(git, &result.output, &at, &listing->changed, &listing->note);
	if (error == 0)
		error = keep_unfiltered(git, &result.output, &at, &listing->untracked, &listing->note);
	if (error < 0)
		err_say(err, error, "git check-attr printed something that drover does not understand");
	command_result_done(&result);
	return error;
}

/* ---- the index ---- */

static int update_index(const struct git *git, const struct stage_listing *listing, struct err *err)
{
	struct git_call call = { .arguments =
		                         GIT_ARGUMENTS("update-index", "--add", "--remove", "--replace", "-z", "--stdin") };
	CLEANUP_BUF struct buf paths = BUF_INIT;
	struct command_result result = { 0 };
	int error;

	/* What is gone comes first: a file may have become a directory with files in it, or the other way round. */
	buf_add(&paths, listing->changed.bytes, listing->changed.length);
	buf_add(&paths, listing->untracked.bytes, listing->untracked.length);
	if (paths.length == 0)
		return 0;
	call.input = paths.bytes;
	call.input_length = paths.length;
	error = git_run(git, &call, &result, err);
	command_result_done(&result);
	return error;
}

static int write_tree(const struct git *git, char **ret_tree, struct err *err)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("write-tree") };
	struct command_result result = { 0 };
	int error = git_run(git, &call, &result, err);

	if (error < 0)
		return error;
	*ret_tree = buf_take(&result.output);
	(*ret_tree)[strcspn(*ret_tree, "\n")] = '\0';
	command_result_done(&result);
	return 0;
}

int stage_all(const struct git *git, char **ret_tree, struct buf *note, struct err *err)
{
	struct stage_listing listing = { 0 };
	int error = stage_list(git, &listing, err);

	if (error < 0)
		return error;
	error = stage_leave_out_filtered(git, &listing, err);
	if (error == 0 && !listing.has_conflicts)
		error = update_index(git, &listing, err);
	if (error == 0 && !listing.has_conflicts)
		error = write_tree(git, ret_tree, err);
	if (error == 0)
		buf_add(note, listing.note.bytes, listing.note.length);
	stage_listing_done(&listing);
	return error;
}
