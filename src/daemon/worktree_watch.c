#include "daemon/worktree_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "daemon/daemon.h"

enum { ROOTS_KEPT = 32, READ_AT_ONCE = 16384 };

#define WATCHED (IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_DONT_FOLLOW)

/* ---- looking ---- */

static const char *worktree_of(const struct roster_task *texts)
{
	return json_string_value(json_object_get(texts->result, "path"));
}

/* True for "ROOT/NAME", or with a NULL name for anything in the root. */
static bool is_at(const char *path, const char *root, const char *name)
{
	size_t length = strlen(root);

	return strncmp(path, root, length) == 0 && path[length] == '/' && (!name || strcmp(path + length + 1, name) == 0);
}

/* Still the directory of a worktree: not a link or a file, and not another directory in its place. */
static bool is_standing(const char *path)
{
	CLEANUP_FD int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd >= 0 && faccessat(fd, ".git", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool is_in_use(const struct task *task)
{
	return task->state == TASK_RUNNING || task->state == TASK_SUSPENDED || task->state == TASK_STOPPING;
}

static void look_at_task(struct daemon *daemon, const struct task *task, const char *root, const char *name)
{
	struct roster_task *texts = roster_task(&daemon->roster, core_index(daemon->core, task->id));
	const char *path = worktree_of(texts);

	if (!path || !is_at(path, root, name) || (texts->conditions & CONDITION_WORKTREE_MISSING) || is_standing(path))
		return;
	texts->conditions |= CONDITION_WORKTREE_MISSING;
	log_warning(
		"task %llu: its worktree '%s' was deleted, replaced or moved while it runs; what is on its branch is kept",
		(unsigned long long)task->id, path);
}

/* Looks at the tasks in the root that may have lost their worktree: the one called `name`, or with NULL all of them. */
static void look(struct daemon *daemon, const char *root, const char *name)
{
	for (uint32_t slot = 0; slot < LIMIT_SLOTS; slot++) {
		const struct attempt_slot *attempt = daemon->attempts.slots[slot];
		const struct task *task = attempt && attempt->task ? core_find(daemon->core, attempt->task) : NULL;

		if (task && is_in_use(task))
			look_at_task(daemon, task, root, name);
	}
}

/* ---- watching ---- */

static struct watched_root *find_root(struct worktree_watch *watch, int number)
{
	for (uint32_t i = 0; i < watch->count; i++)
		if (watch->roots[i].number == number)
			return &watch->roots[i];
	return NULL;
}

static void forget_root(struct worktree_watch *watch, struct watched_root *root)
{
	free(root->path);
	*root = watch->roots[--watch->count];
}

static void on_notice(struct daemon *daemon, const struct inotify_event *event)
{
	struct worktree_watch *watch = &daemon->worktree_watch;
	struct watched_root *root = find_root(watch, event->wd);

	if (event->mask & IN_Q_OVERFLOW)
		for (uint32_t i = 0; i < watch->count; i++)
			look(daemon, watch->roots[i].path, NULL);
	if (!root)
		return;
	if (event->mask & (IN_DELETE | IN_MOVED_FROM))
		look(daemon, root->path, event->name);
	else
		look(daemon, root->path, NULL); /* the root itself has gone, and all that was in it */
	if (event->mask & IN_MOVE_SELF)
		inotify_rm_watch(watch->fd, event->wd); /* it is elsewhere now; IN_IGNORED follows */
	if (event->mask & IN_IGNORED)
		forget_root(watch, root);
}

static void on_readable(uv_poll_t *poll, int status UNUSED, int events UNUSED)
{
	struct daemon *daemon = poll->data;
	_Alignas(struct inotify_event) char bytes[READ_AT_ONCE];
	ssize_t length = read(daemon->worktree_watch.fd, bytes, sizeof(bytes));

	for (ssize_t at = 0; at < length;) {
		const struct inotify_event *event = (const struct inotify_event *)(bytes + at);

		on_notice(daemon, event);
		at += (ssize_t)(sizeof(*event) + event->len);
	}
}

/* Opened with the first worktree: who has none has no descriptor for them. */
static bool is_open(struct daemon *daemon)
{
	struct worktree_watch *watch = &daemon->worktree_watch;

	if (watch->fd >= 0)
		return true;
	watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (watch->fd < 0) {
		log_debug("worktrees are not watched: %s", strerror(errno));
		return false;
	}
	watch->poll = xcalloc(1, sizeof(*watch->poll));
	watch->poll->data = daemon;
	if (uv_poll_init(daemon->loop, watch->poll, watch->fd) < 0 ||
	    uv_poll_start(watch->poll, UV_READABLE, on_readable) < 0)
		NEVER("an inotify descriptor can be polled");
	return true;
}

static bool has_user(struct daemon *daemon, const char *root)
{
	for (uint32_t slot = 0; slot < LIMIT_SLOTS; slot++) {
		const struct attempt_slot *attempt = daemon->attempts.slots[slot];
		uint32_t index = attempt && attempt->task ? core_index(daemon->core, attempt->task) : TASK_NONE;
		const char *path = index == TASK_NONE ? NULL : worktree_of(roster_task(&daemon->roster, index));

		if (path && is_at(path, root, NULL))
			return true;
	}
	return false;
}

/* A daemon that lives for months sees many repositories; those without a running task are not watched for ever. */
static void drop_unused(struct daemon *daemon)
{
	struct worktree_watch *watch = &daemon->worktree_watch;

	for (uint32_t i = watch->count; i-- > 0;) {
		if (has_user(daemon, watch->roots[i].path))
			continue;
		inotify_rm_watch(watch->fd, watch->roots[i].number);
		forget_root(watch, &watch->roots[i]);
	}
}

void worktree_watch_init(struct daemon *daemon)
{
	daemon->worktree_watch = (struct worktree_watch){ .fd = -1 };
}

void worktree_watch_add(struct daemon *daemon, uint32_t index)
{
	struct worktree_watch *watch = &daemon->worktree_watch;
	const char *path = worktree_of(roster_task(&daemon->roster, index));
	const char *end = path ? strrchr(path, '/') : NULL;
	CLEANUP_FREE char *root = end && end > path ? xmemdup0(path, (size_t)(end - path)) : NULL;
	int number;

	if (!root || !is_open(daemon))
		return;
	number = inotify_add_watch(watch->fd, root, WATCHED);
	if (number < 0) {
		log_debug("'%s' is not watched: %s", root, strerror(errno));
		return;
	}
	if (find_root(watch, number))
		return;
	if (watch->count >= ROOTS_KEPT)
		drop_unused(daemon);
	watch->roots = xrealloc(watch->roots, (watch->count + 1) * sizeof(*watch->roots));
	watch->roots[watch->count++] = (struct watched_root){ .number = number, .path = TAKE_PTR(root) };
}

void worktree_watch_resume(struct daemon *daemon)
{
	for (uint32_t slot = 0; slot < LIMIT_SLOTS; slot++) {
		const struct attempt_slot *attempt = daemon->attempts.slots[slot];
		const struct task *task = attempt && attempt->task ? core_find(daemon->core, attempt->task) : NULL;
		uint32_t index = task ? core_index(daemon->core, task->id) : TASK_NONE;
		const char *path = task ? worktree_of(roster_task(&daemon->roster, index)) : NULL;

		if (!path || !is_in_use(task))
			continue;
		worktree_watch_add(daemon, index);
		look_at_task(daemon, task, "", NULL);
	}
}

static void on_poll_closed(uv_handle_t *handle)
{
	free(handle);
}

void worktree_watch_done(struct daemon *daemon)
{
	struct worktree_watch *watch = &daemon->worktree_watch;

	while (watch->count > 0)
		forget_root(watch, &watch->roots[0]);
	free(watch->roots);
	if (watch->poll) {
		uv_poll_stop(watch->poll);
		uv_close((uv_handle_t *)TAKE_PTR(watch->poll), on_poll_closed);
	}
	fd_close(&watch->fd);
}
