/*
 * stops.h - an attempt stopped by SIGSTOP, where there is no cgroup to freeze: which of its processes we stopped, so that
 * they and no others go on.
 *
 * A process that the task itself had stopped is left alone both ways. Parents are stopped before their children and go on
 * after them (by pid, which is nearly that), so that a shell that looks after its children does not see them stopped.
 */
#pragma once

#include "platform/process.h"

struct stops {
	uint32_t count;
	struct stop {
		pid_t pid;
		uint64_t start_ticks;
	} items[PROCESS_TABLE_MAX]; /* in the order in which they were stopped */
};

/*
 * Stops what moves among the descendants of `root` and in `session` (see process_look_at_tree()). True when nothing moved:
 * until that is so twice in a row it is to be called again, since what moves may fork, and what was made by a process that
 * ended during the look shows as nobody's.
 */
bool stops_extend(struct stops *stops, struct process_table *table, pid_t root, pid_t session);

/* Lets go on what was stopped, last first. */
void stops_undo(struct stops *stops);
