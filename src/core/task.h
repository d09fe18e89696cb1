/*
 * task.h - the task as the core knows it: numbers only. What is run, and every text, is kept by the daemon under the id.
 *
 * Times ending in _ns are core time: one monotonic line that goes on across daemon restarts and reboots (the daemon adds
 * a stored offset to CLOCK_MONOTONIC). Times ending in _ms are Unix wall time, carried for display only.
 */
#pragma once

#include "base/macros.h"

#define TASK_NONE UINT32_MAX

enum task_state {
#define STATE(symbol, name, kind, meaning) TASK_##symbol,
#include "core/task.def"
	TASK_STATE_MAX
};

enum task_state_kind { TASK_KIND_WAITING, TASK_KIND_ACTIVE, TASK_KIND_FINAL };

enum task_input {
#define INPUT(symbol, name, meaning) INPUT_##symbol,
#include "core/task.def"
	INPUT_MAX
};

enum wait_reason {
#define REASON(symbol, name, meaning) REASON_##symbol,
#include "core/words.def"
	REASON_MAX
};

enum cause_kind {
#define CAUSE(symbol, name, meaning) CAUSE_##symbol,
#include "core/words.def"
	CAUSE_MAX
};

enum priority {
#define PRIORITY(symbol, name, ageing) PRIORITY_##symbol,
#include "core/words.def"
	PRIORITY_MAX
};

/* Where an active attempt stands; tells what is still to be waited for while stopping. */
enum attempt_phase {
	PHASE_NONE,     /* not active */
	PHASE_WORKTREE, /* PREPARE was ordered */
	PHASE_START,    /* START was ordered */
	PHASE_PROCESS,  /* STARTED came */
	PHASE_COLLECT,  /* COLLECT was ordered */
	PHASE_MAX
};

enum task_flag {
	TASK_WORKTREE = 1 << 0,      /* works in a worktree of its own: PREPARE before, COLLECT after */
	TASK_IDEMPOTENT = 1 << 1,    /* may be run again when it was lost */
	TASK_LEAVE_RUNNING = 1 << 2, /* what it leaves behind at its end is not ended */
	TASK_WAS_HELD = 1 << 3,      /* submitted held */
};

/* What the core notes about the latest attempt. */
enum task_mark {
	MARK_NO_RETRY = 1 << 0,     /* however this attempt ends, no other follows by itself */
	MARK_SAME_ATTEMPT = 1 << 1, /* nothing of this attempt ran, so its number is used again */
	MARK_PAUSED = 1 << 2,       /* SUSPENDED by a pause: goes on when that ends */
	MARK_ALL = MARK_NO_RETRY | MARK_SAME_ATTEMPT | MARK_PAUSED,
};

struct cause {
	uint32_t kind;  /* enum cause_kind */
	uint32_t unused;
	uint64_t value; /* see words.def */
};

/* What an attempt used, as its shim measured it. Unknown is 0 with is_known false. */
struct usage {
	uint64_t cpu_us;
	uint64_t memory_peak_bytes;
	uint64_t output_bytes;
	uint64_t output_dropped_bytes;
	uint32_t strays; /* processes ended after the leader */
	bool is_known;
};

struct task {
	/* Set once, at submission. */
	uint64_t id;
	uint64_t batch; /* id of the batch */
	uint64_t timeout_ns; /* 0 = none */
	uint64_t grace_ns;   /* between TERMINATE and KILL */
	uint64_t backoff_ns; /* before the first retry, give or take a quarter; doubles each time */
	uint32_t retries_max;
	uint32_t flags; /* enum task_flag */
	int64_t created_ms;

	/* Changed by state_write() and step.c only. */
	uint8_t state;    /* enum task_state */
	uint8_t priority; /* enum priority */
	uint8_t phase;    /* enum attempt_phase */
	uint8_t outcome;  /* final state decided while stopping or collecting, else the state itself or TASK_STATE_MAX */
	uint32_t marks;   /* enum task_mark */
	uint32_t attempt; /* number of the latest attempt, from 1; 0 before the first */
	uint32_t retries_used; /* since submission or the user's last RETRY */
	uint32_t lost_used;    /* times it was lost since then */
	uint32_t slot;         /* of the attempt while active, else TASK_NONE */
	uint32_t waits_for;    /* dependencies not yet met */
	struct cause cause;    /* of the latest end, or the end decided on while stopping; kind NONE before */
	int32_t exit_code;     /* −1 = none */
	int32_t exit_signal;   /* 0 = none */
	uint64_t ready_ns;     /* since when it has been queued */
	uint64_t due_ns;       /* when its timer ends: backoff, time limit or grace; NEVER_NS = none */
	uint64_t started_ns;   /* STARTED (or EXITED without it) of the latest attempt; 0 = not yet */
	uint64_t ran_ns;       /* time it ran before the last suspension; the time limit counts this */
	uint64_t ended_ns;     /* end of its process, or of the task where none ran; 0 = not yet */
	int64_t started_ms;    /* 0 = not yet */
	int64_t ended_ms;      /* 0 = not yet */
	struct usage usage;    /* of the latest attempt */
};

/* Names as in the .def files; for any value out of range "?". */
const char *task_state_name(enum task_state state);
const char *task_input_name(enum task_input input);
const char *wait_reason_name(enum wait_reason reason);
const char *cause_kind_name(enum cause_kind kind);
const char *priority_name(enum priority priority);

/* Value of a name, or −1. */
int task_state_find(const char *name);
int priority_find(const char *name);

/* Kind of a state. */
enum task_state_kind task_state_kind(enum task_state state);
static inline bool task_state_is_final(enum task_state state)
{
	return task_state_kind(state) == TASK_KIND_FINAL;
}
static inline bool task_state_is_active(enum task_state state)
{
	return task_state_kind(state) == TASK_KIND_ACTIVE;
}

/* True when task.def has the edge. */
bool task_has_edge(enum task_state from, enum task_input input, enum task_state to);

/* True when task.def has any edge for the pair: the input is legal in that state. */
bool task_takes(enum task_state state, enum task_input input);

/*
 * The cause in words: "exit 3", "signal SIGSEGV", "out of memory", "timeout after 1h", "cancelled by user: REASON",
 * "lost: reboot", "skipped: #12 failed", "failed to start: DETAIL". `detail` is the daemon's text for it, may be NULL.
 * Returns `text`.
 */
const char *task_format_cause(const struct task *task, const char *detail, char *text, size_t size);

/*
 * The first rule broken by a task that claims to be in its state, as a sentence in static memory, or NULL. O(1). For rows
 * that come from outside; task_check() asserts the same (always on).
 */
const char *task_find_fault(const struct task *task);
void task_check(const struct task *task);
