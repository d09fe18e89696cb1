/*
 * world.h - the simulated machine: slots with records and locks, processes, worktrees, and messages on their way to the
 * daemon. It survives the daemon's crashes and knows the truth that the core is measured against.
 *
 * Time is virtual. All randomness comes from the seed.
 */
#pragma once

#include "base/heap.h"
#include "base/mix.h"
#include "core/core.h"
#include "core/recover.h"

enum {
	WORLD_TASKS = 96,    /* ids 1 … WORLD_TASKS - 1 */
	WORLD_ATTEMPTS = 64, /* of one task */
	WORLD_SLOTS = 16,
	WORLD_EVENTS = 2048,
};

/* What the world or the shim tells the daemon. */
enum message_kind {
	MESSAGE_ANSWER, /* of PREPARE or COLLECT, START_REFUSED */
	MESSAGE_LOOK,   /* something happened in the slot: read its record */
};

struct message {
	enum message_kind kind;
	uint64_t task;
	uint32_t attempt;
	uint32_t slot;
	enum task_input input;
	enum cause_kind cause;
	bool is_transient;
};

/* One slot: record, lock and process tree in one. */
struct world_slot {
	uint64_t task; /* 0 = the record is nobody's */
	uint32_t attempt;
	uint64_t nonce;
	uint64_t boot; /* in which the record was written */
	bool is_armed;
	bool is_lock_held;
	bool is_populated;
	bool is_frozen;
	bool ignores_term;
	bool was_told; /* to end, and does not */
	bool has_end;
	bool has_failed; /* the end: it could not be executed */
	int32_t exit_code;
	int32_t exit_signal;
	uint64_t left_ns;  /* until it ends by itself, NEVER_NS = hangs */
	uint64_t since_ns; /* running since */
	uint64_t version;  /* of when it ends: older plans for that are void */
};

/* What really happened to one attempt. */
struct history {
	uint32_t starts;
	bool has_record;
	bool is_record_gone; /* by a reboot, maybe before the daemon saw it */
	bool was_frozen;
	int32_t exit_code;
	int32_t exit_signal;
	uint64_t started_ns;
};

enum plan_kind { PLAN_SPAWN, PLAN_END, PLAN_TERM, PLAN_KILL, PLAN_SHIM_DIES, PLAN_VANISH, PLAN_MESSAGE };

struct plan {
	enum plan_kind kind;
	uint32_t slot;
	uint64_t nonce;   /* of the attempt it is meant for */
	uint64_t version; /* END: of the slot; MESSAGE: the daemon's life */
	struct message message;
	uint32_t next_free;
};

struct world {
	struct random random;
	uint64_t now_ns;
	uint64_t daemon_life; /* messages to an earlier one are lost */
	uint64_t boot;
	uint64_t last_nonce;
	bool is_calm;
	struct world_slot slots[WORLD_SLOTS];
	struct history history[WORLD_TASKS][WORLD_ATTEMPTS];
	struct heap plans; /* by time */
	uint32_t plan_items[WORLD_EVENTS];
	uint32_t plan_positions[WORLD_EVENTS];
	uint64_t plan_keys[WORLD_EVENTS];
	struct plan plan[WORLD_EVENTS];
	uint32_t free_plan;
};

/* Ends the program with a sentence; the parent process adds the seed. */
NORETURN void world_fail(const struct world *world, const char *format, ...) PRINTF_LIKE(2, 3);

#define EXPECT(world, condition, ...)                                                                                       \
	do {                                                                                                                \
		if (!(condition))                                                                                           \
			world_fail(world, __VA_ARGS__);                                                                     \
	} while (0)

/* A fresh machine. */
void world_init(struct world *world, uint64_t seed);

/* When something happens next, NEVER_NS when nothing does. */
uint64_t world_next(const struct world *world);

/* Lets the next thing happen, at its time. True when it is a message for the daemon of this life. */
bool world_run_next(struct world *world, struct message *ret_message);

/* Performs an effect that the daemon committed. */
void world_perform(struct world *world, const struct effect *effect);

/* What the daemon finds about a task's latest attempt in its slot. */
struct recover_facts world_look(const struct world *world, const struct task *task, bool is_rebooted);

/* Takes back the order to start, if it was not followed yet. */
void world_disarm(struct world *world, uint32_t slot);

/* Ends whatever is alive in the slot, now, without a record. */
void world_kill_strays(struct world *world, uint32_t slot);

/* The machine starts again: nothing is alive, records may be older than the truth. */
void world_reboot(struct world *world);

/* From now on everything works and ends. */
void world_calm_down(struct world *world);
