/*
 * test_store_migrate.c - a database of an earlier schema is brought up to date: all of it or nothing, whenever the process
 * is killed; and what was damaged before is not made good by it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/units.h"

#include "fault_vfs.h"
#include "schema_1.h"
#include "store_model.h"

static struct fault_vfs fault;

static void run_sql(const char *directory, const char *sql)
{
	char *path = xasprintf("%s/drover.db", directory);
	sqlite3 *handle = NULL;

	assert_int_equal(sqlite3_open_v2(path, &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "unix"), SQLITE_OK);
	if (sqlite3_exec(handle, sql, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%.60s: %s", sql, sqlite3_errmsg(handle));
	assert_int_equal(sqlite3_close(handle), SQLITE_OK);
	assert_int_equal(chmod(path, 0600), 0);
	free(path);
}

static char *make_version_1(void)
{
	char *directory = model_make_directory();

	run_sql(directory, schema_1);
	return directory;
}

/* What a load gave. */
struct seen {
	unsigned batches, pauses, tasks;
	struct store_pause pause;
	struct task second;
	uint64_t first_nonce;
	uint32_t marks; /* of all tasks */
	bool has_dependency;
};

static void on_batch(void *context, const struct store_batch *batch UNUSED)
{
	((struct seen *)context)->batches++;
}

static void on_pause(void *context, const struct store_pause *pause)
{
	struct seen *seen = context;

	seen->pauses++;
	seen->pause = *pause;
	assert_string_equal(pause->who, "somebody");
	assert_null(pause->reason);
}

static void on_task(void *context, const struct store_task *task)
{
	struct seen *seen = context;

	seen->tasks++;
	seen->marks |= task->task.marks;
	if (task->task.id == 1)
		seen->first_nonce = task->nonce;
	if (task->task.id == 2)
		seen->second = task->task;
	if (task->task.id == 5)
		seen->has_dependency = task->dependency_count == 1 && task->dependencies[0].is_any;
}

static int open_and_load(const char *directory, struct seen *seen, struct store **ret, struct err *err)
{
	struct store_loader loader = { .context = seen, .on_batch = on_batch, .on_pause = on_pause, .on_task = on_task };
	struct store_facts facts;
	int result;

	*seen = (struct seen){ 0 };
	result = model_open(directory, 7, ret, err);
	if (result == 0)
		result = store_load(*ret, &loader, &facts, err);
	if (result == 0)
		assert_true(facts.last_seq == 7 && facts.last_task == 5 && facts.core_offset_ns == 77);
	return result;
}

/* Everything that version 1 held, and nothing more. */
static void assert_unchanged(const struct seen *seen)
{
	assert_int_equal(seen->batches, 2);
	assert_int_equal(seen->pauses, 0);
	assert_int_equal(seen->tasks, 5);
	assert_int_equal(seen->marks, 0);
	assert_true(seen->has_dependency);
	assert_true(seen->first_nonce == UINT64_C(0xfedcba9876543210));
	assert_int_equal(seen->second.state, TASK_SUSPENDED);
	assert_int_equal(seen->second.ran_ns, 1234567890);
	assert_true(seen->second.due_ns == NEVER_NS);
}

static void test_migrated(void **state)
{
	char *directory = make_version_1();
	CLEANUP_FREE char *answer = NULL;
	struct store_task task = { .nonce = 8 };
	struct store_txn *txn = store_txn_new();
	struct store *store = NULL;
	struct err err = ERR_INIT;
	struct seen seen;

	(void)state;
	if (open_and_load(directory, &seen, &store, &err) < 0)
		fail_msg("%s", err.text);
	assert_unchanged(&seen);
	answer = store_find_key(store, "key-1");
	assert_string_equal(answer, "{\"batch\":1}");
	task.task = seen.second;
	task.task.marks = MARK_PAUSED | MARK_NO_RETRY;
	store_txn_put_task(txn, &task);
	store_txn_put_pause(txn, &(struct store_pause){ .since_ms = 5, .suspends = true, .who = "somebody" });
	assert_int_equal(model_commit(store, txn, &err), 0);
	store_close(store);
	store = NULL;
	assert_int_equal(open_and_load(directory, &seen, &store, &err), 0);
	assert_int_equal(seen.second.marks, MARK_PAUSED | MARK_NO_RETRY);
	assert_int_equal(seen.pauses, 1);
	assert_true(seen.pause.batch == 0 && seen.pause.since_ms == 5 && seen.pause.suspends);
	store_close(store);
	model_remove_directory(directory);
}

/* Opens it in a child that is killed at the write `at`; true when it came so far. */
static bool open_and_be_killed(const char *directory, uint64_t at)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		struct store *store = NULL;

		fault_vfs_arm(&fault, FAULT_KILL, at);
		_exit(model_open(directory, 7, &store, NULL) < 0 ? 1 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (!WIFSIGNALED(status))
		assert_int_equal(WEXITSTATUS(status), 0);
	return WIFSIGNALED(status);
}

static void test_killed_at_every_write(void **state)
{
	bool was_killed = true;
	uint64_t at;

	(void)state;
	for (at = 1; was_killed; at++) {
		char *directory = make_version_1();
		struct store *store = NULL;
		struct err err = ERR_INIT;
		struct seen seen;

		was_killed = open_and_be_killed(directory, at);
		open_and_be_killed(directory, 3); /* and once more on the way back */
		if (open_and_load(directory, &seen, &store, &err) < 0)
			fail_msg("killed at write %llu: %s", (unsigned long long)at, err.text);
		assert_unchanged(&seen);
		store_close(store);
		model_remove_directory(directory);
	}
	print_message("%llu kill points\n", (unsigned long long)at - 2);
	assert_true(at > 10);
}

static void test_failed_writes_change_nothing(void **state)
{
	int result = -1;

	(void)state;
	for (uint64_t at = 1; result < 0; at++) {
		char *directory = make_version_1();
		struct store *store = NULL;
		struct err err = ERR_INIT;
		struct seen seen;

		fault_vfs_arm(&fault, FAULT_FULL_EVER, at);
		result = model_open(directory, 7, &store, &err);
		store_close(store);
		fault_vfs_arm(&fault, FAULT_NONE, 0);
		store = NULL;
		if (result < 0)
			assert_non_null(strstr(err.text, "disk full"));
		if (open_and_load(directory, &seen, &store, &err) < 0)
			fail_msg("full from write %llu on: %s", (unsigned long long)at, err.text);
		assert_unchanged(&seen);
		store_close(store);
		model_remove_directory(directory);
	}
}

static void test_damage_is_found_afterwards(void **state)
{
	static const struct {
		const char *sql;
		const char *word;
	} changes[] = {
		{ "UPDATE task_state SET attempt = 3 WHERE id = 4", "table task_state, row 4" },
		{ "UPDATE meta SET tasks = 4", "table meta, row 1" },
		{ "DELETE FROM batch WHERE id = 2", "batch" },
		{ "CREATE INDEX surplus ON task (batch)", "not that of version 1" },
		{ schema_1_old_row, "a write was lost" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		char *directory = make_version_1();
		struct store *store = NULL;
		struct err err = ERR_INIT;
		struct seen seen;

		run_sql(directory, changes[i].sql);
		assert_int_equal(open_and_load(directory, &seen, &store, &err), -EILSEQ);
		if (!strstr(err.text, changes[i].word))
			fail_msg("%s: %s", changes[i].sql, err.text);
		store_close(store);
		model_remove_directory(directory);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_migrated),
		cmocka_unit_test(test_killed_at_every_write),
		cmocka_unit_test(test_failed_writes_change_nothing),
		cmocka_unit_test(test_damage_is_found_afterwards),
	};

	fault_vfs_install(&fault);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
