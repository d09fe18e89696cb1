/* test_restore.c - a core made again from stored tasks: what is ordered again, what is evaluated again, what is refused. */
#include <errno.h>
#include <stdio.h>

#include "fixture.h"

/* Restores a task into a core that is not resumed yet. */
static int restore(struct fixture *f, struct task task, const struct core_dependency *dependencies, uint32_t count)
{
	return step(f, &(struct core_event){
		.kind = CORE_RESTORE_TASK, .restore = &task, .dependencies = dependencies, .dependency_count = count,
	});
}

static struct task waiting(uint64_t id, enum task_state state, uint64_t ready_ns)
{
	return (struct task){
		.id = id, .batch = 1, .state = (uint8_t)state, .outcome = TASK_STATE_MAX, .slot = TASK_NONE,
		.due_ns = NEVER_NS,
		.ready_ns = ready_ns, .exit_code = -1, .waits_for = state == TASK_BLOCKED,
	};
}

static struct task active(uint64_t id, enum task_state state, enum attempt_phase phase, uint32_t slot)
{
	struct task task = waiting(id, state, 0);

	task.attempt = 1;
	task.phase = (uint8_t)phase;
	task.slot = slot;
	task.flags = TASK_WORKTREE;
	task.started_ns = phase == PHASE_PROCESS || phase == PHASE_COLLECT ? 5 : 0;
	if (state == TASK_STOPPING) {
		task.outcome = TASK_CANCELLED;
		task.cause.kind = CAUSE_CANCELLED;
		task.due_ns = phase == PHASE_PROCESS ? 2000 * SEC : NEVER_NS;
	}
	if (state == TASK_COLLECTING) {
		task.outcome = TASK_FAILED;
		task.cause = (struct cause){ .kind = CAUSE_EXIT, .value = 1 };
	}
	return task;
}

static void begin(struct fixture *f, uint32_t slots)
{
	fixture_init(f, slots);
	add_batch(f, 1, 0);
}

static void resume(struct fixture *f)
{
	core_resume(f->core, f->now_ns, &f->effects);
	core_check(f->core);
}

static void add_text(char text[100], const char *more)
{
	size_t length = strlen(text);

	snprintf(text + length, 100 - length, "%s", more);
}

/* The effects other than CHANGED for one task, as a string of their names. */
static const char *ordered(const struct fixture *f, uint64_t id, char text[100])
{
	static const char *const names[] = {
#define EFFECT(symbol, name, meaning) [EFFECT_##symbol] = name " ",
#include "core/words.def"
	};

	text[0] = '\0';
	for (uint32_t i = 0; i < f->effects.count; i++)
		if (f->effects.items[i].task == id && f->effects.items[i].kind != EFFECT_CHANGED)
			add_text(text, names[f->effects.items[i].kind]);
	return text;
}

static void test_orders_again(void **state UNUSED)
{
	static const struct {
		enum task_state state;
		enum attempt_phase phase;
		const char *effects;
	} rows[] = {
		{ TASK_PREPARING, PHASE_WORKTREE, "prepare " },
		{ TASK_PREPARING, PHASE_START, "start " },
		{ TASK_RUNNING, PHASE_PROCESS, "thaw " },
		{ TASK_SUSPENDED, PHASE_PROCESS, "freeze " },
		{ TASK_STOPPING, PHASE_WORKTREE, "prepare " },
		{ TASK_STOPPING, PHASE_START, "start " },
		{ TASK_STOPPING, PHASE_PROCESS, "thaw terminate " },
		{ TASK_COLLECTING, PHASE_COLLECT, "collect " },
	};
	struct fixture f;
	char text[100];

	begin(&f, 1);
	for (uint32_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(restore(&f, active(i + 1, rows[i].state, rows[i].phase, i), NULL, 0), 0);
	assert_int_equal(f.effects.count, 0);
	resume(&f);
	for (uint32_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_string_equal(ordered(&f, i + 1, text), rows[i].effects);
		assert_state(&f, i + 1, rows[i].state);
	}
	assert_int_equal(count_effects(&f, EFFECT_CHANGED), 0);
	fixture_done(&f);
}

static void test_queue_keeps_its_order(void **state UNUSED)
{
	struct fixture f;

	begin(&f, 1);
	assert_int_equal(restore(&f, active(9, TASK_RUNNING, PHASE_PROCESS, 0), NULL, 0), 0);
	assert_int_equal(restore(&f, waiting(3, TASK_QUEUED, 30 * SEC), NULL, 0), 0);
	assert_int_equal(restore(&f, waiting(1, TASK_QUEUED, 20 * SEC), NULL, 0), 0); /* out of order: put in its place */
	assert_int_equal(restore(&f, waiting(2, TASK_QUEUED, 40 * SEC), NULL, 0), 0);
	resume(&f);
	exited(&f, 9, 0);
	must(&f, 9, INPUT_COLLECTED);
	assert_state(&f, 1, TASK_PREPARING);
	run_to_running(&f, 1);
	exited(&f, 1, 0);
	assert_state(&f, 3, TASK_PREPARING);
	assert_state(&f, 2, TASK_QUEUED);
	fixture_done(&f);
}

static void test_admits_after_resume_only(void **state UNUSED)
{
	struct fixture f;

	begin(&f, 2);
	assert_int_equal(restore(&f, waiting(1, TASK_QUEUED, 1), NULL, 0), 0);
	assert_int_equal(step(&f, &(struct core_event){ .kind = CORE_CONFIGURE, .config = &f.config }), 0);
	assert_state(&f, 1, TASK_QUEUED);
	resume(&f);
	assert_state(&f, 1, TASK_PREPARING);
	assert_int_equal(get(&f, 1)->attempt, 1);
	fixture_done(&f);
}

/* A start that was refused keeps its number across a restart. */
static void test_refused_attempt_keeps_its_number(void **state UNUSED)
{
	struct task stored;
	struct fixture f;

	fixture_start(&f, 1);
	add(&f, 1, (struct task){ 0 });
	must(&f, 1, INPUT_START_REFUSED);
	stored = *get(&f, 1);
	fixture_done(&f);
	begin(&f, 1);
	assert_int_equal(restore(&f, stored, NULL, 0), 0);
	resume(&f);
	assert_int_equal(core_deadline(f.core), stored.due_ns);
	tick_at(&f, stored.due_ns);
	assert_state(&f, 1, TASK_PREPARING);
	assert_int_equal(get(&f, 1)->attempt, 1);
	fixture_done(&f);
}

static void test_timers_go_on(void **state UNUSED)
{
	struct task running = active(1, TASK_RUNNING, PHASE_PROCESS, 0);
	struct fixture f;

	begin(&f, 2);
	running.timeout_ns = 60 * SEC;
	running.due_ns = f.now_ns + 10 * SEC; /* 50 s are over, by the daemon that died or while none was there */
	assert_int_equal(restore(&f, running, NULL, 0), 0);
	resume(&f);
	f.now_ns += 4 * SEC;
	must(&f, 1, INPUT_SUSPEND);
	assert_int_equal(get(&f, 1)->ran_ns, 54 * SEC);
	f.now_ns += 100 * SEC;
	must(&f, 1, INPUT_RESUME);
	assert_int_equal(core_deadline(f.core), f.now_ns + 6 * SEC);
	fixture_done(&f);
}

/* Dependencies may come in before what they name; those forgotten are gone; the count is taken anew. */
static void test_dependencies_are_evaluated_again(void **state UNUSED)
{
	struct core_dependency on[2] = { { .task = 9 }, { .task = 77 } };
	struct task blocked = waiting(1, TASK_BLOCKED, 0);
	struct core_dependency got[2];
	struct fixture f;

	begin(&f, 4);
	blocked.waits_for = 5; /* as stored before others ended */
	assert_int_equal(restore(&f, blocked, on, 2), 0);
	assert_int_equal(restore(&f, active(9, TASK_RUNNING, PHASE_PROCESS, 0), NULL, 0), 0);
	resume(&f);
	assert_int_equal(core_dependencies(f.core, 1, got, 2), 1);
	assert_int_equal(got[0].task, 9);
	assert_int_equal(get(&f, 1)->waits_for, 1);
	exited(&f, 9, 0);
	must(&f, 9, INPUT_COLLECTED);
	assert_state(&f, 1, TASK_PREPARING);
	fixture_done(&f);
}

static void test_what_was_due_is_done_at_resume(void **state UNUSED)
{
	struct core_dependency on_failed = { .task = 9 };
	struct core_dependency on_skipped = { .task = 1, .is_any = true };
	struct core_dependency on_forgotten = { .task = 77 };
	struct task ended = waiting(9, TASK_FAILED, 0);
	struct fixture f;

	begin(&f, 4);
	ended.outcome = TASK_FAILED;
	ended.cause = (struct cause){ .kind = CAUSE_EXIT, .value = 1 };
	ended.ended_ns = 1;
	assert_int_equal(restore(&f, waiting(1, TASK_BLOCKED, 0), &on_failed, 1), 0);
	assert_int_equal(restore(&f, waiting(2, TASK_BLOCKED, 0), &on_skipped, 1), 0);
	assert_int_equal(restore(&f, waiting(3, TASK_BLOCKED, 0), &on_forgotten, 1), 0);
	assert_int_equal(restore(&f, ended, NULL, 0), 0);
	resume(&f);
	assert_state(&f, 1, TASK_SKIPPED);
	assert_state(&f, 2, TASK_PREPARING);
	assert_state(&f, 3, TASK_PREPARING);
	fixture_done(&f);
}

static void test_damaged_rows_are_refused(void **state UNUSED)
{
	struct task bad = waiting(1, TASK_QUEUED, 0);
	struct fixture f;

	begin(&f, 2);
	bad.waits_for = 1;
	assert_int_equal(restore(&f, bad, NULL, 0), -EINVAL);
	bad = active(1, TASK_RUNNING, PHASE_PROCESS, FIXTURE_SLOTS);
	assert_int_equal(restore(&f, bad, NULL, 0), -EINVAL);
	bad.slot = 0;
	assert_int_equal(restore(&f, bad, NULL, 0), 0);
	bad.id = 2;
	assert_int_equal(restore(&f, bad, NULL, 0), -EINVAL); /* the slot is taken */
	bad.slot = 1;
	bad.id = 1;
	assert_int_equal(restore(&f, bad, NULL, 0), -EEXIST);
	bad.id = 2;
	bad.batch = 5;
	assert_int_equal(restore(&f, bad, NULL, 0), -ENOENT);
	resume(&f);
	fixture_done(&f);
}

/* The same events at the same times give the same memory, byte for byte. */
static void test_same_events_same_core(void **state UNUSED)
{
	struct fixture f[2];

	for (unsigned i = 0; i < 2; i++) {
		fixture_start(&f[i], 2);
		for (uint64_t id = 1; id < 9; id++)
			add(&f[i], id, (struct task){ .priority = (uint8_t)(id % 3), .retries_max = 1, .backoff_ns = SEC });
		run_to_running(&f[i], 1);
		exited(&f[i], 1, 1);
		tick_at(&f[i], f[i].now_ns + 2 * SEC);
	}
	for (uint64_t id = 1; id < 9; id++)
		assert_memory_equal(get(&f[0], id), get(&f[1], id), sizeof(struct task));
	fixture_done(&f[0]);
	fixture_done(&f[1]);
}

/* Cancelled while it was collected: no other attempt follows, over a restart either. */
static void test_marks_outlive_a_restart(void **state UNUSED)
{
	struct task task = active(1, TASK_COLLECTING, PHASE_COLLECT, 0);
	struct fixture f;

	task.retries_max = 3;
	begin(&f, 2);
	assert_int_equal(restore(&f, task, NULL, 0), 0);
	task.id = 2;
	task.slot = 1;
	task.marks = MARK_NO_RETRY;
	assert_int_equal(restore(&f, task, NULL, 0), 0);
	task = waiting(3, TASK_QUEUED, 5);
	task.attempt = 4;
	task.marks = MARK_SAME_ATTEMPT;
	assert_int_equal(restore(&f, task, NULL, 0), 0);
	task = waiting(4, TASK_QUEUED, 6);
	task.marks = MARK_PAUSED;
	assert_int_equal(restore(&f, task, NULL, 0), -EINVAL);
	task.marks = MARK_ALL + 1;
	assert_int_equal(restore(&f, task, NULL, 0), -EINVAL);
	resume(&f);
	must(&f, 1, INPUT_COLLECTED);
	must(&f, 2, INPUT_COLLECTED);
	assert_int_equal(get(&f, 1)->attempt, 2);
	assert_state(&f, 2, TASK_FAILED);
	assert_int_equal(get(&f, 3)->attempt, 4);
	fixture_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_orders_again),
		cmocka_unit_test(test_queue_keeps_its_order),
		cmocka_unit_test(test_admits_after_resume_only),
		cmocka_unit_test(test_refused_attempt_keeps_its_number),
		cmocka_unit_test(test_timers_go_on),
		cmocka_unit_test(test_dependencies_are_evaluated_again),
		cmocka_unit_test(test_what_was_due_is_done_at_resume),
		cmocka_unit_test(test_damaged_rows_are_refused),
		cmocka_unit_test(test_marks_outlive_a_restart),
		cmocka_unit_test(test_same_events_same_core),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
