#include "platform/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "platform/process.h"

enum { HOLD_TRIES = 16 };

/* Reads a small file from its start into `text`. Its length or -errno. */
static ssize_t read_text(int fd, char *text, size_t size)
{
	ssize_t length = pread(fd, text, size - 1, 0);

	if (length < 0)
		return -errno;
	text[length] = '\0';
	return length;
}

static int open_at(int dir, const char *name, int flags)
{
	int fd = openat(dir, name, flags | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

static int write_at(int dir, const char *name, const char *text)
{
	CLEANUP_FD int fd = open_at(dir, name, O_WRONLY);

	return fd < 0 ? fd : fd_write_all(fd, text, strlen(text));
}

/* Lines of a file of any length through a window on the stack; a line that does not fit is cut. */
struct lines {
	int fd;
	size_t length;
	char bytes[2 * CGROUP_PATH_MAX];
};

/* The next line, without its end; NULL when there is none. */
static char *next_line(struct lines *lines, size_t *used)
{
	memmove(lines->bytes, lines->bytes + *used, lines->length - *used);
	lines->length -= *used;
	for (;;) {
		char *end = memchr(lines->bytes, '\n', lines->length);
		ssize_t got;

		if (end || lines->length == sizeof(lines->bytes) - 1) {
			*used = end ? (size_t)(end - lines->bytes) + 1 : lines->length;
			lines->bytes[end ? *used - 1 : lines->length] = '\0';
			return lines->bytes;
		}
		got = read(lines->fd, lines->bytes + lines->length, sizeof(lines->bytes) - 1 - lines->length);
		if (got <= 0)
			return NULL;
		lines->length += (size_t)got;
	}
}

/* Field `number` (from 0) of a mountinfo line, its \040-like escapes undone. False when there is none. */
static bool take_field(const char *line, unsigned number, char *ret, size_t size)
{
	size_t length = 0;

	for (; number > 0; number--) {
		line = strchr(line, ' ');
		if (!line)
			return false;
		line++;
	}
	while (*line != '\0' && *line != ' ' && length + 1 < size) {
		bool is_escaped = line[0] == '\\' && strspn(line + 1, "01234567") >= 3;

		ret[length++] = is_escaped ? (char)((line[1] - '0') * 64 + (line[2] - '0') * 8 + (line[3] - '0')) : line[0];
		line += is_escaped ? 4 : 1;
	}
	ret[length] = '\0';
	return *line == '\0' || *line == ' ';
}

static bool is_cgroup2(const char *path)
{
	struct statfs status;

	return statfs(path, &status) == 0 && status.f_type == CGROUP2_SUPER_MAGIC;
}

/* Takes the mount of a line if it is one of cgroup2 and the group `own` is inside; `own` loses the part above the mount. */
static bool take_mount(const char *line, const char *own, struct cgroup_place *ret)
{
	char root[CGROUP_PATH_MAX];
	size_t length;

	if (!strstr(line, " - cgroup2 ") || !take_field(line, 3, root, sizeof(root)) ||
	    !take_field(line, 4, ret->mount, sizeof(ret->mount)))
		return false;
	length = strcmp(root, "/") == 0 ? 0 : strlen(root);
	if (strncmp(own, root, length) != 0 || (own[length] != '/' && own[length] != '\0'))
		return false;
	snprintf(ret->own, sizeof(ret->own), "%s", own[length] == '\0' ? "/" : own + length);
	return is_cgroup2(ret->mount);
}

int cgroup_find(const char *process_directory, struct cgroup_place *ret)
{
	CLEANUP_FD int dir = open(process_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int groups = -1;
	CLEANUP_FD int mounts = -1;
	struct cgroup_place place;
	struct lines lines = { 0 };
	char own[CGROUP_PATH_MAX] = "";
	size_t used = 0;
	const char *line;

	if (dir < 0)
		return -errno;
	groups = open_at(dir, "cgroup", O_RDONLY);
	mounts = open_at(dir, "mountinfo", O_RDONLY);
	if (groups < 0 || mounts < 0)
		return MIN(groups, mounts);
	lines.fd = groups;
	while ((line = next_line(&lines, &used)) != NULL)
		if (strncmp(line, "0::/", 4) == 0)
			snprintf(own, sizeof(own), "%s", line + 3);
	if (own[0] == '\0')
		return -ENOENT;
	lines.fd = mounts;
	lines.length = used = 0;
	while ((line = next_line(&lines, &used)) != NULL) {
		if (!take_mount(line, own, &place))
			continue;
		*ret = place;
		return 0;
	}
	return -ENOENT;
}

/* Hands down the controllers that are to be had, or takes them back; each alone: one that is not there fails the others. */
static void set_controllers(int dir, char sign)
{
	static const char *const controllers[] = { "memory", "pids", "cpu", "io" };
	char text[16];

	for (size_t i = 0; i < ARRAY_SIZE(controllers); i++) {
		snprintf(text, sizeof(text), "%c%s", sign, controllers[i]);
		if (write_at(dir, "cgroup.subtree_control", text) < 0)
			continue; /* absent, or our own group has processes: done without */
	}
}

/*
 * The lock belongs to the open file description, so every process that gets the descriptor holds it too. 1 when the group is
 * ours to use, 0 when it was removed in between, or -errno.
 */
static int hold(int parent, const char *name, int fd)
{
	struct stat ours, theirs;

	if (flock(fd, LOCK_SH) < 0 || fstat(fd, &ours) < 0)
		return -errno;
	return fstatat(parent, name, &theirs, AT_SYMLINK_NOFOLLOW) == 0 && ours.st_ino == theirs.st_ino;
}

static int make_and_hold(int parent, const char *name)
{
	for (int tries = 0; tries < HOLD_TRIES; tries++) {
		CLEANUP_FD int fd = -1;
		int r;

		if (mkdirat(parent, name, 0755) < 0 && errno != EEXIST)
			return -errno;
		fd = open_at(parent, name, O_RDONLY | O_DIRECTORY);
		r = fd < 0 ? fd : hold(parent, name, fd);
		if (r == 1)
			return TAKE_FD(fd);
		if (r < 0 && r != -ENOENT)
			return r;
	}
	return -EAGAIN;
}

int cgroup_make(const char *parent, const char *name, int *ret_fd, struct err *err)
{
	CLEANUP_FD int parent_fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int fd = -1;

	if (parent_fd < 0)
		return err_set(err, -errno, "open the control group %s", parent);
	fd = make_and_hold(parent_fd, name);
	if (fd < 0)
		return err_set(err, fd, "make the control group %s/%s", parent, name);
	set_controllers(parent_fd, '+');
	set_controllers(fd, '+');
	*ret_fd = TAKE_FD(fd);
	return 0;
}

bool cgroup_is_delegated(const char *parent)
{
	static const char *const marks[] = { "trusted.delegate", "user.delegate" };
	char up[CGROUP_PATH_MAX + 4];
	struct stat status;
	char value[8];

	snprintf(up, sizeof(up), "%s/..", parent);
	if (!is_cgroup2(parent) || !is_cgroup2(up) || stat(parent, &status) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
		if (getxattr(parent, marks[i], value, sizeof(value)) == 1 && value[0] == '1')
			return true;
	if (geteuid() != 0)
		return status.st_uid == geteuid();
	return access("/run/systemd/system", F_OK) < 0;
}

int cgroup_enter(const char *parent, const char *name)
{
	CLEANUP_FD int parent_fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int fd = -1;
	int r;

	if (parent_fd < 0)
		return -errno;
	if (mkdirat(parent_fd, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	fd = open_at(parent_fd, name, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	r = write_at(fd, "cgroup.procs", "0");
	if (r < 0)
		unlinkat(parent_fd, name, AT_REMOVEDIR); /* not when others are in it */
	return r;
}

void cgroup_return(const char *parent, const char *name)
{
	CLEANUP_FD int parent_fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct cgroup group = { .dir = parent_fd < 0 ? -1 : open_at(parent_fd, name, O_RDONLY | O_DIRECTORY) };
	CLEANUP_FD int fd = group.dir;
	struct stat status;

	/* Links of a group's directory: itself, its name, one for each group in it. */
	if (fd < 0 || cgroup_count(&group) != 1 || fstat(parent_fd, &status) < 0 || status.st_nlink > 3)
		return;
	set_controllers(parent_fd, '-');
	if (write_at(parent_fd, "cgroup.procs", "0") == 0)
		unlinkat(parent_fd, name, AT_REMOVEDIR);
}

bool cgroup_hand_down(const char *parent, int base_fd)
{
	CLEANUP_FD int parent_fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int controllers = open_at(base_fd, "cgroup.controllers", O_RDONLY);
	char text[256];

	if (parent_fd < 0 || controllers < 0)
		return false;
	set_controllers(parent_fd, '+');
	set_controllers(base_fd, '+');
	return read_text(controllers, text, sizeof(text)) > 1;
}

void cgroup_leave(int *fd, const char *name)
{
	CLEANUP_FD int again = *fd >= 0 ? open_at(*fd, ".", O_RDONLY | O_DIRECTORY) : -1;
	CLEANUP_FD int parent = *fd >= 0 ? open_at(*fd, "..", O_RDONLY | O_DIRECTORY) : -1;

	fd_close(fd);
	if (again < 0 || parent < 0 || flock(again, LOCK_EX | LOCK_NB) < 0)
		return;
	cgroup_remove_children(again);
	unlinkat(parent, name, AT_REMOVEDIR); /* EBUSY: processes are left in there */
}

void cgroup_remove_children(int dir_fd)
{
	CLEANUP_FD int fd = open_at(dir_fd, ".", O_RDONLY | O_DIRECTORY);
	_Alignas(struct dirent64) char entries[8192];
	long length;

	if (fd < 0)
		return;
	while ((length = syscall(SYS_getdents64, fd, entries, sizeof(entries))) > 0) {
		for (long at = 0; at < length;) {
			const struct dirent64 *entry = (const void *)(entries + at);

			at += entry->d_reclen;
			if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
				unlinkat(fd, entry->d_name, AT_REMOVEDIR); /* EBUSY: somebody is in it */
		}
	}
}

/* The number behind `key` in a "key value" file; `otherwise` when it is not there. */
static uint64_t read_key(int fd, const char *key, uint64_t otherwise)
{
	char text[1024];
	size_t length = strlen(key);

	if (read_text(fd, text, sizeof(text)) < 0)
		return otherwise;
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, length) == 0 && line[length] == ' ')
			return strtoull(line + length + 1, NULL, 10);
	}
	return otherwise;
}

static uint64_t read_oom_kills(const struct cgroup *cgroup)
{
	CLEANUP_FD int fd = open_at(cgroup->dir, "memory.events", O_RDONLY);

	return fd < 0 ? 0 : read_key(fd, "oom_kill", 0);
}

int cgroup_open(int base_fd, const char *name, struct cgroup *ret)
{
	struct cgroup cgroup = CGROUP_NONE;

	if (mkdirat(base_fd, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	cgroup.dir = open_at(base_fd, name, O_RDONLY | O_DIRECTORY);
	if (cgroup.dir < 0)
		return cgroup.dir;
	cgroup.events = open_at(cgroup.dir, "cgroup.events", O_RDONLY);
	if (cgroup.events < 0) {
		int r = cgroup.events;

		cgroup_close(&cgroup);
		return r;
	}
	cgroup.peak = open_at(cgroup.dir, "memory.peak", O_RDWR);
	cgroup.can_reset_peak = cgroup.peak >= 0;
	if (cgroup.peak < 0)
		cgroup.peak = open_at(cgroup.dir, "memory.peak", O_RDONLY);
	cgroup.peak = MAX(cgroup.peak, -1);
	if (cgroup.peak >= 0)
		cgroup.oom_kills = read_oom_kills(&cgroup);
	*ret = cgroup;
	return 0;
}

void cgroup_close(struct cgroup *cgroup)
{
	fd_close(&cgroup->dir);
	fd_close(&cgroup->events);
	fd_close(&cgroup->peak);
}

int cgroup_is_populated(const struct cgroup *cgroup)
{
	uint64_t value = read_key(cgroup->events, "populated", UINT64_MAX);

	return value == UINT64_MAX ? -EIO : value != 0;
}

/* Calls `visit` for each pid in cgroup.procs; returns for how many it said true. */
static unsigned visit_members(const struct cgroup *cgroup, bool (*visit)(pid_t pid, int argument), int argument)
{
	CLEANUP_FD int fd = open_at(cgroup->dir, "cgroup.procs", O_RDONLY);
	struct lines lines = { .fd = fd };
	unsigned count = 0;
	size_t used = 0;
	const char *line;

	if (fd < 0)
		return 0;
	while ((line = next_line(&lines, &used)) != NULL) {
		pid_t pid = (pid_t)strtol(line, NULL, 10);

		if (pid > 0 && visit(pid, argument)) /* 0: a process that we cannot see from our pid namespace */
			count++;
	}
	return count;
}

static bool count_member(pid_t pid UNUSED, int argument UNUSED)
{
	return true;
}

/*
 * Between the listing and the pidfd the process may have ended and its pid may be another's. It would have to come round in
 * microseconds; the callers that kill have frozen the group, whose members cannot end of themselves then.
 */
static bool signal_member(pid_t pid, int signal_number)
{
	CLEANUP_FD int fd = process_open(pid);

	return fd >= 0 && process_signal(fd, signal_number) == 0;
}

static bool kill_leaderless(pid_t pid, int argument UNUSED)
{
	CLEANUP_FD int fd = process_open(pid);
	struct process_stat stat;

	if (fd < 0 || process_read_stat(pid, &stat) < 0 || stat.state != 'Z' || process_is_over(&stat))
		return false;
	return process_signal(fd, SIGKILL) == 0;
}

unsigned cgroup_count(const struct cgroup *cgroup)
{
	return visit_members(cgroup, count_member, 0);
}

unsigned cgroup_signal(const struct cgroup *cgroup, int signal_number)
{
	return visit_members(cgroup, signal_member, signal_number);
}

int cgroup_kill(const struct cgroup *cgroup)
{
	int r = write_at(cgroup->dir, "cgroup.kill", "1");

	/* Linux 6.18 (measured) passes over a process whose first thread has ended: it is sent its SIGKILL, and deaf. */
	if (r == 0)
		visit_members(cgroup, kill_leaderless, 0);
	if (r != -ENOENT)
		return r;
	r = cgroup_freeze(cgroup, true);
	cgroup_signal(cgroup, SIGKILL);
	cgroup_freeze(cgroup, false);
	return r;
}

int cgroup_freeze(const struct cgroup *cgroup, bool frozen)
{
	return write_at(cgroup->dir, "cgroup.freeze", frozen ? "1" : "0");
}

void cgroup_reset_peak(struct cgroup *cgroup)
{
	if (cgroup->peak >= 0 && cgroup->can_reset_peak)
		cgroup->can_reset_peak = pwrite(cgroup->peak, "0", 1, 0) == 1;
}

uint64_t cgroup_peak(const struct cgroup *cgroup)
{
	char text[64];

	if (cgroup->peak < 0 || read_text(cgroup->peak, text, sizeof(text)) < 0)
		return 0;
	return strtoull(text, NULL, 10);
}

bool cgroup_was_oom_killed(struct cgroup *cgroup)
{
	uint64_t before = cgroup->oom_kills;

	if (cgroup->peak < 0)
		return false;
	cgroup->oom_kills = read_oom_kills(cgroup);
	return cgroup->oom_kills > before;
}
