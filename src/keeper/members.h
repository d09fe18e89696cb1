/*
 * members.h - the processes of one attempt as one thing: asked to end, killed, frozen, counted, with a cgroup or without.
 *
 * With a cgroup the kernel knows who belongs. Besides it, and alone where there is none, everything that descends from us
 * does: we are the subreaper, so orphans become our children. Where another shim made the processes (a takeover) only the
 * leader's session and what descends from it can be found without a cgroup.
 */
#pragma once

#include <sys/types.h>

#include "keeper/stops.h"
#include "platform/cgroup.h"

struct members {
	struct cgroup *cgroup; /* NULL = none */
	struct process_table *table;
	struct stops *stops;
	pid_t leader;          /* 0 once it has ended, or when it is not known */
	int leader_pidfd;      /* −1 when the leader is our child */
	pid_t session;         /* of another shim's attempt: the leader's pid and start time; 0 for ours */
	uint64_t session_start;
	bool has_children;     /* as the last reaping found */
	bool is_frozen;
	bool is_settled;        /* what is frozen stands still; else members_settle() is to be called now and then */
	bool was_still;         /* in the last look: another one sees what was then between two parents */
	bool has_unknown_stops; /* another shim stopped them, and did not say which */
};

/* True when processes of the attempt live. */
bool members_are_left(struct members *members);

/*
 * SIGTERM to the leader's process group, to every process once the leader has ended; then SIGCONT, since what is stopped
 * hears nothing. Not for frozen ones.
 */
void members_terminate(struct members *members);

/* SIGKILL to all. Without a cgroup it must be repeated as orphans turn up. Returns how many processes there were. */
unsigned members_kill(struct members *members);

/* Stops all of them, or lets go on those that we stopped. */
void members_freeze(struct members *members, bool frozen);

/* Stops what of a frozen attempt still moves. */
void members_settle(struct members *members);
