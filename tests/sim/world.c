/*
 * world.c - see world.h. Each thing that can go wrong outside the core is one function here.
 */
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void world_fail(const struct world *world, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "sim: at %.3f s: ", (double)world->now_ns / 1e9);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

void world_init(struct world *world, uint64_t seed)
{
	*world = (struct world){ .random = { .state = mix64(seed) }, .now_ns = NS_PER_SEC, .daemon_life = 1, .boot = 1 };
	world->plans = (struct heap){
		.items = world->plan_items, .positions = world->plan_positions, .keys = world->plan_keys,
		.capacity = WORLD_EVENTS,
	};
	for (uint32_t i = 0; i < WORLD_EVENTS; i++) {
		heap_forget(&world->plans, i);
		world->plan[i].next_free = i + 1;
	}
}

static void plan(struct world *world, uint64_t delay_ns, const struct plan *plan)
{
	uint32_t index = world->free_plan;

	EXPECT(world, index < WORLD_EVENTS, "more than %d things are planned", WORLD_EVENTS);
	world->free_plan = world->plan[index].next_free;
	world->plan[index] = *plan;
	heap_put(&world->plans, index, world->now_ns + delay_ns);
}

static void plan_for_slot(struct world *world, uint64_t delay_ns, enum plan_kind kind, uint32_t slot)
{
	const struct world_slot *at = &world->slots[slot];

	plan(world, delay_ns, &(struct plan){ .kind = kind, .slot = slot, .nonce = at->nonce, .version = at->version });
}

/* Mostly milliseconds, sometimes seconds. */
static uint64_t some_delay(struct world *world)
{
	uint64_t limit_ns = random_chance(&world->random, 100) ? 5 * NS_PER_SEC : 50 * NS_PER_MS;

	return random_below(&world->random, limit_ns);
}

static void tell(struct world *world, const struct message *message)
{
	plan(world, some_delay(world), &(struct plan){ .kind = PLAN_MESSAGE, .version = world->daemon_life,
		.message = *message });
}

static void tell_look(struct world *world, uint32_t slot)
{
	const struct world_slot *at = &world->slots[slot];

	tell(world, &(struct message){ .kind = MESSAGE_LOOK, .slot = slot, .task = at->task, .attempt = at->attempt });
}

static struct history *history_of(struct world *world, uint64_t task, uint32_t attempt)
{
	EXPECT(world, task > 0 && task < WORLD_TASKS && attempt > 0, "task %u attempt %u is beyond the model",
	       (unsigned)task, attempt);
	EXPECT(world, attempt < WORLD_ATTEMPTS, "task %u has had %u attempts", (unsigned)task, attempt);
	return &world->history[task][attempt];
}

static void plan_end(struct world *world, uint32_t slot)
{
	struct world_slot *at = &world->slots[slot];

	at->version++;
	at->since_ns = world->now_ns;
	if (at->left_ns != NEVER_NS && !at->is_frozen)
		plan_for_slot(world, at->left_ns, PLAN_END, slot);
}

/* ---- what processes do ------------------------------------------------------------------------------------------- */

static void choose_behaviour(struct world *world, struct world_slot *at)
{
	struct random *random = &world->random;
	unsigned dice = (unsigned)random_below(random, 100);

	at->left_ns = random_below(random, random_chance(random, 300) ? 60 * NS_PER_SEC : 2 * NS_PER_SEC);
	at->exit_code = 0;
	at->exit_signal = 0;
	at->ignores_term = random_chance(random, 200);
	if (dice < 25) {
		at->exit_code = 1 + (int32_t)random_below(random, 100);
	} else if (dice < 32) {
		at->exit_code = -1;
		at->exit_signal = 11;
	} else if (dice < 42 && !world->is_calm) {
		at->left_ns = NEVER_NS;
	}
}

static void spawn(struct world *world, uint32_t slot)
{
	struct world_slot *at = &world->slots[slot];
	struct history *history;

	if (!at->is_armed)
		return; /* disarmed meanwhile: the shim finds that and goes */
	EXPECT(world, !at->is_lock_held && !at->is_populated, "slot %u is used twice", slot);
	history = history_of(world, at->task, at->attempt);
	history->starts++;
	history->started_ns = world->now_ns;
	EXPECT(world, history->starts == 1, "task %u attempt %u ran twice", (unsigned)at->task, at->attempt);
	for (uint32_t later = at->attempt + 1; later < WORLD_ATTEMPTS; later++)
		EXPECT(world, world->history[at->task][later].starts == 0, "task %u went back to attempt %u",
		       (unsigned)at->task,
		       at->attempt);
	at->is_armed = false;
	at->is_lock_held = true;
	at->is_populated = true;
	at->is_frozen = false;
	choose_behaviour(world, at);
	plan_end(world, slot);
	tell_look(world, slot);
	if (!world->is_calm && random_chance(&world->random, 40))
		plan_for_slot(world, random_below(&world->random, 3 * NS_PER_SEC), PLAN_SHIM_DIES, slot);
	else if (!world->is_calm && random_chance(&world->random, 40))
		plan_for_slot(world, random_below(&world->random, 3 * NS_PER_SEC), PLAN_VANISH, slot);
}

/* The tree is gone. Its end is recorded if a shim is there to do it. */
static void end(struct world *world, uint32_t slot, int32_t code, int32_t signal)
{
	struct world_slot *at = &world->slots[slot];
	struct history *history = history_of(world, at->task, at->attempt);

	/* Sometimes the shim dies between its record and the end of what is left. */
	at->is_populated = at->is_lock_held && !world->is_calm && random_chance(&world->random, 20);
	at->left_ns = NEVER_NS;
	at->is_frozen = false;
	at->version++;
	if (at->is_lock_held) {
		at->has_end = true;
		at->exit_code = code;
		at->exit_signal = signal;
		at->is_lock_held = false;
		history->has_record = true;
		history->exit_code = code;
		history->exit_signal = signal;
	}
	tell_look(world, slot);
}

static void end_by_term(struct world *world, uint32_t slot)
{
	bool is_caught = random_chance(&world->random, 300);

	end(world, slot, is_caught ? 0 : -1, is_caught ? 0 : 15);
}

static void run_slot_plan(struct world *world, const struct plan *plan)
{
	struct world_slot *at = &world->slots[plan->slot];

	if (at->nonce != plan->nonce)
		return; /* another attempt's slot by now */
	if (plan->kind == PLAN_SPAWN)
		spawn(world, plan->slot);
	if (!at->is_populated || (plan->kind == PLAN_END && plan->version != at->version))
		return;
	if (plan->kind == PLAN_END)
		end(world, plan->slot, at->exit_code, at->exit_signal);
	else if (plan->kind == PLAN_TERM && !at->is_frozen)
		end_by_term(world, plan->slot);
	else if (plan->kind == PLAN_KILL)
		end(world, plan->slot, -1, 9);
	else if (plan->kind == PLAN_VANISH) {
		at->is_lock_held = false;
		end(world, plan->slot, -1, 0);
	} else if (plan->kind == PLAN_SHIM_DIES && at->is_lock_held) {
		at->is_lock_held = false;
		tell_look(world, plan->slot);
	}
}

uint64_t world_next(const struct world *world)
{
	uint32_t first = heap_first(&world->plans);

	return first == HEAP_ABSENT ? NEVER_NS : world->plans.keys[first];
}

bool world_run_next(struct world *world, struct message *ret_message)
{
	uint32_t first = heap_first(&world->plans);
	struct plan plan = world->plan[first];

	world->now_ns = MAX(world->now_ns, world->plans.keys[first]);
	heap_remove(&world->plans, first);
	world->plan[first].next_free = world->free_plan;
	world->free_plan = first;
	if (plan.kind != PLAN_MESSAGE) {
		run_slot_plan(world, &plan);
		return false;
	}
	*ret_message = plan.message;
	return plan.version == world->daemon_life;
}

/* ---- effects ----------------------------------------------------------------------------------------------------- */

static void answer(struct world *world, const struct effect *effect, enum task_input input, enum cause_kind cause)
{
	tell(world, &(struct message){
		.kind = MESSAGE_ANSWER, .task = effect->task, .attempt = effect->attempt, .input = input, .cause = cause,
		.is_transient = random_chance(&world->random, 500),
	});
}

static void start(struct world *world, const struct effect *effect)
{
	struct world_slot *at = &world->slots[effect->slot];

	EXPECT(world, !at->is_lock_held && !at->is_populated, "slot %u is given to task %u while it is in use", effect->slot,
	       (unsigned)effect->task);
	if (!world->is_calm && random_chance(&world->random, 80)) {
		answer(world, effect, INPUT_START_REFUSED, CAUSE_NONE);
		return;
	}
	*at = (struct world_slot){
		.task = effect->task, .attempt = effect->attempt, .nonce = ++world->last_nonce, .boot = world->boot,
		.version = at->version + 1,
	};
	if (!world->is_calm && random_chance(&world->random, 60)) {
		at->has_end = true;
		at->has_failed = true;
		tell_look(world, effect->slot);
		return;
	}
	at->is_armed = true;
	plan_for_slot(world, some_delay(world), PLAN_SPAWN, effect->slot);
}

static void freeze(struct world *world, struct world_slot *at, uint32_t slot, bool is_frozen)
{
	if (!at->is_populated || at->is_frozen == is_frozen)
		return;
	if (is_frozen && at->left_ns != NEVER_NS)
		at->left_ns -= MIN(at->left_ns, world->now_ns - at->since_ns);
	at->is_frozen = is_frozen;
	history_of(world, at->task, at->attempt)->was_frozen = true;
	plan_end(world, slot);
}

/* Signals go to the attempt that the slot holds, if it is the one meant. */
static void act_on_process(struct world *world, const struct effect *effect)
{
	struct world_slot *at = &world->slots[effect->slot];

	if (at->task != effect->task || at->attempt != effect->attempt || !at->is_populated)
		return;
	switch ((enum effect_kind)effect->kind) {
	case EFFECT_TERMINATE:
		at->was_told = at->ignores_term;
		if (!at->ignores_term)
			plan_for_slot(world, some_delay(world), PLAN_TERM, effect->slot);
		break;
	case EFFECT_KILL: plan_for_slot(world, some_delay(world), PLAN_KILL, effect->slot); break;
	case EFFECT_FREEZE: freeze(world, at, effect->slot, true); break;
	case EFFECT_THAW: freeze(world, at, effect->slot, false); break;
	default: NEVER("world_perform() sends no other");
	}
}

void world_perform(struct world *world, const struct effect *effect)
{
	bool is_failing = !world->is_calm && random_chance(&world->random, 80);

	switch ((enum effect_kind)effect->kind) {
	case EFFECT_PREPARE:
		answer(world, effect, is_failing ? INPUT_PREPARE_FAILED : INPUT_PREPARED,
		       is_failing ? CAUSE_PREPARE_FAILED : CAUSE_NONE);
		break;
	case EFFECT_COLLECT:
		answer(world, effect, INPUT_COLLECTED, is_failing ? CAUSE_COLLECT_FAILED : CAUSE_NONE);
		break;
	case EFFECT_START: start(world, effect); break;
	case EFFECT_TERMINATE:
	case EFFECT_KILL:
	case EFFECT_FREEZE:
	case EFFECT_THAW: act_on_process(world, effect); break;
	case EFFECT_CHANGED:
	case EFFECT_MAX: NEVER("nothing to perform");
	}
}

/* ---- recovery ---------------------------------------------------------------------------------------------------- */

struct recover_facts world_look(const struct world *world, const struct task *task, bool is_rebooted)
{
	const struct world_slot *at = &world->slots[task->slot];
	bool is_own = at->task == task->id && at->attempt == task->attempt;

	return (struct recover_facts){
		.has_task = true, .state = task->state, .phase = task->phase, .is_rebooted = is_rebooted,
		.is_same_boot = at->boot == world->boot,
		.has_record = is_own,
		.is_armed = is_own && at->is_armed, .is_lock_held = is_own && at->is_lock_held, .has_end = is_own &&
		at->has_end,
		.is_populated = is_own && at->is_populated,
	};
}

void world_disarm(struct world *world, uint32_t slot)
{
	world->slots[slot].is_armed = false;
	world->slots[slot].nonce = ++world->last_nonce;
}

void world_kill_strays(struct world *world, uint32_t slot)
{
	struct world_slot *at = &world->slots[slot];

	at->is_populated = false;
	at->is_lock_held = false;
	at->is_armed = false;
	at->version++;
}

static void forget_record(struct world *world, struct world_slot *at)
{
	if (at->task != 0)
		history_of(world, at->task, at->attempt)->is_record_gone = true;
	*at = (struct world_slot){ .version = at->version };
}

void world_reboot(struct world *world)
{
	world->boot++;
	for (uint32_t slot = 0; slot < WORLD_SLOTS; slot++) {
		struct world_slot *at = &world->slots[slot];
		bool was_running = at->is_populated;

		world_kill_strays(world, slot);
		if (was_running && random_chance(&world->random, 500))
			at->is_armed = true; /* that it started never reached the disk */
		else if (random_chance(&world->random, 300))
			forget_record(world, at);
		at->nonce = ++world->last_nonce; /* what was planned for it is void */
	}
}

void world_calm_down(struct world *world)
{
	world->is_calm = true;
	for (uint32_t slot = 0; slot < WORLD_SLOTS; slot++) {
		struct world_slot *at = &world->slots[slot];

		if (!at->is_populated || at->left_ns != NEVER_NS || at->was_told)
			continue; /* what was told to end and does not is to be killed */
		at->left_ns = random_below(&world->random, 10 * NS_PER_SEC);
		plan_end(world, slot);
	}
}
