/*
 * repository_sites.c - the directories of worktrees: finding, moving to the trash, deleting. See repository.h.
 */
#include "git/repository.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "platform/fs.h"
#include "platform/random.h"

enum {
	POINTER_BYTES_MAX = 8192, /* of a .git, gitdir or locked file */
	PLACE_TRIES_MAX = 50,
	ADMIN_NAMES_MAX = 1000,
};

/* A stream over the directory `path` beneath `directory`; NULL when there is none. */
static DIR *open_listing(int directory, const char *path)
{
	int fd = fs_open_beneath(directory, path, O_RDONLY | O_DIRECTORY, 0);
	DIR *listing = fd < 0 ? NULL : fdopendir(fd);

	if (!listing)
		fd_close(&fd);
	return listing;
}

/* The next entry except "." and ".."; NULL at the end. */
static const char *next_name(DIR *listing)
{
	const struct dirent *entry;

	while ((entry = readdir(listing)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			return entry->d_name;
	return NULL;
}

int repository_list_root(struct repository *repository, struct names_taken *ret, struct err *err)
{
	DIR *listing = open_listing(repository->root, ".");
	const char *name;

	if (!listing)
		return err_set(err, -errno, "cannot list '%s'", repository->root_path);
	while ((name = next_name(listing)))
		names_taken_add(ret, name, strlen(name));
	closedir(listing);
	return 0;
}

/* True when the file holds `text` and a line break or nothing after it. */
static bool file_says(int directory, const char *path, const char *text)
{
	CLEANUP_BUF struct buf content = BUF_INIT;
	size_t length = strlen(text);

	if (fs_read_file(directory, path, &content, POINTER_BYTES_MAX) < 0 || content.length < length)
		return false;
	return memcmp(content.bytes, text, length) == 0 && strspn(content.bytes + length, "\n") == content.length - length;
}

/* ---- making ---- */

/* A file of one line, made anew. Not synced: an intent stands behind it. */
static int write_line(int directory, const char *name, const char *line)
{
	CLEANUP_FREE char *text = xasprintf("%s\n", line);
	CLEANUP_FD int fd = fs_open_beneath(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0666);

	return fd < 0 ? fd : fd_write_all(fd, text, strlen(text));
}

/* The admin directory with all that git wants in it, beside the place where it will be. */
static int fill_admin(const struct repository *repository, int admin, const struct record *intent, const char *reason)
{
	CLEANUP_FREE char *target = xasprintf("%s/%s/.git", repository->root_path, intent->directory);
	CLEANUP_FREE char *head = xasprintf("ref: refs/heads/%s", intent->branch);
	int error = write_line(admin, "locked", reason);

	if (error == 0)
		error = write_line(admin, "gitdir", target);
	if (error == 0)
		error = write_line(admin, "commondir", "../..");
	return error == 0 ? write_line(admin, "HEAD", head) : error;
}

/* Gives the admin directory its place under the first free name, after saying that name in the worktree's .git file. */
static int place_admin_in(const struct repository *repository, int worktrees, const char *name, int worktree,
                          const char *directory)
{
	for (unsigned i = 0; i < ADMIN_NAMES_MAX; i++) {
		CLEANUP_FREE char *admin = i == 0 ? xstrdup(directory) : xasprintf("%s%u", directory, i);
		CLEANUP_FREE char *pointer = xasprintf("gitdir: %s/worktrees/%s", repository->common_path, admin);
		int error;

		if (faccessat(worktrees, admin, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		error = write_line(worktree, ".git", pointer);
		if (error < 0)
			return error;
		if (renameat2(repository->making, name, worktrees, admin, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

/* A foreign `git worktree prune` removes worktrees/ whenever it is empty: then it is made again. */
static int place_admin(const struct repository *repository, const char *name, int worktree, const char *directory)
{
	int error = -ENOENT;

	for (unsigned try = 0; error == -ENOENT && try < PLACE_TRIES_MAX; try++) {
		CLEANUP_FD int worktrees = fs_make_directory(repository->common, "worktrees", 0777);

		if (worktrees < 0 && worktrees != -ENOENT)
			return worktrees;
		if (worktrees >= 0)
			error = place_admin_in(repository, worktrees, name, worktree, directory);
	}
	return error;
}

static char *making_name(const struct record *intent)
{
	char key[REPOSITORY_KEY_MAX];

	repository_format_key(intent->owner, intent->task, key);
	return xasprintf("%s-%" PRIu32, key, intent->attempt);
}

int repository_unmake_worktree(struct repository *repository, const struct record *intent, struct err *err)
{
	CLEANUP_FREE char *name = making_name(intent);

	return fs_remove_tree(repository->making, name, err);
}

int repository_make_worktree(struct repository *repository, const struct record *intent, const char *reason, struct err *err)
{
	CLEANUP_FREE char *name = making_name(intent);
	CLEANUP_FD int admin = -1;
	CLEANUP_FD int worktree = -1;
	int error = repository_unmake_worktree(repository, intent, err);

	if (error < 0)
		return error;
	admin = fs_make_directory(repository->making, name, 0777);
	error = admin < 0 ? admin : fill_admin(repository, admin, intent, reason);
	if (error == 0 && mkdirat(repository->root, intent->directory, 0777) < 0)
		error = -errno;
	if (error == 0) {
		worktree = fs_open_beneath(repository->root, intent->directory, O_RDONLY | O_DIRECTORY, 0);
		error = worktree < 0 ? worktree : place_admin(repository, name, worktree, intent->directory);
	}
	if (error < 0)
		err_set(err, error, "cannot make the worktree '%s/%s'", repository->root_path, intent->directory);
	return error;
}

bool repository_is_plain(const struct repository *repository)
{
	return faccessat(repository->common, "reftable", F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
	       faccessat(repository->common, "config.worktree", F_OK, AT_SYMLINK_NOFOLLOW) < 0;
}

/* ---- finding ---- */

bool repository_is_admin_of(struct repository *repository, const char *admin, const char *directory)
{
	CLEANUP_FREE char *file = xasprintf("worktrees/%s/gitdir", admin);
	CLEANUP_FREE char *common = xasprintf("worktrees/%s/commondir", admin);
	CLEANUP_FREE char *target = xasprintf("%s/%s/.git", repository->root_path, directory);

	/* git looks for refs where this file says, whatever GIT_COMMON_DIR is; a task may have written to it. */
	return file_says(repository->common, file, target) && file_says(repository->common, common, "../..");
}

char *repository_find_admin(struct repository *repository, const char *directory)
{
	CLEANUP_FREE char *file = xasprintf("%s/.git", directory);
	CLEANUP_FREE char *before = xasprintf("gitdir: %s/worktrees/", repository->common_path);
	CLEANUP_BUF struct buf content = BUF_INIT;
	CLEANUP_FREE char *admin = NULL;

	if (fs_read_file(repository->root, file, &content, POINTER_BYTES_MAX) < 0 || content.length == 0 ||
	    strncmp(content.bytes, before, strlen(before)) != 0)
		return NULL;
	admin = xstrdup(content.bytes + strlen(before));
	admin[strcspn(admin, "\n")] = '\0';
	if (!*admin || *admin == '.' || strchr(admin, '/') || !repository_is_admin_of(repository, admin, directory))
		return NULL;
	return TAKE_PTR(admin);
}

/* What a killed `git worktree add` of ours has begun: locked for our reason, and no other worktree's yet. */
static bool is_begun_by_us(struct repository *repository, const char *admin, const char *directory, const char *reason)
{
	CLEANUP_FREE char *locked = xasprintf("worktrees/%s/locked", admin);
	CLEANUP_FREE char *gitdir = xasprintf("worktrees/%s/gitdir", admin);
	CLEANUP_FREE char *target = xasprintf("%s/%s/.git", repository->root_path, directory);
	CLEANUP_BUF struct buf content = BUF_INIT;

	return file_says(repository->common, locked, reason) &&
	       (faccessat(repository->common, gitdir, F_OK, AT_SYMLINK_NOFOLLOW) < 0 ||
	        file_says(repository->common, gitdir, target) ||
	        (fs_read_file(repository->common, gitdir, &content, POINTER_BYTES_MAX) == 0 && content.length == 0));
}

char *repository_search_admin(struct repository *repository, const char *directory, const char *reason)
{
	DIR *listing = open_listing(repository->common, "worktrees");
	const char *name;
	char *found = NULL;

	while (listing && !found && (name = next_name(listing)))
		if (repository_is_admin_of(repository, name, directory) ||
		    (reason && is_begun_by_us(repository, name, directory, reason)))
			found = xstrdup(name);
	if (listing)
		closedir(listing);
	return found;
}

/* -ELOOP when `path`, below the directory `base` of the repository, is a symbolic link or beyond one. */
static int check_no_link(const struct repository *repository, const char *base, const char *path, struct err *err)
{
	CLEANUP_FD int directory = openat(repository->common, base, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int fd = directory < 0 ? -ENOENT : fs_open_beneath(directory, path, O_PATH, 0);

	if (fd == -ELOOP)
		return err_say(err, -ELOOP,
		               "'%s/%s/%s' is a symbolic link, made by a task: drover does not write through it",
		               repository->common_path, base, path);
	return 0;
}

int repository_check_links(const struct repository *repository, const char *admin, const char *branch, struct err *err)
{
	static const char *const files[] = { "index", "HEAD", "logs/HEAD", "config.worktree", "info/sparse-checkout" };
	int error = check_no_link(repository, "refs/heads", branch, err);

	if (error == 0)
		error = check_no_link(repository, "logs/refs/heads", branch, err);
	for (size_t i = 0; error == 0 && i < ARRAY_SIZE(files); i++) {
		CLEANUP_FREE char *file = xasprintf("%s/%s", admin, files[i]);

		error = check_no_link(repository, "worktrees", file, err);
	}
	return error;
}

int repository_point_admin(struct repository *repository, const char *admin, const char *directory, struct err *err)
{
	CLEANUP_FREE char *path = xasprintf("worktrees/%s", admin);
	CLEANUP_FREE char *target = xasprintf("%s/%s/.git", repository->root_path, directory);
	CLEANUP_FD int fd = fs_open_beneath(repository->common, path, O_PATH | O_DIRECTORY, 0);
	int error = fd < 0 ? fd : write_line(fd, "gitdir", target);

	return error < 0 ? err_set(err, error, "cannot write '%s/%s/gitdir'", repository->common_path, path) : 0;
}

void repository_unlock_admin(struct repository *repository, const char *admin)
{
	CLEANUP_FREE char *path = xasprintf("worktrees/%s", admin);
	CLEANUP_FD int fd = fs_open_beneath(repository->common, path, O_PATH | O_DIRECTORY, 0);

	if (fd >= 0)
		(void)unlinkat(fd, "locked", 0); /* if it stays, only `git worktree list` is longer */
}

/* `git worktree add` makes this file first, and then writes into it. */
static void clear_empty_locked(struct repository *repository, const char *admin, const struct repository_claim *claim)
{
	CLEANUP_FREE char *locked = xasprintf("worktrees/%s/locked", admin);
	struct stat st;

	if (fstatat(repository->common, locked, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size == 0)
		repository_clear_lock_file(repository, locked, claim);
}

void repository_remove_empty_admins(struct repository *repository, const char *directory,
                                    const struct repository_claim *claim)
{
	DIR *listing = open_listing(repository->common, "worktrees");
	size_t length = strlen(directory);
	const char *name;

	while (listing && (name = next_name(listing))) {
		if (strncmp(name, directory, length) != 0 || name[length + strspn(name + length, "0123456789")] != '\0')
			continue;
		if (unlinkat(dirfd(listing), name, AT_REMOVEDIR) == 0 || errno != ENOTEMPTY)
			continue;
		clear_empty_locked(repository, name, claim);
		(void)unlinkat(dirfd(listing), name, AT_REMOVEDIR); /* fails when there is something else in it */
	}
	if (listing)
		closedir(listing);
}

/* ---- trash ---- */

/* A directory goes to another one only when its own ".." may be written; a task may have taken that right away. */
static void make_movable(int from, const char *name)
{
	CLEANUP_FD int fd = fs_open_beneath(from, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	char path[sizeof("/proc/self/fd/") + 12];
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || (st.st_mode & 0700) == 0700)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	(void)chmod(path, 0700); /* the move fails by itself if this did */
}

/* Renames from/name to into/trash, or to a longer name when that is taken. What is not there is success. */
static int move_to_trash(int from, const char *name, int into, const char *trash)
{
	CLEANUP_FREE char *longer = xasprintf("%s-%llx", trash, (unsigned long long)random_u64());

	make_movable(from, name);
	if (renameat2(from, name, into, trash, RENAME_NOREPLACE) == 0 || errno == ENOENT)
		return 0;
	if (errno == EEXIST && renameat2(from, name, into, longer, RENAME_NOREPLACE) == 0)
		return 0;
	return -errno;
}

int repository_trash_worktree(struct repository *repository, const char *directory, const char *trash, struct err *err)
{
	CLEANUP_FD int into = fs_make_directory(repository->root, REPOSITORY_TRASH, 0700);
	int error = into < 0 ? into : move_to_trash(repository->root, directory, into, trash);

	if (error < 0)
		return err_set(err, error, "cannot move '%s/%s' to the trash", repository->root_path, directory);
	return 0;
}

int repository_trash_admin(struct repository *repository, const char *admin, const char *trash, struct err *err)
{
	CLEANUP_FD int from = fs_open_beneath(repository->common, "worktrees", O_RDONLY | O_DIRECTORY, 0);
	int error = from < 0 ? from : move_to_trash(from, admin, repository->admin_trash, trash);

	if (error < 0 && error != -ENOENT)
		return err_set(err, error, "cannot remove '%s/worktrees/%s'", repository->common_path, admin);
	return 0;
}

/* Removes each entry. Returns how many there were; *error is the first that failed. */
static unsigned empty_directory(int directory, int *error, struct err *err)
{
	DIR *listing = open_listing(directory, ".");
	const char *name;
	unsigned count = 0;

	while (listing && (name = next_name(listing))) {
		int problem = fs_remove_tree(directory, name, *error == 0 ? err : NULL);

		count++;
		if (*error == 0)
			*error = problem;
	}
	if (listing)
		closedir(listing);
	return count;
}

int repository_empty_trash(struct repository *repository, struct err *err)
{
	CLEANUP_FD int trash = fs_open_beneath(repository->root, REPOSITORY_TRASH, O_RDONLY | O_DIRECTORY, 0);
	unsigned count = 1;
	int error = 0;

	/* Who finds another at it leaves it to that one, which looks again after giving up the right: so nothing stays. */
	while (count > 0 && error == 0 && repository_try_lock_trash(repository)) {
		count = empty_directory(repository->admin_trash, &error, err);
		if (trash >= 0)
			count += empty_directory(trash, &error, err);
		repository_unlock_trash(repository);
	}
	return error;
}
