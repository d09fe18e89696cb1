/*
 * turn.h - one turn of the daemon: facts go through the core, what changed is committed, then effects, answers and events.
 *
 * Two generations: `next` gathers while `in_flight` is being committed by the store's thread. An effect, an answer or a
 * published event belongs to the generation in which it was decided and happens only after that one is durable.
 */
#pragma once

#include "base/err.h"
#include "core/core.h"

struct daemon;
struct store_txn;

/* Called once the generation in which it was registered is durable (failure NULL), or is not going to be. */
typedef void (*turn_waiter)(struct daemon *daemon, void *context, const struct err *failure);

/* An event on its way to the subscribers; told when it is durable, to those who listen then. */
struct turn_event {
	uint64_t seq;
	uint64_t task;
	uint64_t batch;
	int64_t at_ms;
	uint32_t attempt;
	int32_t exit_code;   /* −1 = none */
	int32_t exit_signal; /* 0 = none */
	uint8_t cause;       /* enum cause_kind, of an attempt's end */
	uint8_t state;       /* enum task_state; TASK_STATE_MAX when it is about no task */
	const char *kind;    /* static */
};

struct turn_waiting {
	turn_waiter call;
	void *context;
};

struct generation {
	struct store_txn *txn; /* NULL while empty */
	struct effect *effects;
	uint32_t effect_count;
	uint32_t effect_capacity;
	struct turn_waiting *waiters;
	uint32_t waiter_count;
	uint32_t waiter_capacity;
	struct turn_event *events;
	uint32_t event_count;
	uint32_t event_capacity;
	uint32_t *dirty; /* indices of tasks whose row is to be written */
	uint32_t dirty_count;
	uint32_t dirty_capacity;
	uint64_t last_seq;
	uint64_t last_task; /* ids given out when it was handed over */
	uint64_t last_batch;
};

struct turn {
	struct generation next;
	struct generation in_flight;
	const struct task *ended; /* in turn_absorb(): a task as it was at the end of an attempt that another one follows */
	uint64_t published_seq; /* last event that subscribers could see */
	uint64_t durable_task;  /* higher ids were given out and may not be remembered yet */
	uint64_t durable_batch;
};

/* One event through the core; its effects are gathered. Returns what core_step() returned. */
int turn_step(struct daemon *daemon, const struct core_event *event);

/* Gathers effects that did not come from turn_step(): those of core_resume(). */
void turn_absorb(struct daemon *daemon, const struct effects *effects);

/* The transaction being gathered, for what is no task state: batches, keys, forgotten things. */
struct store_txn *turn_txn(struct daemon *daemon);

/* Has a task's row written by the next commit. */
void turn_mark_dirty(struct daemon *daemon, uint32_t index);

/* Takes a forgotten task out of what is to be written. */
void turn_drop_dirty(struct daemon *daemon, uint32_t index);

/* Adds a line about no task to the event log, and tells who listens. `kind` is static; `batch` 0 = everything. */
void turn_log(struct daemon *daemon, const char *kind, uint64_t batch);

/* Registers what is to happen once everything decided so far is durable. */
void turn_after_commit(struct daemon *daemon, turn_waiter call, void *context);

/* At the end of each loop iteration: hands the gathered generation to the store when it is free. */
void turn_end(struct daemon *daemon);

/*
 * The commit in flight found no room: tries it again, with all that was gathered since as a part of it. What was refused for
 * want of room and what takes it away again so become durable together, and no crash or stop can come between.
 */
void turn_retry(struct daemon *daemon);

/* The store's descriptor is readable: take the result, perform, answer, publish. */
void turn_on_commit(struct daemon *daemon);

/* Empties a generation, keeping its memory for the next. */
void turn_clear_generation(struct generation *generation);

/* True when nothing waits for a commit. */
bool turn_is_idle(const struct daemon *daemon);

/* Frees what is gathered; what was decided but not handed over is decided again after the next start. */
void turn_done(struct daemon *daemon);
