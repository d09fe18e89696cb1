/*
 * queue.c - who is next: queues, batch limits, slots, timers.
 *
 * Key of a waiting task: the moment it became ready plus the ageing of its priority. Within one batch and priority the keys
 * ascend in order of arrival, so a plain list holds them; per batch the best of three heads counts; the batches that may
 * start something lie in a heap by that key. Every operation is O(log batches).
 */
#include "core/internal.h"

static const uint64_t ageing_ns[] = {
#define PRIORITY(symbol, name, ageing) [PRIORITY_##symbol] = (ageing) * NS_PER_SEC,
#include "core/words.def"
};

uint64_t queue_key(const struct task *task)
{
	return task->ready_ns + ageing_ns[task->priority];
}

/* The batch's task with the lowest key; on a tie the higher priority. */
static uint32_t best_head(const struct core *core, const struct batch *batch)
{
	uint32_t best = NONE;

	for (unsigned priority = 0; priority < PRIORITY_MAX; priority++) {
		uint32_t head = batch->first[priority];

		if (head != NONE && (best == NONE || queue_key(&core->tasks[head]) < queue_key(&core->tasks[best])))
			best = head;
	}
	return best;
}

void queue_refresh_batch(struct core *core, uint32_t index)
{
	const struct batch *batch = &core->batches[index];
	uint32_t head = best_head(core, batch);
	bool has_room = batch->limit == 0 || batch->active < batch->limit;

	if (head == NONE || batch->pause.is_set || !has_room)
		heap_remove(&core->eligible, index);
	else if (!heap_contains(&core->eligible, index) || core->eligible.keys[index] != queue_key(&core->tasks[head]))
		heap_put(&core->eligible, index, queue_key(&core->tasks[head]));

	if (batch->limit == 0 || batch->unfinished == 0)
		heap_remove(&core->widest, index);
	else if (!heap_contains(&core->widest, index))
		heap_put(&core->widest, index, UINT32_MAX - batch->limit);
}

void queue_push(struct core *core, uint32_t index)
{
	struct node *node = &core->nodes[index];
	struct batch *batch = &core->batches[node->batch];
	unsigned priority = core->tasks[index].priority;
	uint32_t before = batch->last[priority];

	ASSERT(!node->is_queued);
	ASSERT(core->tasks[index].state == TASK_QUEUED);
	/* In operation the first look ends this: nothing was ready later than now. The store, too, gives them in order. */
	while (before != NONE && core->tasks[before].ready_ns > core->tasks[index].ready_ns)
		before = core->nodes[before].previous;
	node->previous = before;
	node->next = before == NONE ? batch->first[priority] : core->nodes[before].next;
	if (before == NONE)
		batch->first[priority] = index;
	else
		core->nodes[before].next = index;
	if (node->next == NONE)
		batch->last[priority] = index;
	else
		core->nodes[node->next].previous = index;
	node->is_queued = true;
	queue_refresh_batch(core, node->batch);
}

void queue_remove(struct core *core, uint32_t index)
{
	struct node *node = &core->nodes[index];
	struct batch *batch = &core->batches[node->batch];
	unsigned priority = core->tasks[index].priority;

	if (!node->is_queued)
		return;
	if (node->previous == NONE)
		batch->first[priority] = node->next;
	else
		core->nodes[node->previous].next = node->next;
	if (node->next == NONE)
		batch->last[priority] = node->previous;
	else
		core->nodes[node->next].previous = node->previous;
	node->next = NONE;
	node->previous = NONE;
	node->is_queued = false;
	queue_refresh_batch(core, node->batch);
}

uint32_t queue_first(const struct core *core)
{
	uint32_t batch = heap_first(&core->eligible);

	return batch == HEAP_ABSENT ? NONE : best_head(core, &core->batches[batch]);
}

uint32_t queue_slot_limit(const struct core *core)
{
	uint32_t batch = heap_first(&core->widest);
	uint32_t wanted = core->config.slots;

	if (batch != HEAP_ABSENT)
		wanted = MAX(wanted, core->batches[batch].limit);
	return MIN(wanted, core->config.slots_hard_max);
}

bool slot_is_used(const struct core *core, uint32_t slot)
{
	return core->slots[slot / SLOT_WORD_BITS] >> (slot % SLOT_WORD_BITS) & 1;
}

void slot_mark(struct core *core, uint32_t slot, bool is_used)
{
	uint64_t bit = UINT64_C(1) << (slot % SLOT_WORD_BITS);

	ASSERT(slot < core->limits.slots_max);
	ASSERT(slot_is_used(core, slot) != is_used);
	core->slots[slot / SLOT_WORD_BITS] ^= bit;
}

uint32_t slot_take(struct core *core)
{
	uint32_t word = 0;
	uint32_t slot;

	while (core->slots[word] == UINT64_MAX)
		word++;
	slot = word * SLOT_WORD_BITS + (uint32_t)__builtin_ctzll(~core->slots[word]);
	slot_mark(core, slot, true);
	return slot;
}

void timer_set(struct core *core, uint32_t index, uint64_t due_ns)
{
	core->tasks[index].due_ns = due_ns;
	if (due_ns == NEVER_NS)
		heap_remove(&core->timers, index);
	else
		heap_put(&core->timers, index, due_ns);
}
