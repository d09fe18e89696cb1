/*
 * resolve.h - which state a salvaged task has: pure decisions over what was found, for salvage.c.
 */
#pragma once

#include "store/salvage.h"

/* The newest event of a task in the log; seq 0 = none is there. */
struct newest_event {
	uint64_t seq;
	int64_t at_ms;
	uint64_t cause_value;
	uint32_t attempt;
	int32_t exit_code;   /* −1 = none */
	int32_t exit_signal; /* 0 = none */
	uint8_t state;       /* enum task_state */
	uint8_t cause;       /* enum cause_kind */
};

/* What was found of one task. */
struct resolve_facts {
	bool has_state;            /* a state row was readable: it is in the task */
	uint64_t state_seq;        /* up to which event the database that it is from told */
	uint64_t top_seq;          /* the last event there was */
	bool is_log_complete;      /* every event behind state_seq is readable */
	bool has_lost_dependency;  /* a task it waits for is gone */
	bool is_slot_file_lost;    /* a row that is the latest does not help what runs */
	bool is_slot_free;         /* the slot of `attempt` is not another task's */
	const struct newest_event *event;
	const struct salvage_attempt *attempt; /* of this task in the slot file, or NULL */
};

enum resolve_fate {
	RESOLVE_KEPT,  /* the row is the latest */
	RESOLVE_TOLD,  /* its end from the event log, or its attempt from the slot file */
	RESOLVE_HELD,  /* waits, held */
	RESOLVE_ENDED, /* lost: it ran, and nothing tells how it ended */
	RESOLVE_FATE_MAX
};

/* Reads a row of the event log; false for events that are not about a task's state. */
bool resolve_read_event(const struct store_event *row, struct newest_event *ret);

/* Brings task and nonce into the state they are to be restored in, which task_find_fault() accepts. */
enum resolve_fate resolve_task(const struct resolve_facts *facts, struct store_task *task);
