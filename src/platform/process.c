#include "platform/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/units.h"

enum { STAT_MAX = 1024, TICKS_PER_SECOND = 100 }; /* USER_HZ of every architecture drover is built for */

#define SIGNAL_PROCESS_GROUP (1u << 2) /* PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9 */

/* Numbers of a line up to field `last`, which is *ret; the line stands before field `first`. False when it ends before. */
static bool read_field(const char **at, int first, int last, uint64_t *ret)
{
	for (int field = first; field <= last; field++) {
		char *end;

		*ret = strtoull(*at, &end, 10);
		if (end == *at)
			return false;
		*at = end;
	}
	return true;
}

int process_parse_stat(const char *text, size_t length, struct process_stat *ret)
{
	uint64_t parent, session, threads, start;
	char rest[STAT_MAX];
	const char *at = memrchr(text, ')', length);
	size_t rest_length;

	if (!at || (size_t)(at - text) + 4 > length)
		return -EINVAL;
	rest_length = MIN(length - (size_t)(at - text) - 2, sizeof(rest) - 1);
	memcpy(rest, at + 2, rest_length);
	rest[rest_length] = '\0';
	at = rest + 1;
	if (!read_field(&at, 4, 4, &parent) || !read_field(&at, 5, 6, &session) ||
	    !read_field(&at, 7, 20, &threads) || !read_field(&at, 21, 22, &start))
		return -EINVAL;
	*ret = (struct process_stat){ .parent = (pid_t)parent, .session = (pid_t)session, .state = rest[0],
		                      .threads = threads, .start_ticks = start };
	return 0;
}

bool process_is_over(const struct process_stat *stat)
{
	return stat->state == 'X' || (stat->state == 'Z' && stat->threads <= 1);
}

int process_read_stat(pid_t pid, struct process_stat *ret)
{
	char text[STAT_MAX];
	ssize_t length;
	CLEANUP_FD int fd = -1;

	snprintf(text, sizeof(text), "/proc/%d/stat", (int)pid);
	fd = open(text, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	length = read(fd, text, sizeof(text));
	if (length < 0)
		return -errno;
	return process_parse_stat(text, (size_t)length, ret);
}

int process_open(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : fd;
}

int process_open_started(pid_t pid, uint64_t start_ticks)
{
	CLEANUP_FD int fd = process_open(pid);
	struct process_stat stat;
	int r;

	if (fd < 0)
		return fd;
	r = process_read_stat(pid, &stat);
	if (r < 0)
		return r;
	if (stat.start_ticks != start_ticks || process_is_over(&stat) || process_has_ended(fd))
		return -ESRCH;
	return TAKE_FD(fd);
}

int process_signal(int pidfd, int signal_number)
{
	return syscall(SYS_pidfd_send_signal, pidfd, signal_number, NULL, 0) < 0 ? -errno : 0;
}

int process_signal_value(int pidfd, int signal_number, int value)
{
	siginfo_t info = { .si_signo = signal_number, .si_code = SI_QUEUE };

	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_int = value;
	return syscall(SYS_pidfd_send_signal, pidfd, signal_number, &info, 0) < 0 ? -errno : 0;
}

int process_signal_group(int pidfd, pid_t pid, int signal_number)
{
	if (syscall(SYS_pidfd_send_signal, pidfd, signal_number, NULL, SIGNAL_PROCESS_GROUP) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	if (process_has_ended(pidfd))
		return -ESRCH;
	return kill(-pid, signal_number) < 0 ? -errno : 0;
}

bool process_has_ended(int pidfd)
{
	struct pollfd item = { .fd = pidfd, .events = POLLIN };

	return poll(&item, 1, 0) == 1;
}

uint64_t process_start_ticks_between(uint64_t before_ns, uint64_t after_ns)
{
	uint64_t before = before_ns / (NS_PER_SEC / TICKS_PER_SECOND);
	uint64_t after = after_ns / (NS_PER_SEC / TICKS_PER_SECOND);

	return before == after ? before : 0;
}

static void add_row(struct process_table *table, const char *name)
{
	struct process_row *row = &table->rows[table->count];
	struct process_stat stat;
	pid_t pid;

	if (name[0] < '0' || name[0] > '9' || table->count >= PROCESS_TABLE_MAX)
		return;
	pid = (pid_t)strtol(name, NULL, 10);
	if (pid >= PROCESS_PID_MAX || process_read_stat(pid, &stat) < 0 || process_is_over(&stat))
		return;
	*row = (struct process_row){ .pid = pid, .parent = stat.parent, .session = stat.session, .state = stat.state,
		                     .start_ticks = stat.start_ticks };
	table->count++;
}

/* opendir(3) would need the heap. */
static void fill_table(struct process_table *table)
{
	CLEANUP_FD int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_Alignas(struct dirent64) char entries[8192];
	long length;

	table->count = 0;
	if (fd < 0)
		return;
	while ((length = syscall(SYS_getdents64, fd, entries, sizeof(entries))) > 0) {
		for (long at = 0; at < length;) {
			const struct dirent64 *entry = (const void *)(entries + at);

			add_row(table, entry->d_name);
			at += entry->d_reclen;
		}
	}
}

static bool is_member(const struct process_table *table, pid_t pid)
{
	return (table->members[pid / 8] >> (pid % 8) & 1) != 0;
}

/* Marks who belongs; children may stand before their parents, so until nothing changes. */
static void mark_members(struct process_table *table, pid_t root, pid_t session)
{
	bool has_changed = true;

	memset(table->members, 0, sizeof(table->members));
	while (has_changed) {
		has_changed = false;
		for (uint32_t i = 0; i < table->count; i++) {
			const struct process_row *row = &table->rows[i];

			if (row->pid == root || is_member(table, row->pid))
				continue;
			if (row->parent != root && (session == 0 || row->session != session) &&
			    !is_member(table, row->parent))
				continue;
			table->members[row->pid / 8] |= (uint8_t)(1u << (row->pid % 8));
			has_changed = true;
		}
	}
}

void process_look_at_tree(struct process_table *table, pid_t root, pid_t session)
{
	fill_table(table);
	mark_members(table, root, session);
}

const struct process_row *process_next_member(const struct process_table *table, uint32_t *at)
{
	while (*at < table->count) {
		const struct process_row *row = &table->rows[(*at)++];

		if (is_member(table, row->pid))
			return row;
	}
	return NULL;
}

/* A pidfd pins who is meant; with the same parent and session it is a member still, and not somebody's with its number. */
bool process_signal_row(const struct process_row *row, int signal_number)
{
	CLEANUP_FD int fd = process_open(row->pid);
	struct process_stat stat;

	if (fd < 0 || process_read_stat(row->pid, &stat) < 0)
		return false;
	if (stat.parent != row->parent || stat.session != row->session || stat.start_ticks != row->start_ticks)
		return false;
	return process_signal(fd, signal_number) == 0;
}

unsigned process_signal_tree(struct process_table *table, pid_t root, pid_t session, int signal_number)
{
	const struct process_row *row;
	unsigned reached = 0;
	uint32_t at = 0;

	process_look_at_tree(table, root, session);
	while ((row = process_next_member(table, &at)) != NULL)
		if (process_signal_row(row, signal_number))
			reached++;
	return reached;
}
