/*
 * core.c - the core's memory, its index tables, and the one entrance, core_step().
 *
 * Every event is tested before anything is written, so an error leaves each byte as it was. Memory is laid out once and
 * reads as zero; an index is set up when it is first used, never before, so limits for a million tasks cost address space
 * only.
 */
#include "core/core.h"

#include <errno.h>

#include "core/internal.h"

/* ---- memory ------------------------------------------------------------------------------------------------------ */

enum { LAYOUT_ALIGNMENT = 64 };

/* Hands out parts of one block; with `base` NULL it only counts. */
struct layout {
	char *base;
	size_t used;
};

static void *take(struct layout *layout, size_t count, size_t size)
{
	size_t at = layout->used;

	layout->used += (count * size + LAYOUT_ALIGNMENT - 1) / LAYOUT_ALIGNMENT * LAYOUT_ALIGNMENT;
	return layout->base ? layout->base + at : NULL;
}

static struct heap take_heap(struct layout *layout, uint32_t capacity)
{
	return (struct heap){
		.items = take(layout, capacity, sizeof(uint32_t)),
		.positions = take(layout, capacity, sizeof(uint32_t)),
		.keys = take(layout, capacity, sizeof(uint64_t)),
		.capacity = capacity,
	};
}

static struct table take_table(struct layout *layout, uint32_t ids_max)
{
	return (struct table){
		.entries = take(layout, 2 * (size_t)ids_max, sizeof(struct table_entry)),
		.capacity = 2 * ids_max,
	};
}

static void lay_out(struct core *core, struct layout *layout, const struct core_limits *limits)
{
	core->limits = *limits;
	core->tasks = take(layout, limits->tasks_max, sizeof(*core->tasks));
	core->nodes = take(layout, limits->tasks_max, sizeof(*core->nodes));
	core->batches = take(layout, limits->tasks_max, sizeof(*core->batches));
	core->edges = take(layout, limits->edges_max, sizeof(*core->edges));
	core->task_table = take_table(layout, limits->tasks_max);
	core->batch_table = take_table(layout, limits->tasks_max);
	core->timers = take_heap(layout, limits->tasks_max);
	core->eligible = take_heap(layout, limits->tasks_max);
	core->widest = take_heap(layout, limits->tasks_max);
	core->slots = take(layout, (limits->slots_max + SLOT_WORD_BITS - 1) / SLOT_WORD_BITS, sizeof(*core->slots));
	/* Most a step can say: each waiting task one change, or two where it was new; each slot a few things. */
	core->effect_max = 2 * limits->tasks_max + 8 * limits->slots_max;
	core->effects = take(layout, core->effect_max, sizeof(*core->effects));
}

size_t core_size(const struct core_limits *limits)
{
	struct layout layout = { 0 };
	struct core core;

	take(&layout, 1, sizeof(struct core));
	lay_out(&core, &layout, limits);
	return layout.used;
}

static void check_config(const struct core_config *config, const struct core_limits *limits)
{
	ASSERT(config->slots >= 1);
	ASSERT(config->slots_hard_max >= 1);
	ASSERT(config->slots_hard_max <= limits->slots_max);
}

struct core *core_init(void *memory, const struct core_limits *limits, const struct core_config *config)
{
	struct layout layout = { .base = memory };
	struct core *core = take(&layout, 1, sizeof(*core));

	ASSERT((uintptr_t)memory % LAYOUT_ALIGNMENT == 0);
	ASSERT(limits->tasks_max >= 1 && limits->tasks_max <= UINT32_C(1) << 30);
	ASSERT((limits->tasks_max & (limits->tasks_max - 1)) == 0);
	ASSERT(limits->edges_max < NONE && limits->slots_max >= 1 && limits->slots_max <= UINT32_C(1) << 20);
	check_config(config, limits);
	lay_out(core, &layout, limits);
	core->config = *config;
	core->task_pool = (struct pool){ .free = NONE, .max = limits->tasks_max };
	core->batch_pool = core->task_pool;
	core->edge_pool = (struct pool){ .free = NONE, .max = limits->edges_max };
	core->first_settling = NONE;
	core->last_settling = NONE;
	return core;
}

uint32_t pool_take_fresh(struct pool *pool)
{
	return pool->fresh < pool->max ? pool->fresh++ : NONE;
}

/* ---- tasks and batches by id ------------------------------------------------------------------------------------- */

uint32_t core_make_task(struct core *core, uint64_t id, uint32_t batch)
{
	uint32_t index = core->task_pool.free;

	if (index == NONE)
		index = pool_take_fresh(&core->task_pool);
	else
		core->task_pool.free = core->nodes[index].next;
	ASSERT(index != NONE);
	core->task_pool.used++;
	core->nodes[index] = (struct node){
		.batch = batch, .next = NONE, .previous = NONE, .next_settling = NONE, .first_out = NONE, .first_in = NONE,
		.last_in = NONE, .is_known = true,
	};
	heap_forget(&core->timers, index);
	table_add(&core->task_table, id, index);
	core->batches[batch].tasks++;
	return index;
}

void core_drop_task(struct core *core, uint32_t index)
{
	struct node *node = &core->nodes[index];
	const struct task *task = &core->tasks[index];
	struct batch *batch = &core->batches[node->batch];

	ASSERT(task_state_is_final(task->state));
	deps_drop(core, index);
	core->by_state[task->state]--;
	batch->by_state[task->state]--;
	batch->tasks--;
	table_remove(&core->task_table, task->id);
	node->is_known = false;
	node->next = core->task_pool.free;
	core->task_pool.free = index;
	core->task_pool.used--;
}

bool core_is_known(const struct core *core, uint32_t index)
{
	return core->nodes[index].is_known;
}

static void make_batch(struct core *core, uint64_t id, uint32_t limit)
{
	uint32_t index = core->batch_pool.free;

	if (index == NONE)
		index = pool_take_fresh(&core->batch_pool);
	else
		core->batch_pool.free = core->batches[index].next_free;
	core->batch_pool.used++;
	core->batches[index] = (struct batch){ .id = id, .limit = limit, .next_free = NONE, .is_known = true };
	for (unsigned priority = 0; priority < PRIORITY_MAX; priority++) {
		core->batches[index].first[priority] = NONE;
		core->batches[index].last[priority] = NONE;
	}
	heap_forget(&core->eligible, index);
	heap_forget(&core->widest, index);
	table_add(&core->batch_table, id, index);
}

static void drop_batch(struct core *core, uint32_t index)
{
	struct batch *batch = &core->batches[index];

	ASSERT(batch->tasks == 0);
	ASSERT(!heap_contains(&core->eligible, index) && !heap_contains(&core->widest, index));
	table_remove(&core->batch_table, batch->id);
	batch->is_known = false;
	batch->next_free = core->batch_pool.free;
	core->batch_pool.free = index;
	core->batch_pool.used--;
}

uint32_t core_index(const struct core *core, uint64_t id)
{
	uint32_t index = table_find(&core->task_table, id);

	return index == TABLE_ABSENT ? TASK_NONE : index;
}

const struct task *core_find(const struct core *core, uint64_t id)
{
	uint32_t index = table_find(&core->task_table, id);

	return index == TABLE_ABSENT ? NULL : &core->tasks[index];
}

const struct task *core_task_at(const struct core *core, uint32_t index)
{
	ASSERT(index < core->task_pool.fresh && core->nodes[index].is_known);
	return &core->tasks[index];
}

uint64_t core_deadline(const struct core *core)
{
	uint32_t index = heap_first(&core->timers);

	return index == HEAP_ABSENT ? NEVER_NS : core->tasks[index].due_ns;
}

void core_count(const struct core *core, struct core_totals *ret_totals)
{
	struct core_totals totals = {
		.active = core->active, .slot_limit = queue_slot_limit(core), .tasks = core->task_pool.used,
		.batches = core->batch_pool.used, .edges = core->edge_pool.used,
		.is_paused = core->pause.is_set, .is_draining = core->is_draining,
	};

	for (unsigned state = 0; state < TASK_STATE_MAX; state++)
		totals.by_state[state] = core->by_state[state];
	*ret_totals = totals;
}

int core_count_batch(const struct core *core, uint64_t batch, uint32_t ret_by_state[TASK_STATE_MAX])
{
	uint32_t index = table_find(&core->batch_table, batch);

	if (index == TABLE_ABSENT)
		return -ENOENT;
	for (unsigned state = 0; state < TASK_STATE_MAX; state++)
		ret_by_state[state] = core->batches[index].by_state[state];
	return 0;
}

/* ---- testing an event -------------------------------------------------------------------------------------------- */

static int test_room(const struct core *core, const struct core_event *event, uint64_t id, uint64_t batch)
{
	if (table_find(&core->batch_table, batch) == TABLE_ABSENT)
		return -ENOENT;
	if (table_find(&core->task_table, id) != TABLE_ABSENT)
		return -EEXIST;
	if (core->task_pool.used >= core->task_pool.max)
		return -ENOSPC;
	return event->dependency_count <= core->edge_pool.max - core->edge_pool.used ? 0 : -ENOSPC;
}

static int test_add(const struct core *core, const struct core_event *event)
{
	const struct task *task = event->restore;
	int r;

	ASSERT(core->is_resumed && task && task->id != 0 && task->priority < PRIORITY_MAX &&
	       task->retries_max <= LIMIT_RETRIES);
	r = test_room(core, event, task->id, task->batch);
	for (uint32_t i = 0; r == 0 && i < event->dependency_count; i++)
		if (table_find(&core->task_table, event->dependencies[i].task) == TABLE_ABSENT)
			r = -ENOENT;
	return r;
}

static int test_restore(const struct core *core, const struct core_event *event)
{
	const struct task *task = event->restore;

	ASSERT(!core->is_resumed && task);
	if (task_find_fault(task))
		return -EINVAL;
	if (task->slot != TASK_NONE && (task->slot >= core->limits.slots_max || slot_is_used(core, task->slot)))
		return -EINVAL;
	return test_room(core, event, task->id, task->batch);
}

static int test_add_batch(const struct core *core, const struct core_event *event)
{
	ASSERT(event->batch != 0);
	if (table_find(&core->batch_table, event->batch) != TABLE_ABSENT)
		return -EEXIST;
	return core->batch_pool.used < core->batch_pool.max ? 0 : -ENOSPC;
}

static int test_forget_task(const struct core *core, uint32_t index)
{
	if (!task_state_is_final(core->tasks[index].state))
		return -EBUSY;
	return deps_is_needed(core, index) ? -EBUSY : 0;
}

/* 0 when the event would be taken. Changes nothing. */
static int test_event(const struct core *core, const struct core_event *event)
{
	uint32_t task = table_find(&core->task_table, event->task);
	uint32_t batch = table_find(&core->batch_table, event->batch);

	switch ((enum core_event_kind)event->kind) {
	case CORE_ADD_BATCH: return test_add_batch(core, event);
	case CORE_ADD_TASK: return test_add(core, event);
	case CORE_RESTORE_TASK: return test_restore(core, event);
	case CORE_INPUT:
		ASSERT(core->is_resumed);
		return task == TABLE_ABSENT ? -ENOENT : step_test_input(core, task, event);
	case CORE_FORGET_TASK:
		ASSERT(core->is_resumed);
		return task == TABLE_ABSENT ? -ENOENT : test_forget_task(core, task);
	case CORE_PAUSE_BATCH: return batch == TABLE_ABSENT ? -ENOENT : 0;
	case CORE_FORGET_BATCH:
		if (batch == TABLE_ABSENT)
			return -ENOENT;
		return core->batches[batch].tasks > 0 ? -EBUSY : 0;
	case CORE_CONFIGURE: check_config(event->config, &core->limits); return 0;
	case CORE_PAUSE:
	case CORE_DRAIN:
	case CORE_TICK: return 0;
	case CORE_EVENT_MAX: break;
	}
	NEVER("the caller makes events of the kinds above");
}

/* ---- applying it ------------------------------------------------------------------------------------------------- */

static void apply_add(struct core *core, const struct core_event *event)
{
	const struct task *wanted = event->restore;
	bool is_held = wanted->state == TASK_HELD;
	uint32_t index = core_make_task(core, wanted->id, table_find(&core->batch_table, wanted->batch));

	core->tasks[index] = (struct task){
		.id = wanted->id, .batch = wanted->batch, .timeout_ns = wanted->timeout_ns, .grace_ns = wanted->grace_ns,
		.backoff_ns = wanted->backoff_ns, .retries_max = wanted->retries_max, .created_ms = wanted->created_ms,
		.flags = (wanted->flags & ~(uint32_t)TASK_WAS_HELD) | (is_held ? (uint32_t)TASK_WAS_HELD : 0),
		.priority = wanted->priority, .outcome = TASK_STATE_MAX, .slot = TASK_NONE, .exit_code = -1,
		.due_ns = NEVER_NS,
	};
	deps_add(core, index, event->dependencies, event->dependency_count);
	step_enter(core, index, is_held);
}

/* When the interval began in which a restored task runs: its time limit tells; without one it does not matter. */
static uint64_t since_of(const struct core *core, const struct task *task)
{
	uint64_t left_ns = task->timeout_ns - MIN(task->ran_ns, task->timeout_ns);

	return task->due_ns == NEVER_NS || task->due_ns < left_ns ? core->now_ns : MIN(task->due_ns - left_ns, core->now_ns);
}

static void apply_restore(struct core *core, const struct core_event *event)
{
	uint32_t batch = table_find(&core->batch_table, event->restore->batch);
	uint32_t index = core_make_task(core, event->restore->id, batch);
	struct task *task = &core->tasks[index];
	bool is_active;

	*task = *event->restore;
	is_active = task_state_is_active(task->state);
	deps_add(core, index, event->dependencies, event->dependency_count);
	core->by_state[task->state]++;
	core->batches[batch].by_state[task->state]++;
	core->batches[batch].unfinished += !task_state_is_final(task->state);
	core->batches[batch].active += is_active;
	core->active += is_active;
	if (is_active)
		slot_mark(core, task->slot, true);
	timer_set(core, index, task->due_ns);
	if (task->state == TASK_QUEUED && task->due_ns == NEVER_NS)
		queue_push(core, index);
	queue_refresh_batch(core, batch);
}

static void apply_event(struct core *core, const struct core_event *event)
{
	uint32_t task = table_find(&core->task_table, event->task);
	uint32_t batch = table_find(&core->batch_table, event->batch);

	switch ((enum core_event_kind)event->kind) {
	case CORE_ADD_BATCH: make_batch(core, event->batch, event->limit); break;
	case CORE_ADD_TASK: apply_add(core, event); break;
	case CORE_RESTORE_TASK: apply_restore(core, event); break;
	case CORE_INPUT: step_apply_input(core, task, event); break;
	case CORE_FORGET_TASK: core_drop_task(core, task); break;
	case CORE_PAUSE_BATCH: pause_set(core, batch, event->value, event->suspends); break;
	case CORE_FORGET_BATCH: drop_batch(core, batch); break;
	case CORE_CONFIGURE: core->config = *event->config; break;
	case CORE_PAUSE: pause_set(core, NONE, event->value, event->suspends); break;
	case CORE_DRAIN: core->is_draining = event->value; break;
	case CORE_TICK: step_run_timers(core); break;
	case CORE_EVENT_MAX: break;
	}
}

/* What follows from what happened, until nothing follows any more. */
static void finish_step(struct core *core, struct effects *ret_effects)
{
	step_settle(core);
	step_admit(core);
	check_step(core);
	*ret_effects = (struct effects){ .items = core->effects, .count = core->effect_count };
}

int core_step(struct core *core, const struct core_event *event, uint64_t now_ns, struct effects *ret_effects)
{
	int r;

	ASSERT(now_ns >= core->now_ns);
	*ret_effects = (struct effects){ .items = core->effects };
	r = test_event(core, event);
	if (r < 0)
		return r;
	core->now_ns = now_ns;
	core->wall_ms = event->wall_ms;
	core->effect_count = 0;
	apply_event(core, event);
	finish_step(core, ret_effects);
	return 0;
}

void core_resume(struct core *core, uint64_t now_ns, struct effects *ret_effects)
{
	ASSERT(!core->is_resumed && now_ns >= core->now_ns);
	core->now_ns = now_ns;
	core->effect_count = 0;
	core->is_resumed = true;
	for (uint32_t i = 0; i < core->task_pool.fresh; i++)
		deps_resolve(core, i);
	for (uint32_t i = 0; i < core->task_pool.fresh; i++) {
		if (core->tasks[i].state == TASK_HELD || core->tasks[i].state == TASK_BLOCKED)
			deps_evaluate(core, i);
		if (core->tasks[i].state == TASK_RUNNING)
			core->nodes[i].since_ns = since_of(core, &core->tasks[i]);
	}
	pause_resume_uncovered(core);
	for (uint32_t i = 0; i < core->task_pool.fresh; i++)
		step_resume_task(core, i);
	finish_step(core, ret_effects);
}
