/*
 * sim.h - one run of the simulator: the real core in a modelled daemon with a modelled store, against world.c.
 */
#pragma once

#include "world.h"

enum {
	SIM_BATCHES = 32, /* ids 1 … SIM_BATCHES - 1 */
	SIM_DEPENDENCIES = 4,
	SIM_EFFECTS = 1024,
	SIM_CORE_TASKS = 128,
};

/* What the store holds of a task. */
struct row {
	bool exists;
	struct task task;
	struct core_dependency dependencies[SIM_DEPENDENCIES];
	uint32_t dependency_count;
};

struct pause_row {
	bool is_set;
	bool suspends;
};

struct batch_row {
	bool exists;
	uint32_t limit;
	struct pause_row pause;
};

/* Rows as of one commit. */
struct store {
	struct row tasks[WORLD_TASKS];
	struct batch_row batches[SIM_BATCHES];
	struct pause_row pause; /* of everything */
	uint64_t boot;
};

/* Changes decided, not durable yet, and what waits for them. */
struct generation {
	bool is_task_dirty[WORLD_TASKS];
	bool is_batch_dirty[SIM_BATCHES];
	struct effect effects[SIM_EFFECTS];
	uint32_t effect_count;
	bool is_empty;
};

/* What the user knows and did; the model that results are measured against. */
struct model {
	bool is_acknowledged[WORLD_TASKS];
	bool was_forgotten[WORLD_TASKS];
	bool was_cancelled[WORLD_TASKS];
	bool was_suspended[WORLD_TASKS];
	bool may_run_on[WORLD_TASKS]; /* through a pause that suspends: the user resumed it */
	bool is_draining;
	struct pause_row pause; /* of everything; those of batches are in known_batches */
	uint64_t last_task;
	uint64_t last_batch;
};

struct coverage {
	uint64_t edges[TASK_STATE_MAX][INPUT_MAX][TASK_STATE_MAX];
	uint64_t actions[RECOVER_ACTION_MAX];
	uint64_t crashes;
	uint64_t steps;
};

struct sim {
	struct world world;
	struct random random; /* of the user and of what happens to the daemon */
	struct store store;   /* durable */
	struct store pending; /* as it will be when the commit in flight is done */
	struct generation next;
	struct generation in_flight;
	uint64_t commit_ends_ns; /* NEVER_NS = none in flight */
	uint64_t next_user_ns;
	struct core *core;
	void *memory;
	size_t memory_size;
	struct core_config config;
	struct model model;
	struct row known[WORLD_TASKS]; /* what was submitted: dependencies and numbers */
	struct batch_row known_batches[SIM_BATCHES];
	uint64_t hash;
	uint64_t steps;
	bool is_calm;
	struct coverage *coverage;
};

/* ---- daemon.c ---- */

/* Makes the core from the store, classifies what is left of attempts, goes on. Also the first start. */
void daemon_start(struct sim *sim);

/* The daemon dies; the commit in flight may have become durable or not. */
void daemon_crash(struct sim *sim);

/* One event to the core, with all checks after it. Returns what core_step() returned. */
int daemon_step(struct sim *sim, const struct core_event *event);

/* A message from the world. */
void daemon_receive(struct sim *sim, const struct message *message);

/* Hands what is decided to the store, when it is free. */
void daemon_end_turn(struct sim *sim);

/* The commit in flight is durable: perform and acknowledge. */
void daemon_finish_commit(struct sim *sim);

/* ---- expect.c: core against world and model ---- */

/* After a step that took `event` (NULL: core_resume) and gave these effects. */
void expect_step(struct sim *sim, const struct core_event *event, const struct effects *effects);

/* After a restart: nothing acknowledged is missing. */
void expect_restored(struct sim *sim);

/* At the end of the calm phase. */
void expect_all_ended(struct sim *sim);

/* ---- user.c ---- */

/* Something a user might do, sensible or not. */
void user_act(struct sim *sim);

/* Lets go of everything that is held back, so that all can end. */
void user_calm_down(struct sim *sim);
