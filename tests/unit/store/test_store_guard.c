/*
 * test_store_guard.c - what store_open() refuses, with which words, and that it leaves what it refuses as it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sqlite3.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fd.h"
#include "store/guard.h"
#include "store_model.h"

static char *directory;
static char *database;
static char *log_file;

static int set_up(void **state)
{
	(void)state;
	directory = model_make_directory();
	database = xasprintf("%s/drover.db", directory);
	log_file = xasprintf("%s/drover.db-wal", directory);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	model_remove_directory(directory);
	free(database);
	free(log_file);
	return 0;
}

static void read_file(const char *path, struct buf *ret)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	buf_clear(ret);
	assert_int_equal(fd_read_all(fd, ret, 64 << 20), 0);
}

static void write_file(const char *path, const void *bytes, size_t length)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, bytes, length), 0);
}

static struct store *open_good(uint64_t committed_seq)
{
	static const struct store_loader no_loader;
	struct store *store = NULL;
	struct store_facts facts;
	struct err err = ERR_INIT;

	/* Not cmocka's asserts: also used by child processes, which must not go on with the parent's tests. */
	if (model_open(directory, committed_seq, &store, &err) < 0 || store_load(store, &no_loader, &facts, &err) < 0) {
		print_error("%s\n", err.text);
		abort();
	}
	return store;
}

/* Opening fails with the code and says what is asked for. */
static void assert_refused(int code, uint64_t committed_seq, const char *word, const char *other_word)
{
	struct store *store = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(model_open(directory, committed_seq, &store, &err), code);
	assert_null(store);
	if (!strstr(err.text, word) || !strstr(err.text, other_word))
		fail_msg("not what was expected: %s", err.text);
}

/* Transactions 1 … count of seed 5, one after another; returns the last sequence number. */
static uint64_t run_steps(struct store *store, uint32_t first, uint32_t count)
{
	struct model *model = model_new(5);
	uint64_t last_seq;

	for (uint32_t i = 0; i < first + count; i++) {
		struct store_txn *txn = i < first ? NULL : store_txn_new();

		model_step(model, txn);
		if (txn)
			ASSERT(model_commit(store, txn, NULL) == 0);
	}
	last_seq = model->facts.last_seq;
	free(model);
	return last_seq;
}

static void test_database_as_symlink(void **state)
{
	char *elsewhere = xasprintf("%s/elsewhere", directory);

	(void)state;
	store_close(open_good(0));
	assert_int_equal(rename(database, elsewhere), 0);
	assert_int_equal(symlink("elsewhere", database), 0);
	assert_refused(-EPERM, 0, "symbolic link", "move the file");
	assert_int_equal(unlink(database), 0);
	assert_int_equal(symlink("missing", database), 0);
	assert_refused(-EPERM, 0, "symbolic link", "move the file");
	free(elsewhere);
}

static void test_log_as_symlink(void **state)
{
	(void)state;
	store_close(open_good(0));
	assert_int_equal(symlink("/tmp/elsewhere", log_file), 0);
	assert_refused(-EPERM, 0, "drover.db-wal", "symbolic link");
}

static void test_database_with_two_names(void **state)
{
	char *second = xasprintf("%s/second", directory);

	(void)state;
	store_close(open_good(0));
	assert_int_equal(link(database, second), 0);
	assert_refused(-EPERM, 0, "2 names", "copy it");
	assert_int_equal(unlink(second), 0);
	store_close(open_good(0));
	free(second);
}

static void test_database_is_a_directory(void **state)
{
	(void)state;
	assert_int_equal(mkdir(database, 0700), 0);
	assert_refused(-EPERM, 0, "not a plain file", "move it away");
}

static void test_open_state_directory(void **state)
{
	(void)state;
	assert_int_equal(chmod(directory, 0777), 0);
	assert_refused(-EPERM, 0, "mode 0777", "chmod 700");
	assert_int_equal(chmod(directory, 0720), 0);
	assert_refused(-EPERM, 0, "mode 0720", "chmod 700");
	assert_int_equal(access(database, F_OK), -1); /* nothing was made */
	assert_int_equal(chmod(directory, 0755), 0);  /* looking in is harmless: the files are 0600 */
	store_close(open_good(0));
}

static void test_foreign_state_directory(void **state)
{
	(void)state;
	if (geteuid() != 0) {
		print_message("skipped: only root can give a directory away\n");
		skip();
	}
	assert_int_equal(chown(directory, 65534, 65534), 0);
	assert_refused(-EPERM, 0, "belongs to user 65534", "DROVER_STATE_DIR");
	assert_int_equal(chown(directory, 0, 0), 0);
	store_close(open_good(0));
	assert_int_equal(chown(database, 65534, 65534), 0);
	assert_refused(-EPERM, 0, "belongs to user 65534", "0600");
}

static void test_database_readable_by_others_is_closed(void **state)
{
	struct stat status;

	(void)state;
	store_close(open_good(0));
	assert_int_equal(chmod(database, 0644), 0);
	store_close(open_good(0));
	assert_int_equal(stat(database, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(chmod(database, 0666), 0);
	assert_refused(-EPERM, 0, "mode 0666", "others could have changed it");
}

static void test_state_directory_by_a_linked_path(void **state)
{
	char *link_path = xasprintf("%s-link", directory);
	struct store *store = NULL;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(symlink(directory, link_path), 0);
	if (model_open(link_path, 0, &store, &err) < 0)
		fail_msg("%s", err.text);
	store_close(store);
	assert_int_equal(unlink(link_path), 0);
	free(link_path);
}

static void run_sql(const char *sql)
{
	sqlite3 *handle = NULL;

	assert_int_equal(sqlite3_open_v2(database, &handle, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_exec(handle, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(handle), SQLITE_OK);
}

static void test_newer_schema_is_left_alone(void **state)
{
	struct buf before = BUF_INIT, after = BUF_INIT;

	(void)state;
	store_close(open_good(0));
	run_sql("PRAGMA user_version = 3; ALTER TABLE task ADD COLUMN mood TEXT");
	read_file(database, &before);
	assert_refused(-EPROTO, 0, "newer drover", "version 3");
	read_file(database, &after);
	assert_int_equal(before.length, after.length);
	assert_memory_equal(before.bytes, after.bytes, before.length);
	buf_done(&before);
	buf_done(&after);
}

static void test_foreign_database_is_left_alone(void **state)
{
	struct buf before = BUF_INIT, after = BUF_INIT;

	(void)state;
	write_file(database, "", 0);
	run_sql("CREATE TABLE phone_book (name TEXT); INSERT INTO phone_book VALUES ('a')");
	read_file(database, &before);
	assert_refused(-EILSEQ, 0, "not a database of drover", "");
	read_file(database, &after);
	assert_memory_equal(before.bytes, after.bytes, before.length);
	write_file(database, "this is not a database, it only lies in its place and is a little longer than the header of "
	           "one; so there must be a hundred bytes and more", 130);
	assert_refused(-EILSEQ, 0, "damaged", "db restore");
	buf_done(&before);
	buf_done(&after);
}

static void test_changed_schema_is_damage(void **state)
{
	(void)state;
	store_close(open_good(0));
	run_sql("CREATE INDEX surplus ON task (batch)");
	assert_refused(-EILSEQ, 0, "schema", "db restore");
}

static void test_missing_database_is_not_a_fresh_start(void **state)
{
	(void)state;
	assert_refused(-EILSEQ, 12, "events up to 12", "'drover db restore'");
	assert_int_equal(access(database, F_OK), -1);
	write_file(database, "", 0);
	assert_refused(-EILSEQ, 12, "ends at event 0", "'drover db restore'");
	store_close(open_good(0));
}

/* A process that dies leaves its log behind; without the log the database is an old one that SQLite calls sound. */
static void test_lost_log_is_seen(void **state)
{
	struct buf log = BUF_INIT, base = BUF_INIT;
	uint64_t committed = 0;
	int pipes[2], status;
	struct store *store;
	pid_t child;

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		uint64_t last = run_steps(open_good(0), 0, 30);

		if (write(pipes[1], &last, sizeof(last)) != sizeof(last))
			_exit(1);
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(read(pipes[0], &committed, sizeof(committed)), sizeof(committed));
	read_file(log_file, &log);
	read_file(database, &base);
	assert_true(log.length > 0);
	assert_int_equal(unlink(log_file), 0);
	assert_refused(-EILSEQ, committed, "-wal", "db restore");
	write_file(log_file, log.bytes, log.length / 2); /* half of it is no better */
	write_file(database, base.bytes, base.length);
	assert_refused(-EILSEQ, committed, "ends at event", "db restore");
	write_file(log_file, log.bytes, log.length);
	write_file(database, base.bytes, base.length);
	store = open_good(committed);
	store_close(store);
	buf_done(&log);
	buf_done(&base);
	fd_close(&pipes[0]);
	fd_close(&pipes[1]);
}

static void test_old_copy_is_seen(void **state)
{
	struct buf copy = BUF_INIT;
	struct store *store = open_good(0);
	uint64_t committed;

	(void)state;
	run_steps(store, 0, 5);
	store_close(store);
	read_file(database, &copy);
	store = open_good(0);
	committed = run_steps(store, 5, 5);
	store_close(store);
	write_file(database, copy.bytes, copy.length);
	assert_refused(-EILSEQ, committed, "old copy", "db restore");
	buf_done(&copy);
}

/* As `sqlite3 drover.db 'begin exclusive'` in another terminal would do it. */
static void test_database_held_by_another_process(void **state)
{
	int ready[2], status;
	char byte, pid_text[32];
	pid_t child;

	(void)state;
	store_close(open_good(0));
	assert_int_equal(pipe(ready), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		sqlite3 *handle = NULL;

		if (sqlite3_open(database, &handle) != SQLITE_OK ||
		    sqlite3_exec(handle, "BEGIN EXCLUSIVE", NULL, NULL, NULL) != SQLITE_OK || write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	snprintf(pid_text, sizeof(pid_text), "process %d", child);
	assert_refused(-EBUSY, 0, pid_text, "in use");
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	store_close(open_good(0));
	fd_close(&ready[0]);
	fd_close(&ready[1]);
}

static void test_second_store_is_refused(void **state)
{
	struct store *store = open_good(0);
	int status;
	pid_t child;

	(void)state;
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct store *second = NULL;

		_exit(model_open(directory, 0, &second, NULL) == -EBUSY ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	store_close(store);
}

static void test_database_moved_away_while_open(void **state)
{
	char *elsewhere = xasprintf("%s/elsewhere", directory);
	struct store *store = open_good(0);
	struct store_txn *txn = store_txn_new();
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(rename(database, elsewhere), 0);
	store_txn_put_batch(txn, &(struct store_batch){ .id = 1 });
	assert_int_equal(model_commit(store, txn, &err), -ESTALE);
	assert_non_null(strstr(err.text, "moved"));
	assert_int_equal(store_state(store, NULL), -ESTALE);
	store_close(store);
	free(elsewhere);
}

/* The database is where it was, but what is committed would go to a log without a name. */
static void test_log_removed_while_open(void **state)
{
	struct store *store = open_good(0);
	struct err err = ERR_INIT;
	uint64_t committed;

	(void)state;
	committed = run_steps(store, 0, 5);
	assert_int_equal(unlink(log_file), 0);
	for (int i = 0; i < 2; i++) {
		struct store_txn *txn = store_txn_new();

		store_txn_put_batch(txn, &(struct store_batch){ .id = 1000 });
		assert_int_equal(model_commit(store, txn, &err), -ESTALE);
	}
	assert_non_null(strstr(err.text, "-wal was moved"));
	store_close(store);
	assert_refused(-EILSEQ, committed, "ends at event", "db restore");
}

static void test_space(void **state)
{
	struct store *store = open_good(0);
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(store_check_space(store, 1000, &err), 0);
	assert_int_equal(store_check_space(store, UINT64_C(1) << 60, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "disk full"));
	store_close(store);
}

static void test_local_disk_is_not_remote(void **state)
{
	CLEANUP_FD int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *name = NULL;

	(void)state;
	assert_false(store_is_remote(fd, &name));
	assert_null(name);
	assert_string_equal(guard_name_magic(0x6969), "NFS"); /* statfs(2) */
	assert_string_equal(guard_name_magic(0xff534d42), "CIFS");
	assert_null(guard_name_magic(0xef53)); /* ext4 */
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_database_as_symlink),
		TEST(test_log_as_symlink),
		TEST(test_database_with_two_names),
		TEST(test_database_is_a_directory),
		TEST(test_open_state_directory),
		TEST(test_foreign_state_directory),
		TEST(test_database_readable_by_others_is_closed),
		TEST(test_state_directory_by_a_linked_path),
		TEST(test_newer_schema_is_left_alone),
		TEST(test_foreign_database_is_left_alone),
		TEST(test_changed_schema_is_damage),
		TEST(test_missing_database_is_not_a_fresh_start),
		TEST(test_lost_log_is_seen),
		TEST(test_old_copy_is_seen),
		TEST(test_database_held_by_another_process),
		TEST(test_second_store_is_refused),
		TEST(test_database_moved_away_while_open),
		TEST(test_log_removed_while_open),
		TEST(test_space),
		TEST(test_local_disk_is_not_remote),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
