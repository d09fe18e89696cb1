/* test_pause.c - pauses that also suspend: what they stop, what goes on after them, and what they leave alone. */
#include "fixture.h"

static void pause_all(struct fixture *f, bool value, bool suspends)
{
	assert_int_equal(step(f, &(struct core_event){ .kind = CORE_PAUSE, .value = value, .suspends = suspends }), 0);
}

static void pause_batch(struct fixture *f, uint64_t batch, bool value, bool suspends)
{
	struct core_event event = { .kind = CORE_PAUSE_BATCH, .batch = batch, .value = value, .suspends = suspends };

	assert_int_equal(step(f, &event), 0);
}

static void run(struct fixture *f, uint64_t id, uint64_t batch)
{
	add(f, id, (struct task){ .batch = batch });
	run_to_running(f, id);
}

static void test_suspends_what_runs_and_resumes_exactly_that(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 4);
	add_batch(&f, 2, 0);
	run(&f, 1, 1);
	run(&f, 2, 2);
	run(&f, 3, 1);
	must(&f, 3, INPUT_SUSPEND);
	pause_all(&f, true, true);
	assert_int_equal(count_effects(&f, EFFECT_FREEZE), 2);
	assert_state(&f, 1, TASK_SUSPENDED);
	assert_state(&f, 2, TASK_SUSPENDED);
	assert_int_equal(get(&f, 1)->marks, MARK_PAUSED);
	assert_int_equal(get(&f, 3)->marks, 0);
	pause_all(&f, false, false);
	assert_int_equal(count_effects(&f, EFFECT_THAW), 2);
	assert_state(&f, 1, TASK_RUNNING);
	assert_state(&f, 2, TASK_RUNNING);
	assert_state(&f, 3, TASK_SUSPENDED);
	assert_int_equal(get(&f, 1)->marks, 0);
	fixture_done(&f);
}

static void test_plain_pause_lets_run(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 4);
	run(&f, 1, 1);
	pause_all(&f, true, false);
	assert_int_equal(f.effects.count, 0);
	assert_state(&f, 1, TASK_RUNNING);
	pause_all(&f, true, true);
	assert_state(&f, 1, TASK_SUSPENDED);
	pause_all(&f, true, false); /* still no starts, but what it suspended goes on */
	assert_state(&f, 1, TASK_RUNNING);
	fixture_done(&f);
}

static void test_what_was_starting_is_suspended_as_it_runs(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 4);
	add(&f, 1, (struct task){ .timeout_ns = 5 * SEC });
	add(&f, 2, (struct task){ 0 });
	pause_all(&f, true, true);
	assert_state(&f, 1, TASK_PREPARING);
	must(&f, 1, INPUT_STARTED);
	assert_state(&f, 1, TASK_SUSPENDED);
	assert_int_equal(count_effects(&f, EFFECT_FREEZE), 1);
	assert_true(core_deadline(f.core) == NEVER_NS);
	must(&f, 2, INPUT_CANCEL);
	must(&f, 2, INPUT_STARTED);
	assert_state(&f, 2, TASK_STOPPING); /* what is to end is not stopped on its way */
	fixture_done(&f);
}

static void test_one_batch(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 4);
	add_batch(&f, 2, 0);
	run(&f, 1, 1);
	run(&f, 2, 2);
	pause_batch(&f, 2, true, true);
	assert_state(&f, 1, TASK_RUNNING);
	assert_state(&f, 2, TASK_SUSPENDED);
	pause_all(&f, true, true);
	assert_state(&f, 1, TASK_SUSPENDED);
	pause_all(&f, false, false); /* its own pause still covers task 2 */
	assert_state(&f, 1, TASK_RUNNING);
	assert_state(&f, 2, TASK_SUSPENDED);
	pause_batch(&f, 1, false, false);
	assert_state(&f, 2, TASK_SUSPENDED);
	pause_batch(&f, 2, false, false);
	assert_state(&f, 2, TASK_RUNNING);
	fixture_done(&f);
}

static void test_the_user_overrules_a_pause(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 4);
	add_batch(&f, 2, 0);
	run(&f, 1, 1);
	run(&f, 2, 2);
	pause_all(&f, true, true);
	must(&f, 1, INPUT_RESUME);
	pause_batch(&f, 2, true, true); /* about others */
	assert_state(&f, 1, TASK_RUNNING);
	must(&f, 1, INPUT_SUSPEND);
	pause_all(&f, false, false);
	assert_state(&f, 1, TASK_SUSPENDED); /* the user's own wish */
	assert_state(&f, 2, TASK_SUSPENDED);
	must(&f, 2, INPUT_CANCEL);
	assert_int_equal(get(&f, 2)->marks, 0);
	killed(&f, 2, 15);
	pause_batch(&f, 2, false, false);
	assert_state(&f, 2, TASK_CANCELLED);
	fixture_done(&f);
}

static void test_time_limit_stands_still(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 4);
	add(&f, 1, (struct task){ .timeout_ns = 10 * SEC, .grace_ns = SEC });
	run_to_running(&f, 1);
	f.now_ns += 4 * SEC;
	pause_all(&f, true, true);
	assert_int_equal(get(&f, 1)->ran_ns, 4 * SEC);
	tick_at(&f, f.now_ns + 3600 * SEC);
	assert_state(&f, 1, TASK_SUSPENDED);
	pause_all(&f, false, false);
	tick_at(&f, f.now_ns + 6 * SEC - 1);
	assert_state(&f, 1, TASK_RUNNING);
	tick_at(&f, f.now_ns + 1);
	assert_state(&f, 1, TASK_STOPPING);
	fixture_done(&f);
}

/* Takes the task over into a second core, as a restart does; `is_paused`: with the pause. */
static void restart(struct fixture *f, uint64_t id, bool is_paused)
{
	struct task stored = *get(f, id);
	struct fixture next;

	fixture_init(&next, 4);
	next.now_ns = f->now_ns + SEC;
	add_batch(&next, 1, 0);
	if (is_paused)
		pause_all(&next, true, true);
	assert_int_equal(step(&next, &(struct core_event){ .kind = CORE_RESTORE_TASK, .restore = &stored }), 0);
	core_resume(next.core, next.now_ns, &next.effects);
	core_check(next.core);
	fixture_done(f);
	*f = next;
}

static void test_pause_over_a_restart(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 4);
	run(&f, 1, 1);
	pause_all(&f, true, true);
	restart(&f, 1, true);
	assert_state(&f, 1, TASK_SUSPENDED);
	assert_int_equal(count_effects(&f, EFFECT_FREEZE), 1);
	add(&f, 2, (struct task){ 0 });
	assert_state(&f, 2, TASK_QUEUED);
	must(&f, 1, INPUT_RESUME);
	restart(&f, 1, true);
	assert_state(&f, 1, TASK_RUNNING); /* as the user said: a restart is no new pause */
	pause_all(&f, true, true);
	restart(&f, 1, false);
	assert_state(&f, 1, TASK_RUNNING); /* whatever became of the pause: nothing stays behind for ever */
	fixture_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_suspends_what_runs_and_resumes_exactly_that),
		cmocka_unit_test(test_plain_pause_lets_run),
		cmocka_unit_test(test_what_was_starting_is_suspended_as_it_runs),
		cmocka_unit_test(test_one_batch),
		cmocka_unit_test(test_the_user_overrules_a_pause),
		cmocka_unit_test(test_time_limit_stands_still),
		cmocka_unit_test(test_pause_over_a_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
