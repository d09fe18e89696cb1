/*
 * expect.c - what must hold: the core's picture against the world's truth and the user's memory, after every step.
 */
#include "sim.h"

static const uint64_t ageing_ns[] = { 0, 600 * NS_PER_SEC, 1800 * NS_PER_SEC };

static const struct task *known(const struct sim *sim, uint64_t id)
{
	const struct task *task = core_find(sim->core, id);

	EXPECT(&sim->world, task != NULL, "task %u is unknown", (unsigned)id);
	return task;
}

/* ---- the world --------------------------------------------------------------------------------------------------- */

/* Each live process tree belongs to an active task that holds this very slot with this very attempt: one tree per task. */
static void expect_trees(const struct sim *sim)
{
	uint32_t per_batch[SIM_BATCHES] = { 0 };

	for (uint32_t slot = 0; slot < WORLD_SLOTS; slot++) {
		const struct world_slot *at = &sim->world.slots[slot];
		const struct task *task;
		uint32_t limit;

		if (!at->is_populated)
			continue;
		task = known(sim, at->task);
		EXPECT(&sim->world, task_state_is_active(task->state), "task %u is %s, but runs", (unsigned)task->id,
		       task_state_name(task->state));
		EXPECT(&sim->world, task->slot == slot && task->attempt == at->attempt,
		       "task %u runs in slot %u as attempt %u, not %u in %u",
		       (unsigned)task->id, slot, at->attempt, task->attempt, task->slot);
		limit = sim->known_batches[task->batch].limit;
		EXPECT(&sim->world, limit == 0 || ++per_batch[task->batch] <= limit, "batch %u runs more than %u",
		       (unsigned)task->batch,
		       limit);
	}
}

/* ---- ends -------------------------------------------------------------------------------------------------------- */

static bool is_satisfied(const struct sim *sim, const struct core_dependency *dependency)
{
	const struct task *target = core_find(sim->core, dependency->task);

	if (!target)
		return true; /* forgotten */
	return dependency->is_any ? task_state_is_final(target->state) : target->state == TASK_SUCCEEDED;
}

static void expect_success(const struct sim *sim, const struct task *task)
{
	const struct history *history = &sim->world.history[task->id][task->attempt];

	EXPECT(&sim->world, history->has_record && history->exit_code == 0 && history->starts == 1,
	       "task %u succeeded, the world knows nothing of it", (unsigned)task->id);
}

static void expect_failure(const struct sim *sim, const struct task *task)
{
	const struct history *history = &sim->world.history[task->id][task->attempt];

	switch ((enum cause_kind)task->cause.kind) {
	case CAUSE_EXIT:
		EXPECT(&sim->world, history->has_record && history->exit_code == (int32_t)task->cause.value,
		       "task %u: wrong exit status",
		       (unsigned)task->id);
		break;
	case CAUSE_SIGNAL:
		EXPECT(&sim->world, history->has_record && history->exit_signal == (int32_t)task->cause.value,
		       "task %u: wrong signal",
		       (unsigned)task->id);
		break;
	case CAUSE_PREPARE_FAILED:
	case CAUSE_START_FAILED:
		EXPECT(&sim->world, history->starts == 0, "task %u failed to start, but ran", (unsigned)task->id);
		break;
	default: break;
	}
}

static void expect_final(const struct sim *sim, const struct task *task)
{
	const struct history *history = &sim->world.history[task->id][task->attempt];
	bool has_bad_dependency = false;

	switch ((enum task_state)task->state) {
	case TASK_SUCCEEDED: expect_success(sim, task); break;
	case TASK_FAILED: expect_failure(sim, task); break;
	case TASK_CANCELLED:
		EXPECT(&sim->world, sim->model.was_cancelled[task->id], "task %u: nobody cancelled it", (unsigned)task->id);
		break;
	case TASK_LOST:
		EXPECT(&sim->world, !history->has_record || history->is_record_gone,
		       "task %u is lost, but its end was recorded", (unsigned)task->id);
		break;
	case TASK_TIMED_OUT:
		EXPECT(&sim->world, task->timeout_ns > 0 && history->starts == 1, "task %u cannot have timed out",
		       (unsigned)task->id);
		EXPECT(&sim->world, sim->model.was_suspended[task->id] ||
			       sim->world.now_ns - history->started_ns >= task->timeout_ns, "task %u timed out early",
			       (unsigned)task->id);
		break;
	case TASK_SKIPPED:
		for (uint32_t i = 0; i < sim->known[task->id].dependency_count; i++)
			has_bad_dependency |= !is_satisfied(sim, &sim->known[task->id].dependencies[i]);
		EXPECT(&sim->world, has_bad_dependency, "task %u was skipped for nothing", (unsigned)task->id);
		break;
	default: break;
	}
}

/* ---- transitions ------------------------------------------------------------------------------------------------- */

/* The input that a change must have come from: the event's own for its task, else the core's. */
static enum task_input input_of(const struct core_event *event, const struct effect *effect, bool is_first)
{
	if (event && event->kind == CORE_INPUT && effect->task == event->task && is_first)
		return event->input;
	if (effect->to == TASK_PREPARING)
		return INPUT_ADMIT;
	if (effect->to == TASK_STOPPING)
		return INPUT_TIME_OVER;
	if (effect->to == TASK_SUSPENDED)
		return INPUT_SUSPEND;
	if (effect->to == TASK_RUNNING)
		return INPUT_RESUME;
	return effect->to == TASK_SKIPPED ? INPUT_DEPENDENCY_FAILED : INPUT_DEPENDENCIES_MET;
}

static void expect_edges(struct sim *sim, const struct core_event *event, const struct effects *effects)
{
	bool is_first = true;

	for (uint32_t i = 0; i < effects->count; i++) {
		const struct effect *effect = &effects->items[i];
		enum task_input input;

		if (effect->kind != EFFECT_CHANGED || effect->from == TASK_STATE_MAX)
			continue;
		input = input_of(event, effect, is_first);
		if (event && effect->task == event->task)
			is_first = false;
		EXPECT(&sim->world, task_has_edge(effect->from, input, effect->to), "task %u: %s by %s to %s",
		       (unsigned)effect->task,
		       task_state_name(effect->from), task_input_name(input), task_state_name(effect->to));
		sim->coverage->edges[effect->from][input][effect->to]++;
		if (input == INPUT_DEPENDENCIES_MET)
			for (uint32_t d = 0; d < sim->known[effect->task].dependency_count; d++)
				EXPECT(&sim->world, is_satisfied(sim, &sim->known[effect->task].dependencies[d]),
				       "task %u goes on before its dependencies", (unsigned)effect->task);
		if (task_state_is_final(effect->to))
			expect_final(sim, known(sim, effect->task));
	}
}

/* ---- admission --------------------------------------------------------------------------------------------------- */

static uint64_t key_of(const struct task *task)
{
	return task->ready_ns + ageing_ns[task->priority];
}

static uint32_t slot_limit_of(const struct sim *sim)
{
	uint32_t limit = sim->config.slots;

	for (uint64_t id = 1; id < WORLD_TASKS; id++) {
		const struct task *task = core_find(sim->core, id);

		if (task && !task_state_is_final(task->state))
			limit = MAX(limit, sim->known_batches[task->batch].limit);
	}
	return MIN(limit, sim->config.slots_hard_max);
}

/* Whether its batch would let the task start now. */
static bool may_start(const struct sim *sim, const struct task *task)
{
	uint32_t limit = sim->known_batches[task->batch].limit;
	uint32_t by_state[TASK_STATE_MAX];
	uint32_t active = 0;

	if (task->state != TASK_QUEUED || task->due_ns != NEVER_NS || sim->known_batches[task->batch].pause.is_set)
		return false;
	EXPECT(&sim->world, core_count_batch(sim->core, task->batch, by_state) == 0, "a task's batch is unknown");
	for (unsigned state = 0; state < TASK_STATE_MAX; state++)
		active += task_state_is_active(state) ? by_state[state] : 0;
	return limit == 0 || active < limit;
}

/* The latest key admitted in this step, 0 when nothing was. */
static uint64_t admitted_key(const struct sim *sim, const struct effects *effects)
{
	uint64_t key = 0;

	for (uint32_t i = 0; i < effects->count; i++)
		if (effects->items[i].kind == EFFECT_CHANGED && effects->items[i].to == TASK_PREPARING &&
		    effects->items[i].from == TASK_QUEUED)
			key = MAX(key, key_of(known(sim, effects->items[i].task)));
	return key;
}

static void expect_admission(const struct sim *sim, const struct effects *effects)
{
	uint64_t key = admitted_key(sim, effects);
	bool is_stopped = sim->model.pause.is_set || sim->model.is_draining;
	struct core_totals totals;

	core_count(sim->core, &totals);
	EXPECT(&sim->world, totals.slot_limit == slot_limit_of(sim), "the slot limit is %u, not %u", totals.slot_limit,
	       slot_limit_of(sim));
	EXPECT(&sim->world, key == 0 || !is_stopped, "something starts while everything is paused");
	EXPECT(&sim->world, key == 0 || totals.active <= totals.slot_limit, "%u run where %u may", totals.active,
	       totals.slot_limit);
	for (uint64_t id = 1; id < WORLD_TASKS; id++) {
		const struct task *task = core_find(sim->core, id);

		if (!task || !may_start(sim, task))
			continue;
		EXPECT(&sim->world, key <= key_of(task), "task %u was overtaken", (unsigned)id);
		EXPECT(&sim->world, is_stopped || totals.active >= totals.slot_limit, "task %u could run and does not",
		       (unsigned)id);
	}
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

static void expect_reasons(const struct sim *sim)
{
	for (uint64_t id = 1; id < WORLD_TASKS; id++) {
		const struct task *task = core_find(sim->core, id);
		struct wait wait;

		if (!task)
			continue;
		core_explain(sim->core, id, sim->world.now_ns, &wait);
		EXPECT(&sim->world,
		       (wait.reason != REASON_NONE) ==
			       (task_state_kind(task->state) == TASK_KIND_WAITING || task->state == TASK_SUSPENDED),
		       "task %u is %s, reason %s", (unsigned)id, task_state_name(task->state),
		       wait_reason_name(wait.reason));
	}
}

/* ---- pauses ------------------------------------------------------------------------------------------------------ */

/* What a pause suspended is covered by one; what is covered runs only where the user said so afterwards. */
static void expect_pauses(const struct sim *sim)
{
	for (uint64_t id = 1; id < WORLD_TASKS; id++) {
		const struct task *task = core_find(sim->core, id);
		bool is_covered;

		if (!task)
			continue;
		is_covered = sim->model.pause.suspends || sim->known_batches[task->batch].pause.suspends;
		EXPECT(&sim->world, is_covered || !(task->marks & MARK_PAUSED), "task %u is suspended by no pause",
		       (unsigned)id);
		EXPECT(&sim->world, !is_covered || task->state != TASK_RUNNING || sim->model.may_run_on[id],
		       "task %u runs through a pause", (unsigned)id);
	}
}

void expect_step(struct sim *sim, const struct core_event *event, const struct effects *effects)
{
	expect_edges(sim, event, effects);
	expect_trees(sim);
	expect_pauses(sim);
	if (sim->steps % 4 != 0 && sim->steps > 100)
		return;
	core_check(sim->core);
	expect_admission(sim, effects);
	expect_reasons(sim);
}

void expect_restored(struct sim *sim)
{
	for (uint64_t id = 1; id < WORLD_TASKS; id++) {
		bool must_exist = sim->model.is_acknowledged[id] && !sim->model.was_forgotten[id];

		EXPECT(&sim->world, !must_exist || core_find(sim->core, id), "task %u was acknowledged and is gone",
		       (unsigned)id);
	}
}

void expect_all_ended(struct sim *sim)
{
	struct core_totals totals;

	core_check(sim->core);
	expect_restored(sim);
	core_count(sim->core, &totals);
	EXPECT(&sim->world, totals.active == 0, "%u slots are in use at the end", totals.active);
	for (uint64_t id = 1; id < WORLD_TASKS; id++) {
		const struct task *task = core_find(sim->core, id);

		if (!task)
			continue;
		EXPECT(&sim->world, task_state_is_final(task->state), "task %u never ends: %s", (unsigned)id,
		       task_state_name(task->state));
		EXPECT(&sim->world, task->cause.kind != CAUSE_NONE, "task %u has no cause", (unsigned)id);
	}
}
