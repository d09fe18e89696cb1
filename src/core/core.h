/*
 * core.h - what decides: order, admission, dependencies, retries, time limits, explanations.
 *
 * Pure: no system call, clock, allocation, logging or randomness. The caller gives the memory (zeroed, never touched
 * before use, so a reserved mapping costs nothing), the time and the events, and performs the effects. The same events
 * at the same times give the same effects.
 *
 * Calling sequence: core_init() · CORE_RESTORE… events from the store · core_resume() · then core_step() with one event at a
 * time, each followed by looking at the effects, and core_deadline() to know when a CORE_TICK is due. Effects are
 * performed only after the caller made the changed tasks durable.
 */
#pragma once

#include "base/units.h"
#include "core/task.h"

struct core;

enum effect_kind {
#define EFFECT(symbol, name, meaning) EFFECT_##symbol,
#include "core/words.def"
	EFFECT_MAX
};

struct effect {
	uint8_t kind; /* enum effect_kind */
	uint8_t from; /* CHANGED: the state before, TASK_STATE_MAX for a new task */
	uint8_t to;   /* CHANGED: the state after */
	uint8_t unused;
	uint32_t slot;    /* of the attempt, TASK_NONE when it has none */
	uint32_t attempt;
	uint32_t index;   /* of the task: core_task_at() */
	uint64_t task;    /* id */
};

/* Effects of one step, in the order in which they were decided. */
struct effects {
	struct effect *items; /* inside the core; valid until the next step */
	uint32_t count;
};

struct core_limits {
	uint32_t tasks_max; /* a power of two; as many batches */
	uint32_t edges_max;
	uint32_t slots_max;
};

struct core_config {
	uint32_t slots;          /* how many may run at once unless a batch asks for more, ≥ 1 */
	uint32_t slots_hard_max; /* above which no batch's wish goes, ≤ slots_max */
	uint64_t backoff_max_ns; /* longest wait before a retry, give or take a quarter */
	uint64_t seed;           /* of the jitter */
};

enum core_event_kind {
	CORE_ADD_BATCH,    /* batch: id, limit */
	CORE_ADD_TASK,     /* add */
	CORE_INPUT,        /* one input to one task: task, input, attempt, exit … */
	CORE_RESTORE_TASK, /* restore: a task as it was stored; before core_resume() only */
	CORE_PAUSE,        /* value: true or false: start nothing new; suspends */
	CORE_PAUSE_BATCH,  /* batch, value, suspends */
	CORE_CONFIGURE,    /* config */
	CORE_FORGET_TASK,  /* task: final; nothing waits for it */
	CORE_FORGET_BATCH, /* batch: has no tasks left */
	CORE_TICK,         /* time has passed */
	CORE_DRAIN,        /* value: as CORE_PAUSE, but because the daemon is to end; shown as another reason */
	CORE_EVENT_MAX
};

/* A dependency on a task known to the core, or of the same submission and added before. */
struct core_dependency {
	uint64_t task;
	bool is_any; /* afterAny: any end will do; else success is needed */
};

struct core_event {
	uint8_t kind;  /* enum core_event_kind */
	uint8_t input; /* CORE_INPUT: enum task_input */
	bool value;
	bool suspends; /* CORE_PAUSE, CORE_PAUSE_BATCH with value: what runs, or comes to run, is suspended as well, and what
	                  was so suspended goes on when no pause that suspends covers it any more */
	bool is_transient; /* PREPARE_FAILED, START_FAILED: worth a retry if the task has any left */
	uint32_t attempt;  /* CORE_INPUT about an attempt: its number; a stale one is ignored */
	uint64_t task;
	uint64_t batch;
	uint32_t limit;  /* CORE_ADD_BATCH: most of its tasks at once, 0 = none given */
	int64_t wall_ms; /* Unix time of the event, for display */

	/* EXITED, START_FAILED, PREPARE_FAILED, ATTEMPT_LOST */
	int32_t exit_code;   /* −1 when it ended otherwise */
	int32_t exit_signal; /* 0 when it did not end by a signal */
	struct cause cause;  /* ATTEMPT_LOST, START_FAILED, PREPARE_FAILED: why; EXITED: kind OUT_OF_MEMORY or NONE;
	                        COLLECTED: kind COLLECT_FAILED or NONE; CANCEL: kind BATCH_HALTED or NONE */
	struct usage usage;

	const struct task *restore; /* CORE_RESTORE_TASK: copied; CORE_ADD_TASK: the part that is set at submission,
	                               and priority; state HELD to hold it, else ignored */
	const struct core_dependency *dependencies; /* of CORE_ADD_TASK, CORE_RESTORE_TASK */
	uint32_t dependency_count;
	const struct core_config *config;
};

/* What a waiting task waits for; a suspended one is in the user's hands or under a pause. */
struct wait {
	enum wait_reason reason;
	uint64_t holder;   /* id of the task in the way, 0 = none */
	uint32_t have;     /* SLOTS, BATCH_LIMIT: how many run; DEPENDENCY: how many of `need` are unmet */
	uint32_t need;     /* SLOTS, BATCH_LIMIT: how many may run */
	uint64_t until_ns; /* BACKOFF: when it ends; NEVER_NS when not known */
	uint32_t ahead;    /* 0 = no task of its batch and priority is before it, else 1: how many is not counted */
};

struct core_totals {
	uint32_t by_state[TASK_STATE_MAX];
	uint32_t active;     /* slots in use */
	uint32_t slot_limit; /* how many may run at once now */
	uint32_t tasks;
	uint32_t batches;
	uint32_t edges;      /* dependencies known, of LIMIT edges_max */
	bool is_paused;
	bool is_draining;
};

/* Bytes of memory core_init() wants for these limits. */
size_t core_size(const struct core_limits *limits);

/*
 * Makes a core in `memory` (core_size() bytes, zeroed, aligned to 64). Touches only what it uses. Never fails; nonsense in
 * limits or config is a bug of the caller and asserts. There is no core_done(): the memory is the caller's.
 */
struct core *core_init(void *memory, const struct core_limits *limits, const struct core_config *config);

/*
 * Ends the restoring: orders again the effects that the stored states imply, then admits. The caller classifies attempts
 * (recover.h) before this and feeds what it found as ordinary inputs after it. What is ordered for an active task:
 *   preparing, or stopping before a process was known: PREPARE or START, by phase · running: THAW · suspended: FREEZE ·
 *   stopping a process: THAW, TERMINATE · collecting: COLLECT.
 * START is to be performed only where the attempt was classified START_AGAIN; the others are harmless to repeat.
 */
void core_resume(struct core *core, uint64_t now_ns, struct effects *ret_effects);

/*
 * One event at `now_ns` (never less than in the step before). Effects are in *ret_effects.
 * Returns 0; -ENOENT: no such task or batch; -EPERM: the input is not legal in the task's state; -ESTALE: the attempt is not
 * the latest; -ENOSPC: no room for another task, batch or dependency; -EEXIST: the id is known; -EBUSY: CORE_FORGET_… of
 * something in use (a task that an unfinished one depends on is); -EINVAL: CORE_RESTORE_TASK of a task that breaks
 * task_find_fault() or a slot's uniqueness. On an error nothing changed and there are no effects. The inputs ADMIT,
 * DEPENDENCIES_MET, DEPENDENCY_FAILED and TIME_OVER are the core's own and refused from outside (-EPERM), and so is an
 * answer to something that was not ordered (phase).
 */
int core_step(struct core *core, const struct core_event *event, uint64_t now_ns, struct effects *ret_effects);

/* When the next CORE_TICK is due, NEVER_NS when nothing waits for time. */
uint64_t core_deadline(const struct core *core);

/* The task of an id, or NULL. The pointer is valid until the task is forgotten. */
const struct task *core_find(const struct core *core, uint64_t id);

/* Index of a task (stable while it is known, below tasks_max), or TASK_NONE; for tables kept beside the core. */
uint32_t core_index(const struct core *core, uint64_t id);

/* The task at an index that an effect carried. */
const struct task *core_task_at(const struct core *core, uint32_t index);

/* Why the task waits, or is suspended, now; reason NONE when it does not. O(1) plus the number of its dependencies. */
void core_explain(const struct core *core, uint64_t id, uint64_t now_ns, struct wait *ret_wait);

/* True for a COLLECTING task that will be queued again once it is collected, unless it is cancelled before. */
bool core_will_retry(const struct core *core, uint64_t id);

/* Counts for status. */
void core_count(const struct core *core, struct core_totals *ret_totals);

/* Counts of one batch by state (uint32_t[TASK_STATE_MAX]). Returns 0 or -ENOENT. */
int core_count_batch(const struct core *core, uint64_t batch, uint32_t ret_by_state[TASK_STATE_MAX]);

/* The dependencies of a task: fills at most `max`, returns how many there are. */
uint32_t core_dependencies(const struct core *core, uint64_t id, struct core_dependency *ret, uint32_t max);

/* Asserts the invariants of everything: O(tasks). For tests, the simulator and once after recovery. */
void core_check(const struct core *core);

/*
 * Looks for a cycle among `count` tasks of one submission; edge i says that task `from[i]` waits for task `to[i]` (numbers
 * below count). `scratch` is count * 2 + edge_count numbers of the caller. Returns the length of the cycle found, its
 * members in ret_path (room for count) in the order "each waits for the next", or 0.
 */
uint32_t core_find_cycle(uint32_t count, const uint32_t *from, const uint32_t *to, uint32_t edge_count, uint32_t *scratch,
                         uint32_t *ret_path);
