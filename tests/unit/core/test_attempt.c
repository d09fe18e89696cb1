/* test_attempt.c - one task's way: attempts, retries, backoff, time limits, suspension, cancelling; in virtual time. */
#include "fixture.h"

/* ---- the plain way ----------------------------------------------------------------------------------------------- */

static void test_without_a_worktree(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ 0 });
	assert_int_equal(get(&f, 1)->attempt, 1);
	assert_int_equal(get(&f, 1)->phase, PHASE_START);
	assert_int_equal(count_effects(&f, EFFECT_START), 1);
	assert_int_equal(count_effects(&f, EFFECT_PREPARE), 0);
	must(&f, 1, INPUT_STARTED);
	assert_int_equal(get(&f, 1)->started_ns, f.now_ns);
	assert_int_equal(get(&f, 1)->started_ms, 9);
	f.now_ns += SEC;
	exited(&f, 1, 0);
	assert_state(&f, 1, TASK_SUCCEEDED);
	assert_int_equal(get(&f, 1)->ended_ns, f.now_ns);
	assert_int_equal(get(&f, 1)->exit_code, 0);
	assert_int_equal(get(&f, 1)->cause.kind, CAUSE_EXIT);
	assert_int_equal(f.effects.count, 1);
	assert_int_equal(f.effects.items[0].kind, EFFECT_CHANGED);
	fixture_done(&f);
}

static void test_with_a_worktree(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ .flags = TASK_WORKTREE });
	assert_int_equal(count_effects(&f, EFFECT_PREPARE), 1);
	assert_int_equal(count_effects(&f, EFFECT_START), 0);
	must(&f, 1, INPUT_PREPARED);
	assert_int_equal(count_effects(&f, EFFECT_START), 1);
	must(&f, 1, INPUT_STARTED);
	exited(&f, 1, 3);
	assert_state(&f, 1, TASK_COLLECTING);
	assert_int_equal(get(&f, 1)->outcome, TASK_FAILED);
	assert_int_equal(count_effects(&f, EFFECT_COLLECT), 1);
	must(&f, 1, INPUT_COLLECTED);
	assert_state(&f, 1, TASK_FAILED);
	assert_int_equal(get(&f, 1)->cause.value, 3);
	fixture_done(&f);
}

/* Shorter than the news of its start. */
static void test_exited_before_started(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ 0 });
	exited(&f, 1, 0);
	assert_state(&f, 1, TASK_SUCCEEDED);
	assert_int_equal(get(&f, 1)->started_ns, f.now_ns);
	fixture_done(&f);
}

static void test_out_of_memory(void **state UNUSED)
{
	struct core_event event = {
		.kind = CORE_INPUT, .input = INPUT_EXITED, .task = 1, .attempt = 1, .exit_code = -1, .exit_signal = 9,
		.cause = { .kind = CAUSE_OUT_OF_MEMORY }, .usage = { .cpu_us = 5, .strays = 2, .is_known = true },
	};
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ 0 });
	run_to_running(&f, 1);
	assert_int_equal(step(&f, &event), 0);
	assert_state(&f, 1, TASK_FAILED);
	assert_int_equal(get(&f, 1)->cause.kind, CAUSE_OUT_OF_MEMORY);
	assert_int_equal(get(&f, 1)->exit_signal, 9);
	assert_int_equal(get(&f, 1)->usage.strays, 2);
	fixture_done(&f);
}

static void test_collecting_fails(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 2);
	add(&f, 1, (struct task){ .flags = TASK_WORKTREE, .retries_max = 3 });
	add(&f, 2, (struct task){ .flags = TASK_WORKTREE });
	run_to_running(&f, 1);
	run_to_running(&f, 2);
	exited(&f, 1, 0);
	exited(&f, 2, 4);
	failed(&f, 1, INPUT_COLLECTED, CAUSE_COLLECT_FAILED, false);
	assert_state(&f, 1, TASK_FAILED); /* the work is done: no second run */
	assert_int_equal(get(&f, 1)->cause.kind, CAUSE_COLLECT_FAILED);
	failed(&f, 2, INPUT_COLLECTED, CAUSE_COLLECT_FAILED, false);
	assert_int_equal(get(&f, 2)->cause.kind, CAUSE_EXIT); /* what failed first */
	fixture_done(&f);
}

/* ---- retries ----------------------------------------------------------------------------------------------------- */

static void expect_between(uint64_t value, uint64_t low, uint64_t high)
{
	assert_true(value >= low && value <= high);
}

static void test_backoff_doubles_and_is_capped(void **state UNUSED)
{
	uint64_t nominal_ns = 10 * SEC;
	struct fixture f;
	struct wait wait;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ .retries_max = 6, .backoff_ns = 10 * SEC });
	for (uint32_t attempt = 1; attempt <= 6; attempt++) {
		uint64_t due_ns;

		assert_int_equal(get(&f, 1)->attempt, attempt);
		run_to_running(&f, 1);
		exited(&f, 1, 1);
		assert_state(&f, 1, TASK_QUEUED);
		assert_int_equal(get(&f, 1)->retries_used, attempt);
		assert_int_equal(get(&f, 1)->cause.kind, CAUSE_EXIT); /* visible while it waits */
		due_ns = get(&f, 1)->due_ns;
		expect_between(due_ns - f.now_ns, nominal_ns - nominal_ns / 4, nominal_ns + nominal_ns / 4);
		assert_int_equal(core_deadline(f.core), due_ns);
		core_explain(f.core, 1, f.now_ns, &wait);
		assert_int_equal(wait.reason, REASON_BACKOFF);
		assert_int_equal(wait.until_ns, due_ns);
		tick_at(&f, due_ns - 1);
		assert_state(&f, 1, TASK_QUEUED);
		tick_at(&f, due_ns);
		assert_state(&f, 1, TASK_PREPARING);
		nominal_ns = MIN(nominal_ns * 2, 100 * SEC);
	}
	run_to_running(&f, 1);
	exited(&f, 1, 1);
	assert_state(&f, 1, TASK_FAILED);
	assert_int_equal(core_deadline(f.core), NEVER_NS);
	fixture_done(&f);
}

/* The wait before the first retry under a seed. */
static uint64_t first_wait(uint64_t seed, uint64_t id)
{
	struct core_config config;
	struct fixture f;
	uint64_t wait_ns;

	fixture_start(&f, 1);
	config = f.config;
	config.seed = seed;
	assert_int_equal(step(&f, &(struct core_event){ .kind = CORE_CONFIGURE, .config = &config }), 0);
	add(&f, id, (struct task){ .retries_max = 1, .backoff_ns = 10 * SEC });
	run_to_running(&f, id);
	exited(&f, id, 1);
	wait_ns = get(&f, id)->due_ns - f.now_ns;
	fixture_done(&f);
	return wait_ns;
}

static void test_jitter_is_seeded(void **state UNUSED)
{
	uint64_t low_ns = UINT64_MAX;
	uint64_t high_ns = 0;

	assert_int_equal(first_wait(1, 1), first_wait(1, 1));
	assert_int_not_equal(first_wait(1, 1), first_wait(2, 1));
	assert_int_not_equal(first_wait(1, 1), first_wait(1, 2));
	for (uint64_t id = 1; id < 60; id++) {
		low_ns = MIN(low_ns, first_wait(3, id));
		high_ns = MAX(high_ns, first_wait(3, id));
	}
	expect_between(low_ns, 7500 * NS_PER_MS, 8500 * NS_PER_MS);
	expect_between(high_ns, 11500 * NS_PER_MS, 12500 * NS_PER_MS);
}

static void test_retry_after_collecting(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ .flags = TASK_WORKTREE, .retries_max = 1 });
	run_to_running(&f, 1);
	exited(&f, 1, 1);
	assert_state(&f, 1, TASK_COLLECTING);
	must(&f, 1, INPUT_COLLECTED);
	assert_state(&f, 1, TASK_PREPARING); /* no backoff was asked for */
	assert_int_equal(get(&f, 1)->attempt, 2);
	assert_int_equal(get(&f, 1)->phase, PHASE_WORKTREE);
	assert_int_equal(get(&f, 1)->exit_code, -1);
	assert_int_equal(get(&f, 1)->started_ns, 0);
	fixture_done(&f);
}

static void test_user_retry_begins_anew(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ .retries_max = 1 });
	run_to_running(&f, 1);
	exited(&f, 1, 1);
	run_to_running(&f, 1);
	exited(&f, 1, 1);
	assert_state(&f, 1, TASK_FAILED);
	must(&f, 1, INPUT_RETRY);
	assert_int_equal(get(&f, 1)->retries_used, 0);
	assert_int_equal(get(&f, 1)->attempt, 3);
	run_to_running(&f, 1);
	exited(&f, 1, 1);
	assert_state(&f, 1, TASK_PREPARING);
	assert_int_equal(get(&f, 1)->attempt, 4);
	fixture_done(&f);
}

static void test_lost_is_run_again_only_when_idempotent(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 2);
	add(&f, 1, (struct task){ .retries_max = 5 });
	add(&f, 2, (struct task){ .flags = TASK_IDEMPOTENT });
	run_to_running(&f, 1);
	lost(&f, 1, CAUSE_REBOOT);
	assert_state(&f, 1, TASK_LOST);
	assert_int_equal(get(&f, 1)->cause.kind, CAUSE_REBOOT);
	for (unsigned times = 1; times <= LIMIT_LOST_RETRIES; times++) {
		run_to_running(&f, 2);
		lost(&f, 2, CAUSE_SHIM_LOST);
		assert_state(&f, 2, TASK_PREPARING);
		assert_int_equal(get(&f, 2)->lost_used, times);
	}
	run_to_running(&f, 2);
	lost(&f, 2, CAUSE_NONE);
	assert_state(&f, 2, TASK_LOST);
	assert_int_equal(get(&f, 2)->cause.kind, CAUSE_VANISHED);
	fixture_done(&f);
}

static void test_start_failures(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ .retries_max = 2 });
	failed(&f, 1, INPUT_START_FAILED, CAUSE_START_FAILED, true);
	assert_state(&f, 1, TASK_PREPARING);
	assert_int_equal(get(&f, 1)->attempt, 2);
	failed(&f, 1, INPUT_START_FAILED, CAUSE_START_FAILED, false); /* trying again would not help */
	assert_state(&f, 1, TASK_FAILED);
	assert_int_equal(get(&f, 1)->cause.kind, CAUSE_START_FAILED);
	assert_int_equal(get(&f, 1)->cause.value, 2);
	must(&f, 1, INPUT_RETRY);
	run_to_running(&f, 1);
	exited(&f, 1, 1);
	assert_state(&f, 1, TASK_PREPARING); /* "no retry" was about that attempt */
	fixture_done(&f);
}

static void test_start_failure_with_a_worktree(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ .flags = TASK_WORKTREE, .retries_max = 1 });
	must(&f, 1, INPUT_PREPARED);
	failed(&f, 1, INPUT_START_FAILED, CAUSE_START_FAILED, false);
	assert_state(&f, 1, TASK_COLLECTING);
	must(&f, 1, INPUT_COLLECTED);
	assert_state(&f, 1, TASK_FAILED);
	fixture_done(&f);
}

static void test_prepare_failures(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ .flags = TASK_WORKTREE, .retries_max = 1, .backoff_ns = SEC });
	failed(&f, 1, INPUT_PREPARE_FAILED, CAUSE_PREPARE_FAILED, true);
	assert_state(&f, 1, TASK_QUEUED);
	tick_at(&f, get(&f, 1)->due_ns);
	failed(&f, 1, INPUT_PREPARE_FAILED, CAUSE_PREPARE_FAILED, true);
	assert_state(&f, 1, TASK_FAILED);
	assert_int_equal(get(&f, 1)->cause.kind, CAUSE_PREPARE_FAILED);
	must(&f, 1, INPUT_RETRY);
	failed(&f, 1, INPUT_PREPARE_FAILED, CAUSE_PREPARE_FAILED, false);
	assert_state(&f, 1, TASK_FAILED);
	fixture_done(&f);
}

/* Nothing ran: the same attempt again, after a while that grows, and no retry is used up. */
static void test_start_refused(void **state UNUSED)
{
	uint64_t nominal_ns = 250 * NS_PER_MS;
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ .retries_max = 1 });
	for (unsigned times = 0; times < 12; times++) {
		uint64_t wait_ns;

		must(&f, 1, INPUT_START_REFUSED);
		assert_state(&f, 1, TASK_QUEUED);
		assert_int_equal(get(&f, 1)->slot, TASK_NONE);
		assert_int_equal(get(&f, 1)->retries_used, 0);
		wait_ns = get(&f, 1)->due_ns - f.now_ns;
		expect_between(wait_ns, nominal_ns - nominal_ns / 4, nominal_ns + nominal_ns / 4);
		tick_at(&f, get(&f, 1)->due_ns);
		assert_state(&f, 1, TASK_PREPARING);
		assert_int_equal(get(&f, 1)->attempt, 1);
		nominal_ns = MIN(nominal_ns * 2, 100 * SEC);
	}
	run_to_running(&f, 1);
	exited(&f, 1, 1);
	assert_int_equal(get(&f, 1)->attempt, 2);
	must(&f, 1, INPUT_START_REFUSED); /* begins small again after a start */
	expect_between(get(&f, 1)->due_ns - f.now_ns, 180 * NS_PER_MS, 320 * NS_PER_MS);
	fixture_done(&f);
}

/* ---- time limits ------------------------------------------------------------------------------------------------- */

static void test_time_limit_edge(void **state UNUSED)
{
	uint64_t started_ns;
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ .timeout_ns = 60 * SEC, .grace_ns = 10 * SEC });
	f.now_ns += 500 * SEC; /* being made counts for nothing */
	run_to_running(&f, 1);
	started_ns = f.now_ns;
	assert_int_equal(core_deadline(f.core), started_ns + 60 * SEC);
	tick_at(&f, started_ns + 60 * SEC - 1);
	assert_state(&f, 1, TASK_RUNNING);
	tick_at(&f, started_ns + 60 * SEC);
	assert_state(&f, 1, TASK_STOPPING);
	assert_int_equal(count_effects(&f, EFFECT_TERMINATE), 1);
	assert_int_equal(get(&f, 1)->outcome, TASK_TIMED_OUT);
	tick_at(&f, started_ns + 70 * SEC - 1);
	assert_int_equal(count_effects(&f, EFFECT_KILL), 0);
	tick_at(&f, started_ns + 70 * SEC);
	assert_int_equal(count_effects(&f, EFFECT_KILL), 1);
	tick_at(&f, started_ns + 80 * SEC - 1);
	assert_int_equal(count_effects(&f, EFFECT_KILL), 0);
	tick_at(&f, started_ns + 80 * SEC); /* again every grace */
	assert_int_equal(count_effects(&f, EFFECT_KILL), 1);
	killed(&f, 1, 9);
	assert_state(&f, 1, TASK_TIMED_OUT);
	assert_int_equal(get(&f, 1)->cause.kind, CAUSE_TIMEOUT);
	assert_int_equal(get(&f, 1)->cause.value, 60 * SEC);
	fixture_done(&f);
}

static void test_no_grace(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ 0 });
	run_to_running(&f, 1);
	must(&f, 1, INPUT_CANCEL);
	assert_int_equal(core_deadline(f.core), f.now_ns);
	tick_at(&f, f.now_ns);
	assert_int_equal(count_effects(&f, EFFECT_KILL), 1);
	assert_int_equal(core_deadline(f.core), f.now_ns + 5 * SEC); /* not more often than that */
	fixture_done(&f);
}

static void test_timed_out_is_retried(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ .timeout_ns = SEC, .retries_max = 1 });
	run_to_running(&f, 1);
	tick_at(&f, f.now_ns + SEC);
	killed(&f, 1, 15);
	assert_state(&f, 1, TASK_PREPARING);
	assert_int_equal(get(&f, 1)->attempt, 2);
	assert_int_equal(get(&f, 1)->cause.kind, CAUSE_TIMEOUT);
	fixture_done(&f);
}

/* Suspended time does not count, however often and long. */
static void test_suspension_stops_the_clock(void **state UNUSED)
{
	uint64_t resumed_ns;
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ .timeout_ns = 60 * SEC });
	run_to_running(&f, 1);
	f.now_ns += 20 * SEC;
	must(&f, 1, INPUT_SUSPEND);
	assert_int_equal(count_effects(&f, EFFECT_FREEZE), 1);
	assert_int_equal(core_deadline(f.core), NEVER_NS);
	tick_at(&f, f.now_ns + 1000 * SEC);
	assert_state(&f, 1, TASK_SUSPENDED);
	must(&f, 1, INPUT_RESUME);
	assert_int_equal(count_effects(&f, EFFECT_THAW), 1);
	f.now_ns += 30 * SEC;
	must(&f, 1, INPUT_SUSPEND);
	assert_int_equal(get(&f, 1)->ran_ns, 50 * SEC);
	f.now_ns += 1000 * SEC;
	must(&f, 1, INPUT_RESUME);
	resumed_ns = f.now_ns;
	tick_at(&f, resumed_ns + 10 * SEC - 1);
	assert_state(&f, 1, TASK_RUNNING);
	tick_at(&f, resumed_ns + 10 * SEC);
	assert_state(&f, 1, TASK_STOPPING);
	fixture_done(&f);
}

/* ---- cancelling -------------------------------------------------------------------------------------------------- */

static void test_cancel_while_waiting(void **state UNUSED)
{
	struct core_event halt = { .kind = CORE_INPUT, .input = INPUT_CANCEL, .task = 4,
		.cause = { .kind = CAUSE_BATCH_HALTED } };
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ .retries_max = 1, .backoff_ns = SEC });
	add(&f, 2, (struct task){ 0 });
	add_after(&f, 3, 1, true);
	add_held(&f, 4, (struct task){ 0 });
	must(&f, 2, INPUT_CANCEL);
	assert_state(&f, 2, TASK_CANCELLED);
	assert_int_equal(get(&f, 2)->cause.kind, CAUSE_CANCELLED);
	assert_int_equal(get(&f, 2)->ended_ms, 9);
	must(&f, 3, INPUT_CANCEL);
	assert_state(&f, 3, TASK_CANCELLED);
	assert_int_equal(get(&f, 3)->waits_for, 0);
	assert_int_equal(step(&f, &halt), 0);
	assert_int_equal(get(&f, 4)->cause.kind, CAUSE_BATCH_HALTED);
	run_to_running(&f, 1);
	exited(&f, 1, 1);
	must(&f, 1, INPUT_CANCEL); /* in its backoff */
	assert_state(&f, 1, TASK_CANCELLED);
	assert_int_equal(core_deadline(f.core), NEVER_NS);
	fixture_done(&f);
}

/* What waits never begins; what runs ends by itself and is not tried again, nor started again where the machine refused. */
static void test_halt(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 4);
	for (uint64_t id = 1; id <= 3; id++)
		add(&f, id, (struct task){ .retries_max = 3, .flags = id == 3 ? TASK_WORKTREE : 0 });
	add_after(&f, 4, 1, true);
	run_to_running(&f, 1);
	must(&f, 3, INPUT_PREPARED);
	for (uint64_t id = 1; id <= 4; id++)
		must(&f, id, INPUT_HALT);
	assert_state(&f, 1, TASK_RUNNING);
	assert_state(&f, 2, TASK_PREPARING);
	assert_state(&f, 4, TASK_CANCELLED);
	assert_int_equal(get(&f, 4)->cause.kind, CAUSE_CANCELLED);
	exited(&f, 1, 7);
	assert_state(&f, 1, TASK_FAILED);
	assert_int_equal(get(&f, 1)->exit_code, 7);
	must(&f, 2, INPUT_START_REFUSED);
	assert_state(&f, 2, TASK_CANCELLED);
	must(&f, 3, INPUT_START_REFUSED);
	assert_state(&f, 3, TASK_COLLECTING);
	must(&f, 3, INPUT_COLLECTED);
	assert_state(&f, 3, TASK_CANCELLED);
	must(&f, 1, INPUT_RETRY); /* the user may think again */
	run_to_running(&f, 1);
	exited(&f, 1, 7);
	assert_state(&f, 1, TASK_PREPARING);
	assert_int_equal(get(&f, 1)->attempt, 3);
	fixture_done(&f);
}

/* While something was ordered, its answer is waited for; nothing more is ordered than the end needs. */
static void test_cancel_while_preparing(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 4);
	for (uint64_t id = 1; id <= 3; id++) {
		add(&f, id, (struct task){ .flags = TASK_WORKTREE, .retries_max = 3 });
		must(&f, id, INPUT_CANCEL);
		assert_state(&f, id, TASK_STOPPING);
		assert_int_equal(f.effects.count, 1);
	}
	must(&f, 1, INPUT_PREPARED);
	assert_state(&f, 1, TASK_COLLECTING);
	assert_int_equal(count_effects(&f, EFFECT_START), 0);
	assert_int_equal(count_effects(&f, EFFECT_COLLECT), 1);
	must(&f, 1, INPUT_COLLECTED);
	assert_state(&f, 1, TASK_CANCELLED);
	failed(&f, 2, INPUT_PREPARE_FAILED, CAUSE_PREPARE_FAILED, true);
	assert_state(&f, 2, TASK_CANCELLED);
	assert_int_equal(get(&f, 2)->cause.kind, CAUSE_CANCELLED);
	fixture_done(&f);
}

static void test_cancel_while_starting(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 4);
	for (uint64_t id = 1; id <= 4; id++) {
		add(&f, id, (struct task){ .grace_ns = SEC, .retries_max = 3 });
		must(&f, id, INPUT_CANCEL);
		assert_int_equal(count_effects(&f, EFFECT_TERMINATE), 0); /* there is nobody to tell yet */
	}
	must(&f, 1, INPUT_STARTED);
	assert_state(&f, 1, TASK_STOPPING);
	assert_int_equal(count_effects(&f, EFFECT_TERMINATE), 1);
	tick_at(&f, f.now_ns + SEC);
	assert_int_equal(count_effects(&f, EFFECT_KILL), 1);
	killed(&f, 1, 9);
	assert_state(&f, 1, TASK_CANCELLED);
	failed(&f, 2, INPUT_START_FAILED, CAUSE_START_FAILED, true);
	assert_state(&f, 2, TASK_CANCELLED);
	assert_int_equal(get(&f, 2)->cause.kind, CAUSE_CANCELLED);
	must(&f, 3, INPUT_START_REFUSED);
	assert_state(&f, 3, TASK_CANCELLED);
	exited(&f, 4, 0); /* it was quicker: cancelled all the same, its status is kept */
	assert_state(&f, 4, TASK_CANCELLED);
	assert_int_equal(get(&f, 4)->exit_code, 0);
	fixture_done(&f);
}

static void test_cancel_while_suspended(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ .grace_ns = SEC });
	run_to_running(&f, 1);
	must(&f, 1, INPUT_SUSPEND);
	must(&f, 1, INPUT_CANCEL);
	assert_int_equal(f.effects.count, 3);
	assert_int_equal(f.effects.items[1].kind, EFFECT_THAW);
	assert_int_equal(f.effects.items[2].kind, EFFECT_TERMINATE);
	lost(&f, 1, CAUSE_VANISHED);
	assert_state(&f, 1, TASK_CANCELLED);
	fixture_done(&f);
}

/* In the last two states it only takes the retry away; what was decided before stays. */
static void test_cancel_when_it_ends_anyway(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 2);
	add(&f, 1, (struct task){ .flags = TASK_WORKTREE, .retries_max = 3 });
	add(&f, 2, (struct task){ .timeout_ns = SEC, .retries_max = 3 });
	run_to_running(&f, 1);
	exited(&f, 1, 1);
	must(&f, 1, INPUT_CANCEL);
	assert_state(&f, 1, TASK_COLLECTING);
	must(&f, 1, INPUT_COLLECTED);
	assert_state(&f, 1, TASK_FAILED);
	assert_int_equal(get(&f, 1)->cause.kind, CAUSE_EXIT);
	run_to_running(&f, 2);
	tick_at(&f, f.now_ns + SEC);
	must(&f, 2, INPUT_CANCEL);
	assert_int_equal(count_effects(&f, EFFECT_TERMINATE), 0);
	killed(&f, 2, 15);
	assert_state(&f, 2, TASK_TIMED_OUT);
	must(&f, 2, INPUT_RETRY);
	run_to_running(&f, 2);
	exited(&f, 2, 1);
	assert_state(&f, 2, TASK_PREPARING);
	fixture_done(&f);
}

static void test_cancelled_success_is_collected(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ .flags = TASK_WORKTREE, .grace_ns = SEC });
	run_to_running(&f, 1);
	must(&f, 1, INPUT_CANCEL);
	exited(&f, 1, 0);
	assert_state(&f, 1, TASK_COLLECTING);
	assert_int_equal(get(&f, 1)->outcome, TASK_CANCELLED);
	failed(&f, 1, INPUT_COLLECTED, CAUSE_COLLECT_FAILED, false);
	assert_state(&f, 1, TASK_CANCELLED);
	assert_int_equal(get(&f, 1)->cause.kind, CAUSE_CANCELLED);
	fixture_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_a_worktree),
		cmocka_unit_test(test_with_a_worktree),
		cmocka_unit_test(test_exited_before_started),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_collecting_fails),
		cmocka_unit_test(test_backoff_doubles_and_is_capped),
		cmocka_unit_test(test_jitter_is_seeded),
		cmocka_unit_test(test_retry_after_collecting),
		cmocka_unit_test(test_user_retry_begins_anew),
		cmocka_unit_test(test_lost_is_run_again_only_when_idempotent),
		cmocka_unit_test(test_start_failures),
		cmocka_unit_test(test_start_failure_with_a_worktree),
		cmocka_unit_test(test_prepare_failures),
		cmocka_unit_test(test_start_refused),
		cmocka_unit_test(test_time_limit_edge),
		cmocka_unit_test(test_no_grace),
		cmocka_unit_test(test_timed_out_is_retried),
		cmocka_unit_test(test_suspension_stops_the_clock),
		cmocka_unit_test(test_cancel_while_waiting),
		cmocka_unit_test(test_cancel_while_preparing),
		cmocka_unit_test(test_halt),
		cmocka_unit_test(test_cancel_while_starting),
		cmocka_unit_test(test_cancel_while_suspended),
		cmocka_unit_test(test_cancel_when_it_ends_anyway),
		cmocka_unit_test(test_cancelled_success_is_collected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
