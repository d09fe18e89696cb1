/*
 * daemon.c - the simulator's daemon: what the real one must do around the core, in its smallest form. One commit is in
 * flight at a time; effects and acknowledgements wait for it; start is recovery.
 */
#include <string.h>

#include "sim.h"

static void fold(struct sim *sim, uint64_t value)
{
	sim->hash = mix64(sim->hash ^ value);
}

static void fold_effects(struct sim *sim, const struct effects *effects)
{
	for (uint32_t i = 0; i < effects->count; i++) {
		const struct effect *effect = &effects->items[i];

		fold(sim,
		     (uint64_t)effect->kind << 40 | (uint64_t)effect->from << 32 | (uint64_t)effect->to << 24 |
			     effect->attempt);
		fold(sim, effect->task << 32 | effect->slot);
	}
}

static void absorb(struct sim *sim, const struct effects *effects)
{
	struct generation *next = &sim->next;

	for (uint32_t i = 0; i < effects->count; i++) {
		const struct effect *effect = &effects->items[i];

		next->is_empty = false;
		next->is_task_dirty[effect->task] = true;
		if (effect->kind == EFFECT_CHANGED)
			continue;
		EXPECT(&sim->world, next->effect_count < SIM_EFFECTS, "too many effects wait for a commit");
		next->effects[next->effect_count++] = *effect;
	}
}

int daemon_step(struct sim *sim, const struct core_event *event)
{
	struct core_event stamped = *event;
	struct effects effects;
	int r;

	stamped.wall_ms = (int64_t)(sim->world.now_ns / NS_PER_MS) + 1000000;
	r = core_step(sim->core, &stamped, sim->world.now_ns, &effects);
	fold(sim, sim->world.now_ns);
	fold(sim, (uint64_t)event->kind << 48 | (uint64_t)event->input << 40 | event->task << 8 | (uint8_t)-r);
	sim->steps++;
	sim->coverage->steps++;
	if (r < 0) {
		EXPECT(&sim->world, effects.count == 0, "a refused event has effects");
		return r;
	}
	if (event->kind == CORE_INPUT) {
		sim->next.is_task_dirty[event->task] = true;
		sim->next.is_empty = false;
	}
	fold_effects(sim, &effects);
	absorb(sim, &effects);
	expect_step(sim, event, &effects);
	return 0;
}

/* ---- store ------------------------------------------------------------------------------------------------------- */

static void copy_rows(struct sim *sim, const struct generation *generation)
{
	sim->pending = sim->store;
	for (uint64_t id = 1; id < WORLD_TASKS; id++) {
		const struct task *task = core_find(sim->core, id);
		struct row *row = &sim->pending.tasks[id];

		if (!generation->is_task_dirty[id])
			continue;
		*row = sim->known[id];
		row->exists = task != NULL;
		if (task)
			row->task = *task;
	}
	for (uint64_t id = 1; id < SIM_BATCHES; id++)
		if (generation->is_batch_dirty[id])
			sim->pending.batches[id] = sim->known_batches[id];
	sim->pending.pause = sim->model.pause;
	sim->pending.boot = sim->world.boot;
}

void daemon_end_turn(struct sim *sim)
{
	if (sim->next.is_empty || sim->commit_ends_ns != NEVER_NS)
		return;
	sim->in_flight = sim->next;
	sim->next = (struct generation){ .is_empty = true };
	copy_rows(sim, &sim->in_flight);
	sim->commit_ends_ns = sim->world.now_ns + random_below(&sim->random,
							       random_chance(&sim->random,
									     50) ? 2 * NS_PER_SEC : 20 * NS_PER_MS);
}

void daemon_finish_commit(struct sim *sim)
{
	sim->store = sim->pending;
	sim->commit_ends_ns = NEVER_NS;
	for (uint64_t id = 1; id < WORLD_TASKS; id++)
		if (sim->in_flight.is_task_dirty[id] && sim->store.tasks[id].exists)
			sim->model.is_acknowledged[id] = true;
	for (uint32_t i = 0; i < sim->in_flight.effect_count; i++)
		world_perform(&sim->world, &sim->in_flight.effects[i]);
}

/* ---- what is learnt of attempts ---------------------------------------------------------------------------------- */

static void feed(struct sim *sim, const struct task *task, enum task_input input, enum cause_kind cause)
{
	struct core_event event = {
		.kind = CORE_INPUT, .input = (uint8_t)input, .task = task->id, .attempt = task->attempt, .exit_code = -1,
		.cause = { .kind = cause },
	};
	int r = daemon_step(sim, &event);

	EXPECT(&sim->world, r == 0, "task %u refuses %s: %d", (unsigned)task->id, task_input_name(input), r);
}

static void feed_end(struct sim *sim, const struct task *task)
{
	const struct world_slot *at = &sim->world.slots[task->slot];
	struct core_event event = {
		.kind = CORE_INPUT, .input = INPUT_EXITED, .task = task->id, .attempt = task->attempt,
		.exit_code = at->exit_code,
		.exit_signal = at->exit_signal, .usage = { .is_known = true, .cpu_us = 1 },
	};
	int r;

	if (at->has_failed) {
		event.input = INPUT_START_FAILED;
		event.exit_code = -1;
		event.cause = (struct cause){ .kind = CAUSE_START_FAILED, .value = 2 };
		event.is_transient = at->nonce % 2 == 0;
	} else if (at->exit_signal == 9) {
		event.cause.kind = CAUSE_OUT_OF_MEMORY;
	}
	r = daemon_step(sim, &event);
	EXPECT(&sim->world, r == 0, "task %u refuses its end: %d", (unsigned)task->id, r);
}

/* Tells the core what the row of the table says. The slot is the one the task has now. */
static void act_on_classification(struct sim *sim, const struct task *task, const struct recover_facts *facts)
{
	enum recover_action action = recover_classify(facts);
	enum cause_kind lost = facts->is_rebooted ? CAUSE_REBOOT : CAUSE_VANISHED;

	sim->coverage->actions[action]++;
	switch (action) {
	case RECOVER_ADOPT:
	case RECOVER_ADOPT_WITHOUT_SHIM:
		if (task->phase == PHASE_START)
			feed(sim, task, INPUT_STARTED, CAUSE_NONE);
		break;
	case RECOVER_KILL_AND_RECORD_END:
		world_kill_strays(&sim->world, task->slot);
		feed_end(sim, task);
		break;
	case RECOVER_RECORD_END: feed_end(sim, task); break;
	case RECOVER_LOST: feed(sim, task, INPUT_ATTEMPT_LOST, lost); break;
	case RECOVER_NOT_STARTED:
		world_disarm(&sim->world, task->slot);
		feed(sim, task, INPUT_START_REFUSED, CAUSE_NONE);
		break;
	case RECOVER_START_AGAIN: world_disarm(&sim->world, task->slot); break;
	case RECOVER_KILL_STRAYS: world_kill_strays(&sim->world, task->slot); break;
	case RECOVER_NOTHING:
	case RECOVER_PREPARE:
	case RECOVER_COLLECT:
	case RECOVER_ACTION_MAX: break;
	}
}

static void receive_look(struct sim *sim, const struct message *message)
{
	const struct task *task = core_find(sim->core, message->task);
	struct recover_facts facts;

	if (!task || task->slot != message->slot || task->attempt != message->attempt)
		return; /* old news */
	if (task->phase != PHASE_START && task->phase != PHASE_PROCESS)
		return;
	facts = world_look(&sim->world, task, false);
	if (facts.is_armed)
		return;
	act_on_classification(sim, task, &facts);
}

void daemon_receive(struct sim *sim, const struct message *message)
{
	struct core_event event = {
		.kind = CORE_INPUT, .input = (uint8_t)message->input, .task = message->task, .attempt = message->attempt,
		.exit_code = -1,
		.cause = { .kind = message->cause }, .is_transient = message->is_transient,
	};

	if (message->kind == MESSAGE_LOOK)
		receive_look(sim, message);
	else
		daemon_step(sim, &event); /* may come late: then it is refused */
}

/* ---- start is recovery ------------------------------------------------------------------------------------------- */

static void restore_pause(struct sim *sim, enum core_event_kind kind, uint64_t batch, struct pause_row pause)
{
	struct core_event event = {
		.kind = (uint8_t)kind, .batch = batch, .value = pause.is_set, .suspends = pause.suspends,
	};
	struct effects effects;

	if (pause.is_set)
		EXPECT(&sim->world, core_step(sim->core, &event, sim->world.now_ns, &effects) == 0, "pause not restored");
}

static void restore_batches(struct sim *sim)
{
	struct effects effects;

	sim->model.pause = sim->store.pause;
	restore_pause(sim, CORE_PAUSE, 0, sim->store.pause);

	for (uint64_t id = 1; id < SIM_BATCHES; id++) {
		struct core_event event = { .kind = CORE_ADD_BATCH, .batch = id, .limit = sim->store.batches[id].limit };

		sim->known_batches[id] = sim->store.batches[id];
		if (sim->store.batches[id].exists)
			EXPECT(&sim->world, core_step(sim->core, &event, sim->world.now_ns, &effects) == 0,
			       "batch not restored");
		restore_pause(sim, CORE_PAUSE_BATCH, id, sim->store.batches[id].pause);
	}
}

/* The task to restore next: lowest ready_ns, then id, after (ready_ns, id). 0 = no more. */
static uint64_t next_row(const struct store *store, const struct task *after)
{
	uint64_t best = 0;

	for (uint64_t id = 1; id < WORLD_TASKS; id++) {
		const struct task *task = &store->tasks[id].task;
		bool is_behind = !after || task->ready_ns > after->ready_ns ||
			(task->ready_ns == after->ready_ns && id > after->id);

		if (store->tasks[id].exists && is_behind && (best == 0 || task->ready_ns < store->tasks[best].task.ready_ns))
			best = id;
	}
	return best;
}

static void restore_tasks(struct sim *sim)
{
	uint64_t id = next_row(&sim->store, NULL);
	struct effects effects;

	for (; id != 0; id = next_row(&sim->store, &sim->store.tasks[id].task)) {
		const struct row *row = &sim->store.tasks[id];
		struct core_event event = {
			.kind = CORE_RESTORE_TASK, .restore = &row->task, .dependencies = row->dependencies,
			.dependency_count = row->dependency_count,
		};
		int r = core_step(sim->core, &event, sim->world.now_ns, &effects);

		EXPECT(&sim->world, r == 0, "task %u not restored: %d", (unsigned)id, r);
		if (row->task.state == TASK_RUNNING)
			sim->model.may_run_on[id] = true; /* a pause that would have stopped it was not durable */
	}
}

/* Of the effects that resuming orders, START is for attempts that never ran only. */
static void absorb_resumed(struct sim *sim, const struct effects *effects, const enum recover_action *actions)
{
	for (uint32_t i = 0; i < effects->count; i++) {
		const struct effect *effect = &effects->items[i];
		bool was_active = sim->store.tasks[effect->task].task.slot != TASK_NONE;

		if (effect->kind == EFFECT_START && was_active && actions[effect->task] != RECOVER_START_AGAIN)
			continue;
		absorb(sim, &(struct effects){ .items = &effects->items[i], .count = 1 });
	}
}

void daemon_start(struct sim *sim)
{
	struct core_limits limits = { .tasks_max = SIM_CORE_TASKS, .edges_max = 512, .slots_max = WORLD_SLOTS };
	enum recover_action actions[WORLD_TASKS] = { 0 };
	struct recover_facts facts[WORLD_TASKS];
	bool is_rebooted = sim->store.boot != sim->world.boot;
	struct effects effects;

	memset(sim->memory, 0, sim->memory_size);
	sim->core = core_init(sim->memory, &limits, &sim->config);
	restore_batches(sim);
	restore_tasks(sim);
	for (uint64_t id = 1; id < WORLD_TASKS; id++) {
		const struct task *task = core_find(sim->core, id);

		if (!task || task->slot == TASK_NONE)
			continue;
		facts[id] = world_look(&sim->world, task, is_rebooted);
		actions[id] = recover_classify(&facts[id]);
	}
	core_resume(sim->core, sim->world.now_ns, &effects);
	sim->next = (struct generation){ .is_empty = true };
	fold_effects(sim, &effects);
	absorb_resumed(sim, &effects, actions);
	expect_step(sim, NULL, &effects);
	for (uint64_t id = 1; id < WORLD_TASKS; id++)
		if (actions[id] != RECOVER_NOTHING)
			act_on_classification(sim, core_find(sim->core, id), &facts[id]);
	expect_restored(sim);
	daemon_end_turn(sim);
}

void daemon_crash(struct sim *sim)
{
	sim->coverage->crashes++;
	fold(sim, 0xdead);
	if (sim->commit_ends_ns != NEVER_NS && random_chance(&sim->random, 500))
		sim->store = sim->pending; /* durable, but nobody was told and nothing was done */
	sim->commit_ends_ns = NEVER_NS;
	sim->world.daemon_life++;
	sim->model.is_draining = false;
}
