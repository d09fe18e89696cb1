/*
 * test_recover.c - every combination of facts against the table of FAULTS §3, written out as literal rows. The first row
 * that a combination meets is the expected one; each row must be met by some.
 */
#include "fixture.h"

#include "core/recover.h"

/* Y yes, N no, '-' either. State: A any active but stopping, S stopping, X not active (or the task is not known). */
struct expected {
	char state;
	char phase; /* W worktree, P start, R process, C collect, O none, '-' any */
	char lock;
	char record;
	char armed;
	char end;
	char populated;
	char boot; /* Y: the same, by the store and by the record if there is one */
	enum recover_action action;
};

static const struct expected table[] = {
	/* state phase lock record armed end populated boot */
	/* final, waiting or unknown */
	{ 'X', '-', 'Y', '-', '-', '-', '-', '-', RECOVER_KILL_STRAYS },
	{ 'X', '-', 'N', '-', '-', '-', 'Y', 'Y', RECOVER_KILL_STRAYS },
	{ 'X', '-', 'N', '-', '-', '-', '-', '-', RECOVER_NOTHING },
	/* the worktree was ordered, the process not yet */
	{ '-', 'W', 'Y', '-', '-', '-', '-', '-', RECOVER_KILL_STRAYS },
	{ '-', 'W', 'N', '-', '-', '-', 'Y', 'Y', RECOVER_KILL_STRAYS },
	{ '-', 'W', 'N', '-', '-', '-', '-', '-', RECOVER_PREPARE },
	/* the process has ended */
	{ '-', 'C', 'Y', '-', '-', '-', '-', '-', RECOVER_KILL_STRAYS },
	{ '-', 'C', 'N', '-', '-', '-', 'Y', 'Y', RECOVER_KILL_STRAYS },
	{ '-', 'C', 'N', '-', '-', '-', '-', '-', RECOVER_COLLECT },
	/* a shim lives: whatever else is found, nothing is started beside it */
	{ '-', '-', 'Y', '-', '-', '-', '-', '-', RECOVER_ADOPT },
	/* finished while nobody looked; after a reboot nothing can be left of it */
	{ '-', '-', 'N', 'Y', '-', 'Y', 'N', '-', RECOVER_RECORD_END },
	{ '-', '-', 'N', 'Y', '-', 'Y', 'Y', 'Y', RECOVER_KILL_AND_RECORD_END },
	{ '-', '-', 'N', 'Y', '-', 'Y', 'Y', 'N', RECOVER_RECORD_END },
	/* the shim died, the processes did not */
	{ '-', '-', 'N', '-', '-', '-', 'Y', 'Y', RECOVER_ADOPT_WITHOUT_SHIM },
	/* started, gone, no record of the end */
	{ '-', 'R', 'N', '-', '-', '-', '-', '-', RECOVER_LOST },
	{ '-', 'O', 'N', '-', '-', '-', '-', '-', RECOVER_LOST },
	/* ordered to start: after a reboot an old record proves nothing */
	{ '-', 'P', 'N', '-', '-', '-', '-', 'N', RECOVER_LOST },
	{ '-', 'P', 'N', 'Y', 'N', 'N', 'N', 'Y', RECOVER_LOST },
	/* … and in the same boot: never ran */
	{ 'S', 'P', 'N', 'Y', 'Y', 'N', 'N', 'Y', RECOVER_NOT_STARTED },
	{ 'S', 'P', 'N', 'N', '-', '-', 'N', 'Y', RECOVER_NOT_STARTED },
	{ 'A', 'P', 'N', 'Y', 'Y', 'N', 'N', 'Y', RECOVER_START_AGAIN },
	{ 'A', 'P', 'N', 'N', '-', '-', 'N', 'Y', RECOVER_START_AGAIN },
};

static bool meets(char wanted, bool value)
{
	return wanted == '-' || (wanted == 'Y') == value;
}

static bool row_meets(const struct expected *row, const struct recover_facts *facts)
{
	static const char phases[PHASE_MAX] = { 'O', 'W', 'P', 'R', 'C' };
	bool is_active = facts->has_task && task_state_is_active(facts->state);
	bool is_same_boot = facts->is_rebooted ? false : facts->has_record ? facts->is_same_boot : true;
	char state = !is_active ? 'X' : facts->state == TASK_STOPPING ? 'S' : 'A';

	return (row->state == '-' || row->state == state) && (row->phase == '-' || row->phase == phases[facts->phase]) &&
	       meets(row->lock, facts->is_lock_held) && meets(row->record, facts->has_record) &&
	       	meets(row->armed, facts->is_armed) &&
	       meets(row->end, facts->has_end) && meets(row->populated, facts->is_populated) &&
	       	meets(row->boot, is_same_boot);
}

static void check_one(const struct recover_facts *facts, bool *is_row_met)
{
	for (size_t row = 0; row < ARRAY_SIZE(table); row++) {
		if (!row_meets(&table[row], facts))
			continue;
		is_row_met[row] = true;
		assert_string_equal(recover_action_name(recover_classify(facts)), recover_action_name(table[row].action));
		return;
	}
	fail_msg("no row for %s phase %d", task_state_name(facts->state), facts->phase);
}

static void test_every_combination(void **state UNUSED)
{
	bool is_row_met[ARRAY_SIZE(table)] = { false };

	for (unsigned s = 0; s < TASK_STATE_MAX; s++)
		for (unsigned phase = 0; phase < PHASE_MAX; phase++)
			for (unsigned bits = 0; bits < 256; bits++) {
				struct recover_facts facts = {
					.state = s, .phase = phase, .has_task = bits & 1, .is_same_boot = bits & 2,
					.has_record = bits & 4,
					.is_armed = bits & 8, .is_lock_held = bits & 16, .has_end = bits & 32,
					.is_populated = bits & 64,
					.is_rebooted = bits & 128,
				};

				check_one(&facts, is_row_met);
			}
	for (size_t row = 0; row < ARRAY_SIZE(table); row++)
		assert_true(is_row_met[row]);
}

/* The rows of FAULTS §3 as they stand there, in the words of a reader. */
static void test_rows_of_the_page(void **state UNUSED)
{
	struct recover_facts starting = { .has_task = true, .state = TASK_PREPARING, .phase = PHASE_START,
		.is_same_boot = true };
	struct recover_facts running = {
		.has_task = true, .state = TASK_RUNNING, .phase = PHASE_PROCESS, .is_same_boot = true, .has_record = true,
	};
	struct recover_facts facts;

	assert_int_equal(recover_classify(&starting), RECOVER_START_AGAIN);
	facts = running;
	facts.is_lock_held = true;
	facts.is_populated = true;
	assert_int_equal(recover_classify(&facts), RECOVER_ADOPT);
	facts = running;
	facts.has_end = true;
	assert_int_equal(recover_classify(&facts), RECOVER_RECORD_END);
	facts.is_populated = true;
	assert_int_equal(recover_classify(&facts), RECOVER_KILL_AND_RECORD_END);
	facts.has_end = false;
	assert_int_equal(recover_classify(&facts), RECOVER_ADOPT_WITHOUT_SHIM);
	assert_int_equal(recover_classify(&running), RECOVER_LOST);
	facts.state = TASK_FAILED;
	facts.phase = PHASE_NONE;
	assert_int_equal(recover_classify(&facts), RECOVER_KILL_STRAYS);
}

static void test_names(void **state UNUSED)
{
	for (unsigned action = 0; action < RECOVER_ACTION_MAX; action++)
		assert_string_not_equal(recover_action_name(action), "?");
	assert_string_equal(recover_action_name(RECOVER_ACTION_MAX), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_combination),
		cmocka_unit_test(test_rows_of_the_page),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
