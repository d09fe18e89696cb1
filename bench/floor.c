/*
 * floor.c - the least that a runner with a log file and a process handle per job can cost: clone3(), a log, epoll. It
 * remembers nothing, limits nothing and loses everything when it dies. bench/p2 compares with it.
 *
 * usage: floor JOBS SLOTS none|slot|job FOLDER PROGRAM
 *
 *     none  no control group
 *     slot  each job is cloned into the group of its slot, which is used again
 *     job   each job is cloned into a new group, removed after it
 *
 * Logs and nothing else go to FOLDER. Prints one JSON object: seconds, and CPU time of itself and of the jobs.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "platform/cgroup.h"
#include "platform/clock.h"

enum { SLOTS_MAX = 256 };

enum grouping { GROUPING_NONE, GROUPING_SLOT, GROUPING_JOB };

struct slot {
	int pidfd; /* -1 = free */
	int group; /* directory of its control group, -1 = none */
};

struct floor {
	enum grouping grouping;
	int folder;
	int base; /* control group that the slots' ones are in */
	int epoll;
	char *program;
	uint64_t jobs;
	uint64_t started;
	uint64_t slot_count;
	struct slot slots[SLOTS_MAX];
};

static NORETURN void give_up(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static NORETURN void become_job(char *program, int log)
{
	char *argv[] = { program, NULL };
	char *envp[] = { NULL };

	dup2(log, STDOUT_FILENO);
	dup2(log, STDERR_FILENO);
	execve(program, argv, envp);
	_exit(127);
}

/*
 * As vfork(): the child uses our memory and stack until it executes. The system call stands inline, since a wrapper's return
 * address would be overwritten by the child.
 */
static int clone_job(char *program, int log, int group)
{
	int pidfd = -1;
	struct clone_args arguments = {
		.flags = CLONE_PIDFD | CLONE_VFORK | CLONE_VM | (group >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = group >= 0 ? (uint64_t)group : 0,
	};
	long pid;

#if defined(__x86_64__)
	__asm__ volatile("syscall"
	                 : "=a"(pid)
	                 : "a"(SYS_clone3), "D"(&arguments), "S"(sizeof(arguments))
	                 : "rcx", "r11", "memory");
#else
	arguments.flags &= ~(uint64_t)(CLONE_VFORK | CLONE_VM);
	pid = syscall(SYS_clone3, &arguments, sizeof(arguments));
#endif
	if (pid == 0)
		become_job(program, log);
	return pid < 0 ? -1 : pidfd;
}

static void name_group(char name[CGROUP_NAME_MAX], uint64_t index)
{
	snprintf(name, CGROUP_NAME_MAX, "job-%llu", (unsigned long long)index);
}

static void open_group(struct floor *floor, uint64_t index)
{
	char name[CGROUP_NAME_MAX];

	name_group(name, index);
	if (mkdirat(floor->base, name, 0700) < 0 && errno != EEXIST)
		give_up("make a control group");
	floor->slots[index].group = openat(floor->base, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (floor->slots[index].group < 0)
		give_up("open a control group");
}

static void remove_group(struct floor *floor, uint64_t index)
{
	char name[CGROUP_NAME_MAX];

	name_group(name, index);
	fd_close(&floor->slots[index].group);
	if (unlinkat(floor->base, name, AT_REMOVEDIR) < 0)
		give_up("remove a control group");
}

static void start_job(struct floor *floor, uint64_t index)
{
	struct slot *slot = &floor->slots[index];
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = index };
	char name[32];
	int log;

	snprintf(name, sizeof(name), "%llu", (unsigned long long)floor->started++);
	log = openat(floor->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (log < 0)
		give_up("make a log");
	if (floor->grouping == GROUPING_JOB)
		open_group(floor, index);
	slot->pidfd = clone_job(floor->program, log, slot->group);
	if (slot->pidfd < 0)
		give_up("clone");
	fd_close(&log);
	if (epoll_ctl(floor->epoll, EPOLL_CTL_ADD, slot->pidfd, &event) < 0)
		give_up("watch a job");
}

static void end_job(struct floor *floor, uint64_t index)
{
	struct slot *slot = &floor->slots[index];
	siginfo_t info = { 0 };

	if (waitid(P_PIDFD, (id_t)slot->pidfd, &info, WEXITED) < 0 || info.si_status != 0)
		give_up("a job failed");
	epoll_ctl(floor->epoll, EPOLL_CTL_DEL, slot->pidfd, NULL); /* a vfork child may hold a duplicate still */
	fd_close(&slot->pidfd);
	if (floor->grouping == GROUPING_JOB)
		remove_group(floor, index);
}

static void run(struct floor *floor)
{
	struct epoll_event events[SLOTS_MAX];
	uint64_t ended = 0;

	for (uint64_t i = 0; i < floor->slot_count && floor->started < floor->jobs; i++)
		start_job(floor, i);
	while (ended < floor->jobs) {
		int count = epoll_wait(floor->epoll, events, SLOTS_MAX, -1);

		for (int i = 0; i < count; i++, ended++) {
			end_job(floor, events[i].data.u64);
			if (floor->started < floor->jobs)
				start_job(floor, events[i].data.u64);
		}
	}
}

static void open_base(struct floor *floor, char name[CGROUP_NAME_MAX])
{
	struct cgroup_place place;
	struct err err = ERR_INIT;
	char parent[2 * CGROUP_PATH_MAX];

	snprintf(name, CGROUP_NAME_MAX, "drover-floor-%d", (int)getpid());
	if (cgroup_find("/proc/self", &place) < 0)
		give_up("there is no cgroup2 here");
	snprintf(parent, sizeof(parent), "%s%s", place.mount, place.own);
	if (cgroup_make(parent, name, &floor->base, &err) < 0) {
		fprintf(stderr, "floor: %s\n", err.text);
		exit(1);
	}
}

static double cpu_seconds(int who)
{
	struct rusage usage;

	getrusage(who, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int parse_grouping(const char *word, enum grouping *ret)
{
	static const char *const words[] = { [GROUPING_NONE] = "none", [GROUPING_SLOT] = "slot", [GROUPING_JOB] = "job" };

	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(word, words[i]) == 0) {
			*ret = (enum grouping)i;
			return 0;
		}
	}
	return -EINVAL;
}

int main(int argc, char **argv)
{
	struct floor floor = { .base = -1 };
	char name[CGROUP_NAME_MAX];
	uint64_t begin_ns;
	double own_s, seconds;

	if (argc != 6 || str_parse_u64(argv[1], UINT32_MAX, &floor.jobs) < 0 ||
	    str_parse_u64(argv[2], SLOTS_MAX, &floor.slot_count) < 0 || parse_grouping(argv[3], &floor.grouping) < 0) {
		fprintf(stderr, "usage: floor JOBS SLOTS none|slot|job FOLDER PROGRAM\n");
		return 2;
	}
	floor.program = argv[5];
	floor.folder = open(argv[4], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	floor.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (floor.folder < 0 || floor.epoll < 0)
		give_up(argv[4]);
	if (floor.grouping != GROUPING_NONE)
		open_base(&floor, name);
	for (uint64_t i = 0; i < floor.slot_count; i++) {
		floor.slots[i] = (struct slot){ .pidfd = -1, .group = -1 };
		if (floor.grouping == GROUPING_SLOT)
			open_group(&floor, i);
	}
	own_s = cpu_seconds(RUSAGE_SELF);
	begin_ns = clock_monotonic_ns();
	run(&floor);
	seconds = (double)(clock_monotonic_ns() - begin_ns) / 1e9;
	printf("{\"seconds\": %.6f, \"own_cpu_s\": %.6f, \"jobs_cpu_s\": %.6f}\n", seconds, cpu_seconds(RUSAGE_SELF) - own_s,
	       cpu_seconds(RUSAGE_CHILDREN));
	if (floor.grouping != GROUPING_NONE)
		cgroup_leave(&floor.base, name);
	return 0;
}
