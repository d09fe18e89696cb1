/*
 * test_store_damage.c - bits that flip in a closed database, or in the log that a killed process left: loading tells, or
 * everything is still as it was (the bit was in a part that nothing uses). FAULTS row 15.
 *
 * DROVER_TEST_FLIPS=N tries N bits instead of the few of every day.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "fault_vfs.h"
#include "store_model.h"

enum { SEED = 78, STEPS = 60, FLIPS = 300 };

static uint64_t count_flips(void)
{
	const char *text = getenv("DROVER_TEST_FLIPS");

	return text ? strtoull(text, NULL, 10) : FLIPS;
}

static void read_file(const char *path, struct buf *ret)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_read_all(fd, ret, 64 << 20), 0);
}

static void write_file(const char *path, const struct buf *bytes)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, bytes->bytes, bytes->length), 0);
}

/* Runs all steps in the store of a directory. */
static struct model *run_steps(const char *directory, struct store **ret)
{
	static const struct store_loader no_loader;
	struct model *model = model_new(SEED);
	struct store_facts facts;

	/* ASSERT: also used by child processes, which must not go on with the parent's tests. */
	ASSERT(model_open(directory, 0, ret, NULL) == 0);
	ASSERT(store_load(*ret, &no_loader, &facts, NULL) == 0);
	for (int i = 0; i < STEPS; i++) {
		struct store_txn *txn = store_txn_new();

		model_step(model, txn);
		ASSERT(model_commit(*ret, txn, NULL) == 0);
	}
	return model;
}

/* Changes the database behind the store's back. "unix": the file system of the tests has no shared memory. */
static void run_sql(const char *path, const char *sql)
{
	sqlite3 *handle = NULL;

	assert_int_equal(sqlite3_open_v2(path, &handle, SQLITE_OPEN_READWRITE, "unix"), SQLITE_OK);
	if (sqlite3_exec(handle, sql, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(handle));
	sqlite3_close(handle);
}

struct tally {
	uint64_t damaged, equal, other;
};

/* What opening and loading say now. */
static void try_open(const struct model *model, const char *directory, uint64_t position, struct tally *tally)
{
	struct store *store = NULL;
	struct err err = ERR_INIT;
	char why[256] = "";
	bool is_equal = false;
	int result = model_open(directory, model->facts.last_seq, &store, &err);

	if (result == 0)
		result = model_load(model, store, &is_equal, why, &err);
	store_close(store);
	if (result < 0 && result != -EILSEQ && result != -EPROTO)
		fail_msg("bit %llu: %d is not the code for damage: %s", (unsigned long long)position, result, err.text);
	if (result < 0)
		tally->damaged++;
	else if (is_equal)
		tally->equal++;
	else
		tally->other++;
	if (result == 0 && !is_equal)
		print_error("bit %llu was not seen: %s\n", (unsigned long long)position, why);
}

/* Flips bits of the file `path`, one at a time, putting both files back each time. */
static void flip_bits(const struct model *model, const char *directory, const char *path, struct tally *tally)
{
	char *database = xasprintf("%s/drover.db", directory), *log_file = xasprintf("%s/drover.db-wal", directory);
	struct buf base = BUF_INIT, log = BUF_INIT;
	struct buf *target = strcmp(path, "log") == 0 ? &log : &base;
	struct random random = { .state = 4711 };

	read_file(database, &base);
	if (access(log_file, F_OK) == 0)
		read_file(log_file, &log);
	try_open(model, directory, UINT64_MAX, tally); /* without a flip all is well */
	assert_int_equal(tally->equal, 1);
	for (uint64_t i = 0; i < count_flips(); i++) {
		uint64_t bit = random_below(&random, target->length * 8);

		target->bytes[bit / 8] = (char)(target->bytes[bit / 8] ^ (1 << bit % 8));
		write_file(database, &base);
		if (log.length > 0)
			write_file(log_file, &log);
		else
			unlink(log_file);
		target->bytes[bit / 8] = (char)(target->bytes[bit / 8] ^ (1 << bit % 8));
		try_open(model, directory, bit, tally);
	}
	print_message("%s: %llu bits: %llu reported, %llu in unused bytes, %llu not seen\n", path,
	              (unsigned long long)count_flips(), (unsigned long long)tally->damaged,
	              (unsigned long long)tally->equal, (unsigned long long)tally->other);
	buf_done(&base);
	buf_done(&log);
	free(database);
	free(log_file);
}

static void test_flips_in_the_closed_database(void **state)
{
	char *directory = model_make_directory();
	struct tally tally = { 0 };
	struct store *store = NULL;
	struct model *model;

	(void)state;
	model = run_steps(directory, &store);
	store_close(store);
	flip_bits(model, directory, "database", &tally);
	assert_true(tally.other * 1000 <= count_flips());
	assert_true(tally.damaged > count_flips() / 4); /* else the test flips where nothing is */
	free(model);
	model_remove_directory(directory);
}

/* SQLite drops a log from the first bad frame on, without a word; the committed sequence number shows it. */
static void test_flips_in_the_log(void **state)
{
	char *directory = model_make_directory();
	struct tally tally = { 0 };
	struct model *model = NULL;
	struct store *store = NULL;
	pid_t child = fork();
	int status;

	(void)state;
	assert_true(child >= 0);
	if (child == 0) {
		run_steps(directory, &store);
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	model = model_new(SEED);
	for (int i = 0; i < STEPS; i++)
		model_step(model, NULL);
	flip_bits(model, directory, "log", &tally);
	assert_true(tally.other * 1000 <= count_flips());
	free(model);
	model_remove_directory(directory);
}

/* The sentence leads to the row. */
static void test_sentence_names_table_and_row(void **state)
{
	char *directory = model_make_directory(), *path = xasprintf("%s/drover.db", directory);
	struct model *model;
	struct store *store = NULL;
	struct err err = ERR_INIT;
	char why[256];
	bool is_equal;

	(void)state;
	model = run_steps(directory, &store);
	store_close(store);
	run_sql(path, "UPDATE task_state SET attempt = attempt + 1 WHERE id = (SELECT max(id) FROM task)");
	assert_int_equal(model_open(directory, 0, &store, &err), 0);
	assert_int_equal(model_load(model, store, &is_equal, why, &err), -EILSEQ);
	assert_non_null(strstr(err.text, "table task_state, row "));
	assert_int_equal(store_state(store, NULL), -EILSEQ);
	store_close(store);
	free(path);
	free(model);
	model_remove_directory(directory);
}

struct change {
	const char *sql;
	const char *word;
};

/* Rows that vanish, come back or fall behind have right checksums each; the counts, the sum and the sequence tell. */
static void test_lost_and_stale_rows(void **state)
{
	static const struct change changes[] = {
		{ "DELETE FROM event WHERE seq = (SELECT max(seq) FROM event)", "table event, row" },
		{ "DELETE FROM event WHERE seq = (SELECT min(seq) FROM event)", "table event, row" },
		{ "DELETE FROM event WHERE seq = (SELECT max(seq) - 3 FROM event)", "is missing" },
		{ "DELETE FROM task WHERE id = (SELECT max(id) FROM task)", "table task, row" },
		{ "DELETE FROM task_state WHERE id = (SELECT max(id) FROM task)", "rows are missing" },
		{ "DELETE FROM batch WHERE id = (SELECT max(id) FROM batch)", "batch" },
		{ "DELETE FROM answer WHERE key = (SELECT max(key) FROM answer)", "answers are there" },
		{ "DELETE FROM pause WHERE batch = (SELECT max(batch) FROM pause)", "pauses are there" },
		{ "DELETE FROM meta", "meta is empty" },
		{ "UPDATE meta SET last_task = last_task - 1", "table meta, row 1" },
		{ "PRAGMA user_version = 0", "version 0" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		char *directory = model_make_directory(), *path = xasprintf("%s/drover.db", directory);
		struct store *store = NULL;
		struct err err = ERR_INIT;
		struct model *model = run_steps(directory, &store);
		char why[256];
		bool is_equal;

		store_close(store);
		store = NULL;
		run_sql(path, changes[i].sql);
		if (model_open(directory, 0, &store, &err) == 0)
			assert_int_equal(model_load(model, store, &is_equal, why, &err), -EILSEQ);
		if (!strstr(err.text, changes[i].word))
			fail_msg("%s: %s", changes[i].sql, err.text);
		store_close(store);
		free(path);
		free(model);
		model_remove_directory(directory);
	}
}

/* A page that was never written although the disk said so: the row is valid, but old. */
static void test_stale_row(void **state)
{
	char *directory = model_make_directory(), *path = xasprintf("%s/drover.db", directory);
	char *old_path = xasprintf("%s/old.db", directory), *sql;
	struct buf bytes = BUF_INIT;
	struct store *store = NULL;
	struct err err = ERR_INIT;
	struct model *model = run_steps(directory, &store);
	struct store_txn *txn = store_txn_new();
	struct store_task task = { .task = { .id = 1, .batch = 1 } };
	char why[256];
	bool is_equal;

	(void)state;
	for (task.task.id = 1; !model->tasks[task.task.id - 1].is_there; task.task.id++)
		assert_true(task.task.id < MODEL_TASKS);
	store_close(store);
	read_file(path, &bytes);
	write_file(old_path, &bytes);
	assert_int_equal(model_open(directory, 0, &store, &err), 0);
	assert_int_equal(model_load(model, store, &is_equal, why, &err), 0);
	store_txn_put_task(txn, &task);
	assert_int_equal(model_commit(store, txn, &err), 0);
	store_close(store);
	sql = xasprintf("ATTACH '%s' AS old; REPLACE INTO task_state SELECT * FROM old.task_state WHERE id = %llu", old_path,
	                (unsigned long long)task.task.id);
	run_sql(path, sql);
	assert_int_equal(model_open(directory, 0, &store, &err), 0);
	assert_int_equal(model_load(model, store, &is_equal, why, &err), -EILSEQ);
	assert_non_null(strstr(err.text, "a write was lost"));
	store_close(store);
	buf_done(&bytes);
	free(sql);
	free(path);
	free(old_path);
	free(model);
	model_remove_directory(directory);
}

/* A page that is in use is also listed as free: all rows are right until the next write destroys some. */
static void test_page_used_and_free(void **state)
{
	char *directory = model_make_directory(), *path = xasprintf("%s/drover.db", directory);
	struct buf bytes = BUF_INIT;
	struct store *store = NULL;
	struct err err = ERR_INIT;
	struct model *model = run_steps(directory, &store);
	char why[256];
	bool is_equal;

	(void)state;
	store_close(store);
	read_file(path, &bytes);
	/* File format, 1.3: first trunk page of the free list and number of free pages, big-endian, at 32 and 36. */
	memcpy(bytes.bytes + 32, "\0\0\0\3\0\0\0\1", 8);
	write_file(path, &bytes);
	assert_int_equal(model_open(directory, 0, &store, &err), 0);
	assert_int_equal(model_load(model, store, &is_equal, why, &err), -EILSEQ);
	assert_non_null(strstr(err.text, "SQLite's check"));
	store_close(store);
	buf_done(&bytes);
	free(path);
	free(model);
	model_remove_directory(directory);
}

int main(void)
{
	static struct fault_vfs fault; /* for its syncs, which do nothing */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flips_in_the_closed_database),
		cmocka_unit_test(test_flips_in_the_log),
		cmocka_unit_test(test_sentence_names_table_and_row),
		cmocka_unit_test(test_lost_and_stale_rows),
		cmocka_unit_test(test_stale_row),
		cmocka_unit_test(test_page_used_and_free),
	};

	fault_vfs_install(&fault);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
