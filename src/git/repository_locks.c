/*
 * repository_locks.c - git's own lock files: whose they are, waiting for them, repairing ours. See repository.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/units.h"
#include "git/lock_file.h"
#include "git/repository.h"
#include "platform/clock.h"
#include "platform/fs.h"
#include "platform/holder.h"

enum {
	STEP_MIN_MS = 20,
	STEP_MAX_MS = 1000,
	UNCHANGED_MS = 300, /* a lock file that stays as it is for so long is not just being made */
};

/* How long one that nobody seems to hold is waited for: its holder may be out of our sight. */
#define UNSEEN_NS (5 * NS_PER_SEC)

struct lock_file {
	char *full_path;
	int directory;
	const char *name;
	struct stat seen;
};

static void lock_file_done(struct lock_file *file)
{
	free(file->full_path);
	fd_close(&file->directory);
}

static void open_lock_file(const struct repository *repository, const char *path, struct lock_file *ret)
{
	const char *slash = strrchr(path, '/');
	CLEANUP_FREE char *parent = slash ? xmemdup0(path, (size_t)(slash - path)) : xstrdup(".");

	*ret = (struct lock_file){
		.full_path = xasprintf("%s/%s", repository->common_path, path),
		.directory = fs_open_beneath(repository->common, parent, O_PATH | O_DIRECTORY, 0),
		.name = slash ? slash + 1 : path,
	};
}

/* True when it is there; *ret_is_same tells whether it is the one that was seen last time. */
static bool look_at(struct lock_file *file, bool *ret_is_same)
{
	struct stat now;

	if (file->directory < 0 || fstatat(file->directory, file->name, &now, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	*ret_is_same = now.st_ino == file->seen.st_ino && now.st_mtim.tv_sec == file->seen.st_mtim.tv_sec &&
	               now.st_mtim.tv_nsec == file->seen.st_mtim.tv_nsec;
	file->seen = now;
	return true;
}

static int64_t time_ms(const struct timespec *time)
{
	return (int64_t)time->tv_sec * 1000 + time->tv_nsec / (long)NS_PER_MS;
}

static pid_t find_holder(const struct repository *repository, const struct lock_file *file)
{
	const char *const directories[] = { repository->common_path, repository->top_path, repository->root_path, NULL };

	return holder_find("/proc", &file->seen, directories);
}

/* Made while its place was only the task's and ours, by somebody who is dead. */
static bool is_ours(const struct repository *repository, const struct lock_file *file, const struct repository_claim *claim)
{
	int64_t made = time_ms(&file->seen.st_mtim);

	return S_ISREG(file->seen.st_mode) && made >= claim->since_ms && made <= claim->until_ms &&
	       find_holder(repository, file) == 0;
}

/* ---- public ---- */

void repository_clear_lock_file(const struct repository *repository, const char *path, const struct repository_claim *claim)
{
	CLEANUP(lock_file_done) struct lock_file file;
	bool is_same;

	open_lock_file(repository, path, &file);
	if (look_at(&file, &is_same) && is_ours(repository, &file, claim))
		(void)unlinkat(file.directory, file.name, 0); /* if it fails, git says which file is in the way */
}

bool repository_has_file(const struct repository *repository, const char *path)
{
	CLEANUP(lock_file_done) struct lock_file file;
	bool is_same;

	open_lock_file(repository, path, &file);
	return look_at(&file, &is_same);
}

int repository_await_lock_file(const struct repository *repository, const char *path, const struct repository_claim *claim,
                               struct err *err)
{
	CLEANUP(lock_file_done) struct lock_file file;
	uint64_t begin_ns = clock_monotonic_ns();
	uint64_t since_ns = begin_ns;
	int step_ms = STEP_MIN_MS;
	bool is_same = false;

	open_lock_file(repository, path, &file);
	while (look_at(&file, &is_same)) {
		uint64_t now_ns = clock_monotonic_ns();
		bool is_settled;

		if (!is_same) { /* another holder: the one before it has let go */
			since_ns = now_ns;
			step_ms = STEP_MIN_MS;
		}
		is_settled = now_ns - since_ns >= UNCHANGED_MS * NS_PER_MS;
		if (is_settled && is_ours(repository, &file, claim)) {
			(void)unlinkat(file.directory, file.name, 0);
			return 0;
		}
		if (now_ns - begin_ns >= repository->lock_timeout_ns ||
		    (now_ns - since_ns >= UNSEEN_NS && find_holder(repository, &file) == 0))
			return lock_file_say(file.full_path, &file.seen, find_holder(repository, &file), err);
		poll(NULL, 0, step_ms);
		step_ms = MIN(step_ms * 2, (int)STEP_MAX_MS);
	}
	return 0;
}
