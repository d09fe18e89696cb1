/*
 * retention.c - forgets finished tasks, their logs and what only they used: by age, by number, or asked to.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "daemon/methods.h"

enum { FORGET_PER_CALL = 500 };

/* A file that goes once the forgetting is durable; before, a crash would leave a task without its log. */
struct doomed {
	uint64_t task;
	uint32_t attempts;
};

static void unlink_quietly(struct daemon *daemon, const char *name)
{
	if (unlinkat(daemon->state_fd, name, 0) < 0 && errno != ENOENT)
		log_warning("%s/%s cannot be removed", daemon->state_dir, name);
}

static void drop_environment(void *context, const char *name)
{
	unlink_quietly(context, name);
}

/* On a full disk at once: nothing else would make the room that is waited for. */
static void remove_files(struct daemon *daemon, void *context, const struct err *failure)
{
	struct doomed *doomed = context;
	bool is_kept = failure && !daemon->is_full;
	char name[64];
	char error_name[80];

	for (uint32_t attempt = 1; !is_kept && attempt <= doomed->attempts; attempt++) {
		attempts_log_name(doomed->task, attempt, name);
		unlink_quietly(daemon, name);
		snprintf(error_name, sizeof(error_name), "%s.err", name);
		unlink_quietly(daemon, error_name);
	}
	snprintf(name, sizeof(name), "after/%llu.json", (unsigned long long)doomed->task);
	if (!is_kept)
		unlink_quietly(daemon, name);
	free(doomed);
}

static void forget_batch(struct daemon *daemon, struct roster_batch *batch)
{
	struct core_event event = { .kind = CORE_FORGET_BATCH, .batch = batch->id };

	if (turn_step(daemon, &event) < 0)
		return;
	pauses_forget(daemon, batch->id);
	store_txn_forget_batch(turn_txn(daemon), batch->id);
	roster_forget_batch(&daemon->roster, batch);
}

int retention_forget(struct daemon *daemon, uint32_t index)
{
	const struct task *task = core_task_at(daemon->core, index);
	struct core_event event = { .kind = CORE_FORGET_TASK, .task = task->id };
	struct roster_batch *batch = roster_task(&daemon->roster, index)->batch;
	struct doomed *doomed;
	uint32_t attempts = task->attempt;
	uint64_t id = task->id;

	if (!task_state_is_final(task->state) || turn_step(daemon, &event) < 0)
		return -EBUSY;
	turn_drop_dirty(daemon, index);
	roster_forget(&daemon->roster, index);
	store_txn_forget_task(turn_txn(daemon), id);
	doomed = xcalloc(1, sizeof(*doomed));
	*doomed = (struct doomed){ .task = id, .attempts = attempts };
	turn_after_commit(daemon, remove_files, doomed);
	if (batch->task_count == 0)
		forget_batch(daemon, batch);
	return 0;
}

static uint32_t count_finished(struct daemon *daemon)
{
	struct core_totals totals;
	uint32_t count = 0;

	core_count(daemon->core, &totals);
	for (unsigned state = 0; state < TASK_STATE_MAX; state++)
		if (task_state_is_final(state))
			count += totals.by_state[state];
	return count;
}

/* ext4 creates files up to ten times slower beside deletions (it passes over inodes freed in the last seconds). */
static bool is_busy(const struct daemon *daemon)
{
	struct core_totals totals;

	core_count(daemon->core, &totals);
	return totals.active > 0;
}

/* By core time: the wall clock may be set at any moment, and by years. */
static bool is_too_old(const struct daemon *daemon, const struct task *task)
{
	return daemon->now_ns - MIN(task->ended_ns, daemon->now_ns) >= daemon->settings.keep_ns;
}

bool retention_run(struct daemon *daemon)
{
	uint32_t finished = count_finished(daemon);
	uint32_t forgotten = 0;
	uint32_t next;

	if (daemon->is_broken || (is_busy(daemon) && finished < 2 * daemon->settings.keep_tasks))
		return false;
	if (turn_is_idle(daemon)) /* else a commit in flight may rest on a blob that has no users for us */
		roster_drop_environments(&daemon->roster, drop_environment, daemon);
	for (uint32_t index = daemon->roster.first; index != TASK_NONE && forgotten < FORGET_PER_CALL; index = next) {
		const struct task *task = core_task_at(daemon->core, index);
		bool is_over = finished > daemon->settings.keep_tasks;

		next = daemon->roster.tasks[index].next;
		if (!task_state_is_final(task->state) || (!is_over && !is_too_old(daemon, task)))
			continue;
		if (retention_forget(daemon, index) == 0) {
			forgotten++;
			finished--;
		}
	}
	return forgotten == FORGET_PER_CALL;
}

void retention_sweep_environments(struct daemon *daemon)
{
	int fd = openat(daemon->state_fd, PATHS_ENVIRONMENTS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;

	while (directory && (entry = readdir(directory))) {
		CLEANUP_FREE char *name = xasprintf(PATHS_ENVIRONMENTS "/%s", entry->d_name);

		if (entry->d_name[0] != '.' && !roster_has_environment(&daemon->roster, name))
			unlink_quietly(daemon, name);
	}
	if (directory)
		closedir(directory);
}
