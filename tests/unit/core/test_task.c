/* test_task.c - names, edges, causes in words, the rules that a task must keep. */
#include <signal.h>

#include "fixture.h"

static void test_names_there_and_back(void **state UNUSED)
{
	for (unsigned s = 0; s < TASK_STATE_MAX; s++)
		assert_int_equal(task_state_find(task_state_name(s)), s);
	for (unsigned p = 0; p < PRIORITY_MAX; p++)
		assert_int_equal(priority_find(priority_name(p)), p);
	assert_string_equal(task_state_name(TASK_TIMED_OUT), "timed_out");
	assert_string_equal(task_input_name(INPUT_START_REFUSED), "start-refused");
	assert_string_equal(wait_reason_name(REASON_BATCH_LIMIT), "batch-limit");
	assert_string_equal(cause_kind_name(CAUSE_OUT_OF_MEMORY), "oom");
	assert_int_equal(task_state_find("nonsense"), -1);
	assert_int_equal(priority_find("p0"), -1);
}

static void test_names_out_of_range(void **state UNUSED)
{
	assert_string_equal(task_state_name(TASK_STATE_MAX), "?");
	assert_string_equal(task_input_name(INPUT_MAX), "?");
	assert_string_equal(wait_reason_name((enum wait_reason)1000), "?");
	assert_string_equal(cause_kind_name(CAUSE_MAX), "?");
	assert_string_equal(priority_name(PRIORITY_MAX), "?");
}

static void test_edges(void **state UNUSED)
{
	assert_true(task_has_edge(TASK_QUEUED, INPUT_ADMIT, TASK_PREPARING));
	assert_false(task_has_edge(TASK_QUEUED, INPUT_ADMIT, TASK_RUNNING));
	assert_true(task_takes(TASK_RUNNING, INPUT_EXITED));
	assert_false(task_takes(TASK_SUCCEEDED, INPUT_EXITED));
	for (unsigned s = 0; s < TASK_STATE_MAX; s++) {
		bool is_final = task_state_is_final(s);

		assert_int_equal(task_takes(s, INPUT_RETRY), is_final);
		assert_int_equal(task_takes(s, INPUT_CANCEL), !is_final);
	}
}

struct cause_row {
	enum cause_kind kind;
	uint64_t value;
	const char *detail;
	const char *words;
};

static const struct cause_row cause_rows[] = {
	{ CAUSE_NONE, 0, NULL, "" },
	{ CAUSE_EXIT, 3, NULL, "exit 3" },
	{ CAUSE_SIGNAL, SIGSEGV, NULL, "signal SIGSEGV" },
	{ CAUSE_SIGNAL, 63, NULL, "signal 63" },
	{ CAUSE_OUT_OF_MEMORY, 0, NULL, "out of memory" },
	{ CAUSE_TIMEOUT, NS_PER_HOUR, NULL, "timeout after 1h" },
	{ CAUSE_TIMEOUT, 90 * SEC, NULL, "timeout after 1m30s" },
	{ CAUSE_TIMEOUT, 250 * NS_PER_MS, NULL, "timeout after 250ms" },
	{ CAUSE_TIMEOUT, 0, NULL, "timeout after 0s" },
	{ CAUSE_CANCELLED, 0, "not needed", "cancelled by user: not needed" },
	{ CAUSE_CANCELLED, 0, NULL, "cancelled by user" },
	{ CAUSE_START_FAILED, 2, NULL, "failed to start: errno 2" },
	{ CAUSE_START_FAILED, 2, "no such program", "failed to start: no such program" },
	{ CAUSE_PREPARE_FAILED, 0, "disk full", "worktree not made: disk full" },
	{ CAUSE_COLLECT_FAILED, 0, NULL, "worktree not collected" },
	{ CAUSE_REBOOT, 0, NULL, "lost: reboot" },
	{ CAUSE_VANISHED, 0, NULL, "lost: its process is gone without a record" },
	{ CAUSE_SHIM_LOST, 0, NULL, "lost: its shim died, so its exit status is unknown" },
	{ CAUSE_DEPENDENCY, UINT64_MAX, NULL, "skipped: #18446744073709551615 failed" },
	{ CAUSE_BATCH_HALTED, 0, NULL, "batch halted" },
};

static void test_causes_in_words(void **state UNUSED)
{
	char text[100];

	for (size_t i = 0; i < ARRAY_SIZE(cause_rows); i++) {
		struct task task = { .cause = { .kind = cause_rows[i].kind, .value = cause_rows[i].value } };

		assert_string_equal(task_format_cause(&task, cause_rows[i].detail, text, sizeof(text)), cause_rows[i].words);
	}
	for (uint32_t kind = 1; kind < CAUSE_MAX; kind++)
		assert_true(strlen(task_format_cause(&(struct task){ .cause = { .kind = kind } }, NULL, text,
						     sizeof(text))) > 0);
}

static void test_cause_that_does_not_fit(void **state UNUSED)
{
	struct task task = { .cause = { .kind = CAUSE_CANCELLED } };
	char text[12];
	char tiny[1] = { 'x' };

	assert_string_equal(task_format_cause(&task, "because", text, sizeof(text)), "cancelled b");
	assert_string_equal(task_format_cause(&task, "because", tiny, sizeof(tiny)), "");
}

/* A task that keeps every rule. */
static struct task good_task(enum task_state state)
{
	struct task task = {
		.id = 1, .batch = 1, .state = (uint8_t)state, .outcome = TASK_STATE_MAX, .slot = TASK_NONE,
		.due_ns = NEVER_NS,
		.flags = TASK_WORKTREE, .attempt = 1, .exit_code = -1, .started_ns = 5,
	};

	if (state == TASK_BLOCKED)
		task.waits_for = 1;
	if (task_state_is_active(state)) {
		task.slot = 3;
		task.phase = state == TASK_PREPARING	  ? PHASE_WORKTREE
			     : state == TASK_COLLECTING ? PHASE_COLLECT
							: PHASE_PROCESS;
	}
	if (state == TASK_STOPPING || state == TASK_CANCELLED) {
		task.outcome = TASK_CANCELLED;
		task.cause.kind = CAUSE_CANCELLED;
		task.due_ns = state == TASK_STOPPING ? 9 : NEVER_NS;
	}
	if (state == TASK_COLLECTING || state == TASK_FAILED) {
		task.outcome = TASK_FAILED;
		task.cause = (struct cause){ .kind = CAUSE_EXIT, .value = 3 };
	}
	if (state == TASK_SUCCEEDED) {
		task.outcome = TASK_SUCCEEDED;
		task.cause.kind = CAUSE_EXIT;
		task.exit_code = 0;
	}
	if (state == TASK_TIMED_OUT || state == TASK_LOST || state == TASK_SKIPPED) {
		task.outcome = (uint8_t)state;
		task.cause.kind = state == TASK_TIMED_OUT ? CAUSE_TIMEOUT
				  : state == TASK_LOST	  ? CAUSE_REBOOT
							  : CAUSE_DEPENDENCY;
	}
	task.ended_ns = task_state_is_final(state) ? 7 : 0;
	return task;
}

static void test_good_tasks_have_no_fault(void **state UNUSED)
{
	for (unsigned s = 0; s < TASK_STATE_MAX; s++) {
		struct task task = good_task(s);

		assert_null(task_find_fault(&task));
		task_check(&task);
	}
}

#define FAULT(of_state, change)                                                                                             \
	do {                                                                                                                \
		struct task bad = good_task(of_state);                                                                      \
		change;                                                                                                     \
		if (!task_find_fault(&bad))                                                                                 \
			fail_msg("%s", "not found: " #of_state " " #change);                                                \
	} while (0)

static void test_faults_are_found(void **state UNUSED)
{
	FAULT(TASK_QUEUED, bad.id = 0);
	FAULT(TASK_QUEUED, bad.batch = 0);
	FAULT(TASK_QUEUED, bad.state = TASK_STATE_MAX);
	FAULT(TASK_QUEUED, bad.priority = PRIORITY_MAX);
	FAULT(TASK_QUEUED, bad.cause.kind = CAUSE_MAX);
	FAULT(TASK_QUEUED, bad.slot = 0);
	FAULT(TASK_QUEUED, bad.phase = PHASE_START);
	FAULT(TASK_QUEUED, bad.waits_for = 1);
	FAULT(TASK_QUEUED, bad.outcome = TASK_FAILED);
	FAULT(TASK_QUEUED, bad.retries_used = 1);
	FAULT(TASK_QUEUED, bad.retries_max = LIMIT_RETRIES + 1);
	FAULT(TASK_QUEUED, bad.lost_used = LIMIT_LOST_RETRIES + 1);
	FAULT(TASK_BLOCKED, bad.waits_for = 0);
	FAULT(TASK_BLOCKED, bad.due_ns = 1);
	FAULT(TASK_PREPARING, bad.slot = TASK_NONE);
	FAULT(TASK_PREPARING, bad.attempt = 0);
	FAULT(TASK_PREPARING, bad.flags = 0); /* then its phase cannot be WORKTREE */
	FAULT(TASK_RUNNING, bad.phase = PHASE_START);
	FAULT(TASK_RUNNING, bad.timeout_ns = 5);
	FAULT(TASK_RUNNING, bad.due_ns = 5);
	FAULT(TASK_RUNNING, bad.started_ns = 0);
	FAULT(TASK_STOPPING, bad.due_ns = NEVER_NS);
	FAULT(TASK_STOPPING, bad.outcome = TASK_FAILED);
	FAULT(TASK_COLLECTING, bad.outcome = TASK_SKIPPED);
	FAULT(TASK_COLLECTING, bad.flags = 0);
	FAULT(TASK_SUCCEEDED, bad.cause.value = 1);
	FAULT(TASK_SUCCEEDED, bad.cause.kind = CAUSE_REBOOT);
	FAULT(TASK_SUCCEEDED, bad.ended_ns = 0);
	FAULT(TASK_FAILED, bad.cause.kind = CAUSE_NONE);
	FAULT(TASK_FAILED, bad.cause.value = 0);
	FAULT(TASK_LOST, bad.cause.kind = CAUSE_EXIT);
	FAULT(TASK_SKIPPED, bad.cause.kind = CAUSE_CANCELLED);
	FAULT(TASK_TIMED_OUT, bad.outcome = TASK_STATE_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_there_and_back),
		cmocka_unit_test(test_names_out_of_range),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_causes_in_words),
		cmocka_unit_test(test_cause_that_does_not_fit),
		cmocka_unit_test(test_good_tasks_have_no_fault),
		cmocka_unit_test(test_faults_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
