/*
 * pause.c - pauses of everything or of one batch: nothing new starts, and where wanted what runs is suspended.
 *
 * A task that a pause suspended carries MARK_PAUSED, so that the end of the pause lets go on those and no others. What the
 * user resumes during such a pause loses the mark with the state and goes on: only the next pause stops it again.
 */
#include "core/internal.h"

bool pause_suspends(const struct core *core, uint32_t index)
{
	return core->pause.suspends || core->batches[core->nodes[index].batch].pause.suspends;
}

static void suspend_running(struct core *core, uint32_t batch)
{
	for (uint32_t i = 0; i < core->task_pool.fresh; i++)
		if (core_is_known(core, i) && core->tasks[i].state == TASK_RUNNING &&
		    (batch == NONE || core->nodes[i].batch == batch))
			step_suspend(core, i, MARK_PAUSED);
}

void pause_resume_uncovered(struct core *core)
{
	for (uint32_t i = 0; i < core->task_pool.fresh; i++)
		if (core_is_known(core, i) && core->tasks[i].marks & MARK_PAUSED && !pause_suspends(core, i))
			step_unsuspend(core, i);
}

void pause_set(struct core *core, uint32_t batch, bool value, bool suspends)
{
	struct pause *pause = batch == NONE ? &core->pause : &core->batches[batch].pause;

	*pause = (struct pause){ .is_set = value, .suspends = value && suspends };
	if (batch != NONE)
		queue_refresh_batch(core, batch);
	if (!core->is_resumed)
		return; /* restoring: the tasks tell what was suspended by it */
	if (pause->suspends)
		suspend_running(core, batch);
	else
		pause_resume_uncovered(core);
}
