/*
 * broken.c - see broken.h.
 *
 * Whether the failed commit is on the disk is not known: its submissions were not acknowledged, and the next daemon may find
 * them or not. This one takes them out by the inputs that would have come had their effects been performed and failed, so
 * the core needs no way of its own to undo.
 */
#include "daemon/broken.h"

#include "base/log.h"
#include "daemon/daemon.h"

void broken_perform(struct daemon *daemon, struct generation *generation)
{
	for (uint32_t i = 0; i < generation->effect_count; i++) {
		const struct effect *effect = &generation->effects[i];

		if (effect->kind == EFFECT_TERMINATE || effect->kind == EFFECT_KILL || effect->kind == EFFECT_FREEZE ||
		    effect->kind == EFFECT_THAW)
			perform_effect(daemon, effect);
	}
	for (uint32_t i = 0; i < generation->waiter_count; i++)
		generation->waiters[i].call(daemon, generation->waiters[i].context, &daemon->broken);
	for (uint32_t i = 0; i < generation->dirty_count; i++)
		roster_task(&daemon->roster, generation->dirty[i])->is_dirty = false;
	generation->dirty_count = 0;
	if (generation->txn)
		store_txn_free(generation->txn);
	turn_clear_generation(generation);
}

static void feed(struct daemon *daemon, const struct task *task, enum task_input input)
{
	struct core_event event = {
		.kind = CORE_INPUT, .input = (uint8_t)input, .task = task->id, .attempt = task->attempt, .exit_code = -1
	};

	daemon_feed(daemon, &event);
}

/* Starts that were decided and not performed: nothing of them ran, the tasks wait as before. */
static void refuse_starts(struct daemon *daemon, const struct generation *generation)
{
	for (uint32_t i = 0; i < generation->effect_count; i++) {
		const struct effect *effect = &generation->effects[i];
		const struct task *task = core_find(daemon->core, effect->task);

		if (effect->kind == EFFECT_START && task && task->attempt == effect->attempt && task->phase == PHASE_START)
			feed(daemon, task, INPUT_START_REFUSED);
	}
}

/* Brings a task that was never remembered, and of which nothing was begun, to its end. */
static void end_unknown(struct daemon *daemon, const struct task *task)
{
	if (!task_state_is_final(task->state))
		feed(daemon, task, INPUT_CANCEL);
	if (task->phase == PHASE_WORKTREE)
		feed(daemon, task, INPUT_PREPARE_FAILED);
	if (task->phase == PHASE_START)
		feed(daemon, task, INPUT_START_REFUSED);
	if (task->phase == PHASE_COLLECT)
		feed(daemon, task, INPUT_COLLECTED);
	ASSERT(task_state_is_final(task->state));
}

static void forget_unknown(struct daemon *daemon, uint32_t index)
{
	struct core_event event = { .kind = CORE_FORGET_TASK, .task = core_task_at(daemon->core, index)->id };

	if (turn_step(daemon, &event) < 0)
		NEVER("it is final, and nothing but its like waits for it");
	roster_forget(&daemon->roster, index);
}

static void forget_unknown_batches(struct daemon *daemon)
{
	struct roster_batch *next;

	for (struct roster_batch *batch = daemon->roster.first_batch; batch; batch = next) {
		struct core_event event = { .kind = CORE_FORGET_BATCH, .batch = batch->id };

		next = batch->next;
		if (batch->id <= daemon->turn.durable_batch)
			continue;
		if (turn_step(daemon, &event) < 0)
			NEVER("its tasks are gone");
		pauses_forget(daemon, batch->id);
		roster_forget_batch(&daemon->roster, batch);
	}
}

static bool is_unknown(const struct daemon *daemon, uint32_t index)
{
	return index != TASK_NONE && daemon->roster.tasks[index].id > daemon->turn.durable_task;
}

/* Ids ascend, so what was not remembered is at the end of the list. */
static void forget_all_unknown(struct daemon *daemon)
{
	const struct roster *roster = &daemon->roster;
	uint32_t count = 0;

	for (uint32_t at = roster->last; is_unknown(daemon, at); at = roster->tasks[at].previous)
		end_unknown(daemon, core_task_at(daemon->core, at));
	broken_perform(daemon, &daemon->turn.next); /* clears what refers to them */
	for (; is_unknown(daemon, roster->last); count++)
		forget_unknown(daemon, roster->last);
	forget_unknown_batches(daemon);
	if (count > 0)
		log_warning("%u tasks were not acknowledged and are not shown; whether they were remembered shows at the "
		            "next start",
		            count);
}

void broken_enter(struct daemon *daemon, const struct err *err)
{
	struct core_event drain = { .kind = CORE_DRAIN, .value = true };

	daemon->is_broken = true;
	daemon->broken = *err;
	store_state(daemon->store, &daemon->broken); /* the same, and what it means */
	log_error("%s", daemon->broken.text);
	turn_step(daemon, &drain); /* first: what follows frees slots */
	daemon->turn.in_flight.txn = NULL; /* the store's */
	refuse_starts(daemon, &daemon->turn.in_flight);
	refuse_starts(daemon, &daemon->turn.next);
	broken_perform(daemon, &daemon->turn.in_flight);
	broken_perform(daemon, &daemon->turn.next);
	json_object_clear(daemon->fresh_keys);
	forget_all_unknown(daemon);
}
