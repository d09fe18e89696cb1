/*
 * process.h - other processes: who they are, and signals that reach only them.
 *
 * A pid is no identity, since it comes back within a second on a busy machine. A pidfd is one; so are a pid and a start time
 * of the same boot, and the pid of a child that has not been waited for. Nothing here uses the heap.
 */
#pragma once

#include <sys/types.h>

#include "base/macros.h"

/* What /proc/PID/stat tells. */
struct process_stat {
	pid_t parent;
	pid_t session;
	char state;           /* 'R', 'S', 'Z' … of its first thread */
	uint64_t threads;     /* zombies among them; more than 1 in state 'Z': the first thread has ended, others live */
	uint64_t start_ticks; /* hundredths of a second since boot */
};

/*
 * Reads the text of a stat file (proc(5)); the command name in it may hold anything, parentheses and newlines included.
 * 0 or -EINVAL.
 */
int process_parse_stat(const char *text, size_t length, struct process_stat *ret);

/* True when nothing of the process runs any more: what is left waits to be reaped. */
bool process_is_over(const struct process_stat *stat);

/* The stat of a process now. 0, -ESRCH when there is none, or -errno. */
int process_read_stat(pid_t pid, struct process_stat *ret);

/* A pidfd, close-on-exec, or -errno: -ESRCH. */
int process_open(pid_t pid);

/*
 * A pidfd of the process with this pid and start time, -ESRCH when the pid belongs to another by now (or to a zombie), or
 * -errno.
 */
int process_open_started(pid_t pid, uint64_t start_ticks);

/* Sends a signal through a pidfd. 0, -ESRCH when it is over, or -errno. */
int process_signal(int pidfd, int signal_number);

/*
 * Sends a real-time signal with a value. Those of one number arrive in the order in which they were sent. 0, -ESRCH, -EAGAIN
 * when the user has too many signals pending, or -errno.
 */
int process_signal_value(int pidfd, int signal_number, int value);

/*
 * Sends a signal to the process group that the process of `pidfd`, with pid `pid`, leads. Only while that process lives,
 * since afterwards the number may be another's. 0, -ESRCH, or -errno.
 */
int process_signal_group(int pidfd, pid_t pid, int signal_number);

/* True when the process of the pidfd has ended (a zombie has). */
bool process_has_ended(int pidfd);

/*
 * The start time that /proc shows for a process that was made between two readings of CLOCK_BOOTTIME, or 0 when they do not
 * determine it. Saves three system calls for each process started.
 */
uint64_t process_start_ticks_between(uint64_t before_ns, uint64_t after_ns);

enum { PROCESS_TABLE_MAX = 32768, PROCESS_PID_MAX = 4 << 20 };

/* A picture of all processes; large, so it is a part of somebody's context. */
struct process_table {
	uint32_t count;
	struct process_row {
		pid_t pid;
		pid_t parent;
		pid_t session;
		char state;
		uint64_t start_ticks;
	} rows[PROCESS_TABLE_MAX];
	uint8_t members[PROCESS_PID_MAX / 8]; /* a bit for each pid */
};

/*
 * Takes a picture of all processes and marks the descendants of `root` (not itself) and, unless `session` is 0, all
 * processes of that session and their descendants. process_next_member() steps through them by ascending pid: *at is 0
 * before the first; NULL after the last.
 */
void process_look_at_tree(struct process_table *table, pid_t root, pid_t session);
const struct process_row *process_next_member(const struct process_table *table, uint32_t *at);

/* Sends a signal to the process of a row if it is still the one of the picture. True when it was reached. */
bool process_signal_row(const struct process_row *row, int signal_number);

/*
 * Sends a signal to all descendants of `root` (not to itself), and, unless `session` is 0, to all processes of that session
 * and their descendants. Each is addressed by a pidfd after a second look at its parent. Zombies do not count. Returns how
 * many were reached. Processes that fork meanwhile may be missed: call again.
 */
unsigned process_signal_tree(struct process_table *table, pid_t root, pid_t session, int signal_number);
