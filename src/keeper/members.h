/*
 * members.h - the processes of one attempt as one thing: asked to end, killed, frozen, counted, with a cgroup or without.
 *
 * With a cgroup the kernel knows who belongs. Besides it, and alone where there is none, everything that descends from us
 * does: we are the subreaper, so orphans become our children. Where another shim made the processes (a takeover) only the
 * leader's session and what descends from it can be found without a cgroup.
 */
#pragma once

#include <sys/types.h>

#include "platform/cgroup.h"
#include "platform/process.h"

struct members {
	struct cgroup *cgroup; /* NULL = none */
	struct process_table *table;
	pid_t leader;          /* 0 once it has ended, or when it is not known */
	int leader_pidfd;      /* −1 when the leader is our child */
	pid_t session;         /* of another shim's attempt: the leader's pid and start time; 0 for ours */
	uint64_t session_start;
	bool has_children;     /* as the last reaping found */
	bool is_frozen;
};

/* True when processes of the attempt live. */
bool members_are_left(struct members *members);

/* SIGTERM to the leader's process group, to every process once the leader has ended. Thaws first. */
void members_terminate(struct members *members);

/* SIGKILL to all. Without a cgroup it must be repeated as orphans turn up. Returns how many processes there were. */
unsigned members_kill(struct members *members);

/* Stops or continues all. */
void members_freeze(struct members *members, bool frozen);
