/*
 * recover.h - what to do about an attempt found at start: FAULTS §3's table as a pure function, so that all its rows are
 * tested, and run in the simulator.
 *
 * What follows from the facts goes into the first commit after the start, all together: with that commit the store's boot id
 * becomes this boot's, and an attempt not yet judged would then look as if it were of this boot.
 */
#pragma once

#include "core/task.h"

enum recover_action {
	RECOVER_NOTHING,     /* waiting or final, and nothing of it is left */
	RECOVER_PREPARE,     /* the worktree's making is unfinished: order PREPARE again (it is idempotent) */
	RECOVER_START_AGAIN, /* never ran: order START again under the same attempt number */
	RECOVER_ADOPT,       /* its shim holds it: go on */
	RECOVER_RECORD_END,  /* it ended while nobody looked: feed the record */
	RECOVER_KILL_AND_RECORD_END, /* it ended, something of it is left: kill that, then feed the record */
	RECOVER_ADOPT_WITHOUT_SHIM, /* its shim is gone, its processes are not: put a shim over the rest */
	RECOVER_LOST,        /* gone without a record */
	RECOVER_COLLECT,     /* order COLLECT again (it is idempotent) */
	RECOVER_KILL_STRAYS, /* nothing of it should be alive: end what is left, log it, then do as core_resume() orders */
	RECOVER_NOT_STARTED, /* never ran and is to stop: feed START_REFUSED instead of performing START */
	RECOVER_ACTION_MAX
};

/* What was found about one attempt. */
struct recover_facts {
	bool has_task;          /* the store knows the task, and this is its latest attempt */
	enum task_state state;  /* of that task */
	enum attempt_phase phase;
	bool is_rebooted;       /* the machine has started again since the last commit: the store has another boot id */
	bool is_same_boot;      /* the record was written since the machine started; says nothing without a record */
	bool has_record;        /* the slot record is of this task, attempt and nonce */
	bool is_armed;          /* the record says: not started yet (and the lock could be taken, so it never will be) */
	bool is_lock_held;      /* a shim holds the attempt's lock */
	bool has_end;           /* the record tells the end */
	bool is_populated;      /* the attempt's cgroup has processes, or, without cgroups, its leader lives; false for what
	                           was left running on purpose */
};

/* The row of the table that the facts meet. Total: every combination has one. */
enum recover_action recover_classify(const struct recover_facts *facts);

/* Its name, for logs and tests. */
const char *recover_action_name(enum recover_action action);
