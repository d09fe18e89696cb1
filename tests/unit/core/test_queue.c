/* test_queue.c - who runs next: order, ageing, limits, slots, pauses, and the reasons that are told. */
#include "fixture.h"

static enum wait_reason reason_of(struct fixture *f, uint64_t id, struct wait *ret)
{
	struct wait wait;

	core_explain(f->core, id, f->now_ns, &wait);
	if (ret)
		*ret = wait;
	return wait.reason;
}

/* Ends whatever runs; with one slot that is one task. */
static uint64_t finish_running(struct fixture *f)
{
	for (uint64_t id = 1; id < 100; id++) {
		const struct task *task = core_find(f->core, id);

		if (task && task->state == TASK_PREPARING) {
			run_to_running(f, id);
			exited(f, id, 0);
			return id;
		}
	}
	return 0;
}

static void test_first_come_first_served(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 1);
	add_batch(&f, 2, 0);
	add(&f, 1, (struct task){ 0 });
	add(&f, 2, (struct task){ .batch = 2 });
	f.now_ns++;
	add(&f, 3, (struct task){ 0 });
	f.now_ns++;
	add(&f, 4, (struct task){ .batch = 2 });
	f.now_ns++;
	add(&f, 5, (struct task){ 0 });
	add(&f, 6, (struct task){ 0 }); /* of one moment: in the order given */
	add(&f, 7, (struct task){ 0 });
	for (uint64_t id = 1; id <= 7; id++)
		assert_int_equal(finish_running(&f), id);
	assert_int_equal(finish_running(&f), 0);
	fixture_done(&f);
}

static void test_priorities(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ 0 });
	add(&f, 2, (struct task){ .priority = PRIORITY_P2 });
	add(&f, 3, (struct task){ .priority = PRIORITY_P1 });
	add(&f, 4, (struct task){ .priority = PRIORITY_P0 });
	assert_int_equal(finish_running(&f), 1);
	assert_int_equal(finish_running(&f), 4);
	assert_int_equal(finish_running(&f), 3);
	assert_int_equal(finish_running(&f), 2);
	fixture_done(&f);
}

/* A P2 that came `head_start_ns` before a P0: who is first? */
static uint64_t race(uint64_t head_start_ns, bool is_same_batch)
{
	struct fixture f;
	uint64_t first;

	fixture_start(&f, 1);
	add_batch(&f, 2, 0);
	add(&f, 1, (struct task){ 0 });
	add(&f, 2, (struct task){ .priority = PRIORITY_P2 });
	f.now_ns += head_start_ns;
	add(&f, 3, (struct task){ .batch = is_same_batch ? 1 : 2 });
	finish_running(&f);
	first = finish_running(&f);
	fixture_done(&f);
	return first;
}

static void test_ageing_both_sides_of_the_edge(void **state UNUSED)
{
	assert_int_equal(race(1800 * SEC - 1, true), 3);
	assert_int_equal(race(1800 * SEC + 1, true), 2);
	assert_int_equal(race(1800 * SEC - 1, false), 3);
	assert_int_equal(race(1800 * SEC + 1, false), 2);
	assert_int_equal(race(1800 * SEC, true), 3); /* a tie goes to the higher priority */
}

/* A P0 every second, for ever: the P2 runs all the same. */
static void test_lowest_priority_never_starves(void **state UNUSED)
{
	uint64_t waited_s = 0;
	uint64_t id = 10;
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ 0 });
	add(&f, 2, (struct task){ .priority = PRIORITY_P2 });
	for (; get(&f, 2)->state == TASK_QUEUED && waited_s < 4000; waited_s++) {
		uint64_t running = core_find(f.core, 1) ? 1 : id;

		f.now_ns += SEC;
		id++;
		add(&f, id, (struct task){ 0 });
		run_to_running(&f, running);
		exited(&f, running, 0);
		assert_int_equal(step(&f, &(struct core_event){ .kind = CORE_FORGET_TASK, .task = running }), 0);
	}
	assert_state(&f, 2, TASK_PREPARING);
	assert_true(waited_s >= 1800 && waited_s <= 1802);
	fixture_done(&f);
}

static void test_slot_limit(void **state UNUSED)
{
	struct core_totals totals;
	struct fixture f;
	struct wait wait;

	fixture_start(&f, 2);
	for (uint64_t id = 1; id <= 4; id++)
		add(&f, id, (struct task){ 0 });
	core_count(f.core, &totals);
	assert_int_equal(totals.active, 2);
	assert_int_equal(totals.slot_limit, 2);
	assert_int_equal(totals.by_state[TASK_QUEUED], 2);
	assert_int_equal(reason_of(&f, 3, &wait), REASON_SLOTS);
	assert_int_equal(wait.have, 2);
	assert_int_equal(wait.need, 2);
	assert_int_equal(wait.ahead, 0);
	assert_int_equal(reason_of(&f, 4, &wait), REASON_SLOTS);
	assert_int_equal(wait.ahead, 1);
	assert_int_equal(reason_of(&f, 1, NULL), REASON_NONE);
	assert_int_equal(reason_of(&f, 99, NULL), REASON_NONE);
	assert_int_equal(get(&f, 1)->slot, 0);
	assert_int_equal(get(&f, 2)->slot, 1);
	run_to_running(&f, 1);
	exited(&f, 1, 0);
	assert_int_equal(get(&f, 3)->slot, 0); /* the lowest free one */
	assert_int_equal(get(&f, 1)->slot, TASK_NONE);
	fixture_done(&f);
}

/* An explicit limit widens the whole while the batch has work, up to the hard maximum; and it binds its batch. */
static void test_batch_limits(void **state UNUSED)
{
	struct core_totals totals;
	struct fixture f;
	struct wait wait;

	fixture_start(&f, 2);
	add_batch(&f, 2, 3);
	add_batch(&f, 3, 100);
	for (uint64_t id = 1; id <= 5; id++)
		add(&f, id, (struct task){ .batch = 2 });
	core_count(f.core, &totals);
	assert_int_equal(totals.slot_limit, 3);
	assert_int_equal(totals.active, 3);
	assert_int_equal(reason_of(&f, 4, &wait), REASON_BATCH_LIMIT);
	assert_int_equal(wait.have, 3);
	assert_int_equal(wait.need, 3);
	add(&f, 6, (struct task){ .batch = 3 });
	core_count(f.core, &totals);
	assert_int_equal(totals.slot_limit, 12);
	assert_state(&f, 6, TASK_PREPARING);
	assert_state(&f, 4, TASK_QUEUED); /* there is room, but not for its batch */
	run_to_running(&f, 6);
	exited(&f, 6, 0);
	core_count(f.core, &totals);
	assert_int_equal(totals.slot_limit, 3);
	fixture_done(&f);
}

static void test_a_full_batch_blocks_no_other(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 4);
	add_batch(&f, 2, 1);
	add(&f, 1, (struct task){ .batch = 2 });
	add(&f, 2, (struct task){ .batch = 2 });
	f.now_ns++;
	add(&f, 3, (struct task){ .priority = PRIORITY_P2 });
	assert_state(&f, 2, TASK_QUEUED);
	assert_state(&f, 3, TASK_PREPARING);
	fixture_done(&f);
}

static void test_pauses(void **state UNUSED)
{
	struct core_totals totals;
	struct fixture f;

	fixture_start(&f, 4);
	add_batch(&f, 2, 0);
	assert_int_equal(step(&f, &(struct core_event){ .kind = CORE_PAUSE_BATCH, .batch = 2, .value = true }), 0);
	add(&f, 1, (struct task){ .batch = 2 });
	add(&f, 2, (struct task){ 0 });
	assert_state(&f, 1, TASK_QUEUED);
	assert_state(&f, 2, TASK_PREPARING);
	assert_int_equal(reason_of(&f, 1, NULL), REASON_BATCH_PAUSED);
	assert_int_equal(step(&f, &(struct core_event){ .kind = CORE_PAUSE, .value = true }), 0);
	add(&f, 3, (struct task){ 0 });
	assert_int_equal(reason_of(&f, 3, NULL), REASON_USER_HOLD);
	assert_int_equal(step(&f, &(struct core_event){ .kind = CORE_DRAIN, .value = true }), 0);
	assert_int_equal(reason_of(&f, 3, NULL), REASON_DRAINING);
	core_count(f.core, &totals);
	assert_true(totals.is_paused && totals.is_draining);
	assert_int_equal(step(&f, &(struct core_event){ .kind = CORE_PAUSE, .value = false }), 0);
	assert_state(&f, 3, TASK_QUEUED);
	assert_int_equal(step(&f, &(struct core_event){ .kind = CORE_DRAIN, .value = false }), 0);
	assert_state(&f, 3, TASK_PREPARING);
	assert_state(&f, 1, TASK_QUEUED);
	assert_int_equal(step(&f, &(struct core_event){ .kind = CORE_PAUSE_BATCH, .batch = 2, .value = false }), 0);
	assert_state(&f, 1, TASK_PREPARING);
	fixture_done(&f);
}

static void test_configure_down_and_up(void **state UNUSED)
{
	struct core_event event = { .kind = CORE_CONFIGURE };
	struct core_config config;
	struct core_totals totals;
	struct fixture f;

	fixture_start(&f, 3);
	config = f.config;
	event.config = &config;
	for (uint64_t id = 1; id <= 6; id++)
		add(&f, id, (struct task){ 0 });
	config.slots = 1;
	assert_int_equal(step(&f, &event), 0);
	core_count(f.core, &totals);
	assert_int_equal(totals.active, 3); /* what runs goes on */
	finish_running(&f);
	finish_running(&f);
	assert_state(&f, 4, TASK_QUEUED);
	finish_running(&f);
	assert_state(&f, 4, TASK_PREPARING); /* one runs while something is runnable */
	config.slots = 2;
	assert_int_equal(step(&f, &event), 0);
	assert_state(&f, 5, TASK_PREPARING);
	assert_state(&f, 6, TASK_QUEUED);
	config.slots = 12;
	config.slots_hard_max = 1;
	assert_int_equal(step(&f, &event), 0);
	core_count(f.core, &totals);
	assert_int_equal(totals.slot_limit, 1);
	fixture_done(&f);
}

static void test_counts(void **state UNUSED)
{
	uint32_t by_state[TASK_STATE_MAX];
	struct core_totals totals;
	struct fixture f;

	fixture_start(&f, 1);
	add_batch(&f, 2, 0);
	add(&f, 1, (struct task){ .batch = 2 });
	add(&f, 2, (struct task){ .batch = 2 });
	add_held(&f, 3, (struct task){ 0 });
	assert_int_equal(reason_of(&f, 3, NULL), REASON_USER_HOLD);
	assert_int_equal(core_count_batch(f.core, 2, by_state), 0);
	assert_int_equal(by_state[TASK_PREPARING], 1);
	assert_int_equal(by_state[TASK_QUEUED], 1);
	assert_int_equal(by_state[TASK_HELD], 0);
	assert_true(core_count_batch(f.core, 9, by_state) < 0);
	core_count(f.core, &totals);
	assert_int_equal(totals.tasks, 3);
	assert_int_equal(totals.batches, 2);
	assert_true(get(&f, 3)->flags & TASK_WAS_HELD);
	assert_false(get(&f, 1)->flags & TASK_WAS_HELD);
	fixture_done(&f);
}

/* Limits for a million tasks cost address space only: a page is written when an index in it is first used. */
static void test_memory_is_not_touched_before_use(void **state UNUSED)
{
	struct core_limits limits = { .tasks_max = 1 << 14, .edges_max = 1 << 16, .slots_max = 64 };
	struct core_config config = { .slots = 1, .slots_hard_max = 1, .backoff_max_ns = 1 };
	size_t size = core_size(&limits);
	char *memory = aligned_alloc(64, size);
	size_t touched = 0;

	assert_non_null(memory);
	memset(memory, 0, size);
	core_init(memory, &limits, &config);
	for (size_t i = 0; i < size; i++)
		touched += memory[i] != 0;
	assert_true(touched < 1024);
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_come_first_served),
		cmocka_unit_test(test_priorities),
		cmocka_unit_test(test_ageing_both_sides_of_the_edge),
		cmocka_unit_test(test_lowest_priority_never_starves),
		cmocka_unit_test(test_slot_limit),
		cmocka_unit_test(test_batch_limits),
		cmocka_unit_test(test_a_full_batch_blocks_no_other),
		cmocka_unit_test(test_pauses),
		cmocka_unit_test(test_configure_down_and_up),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_memory_is_not_touched_before_use),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
