/*
 * recover.c - the table of FAULTS §3 as a function.
 *
 * Two rules stand above the rows. A held lock means a living shim, so nothing is ever started beside it. After a reboot
 * nothing of an attempt can be alive and what the record says of its start may be older than what happened, because slot
 * records are not synced; only a recorded end is believed then.
 */
#include "core/recover.h"

static const char *const action_names[] = {
	[RECOVER_NOTHING] = "nothing",
	[RECOVER_PREPARE] = "prepare",
	[RECOVER_START_AGAIN] = "start-again",
	[RECOVER_ADOPT] = "adopt",
	[RECOVER_RECORD_END] = "record-end",
	[RECOVER_KILL_AND_RECORD_END] = "kill-and-record-end",
	[RECOVER_ADOPT_WITHOUT_SHIM] = "adopt-without-shim",
	[RECOVER_LOST] = "lost",
	[RECOVER_COLLECT] = "collect",
	[RECOVER_KILL_STRAYS] = "kill-strays",
	[RECOVER_NOT_STARTED] = "not-started",
};
_Static_assert(ARRAY_SIZE(action_names) == RECOVER_ACTION_MAX, "each action has a name");

const char *recover_action_name(enum recover_action action)
{
	return (unsigned)action < RECOVER_ACTION_MAX ? action_names[action] : "?";
}

/* The machine has started again since the attempt was ordered: nothing of it can live. */
static bool is_of_another_boot(const struct recover_facts *facts)
{
	return facts->is_rebooted || (facts->has_record && !facts->is_same_boot);
}

/* A process was ordered, or known to run. */
static enum recover_action classify_process(const struct recover_facts *facts)
{
	bool is_populated = facts->is_populated && !is_of_another_boot(facts);
	bool has_end = facts->has_record && facts->has_end;
	bool may_have_run = facts->has_record && !facts->is_armed;

	if (facts->is_lock_held)
		return RECOVER_ADOPT;
	if (has_end)
		return is_populated ? RECOVER_KILL_AND_RECORD_END : RECOVER_RECORD_END;
	if (is_populated)
		return RECOVER_ADOPT_WITHOUT_SHIM;
	if (facts->phase != PHASE_START || is_of_another_boot(facts) || may_have_run)
		return RECOVER_LOST;
	return facts->state == TASK_STOPPING ? RECOVER_NOT_STARTED : RECOVER_START_AGAIN;
}

enum recover_action recover_classify(const struct recover_facts *facts)
{
	bool is_alive = facts->is_lock_held || (facts->is_populated && !is_of_another_boot(facts));

	if (!facts->has_task || !task_state_is_active(facts->state))
		return is_alive ? RECOVER_KILL_STRAYS : RECOVER_NOTHING;
	if (facts->phase == PHASE_WORKTREE)
		return is_alive ? RECOVER_KILL_STRAYS : RECOVER_PREPARE;
	if (facts->phase == PHASE_COLLECT)
		return is_alive ? RECOVER_KILL_STRAYS : RECOVER_COLLECT;
	return classify_process(facts);
}
