/*
 * test_store_faults.c - every write, truncation, sync and removal of a small script fails, once or for ever, and a disk gets
 * full. FAULTS rows 11, 14, 20.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crash_script.h"
#include "fault_vfs.h"

enum { STEPS = 6 };

static struct fault_vfs fault;

struct outcome {
	unsigned refused;   /* the store did not open */
	unsigned closed;    /* a commit failed and closed it */
	unsigned later;     /* all were acknowledged; the failure came while tidying up or closing */
	unsigned committed; /* the failed transaction was there nevertheless */
};

/* One run with the fault at call `at`; asserts everything that must hold. */
static void try_fault(enum fault_action action, uint64_t at, struct outcome *outcome)
{
	char *directory = model_make_directory();
	struct script_result result;
	char why[512];
	int steps;

	fault_vfs_arm(&fault, action, at);
	result = script_run(directory, STEPS, NULL, NULL);
	fault_vfs_arm(&fault, FAULT_NONE, 0);
	/* A full disk closes nothing: the commit waits. */
	if (result.attempted_seq > result.acknowledged_seq &&
	    (result.error >= 0 || result.state != (result.error == -ENOSPC ? 0 : result.error)))
		fail_msg("call %llu: commit failed with %d, but the state is %d", (unsigned long long)at, result.error,
		         result.state);
	if (action == FAULT_FULL_EVER && result.error < 0)
		assert_int_equal(result.error, -ENOSPC);
	steps = script_judge(directory, result.acknowledged_seq, result.attempted_seq, why);
	if (steps < 0)
		fail_msg("action %d at call %llu: %s", action, (unsigned long long)at, why);
	outcome->refused += result.error < 0 && result.attempted_seq == 0;
	outcome->closed += result.error < 0 && result.attempted_seq > 0;
	outcome->later += result.error == 0;
	outcome->committed += result.error < 0 && steps > script_steps_at(result.acknowledged_seq);
	model_remove_directory(directory);
}

static uint64_t count_calls(void)
{
	char *directory = model_make_directory();
	uint64_t calls;

	fault_vfs_arm(&fault, FAULT_NONE, 0);
	assert_int_equal(script_run(directory, STEPS, NULL, NULL).error, 0);
	calls = fault.calls;
	model_remove_directory(directory);
	return calls;
}

static void test_every_call_fails(void **state)
{
	static const enum fault_action actions[] = { FAULT_ERROR_ONCE, FAULT_ERROR_EVER, FAULT_FULL_EVER };
	static const char *const names[] = { "once", "for ever", "disk full" };
	uint64_t calls = count_calls();

	(void)state;
	assert_true(calls > 50);
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		struct outcome outcome = { 0 };

		/* A full disk differs from a failing one in its words only: every third call will do. */
		for (uint64_t at = 1; at <= calls; at += actions[i] == FAULT_FULL_EVER ? 3 : 1)
			try_fault(actions[i], at, &outcome);
		print_message("%s: %llu calls: %u refused to open, %u closed at a commit (of which %u were there "
		              "afterwards), %u after the last\n", names[i], (unsigned long long)calls, outcome.refused,
		              outcome.closed, outcome.committed, outcome.later);
		assert_true(outcome.refused > 0 && outcome.closed > 0);
	}
}

/*
 * A disk that gets full at some write and has room again later: each commit that found none goes through when it is tried
 * again, as if nothing had been.
 */
static unsigned try_full_then_room(uint64_t at)
{
	static const struct store_loader no_loader;
	char *directory = model_make_directory();
	struct model *model = model_new(SCRIPT_SEED);
	struct store *store = NULL;
	struct store_facts facts;
	struct err err = ERR_INIT;
	unsigned waited = 0;
	char why[512];

	assert_int_equal(model_open(directory, 0, &store, NULL), 0);
	assert_int_equal(store_load(store, &no_loader, &facts, NULL), 0);
	fault_vfs_arm(&fault, FAULT_FULL_EVER, at);
	for (int i = 0; i < STEPS; i++) {
		struct store_txn *txn = store_txn_new();
		struct store_txn *more = NULL;
		int result;

		model_step(model, txn);
		result = model_commit(store, txn, &err);
		if (result < 0) {
			assert_int_equal(result, -ENOSPC);
			assert_non_null(strstr(err.text, "disk full"));
			assert_int_equal(store_state(store, NULL), 0);
			fault_vfs_arm(&fault, FAULT_NONE, 0);
			if (i % 2 == 0 && i + 1 < STEPS) { /* with what came meanwhile */
				more = store_txn_new();
				model_step(model, more);
				i++;
			}
			assert_true(store_is_parked(store));
			store_retry(store, more);
			assert_false(store_is_parked(store));
			result = model_finish(store, &err);
			waited++;
		}
		assert_int_equal(result, 0);
	}
	fault_vfs_arm(&fault, FAULT_NONE, 0);
	store_close(store);
	if (script_judge(directory, model->facts.last_seq, model->facts.last_seq, why) < 0)
		fail_msg("full at call %llu: %s", (unsigned long long)at, why);
	free(model);
	model_remove_directory(directory);
	return waited;
}

static void test_full_then_room(void **state)
{
	uint64_t calls = count_calls();
	unsigned waited = 0;

	(void)state;
	for (uint64_t at = 1; at <= calls; at += 2)
		waited += try_full_then_room(at);
	assert_true(waited > 10);
}

/* What a failed store still does: its events can be read. */
struct seen {
	uint32_t count;
	int status;
};

static void see(void *context, const struct store_event_list *list)
{
	*(struct seen *)context = (struct seen){ list->count, list->status };
}

static void test_reads_go_on_after_a_failure(void **state)
{
	static const struct store_loader no_loader;
	char *directory = model_make_directory();
	struct store *store = NULL;
	struct store_facts facts;
	struct store_txn *txn;
	struct err err = ERR_INIT;
	struct seen seen = { 0, 1 };

	(void)state;
	assert_int_equal(model_open(directory, 0, &store, NULL), 0);
	assert_int_equal(store_load(store, &no_loader, &facts, NULL), 0);
	for (uint64_t seq = 1; seq <= 3; seq++) {
		txn = store_txn_new();
		store_txn_append_event(txn, &(struct store_event){ .seq = seq, .kind = "task.queued" });
		if (seq == 3)
			fault_vfs_arm(&fault, FAULT_ERROR_ONCE, 1);
		assert_int_equal(model_commit(store, txn, &err), seq == 3 ? -EIO : 0);
	}
	assert_int_equal(store_state(store, &err), -EIO);
	store_read_events(store, 1, 10, see, &seen);
	while (seen.status == 1)
		store_finish_reads(store);
	assert_int_equal(seen.status, 0);
	assert_int_equal(seen.count, 2);
	fault.calls = 0;
	store_close(store);
	assert_int_equal(fault.calls, 0); /* not even closing writes or syncs again */
	fault_vfs_arm(&fault, FAULT_NONE, 0);
	model_remove_directory(directory);
}

/* The log goes into the database while the store runs: faults in there, too, cost nothing that was acknowledged. */
static void test_checkpoint_fails(void **state)
{
	struct outcome outcome = { 0 };
	struct random random = { .state = 3 };

	(void)state;
	for (int i = 0; i < 12; i++) {
		static const struct store_loader no_loader;
		char *directory = model_make_directory();
		uint64_t acknowledged = 0;
		struct store *store = NULL;
		struct store_facts facts;
		int result = 0;

		assert_int_equal(model_open(directory, 0, &store, NULL), 0);
		assert_int_equal(store_load(store, &no_loader, &facts, NULL), 0);
		/* 60 commits of about 25 pages each pass the mark of 1000 pages; some 3000 calls in all. */
		fault_vfs_arm(&fault, i % 2 ? FAULT_ERROR_ONCE : FAULT_ERROR_EVER, 1900 + random_below(&random, 1000));
		for (uint64_t seq = 1; result == 0 && seq <= 60; seq++) {
			struct store_txn *txn = store_txn_new();
			char *text = calloc(1, 100001);

			for (int j = 0; j < 100000; j++)
				text[j] = 'x';
			store_txn_append_event(txn, &(struct store_event){ .seq = seq, .kind = "task.queued",
			                                                  .data = text });
			if (seq > 1)
				store_txn_drop_events(txn, seq); /* the pages are used again: the database stays small */
			free(text);
			result = model_commit(store, txn, NULL);
			acknowledged = result == 0 ? seq : acknowledged;
		}
		outcome.closed += store_state(store, NULL) < 0;
		store_close(store);
		fault_vfs_arm(&fault, FAULT_NONE, 0);
		assert_int_equal(model_open(directory, acknowledged, &store, NULL), 0);
		assert_int_equal(store_load(store, &no_loader, &facts, NULL), 0);
		assert_in_range(facts.last_seq, acknowledged, acknowledged + 1);
		store_close(store);
		model_remove_directory(directory);
	}
	assert_true(outcome.closed > 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_call_fails),
		cmocka_unit_test(test_full_then_room),
		cmocka_unit_test(test_reads_go_on_after_a_failure),
		cmocka_unit_test(test_checkpoint_fails),
	};

	fault_vfs_install(&fault);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
