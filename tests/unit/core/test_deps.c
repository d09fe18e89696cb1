/* test_deps.c - dependencies: met, failed, passed on, evaluated again; cycles within a submission. */
#include <errno.h>

#include "fixture.h"

static void test_after_waits_for_success(void **state UNUSED)
{
	struct fixture f;
	struct wait wait;

	fixture_start(&f, 4);
	add(&f, 1, (struct task){ 0 });
	add_after(&f, 2, 1, false);
	assert_state(&f, 2, TASK_BLOCKED);
	core_explain(f.core, 2, f.now_ns, &wait);
	assert_int_equal(wait.reason, REASON_DEPENDENCY);
	assert_int_equal(wait.holder, 1);
	assert_int_equal(wait.have, 1);
	assert_int_equal(wait.need, 1);
	run_to_running(&f, 1);
	assert_state(&f, 2, TASK_BLOCKED);
	exited(&f, 1, 0);
	assert_state(&f, 2, TASK_PREPARING);
	fixture_done(&f);
}

static void test_after_failure_skips(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 4);
	add(&f, 1, (struct task){ 0 });
	add_after(&f, 2, 1, false);
	add_after(&f, 3, 2, false);
	add_after(&f, 4, 3, false);
	add_after(&f, 5, 3, true);
	run_to_running(&f, 1);
	exited(&f, 1, 2);
	assert_state(&f, 2, TASK_SKIPPED);
	assert_state(&f, 3, TASK_SKIPPED);
	assert_state(&f, 4, TASK_SKIPPED);
	assert_state(&f, 5, TASK_PREPARING); /* any end of 3 will do */
	assert_int_equal(get(&f, 2)->cause.kind, CAUSE_DEPENDENCY);
	assert_int_equal(get(&f, 4)->cause.value, 1); /* the one that began it */
	assert_int_equal(get(&f, 4)->ended_ms, 0);    /* the event said no wall time */
	fixture_done(&f);
}

static void test_any_end_will_do(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ 0 });
	add_after(&f, 2, 1, true);
	must(&f, 1, INPUT_CANCEL);
	assert_state(&f, 2, TASK_BLOCKED); /* stopping is no end */
	failed(&f, 1, INPUT_START_REFUSED, CAUSE_NONE, false);
	assert_state(&f, 1, TASK_CANCELLED);
	assert_state(&f, 2, TASK_PREPARING);
	fixture_done(&f);
}

static void test_waits_for_the_last_of_several(void **state UNUSED)
{
	struct core_dependency both[2] = { { .task = 1 }, { .task = 2, .is_any = true } };
	struct core_dependency got[4];
	struct fixture f;

	fixture_start(&f, 4);
	add(&f, 1, (struct task){ 0 });
	add(&f, 2, (struct task){ 0 });
	assert_int_equal(add_task(&f, 3, (struct task){ .state = TASK_QUEUED }, both, 2), 0);
	assert_int_equal(core_dependencies(f.core, 3, got, 4), 2);
	assert_int_equal(got[0].task, 1);
	assert_int_equal(got[1].task, 2);
	assert_true(got[1].is_any);
	run_to_running(&f, 2);
	exited(&f, 2, 1);
	assert_state(&f, 3, TASK_BLOCKED);
	assert_int_equal(get(&f, 3)->waits_for, 1);
	run_to_running(&f, 1);
	exited(&f, 1, 0);
	assert_state(&f, 3, TASK_PREPARING);
	fixture_done(&f);
}

/* The same task named both ways: its failure satisfies one and breaks the other. */
static void test_both_ways_on_one(void **state UNUSED)
{
	struct core_dependency both[2] = { { .task = 1, .is_any = true }, { .task = 1 } };
	struct fixture f;

	fixture_start(&f, 4);
	add(&f, 1, (struct task){ 0 });
	assert_int_equal(add_task(&f, 2, (struct task){ .state = TASK_QUEUED }, both, 2), 0);
	run_to_running(&f, 1);
	exited(&f, 1, 1);
	assert_state(&f, 2, TASK_SKIPPED);
	fixture_done(&f);
}

static void test_on_a_final_task(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 4);
	add(&f, 1, (struct task){ 0 });
	run_to_running(&f, 1);
	exited(&f, 1, 1);
	add_after(&f, 2, 1, false);
	assert_state(&f, 2, TASK_SKIPPED);
	assert_int_equal(f.effects.count, 2);
	assert_int_equal(f.effects.items[0].from, TASK_STATE_MAX);
	add_after(&f, 3, 1, true);
	assert_state(&f, 3, TASK_PREPARING);
	add_after(&f, 4, 2, false);
	assert_state(&f, 4, TASK_SKIPPED);
	assert_int_equal(get(&f, 4)->cause.value, 1);
	fixture_done(&f);
}

static void test_held_tasks_heed_them_too(void **state UNUSED)
{
	struct core_dependency on_first = { .task = 1 };
	struct core_dependency on_second = { .task = 2 };
	struct fixture f;

	fixture_start(&f, 4);
	add(&f, 1, (struct task){ 0 });
	add(&f, 2, (struct task){ 0 });
	assert_int_equal(add_task(&f, 3, (struct task){ .state = TASK_HELD }, &on_first, 1), 0);
	assert_int_equal(add_task(&f, 4, (struct task){ .state = TASK_HELD }, &on_second, 1), 0);
	assert_int_equal(add_task(&f, 5, (struct task){ .state = TASK_HELD }, &on_first, 1), 0);
	must(&f, 5, INPUT_RELEASE);
	assert_state(&f, 5, TASK_BLOCKED);
	run_to_running(&f, 1);
	exited(&f, 1, 0);
	assert_state(&f, 3, TASK_HELD);
	must(&f, 3, INPUT_RELEASE);
	assert_state(&f, 3, TASK_PREPARING);
	run_to_running(&f, 2);
	exited(&f, 2, 1);
	assert_state(&f, 4, TASK_SKIPPED);
	fixture_done(&f);
}

static void test_retry_evaluates_again(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 4);
	add(&f, 1, (struct task){ 0 });
	add_after(&f, 2, 1, false);
	add_after(&f, 3, 2, false);
	run_to_running(&f, 1);
	exited(&f, 1, 1);
	must(&f, 2, INPUT_RETRY); /* what it needs has still failed */
	assert_state(&f, 2, TASK_SKIPPED);
	must(&f, 1, INPUT_RETRY);
	assert_state(&f, 1, TASK_PREPARING);
	assert_int_equal(get(&f, 1)->attempt, 2);
	assert_state(&f, 2, TASK_SKIPPED); /* the user retries it */
	must(&f, 2, INPUT_RETRY);
	assert_state(&f, 2, TASK_BLOCKED);
	run_to_running(&f, 1);
	exited(&f, 1, 0);
	assert_state(&f, 2, TASK_PREPARING);
	assert_state(&f, 3, TASK_SKIPPED);
	fixture_done(&f);
}

/* A success that is run again is no success until it ends again. */
static void test_retry_of_a_met_dependency(void **state UNUSED)
{
	struct core_dependency both[2] = { { .task = 1 }, { .task = 2 } };
	struct fixture f;

	fixture_start(&f, 4);
	add(&f, 1, (struct task){ 0 });
	add(&f, 2, (struct task){ 0 });
	assert_int_equal(add_task(&f, 3, (struct task){ .state = TASK_QUEUED }, both, 2), 0);
	run_to_running(&f, 1);
	exited(&f, 1, 0);
	assert_int_equal(get(&f, 3)->waits_for, 1);
	must(&f, 1, INPUT_RETRY);
	assert_int_equal(get(&f, 3)->waits_for, 2);
	run_to_running(&f, 1);
	exited(&f, 1, 1);
	assert_state(&f, 3, TASK_SKIPPED);
	fixture_done(&f);
}

/* A chain as long as there is room, and a fan: no recursion to overflow, one step for all. */
static void test_long_chain(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ 0 });
	for (uint64_t id = 2; id <= FIXTURE_TASKS; id++)
		add_after(&f, id, id - 1, false);
	run_to_running(&f, 1);
	exited(&f, 1, 1);
	assert_int_equal(f.effects.count, FIXTURE_TASKS);
	assert_state(&f, FIXTURE_TASKS, TASK_SKIPPED);
	fixture_done(&f);
}

static void test_forgetting(void **state UNUSED)
{
	struct core_event forget = { .kind = CORE_FORGET_TASK, .task = 1 };
	struct core_dependency got;
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ 0 });
	run_to_running(&f, 1);
	exited(&f, 1, 0);
	add_after(&f, 2, 1, false);
	assert_int_equal(step(&f, &forget), -EBUSY); /* 2 is not finished and depends on it */
	run_to_running(&f, 2);
	exited(&f, 2, 0);
	assert_int_equal(step(&f, &forget), 0);
	assert_null(core_find(f.core, 1));
	assert_int_equal(core_index(f.core, 1), TASK_NONE);
	assert_int_equal(core_dependencies(f.core, 2, &got, 1), 0);
	must(&f, 2, INPUT_RETRY); /* nothing to wait for any more */
	assert_state(&f, 2, TASK_PREPARING);
	add(&f, 3, (struct task){ 0 }); /* takes over the index */
	core_check(f.core);
	fixture_done(&f);
}

/* ---- cycles ------------------------------------------------------------------------------------------------------ */

enum { CYCLE_TASKS = 1000 };

static uint32_t find(uint32_t count, const uint32_t *from, const uint32_t *to, uint32_t edges, uint32_t *path)
{
	uint32_t *scratch = test_malloc((count * 2 + edges) * sizeof(uint32_t));
	uint32_t length = core_find_cycle(count, from, to, edges, scratch, path);

	test_free(scratch);
	return length;
}

/* Each member of the path waits for the next, the last for the first. */
static void check_cycle(const uint32_t *from, const uint32_t *to, uint32_t edges, const uint32_t *path, uint32_t length)
{
	for (uint32_t i = 0; i < length; i++) {
		bool is_there = false;

		for (uint32_t e = 0; e < edges; e++)
			is_there |= from[e] == path[i] && to[e] == path[(i + 1) % length];
		assert_true(is_there);
	}
}

static void test_no_cycle(void **state UNUSED)
{
	uint32_t from[] = { 1, 2, 3, 3 };
	uint32_t to[] = { 0, 0, 1, 2 };
	uint32_t path[4];

	assert_int_equal(find(4, from, to, 4, path), 0);
	assert_int_equal(find(4, from, to, 0, path), 0);
	assert_int_equal(find(0, from, to, 0, path), 0);
}

static void test_cycle_of_one(void **state UNUSED)
{
	uint32_t from[] = { 0, 1 };
	uint32_t to[] = { 1, 1 };
	uint32_t path[2];

	assert_int_equal(find(2, from, to, 2, path), 1);
	assert_int_equal(path[0], 1);
}

static void test_cycle_with_a_way_in(void **state UNUSED)
{
	uint32_t from[] = { 0, 1, 2, 3, 3 };
	uint32_t to[] = { 1, 2, 3, 1, 0 + 4 };
	uint32_t path[5];

	assert_int_equal(find(5, from, to, 5, path), 3);
	check_cycle(from, to, 5, path, 3);
}

static void test_long_cycle(void **state UNUSED)
{
	uint32_t from[CYCLE_TASKS];
	uint32_t to[CYCLE_TASKS];
	uint32_t path[CYCLE_TASKS];

	for (uint32_t i = 0; i < CYCLE_TASKS; i++) {
		from[i] = i;
		to[i] = (i + 7) % CYCLE_TASKS;
	}
	assert_int_equal(find(CYCLE_TASKS, from, to, CYCLE_TASKS, path), CYCLE_TASKS);
	check_cycle(from, to, CYCLE_TASKS, path, CYCLE_TASKS);
	assert_int_equal(find(CYCLE_TASKS, from, to, CYCLE_TASKS - 1, path), 0);
}

/* Two ways to one task are no cycle, however many there are: each is walked once. */
static void test_diamonds(void **state UNUSED)
{
	uint32_t from[4 * 60];
	uint32_t to[4 * 60];
	uint32_t path[3 * 60 + 1];

	for (uint32_t i = 0; i < 60; i++) {
		uint32_t top = 3 * i;

		memcpy(&from[4 * i], (uint32_t[]){ top, top, top + 1, top + 2 }, 4 * sizeof(uint32_t));
		memcpy(&to[4 * i], (uint32_t[]){ top + 1, top + 2, top + 3, top + 3 }, 4 * sizeof(uint32_t));
	}
	assert_int_equal(find(3 * 60 + 1, from, to, 4 * 60, path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_after_waits_for_success),
		cmocka_unit_test(test_after_failure_skips),
		cmocka_unit_test(test_any_end_will_do),
		cmocka_unit_test(test_waits_for_the_last_of_several),
		cmocka_unit_test(test_both_ways_on_one),
		cmocka_unit_test(test_on_a_final_task),
		cmocka_unit_test(test_held_tasks_heed_them_too),
		cmocka_unit_test(test_retry_evaluates_again),
		cmocka_unit_test(test_retry_of_a_met_dependency),
		cmocka_unit_test(test_long_chain),
		cmocka_unit_test(test_forgetting),
		cmocka_unit_test(test_no_cycle),
		cmocka_unit_test(test_cycle_of_one),
		cmocka_unit_test(test_cycle_with_a_way_in),
		cmocka_unit_test(test_long_cycle),
		cmocka_unit_test(test_diamonds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
