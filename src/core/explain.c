/*
 * explain.c - why a waiting task waits, as data. The order of the questions is the order of the gate: what must change first
 * is named first.
 */
#include "core/internal.h"

static void explain_dependency(const struct core *core, uint32_t index, struct wait *wait)
{
	wait->reason = REASON_DEPENDENCY;
	for (uint32_t at = core->nodes[index].first_out; at != NONE; at = core->edges[at].next_out) {
		const struct edge *edge = &core->edges[at];

		wait->need++;
		if (deps_is_satisfied(core, edge))
			continue;
		wait->have++;
		if (wait->holder == 0)
			wait->holder = edge->target;
	}
}

static void explain_queued(const struct core *core, uint32_t index, struct wait *wait)
{
	const struct task *task = &core->tasks[index];
	const struct batch *batch = &core->batches[core->nodes[index].batch];

	wait->ahead = core->nodes[index].is_queued && core->nodes[index].previous != NONE;
	if (task->due_ns != NEVER_NS) {
		wait->reason = REASON_BACKOFF;
		wait->until_ns = task->due_ns;
	} else if (core->is_draining) {
		wait->reason = REASON_DRAINING;
	} else if (core->pause.is_set) {
		wait->reason = REASON_USER_HOLD;
	} else if (batch->pause.is_set) {
		wait->reason = REASON_BATCH_PAUSED;
	} else if (batch->limit > 0 && batch->active >= batch->limit) {
		wait->reason = REASON_BATCH_LIMIT;
		wait->have = batch->active;
		wait->need = batch->limit;
	} else {
		wait->reason = REASON_SLOTS;
		wait->have = core->active;
		wait->need = queue_slot_limit(core);
	}
}

void core_explain(const struct core *core, uint64_t id, uint64_t now_ns UNUSED, struct wait *ret_wait)
{
	uint32_t index = core_index(core, id);
	struct wait wait = { .reason = REASON_NONE, .until_ns = NEVER_NS };

	if (index != TASK_NONE) {
		switch ((enum task_state)core->tasks[index].state) {
		case TASK_HELD: wait.reason = REASON_USER_HOLD; break;
		case TASK_BLOCKED: explain_dependency(core, index, &wait); break;
		case TASK_QUEUED: explain_queued(core, index, &wait); break;
		case TASK_SUSPENDED:
			wait.reason = core->tasks[index].marks & MARK_PAUSED && !core->pause.suspends ? REASON_BATCH_PAUSED
												      : REASON_USER_HOLD;
			break;
		default: break;
		}
	}
	*ret_wait = wait;
}
