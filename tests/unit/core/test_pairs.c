/*
 * test_pairs.c - every state (with every phase and way to get there) against every input: a legal one follows an edge of
 * task.def, an illegal one is refused and changes not one byte of the core's memory.
 */
#include <errno.h>

#include "fixture.h"

struct situation {
	const char *name;
	enum task_state state;
	enum attempt_phase phase;
	bool needs_worktree;
	void (*reach)(struct fixture *f, struct task options);
};

static void cancelled(struct fixture *f, uint64_t id)
{
	must(f, id, INPUT_CANCEL);
}

static void reach_held(struct fixture *f, struct task options)
{
	add_held(f, 1, options);
}

static void reach_blocked(struct fixture *f, struct task options)
{
	struct core_dependency dependency = { .task = 50 };

	add(f, 50, (struct task){ 0 });
	options.state = TASK_QUEUED;
	assert_int_equal(add_task(f, 1, options, &dependency, 1), 0);
}

static void reach_queued(struct fixture *f, struct task options)
{
	assert_int_equal(step(f, &(struct core_event){ .kind = CORE_PAUSE, .value = true }), 0);
	add(f, 1, options);
}

static void reach_preparing(struct fixture *f, struct task options)
{
	add(f, 1, options);
}

static void reach_starting(struct fixture *f, struct task options)
{
	add(f, 1, options);
	if (options.flags & TASK_WORKTREE)
		must(f, 1, INPUT_PREPARED);
}

static void reach_running(struct fixture *f, struct task options)
{
	add(f, 1, options);
	run_to_running(f, 1);
}

static void reach_suspended(struct fixture *f, struct task options)
{
	reach_running(f, options);
	must(f, 1, INPUT_SUSPEND);
}

static void pause_all(struct fixture *f)
{
	assert_int_equal(step(f, &(struct core_event){ .kind = CORE_PAUSE, .value = true, .suspends = true }), 0);
}

static void reach_suspended_by_pause(struct fixture *f, struct task options)
{
	reach_running(f, options);
	pause_all(f);
}

static void reach_starting_paused(struct fixture *f, struct task options)
{
	reach_starting(f, options);
	pause_all(f);
}

static void reach_resumed_in_pause(struct fixture *f, struct task options)
{
	reach_suspended_by_pause(f, options);
	must(f, 1, INPUT_RESUME);
}

static void reach_stopping_worktree(struct fixture *f, struct task options)
{
	reach_preparing(f, options);
	cancelled(f, 1);
}

static void reach_stopping_start(struct fixture *f, struct task options)
{
	reach_starting(f, options);
	cancelled(f, 1);
}

static void reach_stopping_process(struct fixture *f, struct task options)
{
	reach_running(f, options);
	cancelled(f, 1);
}

static void reach_timing_out(struct fixture *f, struct task options)
{
	options.timeout_ns = SEC;
	reach_running(f, options);
	tick_at(f, f->now_ns + SEC);
}

static void reach_collecting(struct fixture *f, struct task options)
{
	reach_running(f, options);
	exited(f, 1, 0);
}

static void reach_collecting_failure(struct fixture *f, struct task options)
{
	reach_running(f, options);
	exited(f, 1, 1);
}

static void reach_collecting_loss(struct fixture *f, struct task options)
{
	reach_running(f, options);
	lost(f, 1, CAUSE_VANISHED);
}

static void collect(struct fixture *f)
{
	if (get(f, 1)->state == TASK_COLLECTING)
		must(f, 1, INPUT_COLLECTED);
}

static void reach_succeeded(struct fixture *f, struct task options)
{
	reach_collecting(f, options);
	collect(f);
}

static void reach_failed(struct fixture *f, struct task options)
{
	options.retries_max = 0;
	reach_collecting_failure(f, options);
	collect(f);
}

static void reach_cancelled(struct fixture *f, struct task options)
{
	reach_queued(f, options);
	cancelled(f, 1);
}

static void reach_timed_out(struct fixture *f, struct task options)
{
	options.retries_max = 0;
	reach_timing_out(f, options);
	killed(f, 1, 9);
	collect(f);
}

static void reach_lost(struct fixture *f, struct task options)
{
	options.flags &= ~(uint32_t)TASK_IDEMPOTENT;
	reach_collecting_loss(f, options);
	collect(f);
}

static void reach_skipped(struct fixture *f, struct task options)
{
	reach_blocked(f, options);
	cancelled(f, 50);
	failed(f, 50, INPUT_START_FAILED, CAUSE_START_FAILED, false);
}

static const struct situation situations[] = {
	{ "held", TASK_HELD, PHASE_NONE, false, reach_held },
	{ "blocked", TASK_BLOCKED, PHASE_NONE, false, reach_blocked },
	{ "queued", TASK_QUEUED, PHASE_NONE, false, reach_queued },
	{ "preparing worktree", TASK_PREPARING, PHASE_WORKTREE, true, reach_preparing },
	{ "preparing start", TASK_PREPARING, PHASE_START, false, reach_starting },
	{ "running", TASK_RUNNING, PHASE_PROCESS, false, reach_running },
	{ "suspended", TASK_SUSPENDED, PHASE_PROCESS, false, reach_suspended },
	{ "suspended by a pause", TASK_SUSPENDED, PHASE_PROCESS, false, reach_suspended_by_pause },
	{ "starting in a pause", TASK_PREPARING, PHASE_START, false, reach_starting_paused },
	{ "resumed in a pause", TASK_RUNNING, PHASE_PROCESS, false, reach_resumed_in_pause },
	{ "stopping worktree", TASK_STOPPING, PHASE_WORKTREE, true, reach_stopping_worktree },
	{ "stopping start", TASK_STOPPING, PHASE_START, false, reach_stopping_start },
	{ "stopping process", TASK_STOPPING, PHASE_PROCESS, false, reach_stopping_process },
	{ "timing out", TASK_STOPPING, PHASE_PROCESS, false, reach_timing_out },
	{ "collecting success", TASK_COLLECTING, PHASE_COLLECT, true, reach_collecting },
	{ "collecting failure", TASK_COLLECTING, PHASE_COLLECT, true, reach_collecting_failure },
	{ "collecting loss", TASK_COLLECTING, PHASE_COLLECT, true, reach_collecting_loss },
	{ "succeeded", TASK_SUCCEEDED, PHASE_NONE, false, reach_succeeded },
	{ "failed", TASK_FAILED, PHASE_NONE, false, reach_failed },
	{ "cancelled", TASK_CANCELLED, PHASE_NONE, false, reach_cancelled },
	{ "timed out", TASK_TIMED_OUT, PHASE_NONE, false, reach_timed_out },
	{ "lost", TASK_LOST, PHASE_NONE, false, reach_lost },
	{ "skipped", TASK_SKIPPED, PHASE_NONE, false, reach_skipped },
};

/* Which answers belong to a phase; the rest of the rules is task.def's. */
static bool is_answer_of(enum attempt_phase phase, enum task_input input)
{
	switch (input) {
	case INPUT_PREPARED:
	case INPUT_PREPARE_FAILED: return phase == PHASE_WORKTREE;
	case INPUT_STARTED:
	case INPUT_START_FAILED:
	case INPUT_START_REFUSED: return phase == PHASE_START;
	case INPUT_EXITED:
	case INPUT_ATTEMPT_LOST: return phase == PHASE_START || phase == PHASE_PROCESS;
	case INPUT_COLLECTED: return phase == PHASE_COLLECT;
	case INPUT_ADMIT:
	case INPUT_DEPENDENCIES_MET:
	case INPUT_DEPENDENCY_FAILED:
	case INPUT_TIME_OVER: return false; /* the core's own */
	default: return true;
	}
}

/* One input in one situation, on a core of its own. */
static void check_pair(const struct situation *situation, struct task options, struct core_event event)
{
	struct fixture f;
	struct task before;
	bool is_legal;
	char *image;
	int r;

	fixture_start(&f, 4);
	situation->reach(&f, options);
	before = *get(&f, 1);
	assert_int_equal(before.state, situation->state);
	if (situation->phase != PHASE_START || options.flags & TASK_WORKTREE)
		assert_int_equal(before.phase, situation->phase);
	image = test_malloc(f.size);
	memcpy(image, f.memory, f.size);
	event.kind = CORE_INPUT;
	event.task = 1;
	event.attempt = before.attempt;
	is_legal = task_takes(before.state, event.input) && is_answer_of(before.phase, event.input);
	f.now_ns += SEC;
	r = step(&f, &event);
	if (r != (is_legal ? 0 : -EPERM))
		fail_msg("%s, %s: %d", situation->name, task_input_name(event.input), r);
	if (is_legal) {
		const struct effect *first = &f.effects.items[0];

		assert_true(f.effects.count > 0 && first->kind == EFFECT_CHANGED && first->task == 1);
		assert_int_equal(first->from, before.state);
		assert_true(task_has_edge(before.state, event.input, first->to));
		assert_null(task_find_fault(get(&f, 1)));
	} else {
		assert_int_equal(f.effects.count, 0);
		assert_memory_equal(image, f.memory, f.size);
	}
	test_free(image);
	fixture_done(&f);
}

static void check_input(const struct situation *situation, struct task options, enum task_input input)
{
	struct core_event event = { .input = (uint8_t)input, .exit_code = -1 };

	switch (input) {
	case INPUT_EXITED:
		for (int code = 0; code < 3; code += 2) {
			event.exit_code = code;
			check_pair(situation, options, event);
		}
		event.exit_code = -1;
		event.exit_signal = 9;
		break;
	case INPUT_PREPARE_FAILED:
	case INPUT_START_FAILED:
		check_pair(situation, options, event);
		event.is_transient = true;
		break;
	case INPUT_COLLECTED:
		check_pair(situation, options, event);
		event.cause.kind = CAUSE_COLLECT_FAILED;
		break;
	default: break;
	}
	check_pair(situation, options, event);
}

static void test_every_pair(void **state UNUSED)
{
	for (size_t s = 0; s < ARRAY_SIZE(situations); s++)
		for (unsigned variant = 0; variant < 8; variant++)
			for (unsigned input_at = 0; input_at < INPUT_MAX; input_at++) {
				struct task options = {
					.flags = (variant & 1 ? TASK_WORKTREE : 0) | (variant & 2 ? TASK_IDEMPOTENT : 0),
					.retries_max = variant & 4 ? 2 : 0, .backoff_ns = SEC, .grace_ns = SEC,
				};

				if (!situations[s].needs_worktree || options.flags & TASK_WORKTREE)
					check_input(&situations[s], options, input_at);
			}
}

static void test_every_state_is_covered(void **state UNUSED)
{
	for (unsigned s = 0; s < TASK_STATE_MAX; s++) {
		bool is_there = false;

		for (size_t i = 0; i < ARRAY_SIZE(situations); i++)
			is_there |= situations[i].state == s;
		assert_true(is_there);
	}
}

/* ---- refused for other reasons ----------------------------------------------------------------------------------- */

static void refuse(struct fixture *f, const struct core_event *event, int error)
{
	char *image = test_malloc(f->size);

	memcpy(image, f->memory, f->size);
	f->now_ns += 1;
	assert_int_equal(step(f, event), error);
	assert_int_equal(f->effects.count, 0);
	assert_memory_equal(image, f->memory, f->size);
	test_free(image);
}

static void test_stale_and_unknown(void **state UNUSED)
{
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ .retries_max = 1 });
	run_to_running(&f, 1);
	exited(&f, 1, 1);
	assert_int_equal(get(&f, 1)->attempt, 2);
	refuse(&f, &(struct core_event){ .kind = CORE_INPUT, .input = INPUT_EXITED, .task = 1, .attempt = 1 }, -ESTALE);
	refuse(&f, &(struct core_event){ .kind = CORE_INPUT, .input = INPUT_EXITED, .task = 1, .attempt = 3 }, -ESTALE);
	refuse(&f, &(struct core_event){ .kind = CORE_INPUT, .input = INPUT_CANCEL, .task = 2 }, -ENOENT);
	refuse(&f, &(struct core_event){ .kind = CORE_INPUT, .input = INPUT_CANCEL, .task = 0 }, -ENOENT);
	refuse(&f, &(struct core_event){ .kind = CORE_INPUT, .input = INPUT_MAX, .task = 1, .attempt = 2 }, -EPERM);
	refuse(&f, &(struct core_event){ .kind = CORE_INPUT, .input = 255, .task = 1, .attempt = 2 }, -EPERM);
	fixture_done(&f);
}

static void test_refused_additions(void **state UNUSED)
{
	struct core_dependency missing = { .task = 77 };
	struct task task = { .id = 1, .batch = 1, .state = TASK_QUEUED };
	struct core_event event = { .kind = CORE_ADD_TASK, .restore = &task };
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ 0 });
	refuse(&f, &event, -EEXIST);
	refuse(&f, &(struct core_event){ .kind = CORE_ADD_BATCH, .batch = 1 }, -EEXIST);
	task.id = 2;
	task.batch = 9;
	refuse(&f, &event, -ENOENT);
	task.batch = 1;
	event.dependencies = &missing;
	event.dependency_count = 1;
	refuse(&f, &event, -ENOENT);
	missing.task = 2;
	refuse(&f, &event, -ENOENT);
	refuse(&f, &(struct core_event){ .kind = CORE_PAUSE_BATCH, .batch = 9 }, -ENOENT);
	refuse(&f, &(struct core_event){ .kind = CORE_FORGET_BATCH, .batch = 9 }, -ENOENT);
	refuse(&f, &(struct core_event){ .kind = CORE_FORGET_BATCH, .batch = 1 }, -EBUSY);
	refuse(&f, &(struct core_event){ .kind = CORE_FORGET_TASK, .task = 1 }, -EBUSY);
	refuse(&f, &(struct core_event){ .kind = CORE_FORGET_TASK, .task = 9 }, -ENOENT);
	fixture_done(&f);
}

static void test_no_room(void **state UNUSED)
{
	struct core_dependency many[FIXTURE_EDGES + 1];
	struct task task = { .id = 1000, .batch = 1, .state = TASK_QUEUED };
	struct core_event event = { .kind = CORE_ADD_TASK, .restore = &task, .dependencies = many,
		.dependency_count = FIXTURE_EDGES + 1 };
	struct fixture f;

	fixture_start(&f, 1);
	for (uint64_t id = 1; id < FIXTURE_TASKS; id++)
		add(&f, id, (struct task){ 0 });
	for (uint32_t i = 0; i <= FIXTURE_EDGES; i++)
		many[i] = (struct core_dependency){ .task = 1 + i % 8 };
	refuse(&f, &event, -ENOSPC);
	event.dependency_count = FIXTURE_EDGES;
	assert_int_equal(step(&f, &event), 0);
	assert_int_equal(core_dependencies(f.core, 1000, NULL, 0), FIXTURE_EDGES);
	task.id = 1001;
	event.dependency_count = 0;
	refuse(&f, &event, -ENOSPC);
	for (uint64_t batch = 2; batch <= FIXTURE_TASKS; batch++)
		add_batch(&f, batch, 0);
	refuse(&f, &(struct core_event){ .kind = CORE_ADD_BATCH, .batch = 1000 }, -ENOSPC);
	must(&f, 1000, INPUT_CANCEL);
	assert_int_equal(step(&f, &(struct core_event){ .kind = CORE_FORGET_TASK, .task = 1000 }), 0);
	assert_int_equal(step(&f, &event), 0); /* what was forgotten made room */
	fixture_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_pair),
		cmocka_unit_test(test_every_state_is_covered),
		cmocka_unit_test(test_stale_and_unknown),
		cmocka_unit_test(test_refused_additions),
		cmocka_unit_test(test_no_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
