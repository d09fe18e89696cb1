/*
 * repository.c - see repository.h.
 */
#include "git/repository.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/mix.h"
#include "base/units.h"
#include "platform/fs.h"

enum { LOCK_NOTE_BYTES = 96 };

/* Bytes of the lock file that are locked. */
enum { BYTE_REPOSITORY, BYTE_TRASH, BYTE_TASKS };

#define LOCK_TIMEOUT_NS (60 * NS_PER_SEC)

/* ---- opening ---- */

static bool is_owner_name(const char *owner)
{
	size_t length = strspn(owner, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-");

	return length > 0 && length <= 40 && owner[length] == '\0';
}

void repository_format_key(const char *owner, uint64_t task, char ret[REPOSITORY_KEY_MAX])
{
	snprintf(ret, REPOSITORY_KEY_MAX, "%s%s%" PRIu64, owner ? owner : "", owner ? "." : "", task);
}

/* The main worktree's top, where the common directory is its .git; else (separate git dir, submodule, bare) the given one.
 */
static char *find_top(const char *common_path, const char *top)
{
	const char *end = strrchr(common_path, '/');

	if (end && end > common_path && strcmp(end, "/.git") == 0)
		return xmemdup0(common_path, (size_t)(end - common_path));
	return realpath(top, NULL);
}

static int open_paths(const char *common_dir, const char *top, struct repository *repository, struct err *err)
{
	repository->common_path = realpath(common_dir, NULL);
	if (!repository->common_path)
		return err_set(err, -errno, "the repository '%s' cannot be opened", common_dir);
	repository->top_path = find_top(repository->common_path, top);
	if (!repository->top_path)
		return err_set(err, -errno, "the worktree '%s' cannot be opened", top);
	if (strchr(repository->common_path, '\n') || strchr(repository->top_path, '\n'))
		return err_say(err, -EILSEQ, "the repository's path has a line break in it, which git's files cannot hold");
	repository->root_path = xasprintf("%s/" REPOSITORY_ROOT, repository->top_path);
	return 0;
}

static int make_our_directory(int parent, const char *name, const char *where, struct err *err)
{
	int fd = fs_make_directory(parent, name, 0755);

	if (fd == -ELOOP || fd == -ENOTDIR)
		return err_say(err, -ELOOP, "'%s/%s' is not a directory of drover's: move it away", where, name);
	if (fd < 0)
		return err_set(err, fd, "cannot make the directory '%s/%s'", where, name);
	return fd;
}

static int open_drover(struct repository *repository, struct err *err)
{
	CLEANUP_FD int drover = make_our_directory(repository->common, "drover", repository->common_path, err);

	if (drover < 0)
		return drover;
	repository->intents = make_our_directory(drover, "intents", repository->common_path, err);
	if (repository->intents < 0)
		return repository->intents;
	repository->records = make_our_directory(drover, "worktrees", repository->common_path, err);
	if (repository->records < 0)
		return repository->records;
	repository->making = make_our_directory(drover, "making", repository->common_path, err);
	if (repository->making < 0)
		return repository->making;
	repository->admin_trash = make_our_directory(drover, "trash", repository->common_path, err);
	if (repository->admin_trash < 0)
		return repository->admin_trash;
	repository->lock = fs_open_beneath(drover, "lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0644);
	if (repository->lock < 0)
		return err_set(err, repository->lock, "cannot open the lock '%s/drover/lock'", repository->common_path);
	return 0;
}

/* The ignore file that ignores itself as well. Forty first calls at once write it one after another. */
static int write_ignore_file(struct repository *repository, struct err *err)
{
	int error;

	if (faccessat(repository->root, ".gitignore", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	error = repository_lock(repository, err);
	if (error < 0)
		return error;
	error = fs_write_atomic(repository->root, ".gitignore", "*\n", 2, 0644);
	repository_unlock(repository);
	return error < 0 ? err_set(err, error, "cannot write '%s/.gitignore'", repository->root_path) : 0;
}

static int open_root(struct repository *repository, struct err *err)
{
	CLEANUP_FD int top = open(repository->top_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (top < 0)
		return err_set(err, -errno, "cannot open '%s'", repository->top_path);
	repository->root = make_our_directory(top, REPOSITORY_ROOT, repository->top_path, err);
	if (repository->root < 0)
		return repository->root;
	if (fstat(repository->root, &st) < 0 || st.st_uid != geteuid())
		return err_say(err, -ELOOP, "'%s' belongs to user %u, not to you: drover does not write there",
		               repository->root_path, (unsigned)st.st_uid);
	return write_ignore_file(repository, err);
}

int repository_open(const struct worktree_request *request, struct repository *ret, struct err *err)
{
	struct repository repository = {
		.common = -1,
		.intents = -1,
		.records = -1,
		.making = -1,
		.admin_trash = -1,
		.lock = -1,
		.root = -1,
		.task = request->task,
		.attempt = request->attempt,
		.lock_timeout_ns = request->lock_timeout_ns ? request->lock_timeout_ns : LOCK_TIMEOUT_NS,
	};
	char key[REPOSITORY_KEY_MAX];
	int error;

	if (request->owner && !is_owner_name(request->owner))
		return err_say(err, -EBADMSG, "the owner of a request must match [A-Za-z0-9-]{1,40}");
	if (request->task == 0 || request->attempt == 0 || !names_is_hash(request->commit))
		return err_say(err, -EBADMSG, "a request needs task and attempt above 0 and the full hash of a commit");
	repository_format_key(request->owner, request->task, key);
	repository.key = xstrdup(key);
	error = open_paths(request->common_dir, request->top, &repository, err);
	if (error == 0) {
		repository.common = open(repository.common_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (repository.common < 0)
			error = err_set(err, -errno, "cannot open the repository '%s'", repository.common_path);
	}
	if (error == 0)
		error = open_drover(&repository, err);
	if (error == 0)
		error = open_root(&repository, err);
	if (error < 0) {
		repository_done(&repository);
		return error;
	}
	*ret = repository;
	return 0;
}

/* A directory of ours if it is there: then *fd is it, and else −1. A link in its place is an error. */
static int look_for(int parent, const char *path, int *fd, struct err *err)
{
	int found = parent < 0 ? -ENOENT : fs_open_beneath(parent, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

	if (found < 0 && found != -ENOENT)
		return err_set(err, found, "'%s' is not a directory of drover's, or cannot be opened", path);
	*fd = MAX(found, -1);
	return 0;
}

int repository_look(const char *common_dir, const char *top, struct repository *ret, struct err *err)
{
	struct repository repository = { .common = -1,
		                         .intents = -1,
		                         .records = -1,
		                         .making = -1,
		                         .admin_trash = -1,
		                         .lock = -1,
		                         .root = -1,
		                         .lock_timeout_ns = LOCK_TIMEOUT_NS };
	CLEANUP_FD int directory = -1;
	int error = open_paths(common_dir, top, &repository, err);

	repository_set_task(&repository, NULL, 0, 0);
	if (error == 0) {
		repository.common = open(repository.common_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (repository.common < 0)
			error = err_set(err, -errno, "cannot open the repository '%s'", repository.common_path);
	}
	if (error == 0)
		error = look_for(repository.common, "drover/intents", &repository.intents, err);
	if (error == 0)
		error = look_for(repository.common, "drover/worktrees", &repository.records, err);
	if (error == 0)
		error = look_for(repository.common, "drover/making", &repository.making, err);
	if (error == 0)
		error = look_for(repository.common, "drover/trash", &repository.admin_trash, err);
	if (error == 0)
		repository.lock = MAX(fs_open_beneath(repository.common, "drover/lock", O_RDWR | O_NOFOLLOW, 0), -1);
	directory = error == 0 ? open(repository.top_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (error == 0)
		error = look_for(directory, REPOSITORY_ROOT, &repository.root, err);
	if (error < 0) {
		repository_done(&repository);
		return error;
	}
	*ret = repository;
	return 0;
}

void repository_set_task(struct repository *repository, const char *owner, uint64_t task, uint32_t attempt)
{
	char key[REPOSITORY_KEY_MAX];

	repository_format_key(owner, task, key);
	free(repository->key);
	repository->key = xstrdup(key);
	repository->task = task;
	repository->attempt = attempt;
}

void repository_done(struct repository *repository)
{
	free(repository->common_path);
	free(repository->top_path);
	free(repository->root_path);
	free(repository->key);
	fd_close(&repository->common);
	fd_close(&repository->intents);
	fd_close(&repository->records);
	fd_close(&repository->making);
	fd_close(&repository->admin_trash);
	fd_close(&repository->lock);
	fd_close(&repository->root);
}

/* ---- locks ---- */

/* Where a task's byte is. Two tasks that share one by chance only wait for each other. */
static off_t task_byte(const char *key)
{
	uint64_t hash = 0;

	for (const char *at = key; *at; at++)
		hash = mix64(hash ^ (unsigned char)*at);
	return (off_t)(BYTE_TASKS + (hash >> 2));
}

static int lock_byte(const struct repository *repository, off_t byte, short type, int command)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	return fcntl(repository->lock, command, &lock) < 0 ? -errno : 0;
}

static void wake_up(int signal UNUSED)
{
}

/* Waits in the kernel, so that waiters come in turn and cost nothing; the alarm ends the wait. */
static int lock_within(const struct repository *repository, off_t byte)
{
	struct sigaction action = { .sa_handler = wake_up };
	struct itimerval timer = { .it_interval = { .tv_usec = 100000 } }; /* again, should the first come before the wait */
	struct itimerval off = { 0 };
	int error = lock_byte(repository, byte, F_WRLCK, F_OFD_SETLK);

	if (error == 0)
		return 0;
	timer.it_value.tv_sec = (time_t)(repository->lock_timeout_ns / NS_PER_SEC);
	timer.it_value.tv_usec = (suseconds_t)(repository->lock_timeout_ns % NS_PER_SEC / NS_PER_US);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	error = lock_byte(repository, byte, F_WRLCK, F_OFD_SETLKW);
	setitimer(ITIMER_REAL, &off, NULL);
	return error == -EINTR ? -ETIMEDOUT : error;
}

/* Says who waits for whom; the kernel does not know the holder of an OFD lock, so each holder leaves its number. */
static int say_busy(const struct repository *repository, const char *what, int error, struct err *err)
{
	char note[LOCK_NOTE_BYTES + 1] = "";
	ssize_t length = pread(repository->lock, note, LOCK_NOTE_BYTES, 0);

	note[MAX(length, 0)] = '\0';
	note[strcspn(note, "\n")] = '\0';
	if (error != -ETIMEDOUT)
		return err_set(err, error, "cannot lock '%s/drover/lock'", repository->common_path);
	return err_say(err, error, "%s in '%s' was not free within %" PRIu64 " s; last taken by %s: see what that waits for",
	               what, repository->common_path, repository->lock_timeout_ns / NS_PER_SEC,
	               note[0] ? note : "nobody known");
}

int repository_lock_task(struct repository *repository, struct err *err)
{
	CLEANUP_FREE char *what = NULL;
	int error = lock_within(repository, task_byte(repository->key));

	if (error == 0)
		return 0;
	what = xasprintf("task %" PRIu64, repository->task);
	return say_busy(repository, what, error, err);
}

void repository_unlock_task(struct repository *repository)
{
	(void)lock_byte(repository, task_byte(repository->key), F_UNLCK, F_OFD_SETLK);
}

int repository_lock(struct repository *repository, struct err *err)
{
	char note[LOCK_NOTE_BYTES];
	int error = lock_within(repository, BYTE_REPOSITORY);

	if (error < 0)
		return say_busy(repository, "the lock for worktrees", error, err);
	memset(note, ' ', sizeof(note));
	snprintf(note, sizeof(note), "process %d (task %" PRIu64 ", attempt %" PRIu32 ")\n", (int)getpid(), repository->task,
	         repository->attempt);
	/* Should it fail, because the disk is full, only the sentence above is poorer: worktrees can still be removed. */
	(void)!pwrite(repository->lock, note, sizeof(note), 0);
	return 0;
}

void repository_unlock(struct repository *repository)
{
	(void)lock_byte(repository, BYTE_REPOSITORY, F_UNLCK, F_OFD_SETLK);
}

bool repository_is_own(const struct repository *repository, const struct record *record)
{
	char key[REPOSITORY_KEY_MAX];

	repository_format_key(record->owner, record->task, key);
	return strcmp(key, repository->key) == 0;
}

bool repository_try_lock_other(struct repository *repository, const struct record *record)
{
	char key[REPOSITORY_KEY_MAX];

	repository_format_key(record->owner, record->task, key);
	if (task_byte(key) == task_byte(repository->key))
		return repository_is_own(repository, record);
	return lock_byte(repository, task_byte(key), F_WRLCK, F_OFD_SETLK) == 0;
}

void repository_unlock_other(struct repository *repository, const struct record *record)
{
	char key[REPOSITORY_KEY_MAX];

	repository_format_key(record->owner, record->task, key);
	if (task_byte(key) != task_byte(repository->key))
		(void)lock_byte(repository, task_byte(key), F_UNLCK, F_OFD_SETLK);
}

bool repository_try_lock_trash(struct repository *repository)
{
	return lock_byte(repository, BYTE_TRASH, F_WRLCK, F_OFD_SETLK) == 0;
}

void repository_unlock_trash(struct repository *repository)
{
	(void)lock_byte(repository, BYTE_TRASH, F_UNLCK, F_OFD_SETLK);
}
