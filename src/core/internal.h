/*
 * internal.h - what the files of core/ share: the core's own memory and the functions between them. Nobody else includes it.
 *
 * Invariants, checked by check.c:
 *   a task is in exactly one place of waiting: the queue of its batch and priority (QUEUED, due_ns NEVER), the timers
 *   (due_ns set), or neither; a batch is in `eligible` exactly when its head could be admitted as far as the batch goes;
 *   for HELD and BLOCKED tasks waits_for is the number of dependencies that are not satisfied now, so it never needs to be
 *   stored; an index is stable until its task is forgotten.
 */
#pragma once

#include "base/heap.h"
#include "base/limits.h"
#include "base/table.h"
#include "core/core.h"

enum {
	NONE = UINT32_MAX,
	SLOT_WORD_BITS = 64,
};

/* One dependency: `from` waits for `to`. In the list of each end. */
struct edge {
	uint64_t target; /* id of `to`; while restoring, `to` may not be known yet */
	uint32_t from;
	uint32_t to;     /* NONE while unresolved */
	uint32_t next_out;
	uint32_t previous_out;
	uint32_t next_in;
	uint32_t previous_in;
	bool is_any;
};

/* What the core keeps beside each task. */
struct node {
	uint64_t since_ns;  /* RUNNING: STARTED or the last RESUME */
	uint32_t batch;     /* index */
	uint32_t next;      /* in its queue, or in the free list */
	uint32_t previous;
	uint32_t next_settling;
	uint32_t first_out; /* edges to what it depends on, in the order given */
	uint32_t first_in;  /* edges from what depends on it, oldest first */
	uint32_t last_in;
	uint32_t refusals;  /* START_REFUSED in a row; lost with the memory, which only shortens a wait */
	bool is_known;
	bool is_queued;
};

struct pause {
	bool is_set;
	bool suspends; /* is_set too then */
};

struct batch {
	uint64_t id;
	uint32_t limit; /* 0 = none */
	uint32_t active;
	uint32_t unfinished;
	uint32_t tasks;
	uint32_t by_state[TASK_STATE_MAX];
	uint32_t first[PRIORITY_MAX];
	uint32_t last[PRIORITY_MAX];
	uint32_t next_free;
	bool is_known;
	struct pause pause;
};

/* Free list and high-water mark of one kind of index. */
struct pool {
	uint32_t free;
	uint32_t fresh; /* never used from here on */
	uint32_t used;
	uint32_t max;
};

struct core {
	struct core_limits limits;
	struct core_config config;
	struct task *tasks;
	struct node *nodes;
	struct batch *batches;
	struct edge *edges;
	struct pool task_pool;
	struct pool batch_pool;
	struct pool edge_pool;
	struct table task_table;
	struct table batch_table;
	struct heap timers;   /* tasks by due_ns */
	struct heap eligible; /* batches by the key of their best head */
	struct heap widest;   /* batches that have a limit and unfinished tasks, largest limit first */
	uint64_t *slots;      /* bit set = in use */
	struct effect *effects;
	uint32_t effect_count;
	uint32_t effect_max;
	uint32_t first_settling; /* tasks that became final in this step and whose successors were not told yet */
	uint32_t last_settling;
	uint32_t active;
	uint32_t by_state[TASK_STATE_MAX];
	uint64_t now_ns;
	int64_t wall_ms;
	bool is_resumed;
	bool is_draining;
	struct pause pause;
};

/* ---- core.c: indices and the memory behind them ---- */

/* An index of the pool whose memory may be old: the caller sets all of it. NONE when there is no room. */
uint32_t pool_take_fresh(struct pool *pool);

/* Makes or forgets the entry of an id. The task's index is new, its node empty, its timer unset. */
uint32_t core_make_task(struct core *core, uint64_t id, uint32_t batch);
void core_drop_task(struct core *core, uint32_t index);

/* An index below the high-water mark that is in use. */
bool core_is_known(const struct core *core, uint32_t index);

/* ---- queue.c: who is next, slots, timers ---- */

/* Puts a QUEUED task at the end of its queue, or at its place by ready_ns while restoring. */
void queue_push(struct core *core, uint32_t index);
void queue_remove(struct core *core, uint32_t index);

/* The task to admit next as far as batches go, NONE when there is none. */
uint32_t queue_first(const struct core *core);

/* Brings the batch's places in `eligible` and `widest` up to date. */
void queue_refresh_batch(struct core *core, uint32_t batch);

/* When a task's turn comes among others: lower is earlier. */
uint64_t queue_key(const struct task *task);

/* How many may run now. */
uint32_t queue_slot_limit(const struct core *core);

/* The lowest free slot, now in use; there must be one. */
uint32_t slot_take(struct core *core);
bool slot_is_used(const struct core *core, uint32_t slot);
void slot_mark(struct core *core, uint32_t slot, bool is_used);

/* Sets or, with NEVER_NS, ends the task's timer. */
void timer_set(struct core *core, uint32_t index, uint64_t due_ns);

/* ---- deps.c: dependencies ---- */

/* Adds the dependencies of a new task; those not known stay unresolved. There must be room. */
void deps_add(struct core *core, uint32_t index, const struct core_dependency *dependencies, uint32_t count);

/* Finds the targets of unresolved edges, now that all tasks are restored; drops those that do not exist. */
void deps_resolve(struct core *core, uint32_t index);

/* Counts what the task waits for into waits_for; returns a task (index) for which it can never run, or NONE. */
uint32_t deps_evaluate(struct core *core, uint32_t index);

/* A final task is going to run again: those still waiting count it anew. */
void deps_reopen(struct core *core, uint32_t index);

/* Whether the end of the edge's target lets `from` run, or forbids it for good. */
bool deps_is_satisfied(const struct core *core, const struct edge *edge);
bool deps_is_failed(const struct core *core, const struct edge *edge);

/* True when an unfinished task depends on this one. */
bool deps_is_needed(const struct core *core, uint32_t index);

/* Removes all edges from and to the task. */
void deps_drop(struct core *core, uint32_t index);

/* ---- state.c: the one writer of states ---- */

/*
 * The task's state becomes `to` by `input`, an edge of task.def. Takes it out of queue and timers, frees its slot when it
 * stops being active, settles its outcome unless it is STOPPING or COLLECTING, which the caller sets. CHANGED follows.
 */
void state_write(struct core *core, uint32_t index, enum task_input input, enum task_state to);

/* The first state of a new task. CHANGED follows. */
void state_enter(struct core *core, uint32_t index, enum task_state state);

/* Adds an effect for the task as it is now. */
void state_order(struct core *core, uint32_t index, enum effect_kind kind);

/* ---- step.c: what an input does ---- */

/* Whether the input would be taken: 0, -EPERM or -ESTALE. Changes nothing. */
int step_test_input(const struct core *core, uint32_t index, const struct core_event *event);

/* Applies an input that was tested. */
void step_apply_input(struct core *core, uint32_t index, const struct core_event *event);

/* A new task enters its first state. */
void step_enter(struct core *core, uint32_t index, bool is_held);

/* Ends of timers that are due. */
void step_run_timers(struct core *core);

/* Tells the successors of tasks that became final, and theirs. */
void step_settle(struct core *core);

/* Gives slots away while there are any. */
void step_admit(struct core *core);

/* Orders again what the state of a restored task implies. */
void step_resume_task(struct core *core, uint32_t index);

/* Suspends what is RUNNING; `marks` are noted with it. Lets go on what is SUSPENDED. */
void step_suspend(struct core *core, uint32_t index, uint32_t marks);
void step_unsuspend(struct core *core, uint32_t index);

/* How long before the next try: doubled `doublings` times, capped, with jitter. 0 when base_ns is 0. */
uint64_t step_backoff(const struct core *core, const struct task *task, uint64_t base_ns, uint32_t doublings);

/* ---- pause.c ---- */

/* Begins, changes or ends the pause of a batch, or with NONE that of everything. */
void pause_set(struct core *core, uint32_t batch, bool value, bool suspends);

/* Whether a pause that suspends covers the task. */
bool pause_suspends(const struct core *core, uint32_t index);

/* Lets go on what a pause suspended and none covers any more. */
void pause_resume_uncovered(struct core *core);

/* ---- check.c ---- */

/* Invariants of the whole that cost O(1), and those of the tasks this step touched. */
void check_step(const struct core *core);
