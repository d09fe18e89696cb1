/*
 * state.c - the one writer of a task's state, and what hangs on it: counts, slots, timers, the list of ends to be told.
 *
 * state_write() asserts that task.def has the edge and says so in a CHANGED effect. Everything else that a transition needs
 * (outcome, phase of the new state, orders) its caller does.
 */
#include "core/internal.h"

static void emit(struct core *core, uint32_t index, enum effect_kind kind, enum task_state from)
{
	const struct task *task = &core->tasks[index];

	ASSERT(core->effect_count < core->effect_max);
	core->effects[core->effect_count++] = (struct effect){
		.kind = (uint8_t)kind, .from = (uint8_t)from, .to = task->state, .slot = task->slot,
		.attempt = task->attempt,
		.index = index, .task = task->id,
	};
}

void state_order(struct core *core, uint32_t index, enum effect_kind kind)
{
	emit(core, index, kind, core->tasks[index].state);
}

/* ---- the one writer ---------------------------------------------------------------------------------------------- */

static void count_state(struct core *core, uint32_t index, enum task_state state, int step)
{
	struct batch *batch = &core->batches[core->nodes[index].batch];

	core->by_state[state] += (uint32_t)step;
	batch->by_state[state] += (uint32_t)step;
	if (task_state_is_active(state)) {
		core->active += (uint32_t)step;
		batch->active += (uint32_t)step;
	}
	if (!task_state_is_final(state))
		batch->unfinished += (uint32_t)step;
}

static void leave_activity(struct core *core, uint32_t index)
{
	struct task *task = &core->tasks[index];

	slot_mark(core, task->slot, false);
	task->slot = TASK_NONE;
	task->phase = PHASE_NONE;
}

static void enter_final(struct core *core, uint32_t index, enum task_state from)
{
	struct task *task = &core->tasks[index];

	task->outcome = task->state;
	task->marks &= ~(uint32_t)(MARK_NO_RETRY | MARK_SAME_ATTEMPT);
	if (task->ended_ns == 0 || task_state_kind(from) == TASK_KIND_WAITING) {
		task->ended_ns = MAX(core->now_ns, (uint64_t)1);
		task->ended_ms = core->wall_ms;
	}
	core->nodes[index].next_settling = NONE;
	if (core->first_settling == NONE)
		core->first_settling = index;
	else
		core->nodes[core->last_settling].next_settling = index;
	core->last_settling = index;
}

void state_write(struct core *core, uint32_t index, enum task_input input, enum task_state to)
{
	struct task *task = &core->tasks[index];
	enum task_state from = task->state;

	ASSERT(task_has_edge(from, input, to));
	if (from != to) {
		queue_remove(core, index);
		timer_set(core, index, NEVER_NS);
		count_state(core, index, from, -1);
		count_state(core, index, to, +1);
		if (task_state_is_active(from) && !task_state_is_active(to))
			leave_activity(core, index);
		task->state = (uint8_t)to;
		if (from == TASK_SUSPENDED)
			task->marks &= ~(uint32_t)MARK_PAUSED;
		if (to != TASK_STOPPING && to != TASK_COLLECTING)
			task->outcome = TASK_STATE_MAX;
		if (task_state_is_final(to))
			enter_final(core, index, from);
		queue_refresh_batch(core, core->nodes[index].batch);
	}
	emit(core, index, EFFECT_CHANGED, from);
}

void state_enter(struct core *core, uint32_t index, enum task_state state)
{
	core->tasks[index].state = (uint8_t)state;
	count_state(core, index, state, +1);
	queue_refresh_batch(core, core->nodes[index].batch);
	emit(core, index, EFFECT_CHANGED, TASK_STATE_MAX);
}
