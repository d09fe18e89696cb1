/*
 * check.c - the invariants, executable. check_step() runs after every step and costs what the step touched; core_check()
 * looks at everything. A failed one is a bug and ends the process: recovery from the store is a tested path, going on is
 * not.
 */
#include "core/internal.h"

void check_step(const struct core *core)
{
	uint32_t active = 0;
	uint32_t tasks = 0;

	for (uint32_t i = 0; i < core->effect_count; i++)
		task_check(&core->tasks[core->effects[i].index]);
	for (unsigned state = 0; state < TASK_STATE_MAX; state++) {
		tasks += core->by_state[state];
		active += task_state_is_active(state) ? core->by_state[state] : 0;
	}
	ASSERT(tasks == core->task_pool.used);
	ASSERT(active == core->active);
	ASSERT(active <= core->limits.slots_max);
	ASSERT(core->first_settling == NONE);
	ASSERT(core->task_table.count == core->task_pool.used);
	if (core->is_resumed && !core->pause.is_set && !core->is_draining && active < queue_slot_limit(core))
		ASSERT(queue_first(core) == NONE);
}

static void check_edges(const struct core *core, uint32_t index)
{
	const struct task *task = &core->tasks[index];
	uint32_t waits_for = 0;
	uint32_t before = NONE;

	for (uint32_t at = core->nodes[index].first_out; at != NONE; at = core->edges[at].next_out) {
		const struct edge *edge = &core->edges[at];

		ASSERT(edge->from == index);
		ASSERT(edge->previous_out == before);
		ASSERT(core_is_known(core, edge->to) && core->tasks[edge->to].id == edge->target);
		waits_for += !deps_is_satisfied(core, edge);
		if (task->state == TASK_HELD || task->state == TASK_BLOCKED)
			ASSERT(!deps_is_failed(core, edge));
		before = at;
	}
	if (task->state == TASK_HELD || task->state == TASK_BLOCKED)
		ASSERT(task->waits_for == waits_for);
	before = NONE;
	for (uint32_t at = core->nodes[index].first_in; at != NONE; at = core->edges[at].next_in) {
		ASSERT(core->edges[at].to == index);
		ASSERT(core->edges[at].previous_in == before);
		before = at;
	}
	ASSERT(core->nodes[index].last_in == before);
}

static void check_one(const struct core *core, uint32_t index)
{
	const struct task *task = &core->tasks[index];
	const struct node *node = &core->nodes[index];

	task_check(task);
	ASSERT(table_find(&core->task_table, task->id) == index);
	ASSERT(core->batches[node->batch].is_known && core->batches[node->batch].id == task->batch);
	ASSERT(heap_contains(&core->timers, index) == (task->due_ns != NEVER_NS));
	ASSERT(node->is_queued == (task->state == TASK_QUEUED && task->due_ns == NEVER_NS));
	if (task->due_ns != NEVER_NS)
		ASSERT(core->timers.keys[index] == task->due_ns);
	if (task->slot != TASK_NONE)
		ASSERT(slot_is_used(core, task->slot));
	if (task->marks & MARK_PAUSED)
		ASSERT(pause_suspends(core, index));
	check_edges(core, index);
}

static uint32_t check_queue(const struct core *core, uint32_t batch, unsigned priority)
{
	uint32_t before = NONE;
	uint32_t length = 0;

	for (uint32_t at = core->batches[batch].first[priority]; at != NONE; at = core->nodes[at].next) {
		ASSERT(core->nodes[at].is_queued && core->nodes[at].batch == batch);
		ASSERT(core->tasks[at].priority == priority);
		ASSERT(core->nodes[at].previous == before);
		if (before != NONE)
			ASSERT(core->tasks[before].ready_ns <= core->tasks[at].ready_ns);
		before = at;
		length++;
	}
	ASSERT(core->batches[batch].last[priority] == before);
	return length;
}

/* Returns how many tasks lie in the batch's queues. */
static uint32_t check_batch(const struct core *core, uint32_t index)
{
	const struct batch *batch = &core->batches[index];
	uint32_t queued = 0;
	uint32_t tasks = 0;
	uint32_t active = 0;
	uint32_t unfinished = 0;
	bool has_room;

	for (unsigned priority = 0; priority < PRIORITY_MAX; priority++)
		queued += check_queue(core, index, priority);
	for (unsigned state = 0; state < TASK_STATE_MAX; state++) {
		tasks += batch->by_state[state];
		active += task_state_is_active(state) ? batch->by_state[state] : 0;
		unfinished += task_state_is_final(state) ? 0 : batch->by_state[state];
	}
	ASSERT(tasks == batch->tasks);
	ASSERT(active == batch->active);
	ASSERT(unfinished == batch->unfinished);
	ASSERT(batch->limit == 0 || active <= batch->limit);
	has_room = batch->limit == 0 || active < batch->limit;
	ASSERT(heap_contains(&core->eligible, index) == (queued > 0 && !batch->pause.is_set && has_room));
	ASSERT(heap_contains(&core->widest, index) == (batch->limit > 0 && unfinished > 0));
	return queued;
}

void core_check(const struct core *core)
{
	uint32_t by_state[TASK_STATE_MAX] = { 0 };
	uint32_t queued = 0;
	uint32_t used_slots = 0;
	uint32_t tasks = 0;

	check_step(core);
	for (uint32_t i = 0; i < core->task_pool.fresh; i++) {
		if (!core_is_known(core, i))
			continue;
		check_one(core, i);
		by_state[core->tasks[i].state]++;
		queued += core->nodes[i].is_queued;
		tasks++;
	}
	ASSERT(tasks == core->task_pool.used);
	for (unsigned state = 0; state < TASK_STATE_MAX; state++)
		ASSERT(by_state[state] == core->by_state[state]);
	for (uint32_t i = 0; i < core->batch_pool.fresh; i++)
		if (core->batches[i].is_known)
			queued -= check_batch(core, i);
	ASSERT(queued == 0);
	/* slot_mark() refuses a slot in use, so as many slots as active tasks means that no two share one. */
	for (uint32_t slot = 0; slot < core->limits.slots_max; slot++)
		used_slots += slot_is_used(core, slot);
	ASSERT(used_slots == core->active);
}
