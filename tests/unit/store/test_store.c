/*
 * test_store.c - what goes in comes out: rows, events, keys, blobs, ids; by hand and against the model.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/crc32c.h"
#include "base/fd.h"
#include "base/units.h"
#include "fault_vfs.h"
#include "store_model.h"

static const struct store_loader no_loader;

static struct store *open_loaded(const char *directory, struct store_facts *ret_facts)
{
	struct store *store = NULL;
	struct err err = ERR_INIT;

	if (model_open(directory, 0, &store, &err) < 0)
		fail_msg("%s", err.text);
	if (store_load(store, &no_loader, ret_facts, &err) < 0)
		fail_msg("%s", err.text);
	return store;
}

static void commit(struct store *store, struct store_txn *txn)
{
	struct err err = ERR_INIT;

	if (model_commit(store, txn, &err) < 0)
		fail_msg("%s", err.text);
}

static struct store_task simple_task(uint64_t id)
{
	return (struct store_task){ .task = { .id = id, .batch = 1, .state = TASK_QUEUED, .outcome = TASK_STATE_MAX,
	                                      .slot = TASK_NONE, .due_ns = NEVER_NS },
		                    .spec = "{}" };
}

static void add_simple(struct store *store, uint64_t batch, uint64_t task, uint64_t seq)
{
	struct store_txn *txn = store_txn_new();
	struct store_task it = simple_task(task);

	if (batch > 0)
		store_txn_put_batch(txn, &(struct store_batch){ .id = batch });
	if (task > 0)
		store_txn_add_task(txn, &it);
	store_txn_append_event(txn, &(struct store_event){ .seq = seq, .kind = "task.queued", .task = task });
	commit(store, txn);
}

static void test_new_store_is_empty(void **state)
{
	char *directory = model_make_directory();
	struct store_facts facts;
	struct store *store = open_loaded(directory, &facts);
	struct stat status;
	char *path = xasprintf("%s/drover.db", directory);

	(void)state;
	assert_int_equal(facts.last_task, 0);
	assert_int_equal(facts.last_seq, 0);
	assert_int_equal(facts.first_seq, 1);
	assert_int_equal(facts.schema_version, 2);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(store_state(store, NULL), 0);
	assert_false(store_is_busy(store));
	assert_null(store_find_key(store, "nothing"));
	store_close(store);
	free(path);
	model_remove_directory(directory);
}

static void test_umask_does_not_matter(void **state)
{
	char *directory = model_make_directory();
	struct store_facts facts;
	mode_t before = umask(0277);
	struct store *store = open_loaded(directory, &facts);
	char *path = xasprintf("%s/drover.db-wal", directory);
	struct stat status;

	(void)state;
	add_simple(store, 1, 1, 1);
	umask(before);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	store_close(store);
	free(path);
	model_remove_directory(directory);
}

/* Two thousand random transactions in twenty sessions, each of which finds what the model says. */
static void test_random_transactions(void **state)
{
	char *directory = model_make_directory();
	struct model *model = model_new(20240229);
	static struct fault_vfs fault; /* for its syncs, which do nothing */
	struct err err = ERR_INIT;
	char why[256];
	bool is_equal;

	(void)state;
	fault_vfs_install(&fault);
	for (int session = 0; session < 21; session++) {
		struct store *store = NULL;

		if (model_open(directory, model->facts.last_seq, &store, &err) < 0 ||
		    model_load(model, store, &is_equal, why, &err) < 0)
			fail_msg("session %d: %s", session, err.text);
		if (!is_equal)
			fail_msg("session %d: %s", session, why);
		for (int i = 0; session < 20 && i < 100; i++) {
			struct store_txn *txn = store_txn_new();

			model_step(model, txn);
			commit(store, txn);
		}
		store_close(store);
	}
	assert_true(model->facts.last_task > 500);
	fault_vfs_remove(&fault);
	free(model);
	model_remove_directory(directory);
}

static void test_ids_are_never_used_again(void **state)
{
	char *directory = model_make_directory();
	struct store_facts facts;
	struct store *store = open_loaded(directory, &facts);
	struct store_txn *txn = store_txn_new();

	(void)state;
	add_simple(store, 1, 1, 1);
	add_simple(store, 2, 2, 2);
	store_txn_forget_task(txn, 2);
	store_txn_forget_task(txn, 1);
	store_txn_forget_batch(txn, 2);
	store_txn_forget_batch(txn, 1);
	store_txn_drop_events(txn, 100);
	commit(store, txn);
	store_close(store);

	store = open_loaded(directory, &facts);
	assert_int_equal(facts.last_task, 2);
	assert_int_equal(facts.last_batch, 2);
	assert_int_equal(facts.last_seq, 2);
	assert_int_equal(facts.first_seq, 3);
	store_close(store);
	model_remove_directory(directory);
}

static void test_commit_is_asynchronous(void **state)
{
	char *directory = model_make_directory();
	struct store_facts facts;
	struct store *store = open_loaded(directory, &facts);
	struct store_txn *txn = store_txn_new();
	struct pollfd poll_fd = { .fd = store_fd(store), .events = POLLIN };
	int result;

	(void)state;
	assert_true(store_txn_is_empty(txn));
	assert_int_equal(poll(&poll_fd, 1, 0), 0);
	store_txn_put_batch(txn, &(struct store_batch){ .id = 1, .name = "night" });
	assert_false(store_txn_is_empty(txn));
	store_commit(store, txn);
	assert_true(store_is_busy(store));
	do
		result = store_finish(store, NULL);
	while (result == -EAGAIN && poll(&poll_fd, 1, 30000) == 1);
	assert_int_equal(result, 0);
	assert_false(store_is_busy(store));
	assert_int_equal(poll(&poll_fd, 1, 0), 0);
	store_close(store);
	model_remove_directory(directory);
}

static void test_keys(void **state)
{
	char *directory = model_make_directory();
	struct store_facts facts;
	struct store *store = open_loaded(directory, &facts);
	struct store_txn *txn = store_txn_new();
	char *answer;

	(void)state;
	store_txn_put_key(txn, "old", 1000, "{\"tasks\":[1]}");
	store_txn_put_key(txn, "new", 2000, "{\"tasks\":[2]}");
	commit(store, txn);
	answer = store_find_key(store, "old");
	assert_string_equal(answer, "{\"tasks\":[1]}");
	free(answer);
	txn = store_txn_new();
	store_txn_drop_keys(txn, 2000);
	commit(store, txn);
	assert_null(store_find_key(store, "old"));
	store_close(store);

	store = open_loaded(directory, &facts);
	assert_null(store_find_key(store, "old"));
	answer = store_find_key(store, "new");
	assert_string_equal(answer, "{\"tasks\":[2]}");
	free(answer);
	store_close(store);
	model_remove_directory(directory);
}

/* Forgotten in the transaction that puts it: as if it had never been put, and free for another. */
static void test_forgotten_key(void **state)
{
	char *directory = model_make_directory();
	struct store_facts facts;
	struct store *store = open_loaded(directory, &facts);
	struct store_txn *txn = store_txn_new();
	char *answer;

	(void)state;
	store_txn_put_key(txn, "gone", 1000, "a");
	store_txn_put_key(txn, "again", 1000, "b");
	store_forget_key(store, txn, "gone");
	store_forget_key(store, txn, "again");
	store_txn_put_key(txn, "again", 1000, "c");
	commit(store, txn);
	for (int i = 0; i < 2; i++) {
		assert_null(store_find_key(store, "gone"));
		answer = store_find_key(store, "again");
		assert_string_equal(answer, "c");
		free(answer);
		store_close(store);
		store = open_loaded(directory, &facts);
	}
	txn = store_txn_new();
	store_forget_key(store, txn, "again");
	commit(store, txn);
	store_close(store);
	store = open_loaded(directory, &facts);
	assert_null(store_find_key(store, "again"));
	store_close(store);
	model_remove_directory(directory);
}

/* A bug of the caller: the transaction fails as a whole, the answer that was given stays. */
static void test_key_twice_fails(void **state)
{
	char *directory = model_make_directory();
	struct store_facts facts;
	struct store *store = open_loaded(directory, &facts);
	struct store_txn *txn = store_txn_new();
	struct err err = ERR_INIT;
	char *answer;

	(void)state;
	store_txn_put_key(txn, "k", 1000, "first");
	commit(store, txn);
	txn = store_txn_new();
	store_txn_put_batch(txn, &(struct store_batch){ .id = 1 });
	store_txn_put_key(txn, "other", 1000, "x");
	store_txn_put_key(txn, "k", 1000, "second");
	assert_int_equal(model_commit(store, txn, &err), -EEXIST);
	assert_int_equal(store_state(store, &err), -EEXIST);
	assert_non_null(strstr(err.text, "drover daemon restart"));
	answer = store_find_key(store, "k");
	assert_string_equal(answer, "first");
	free(answer);
	assert_null(store_find_key(store, "other"));
	store_close(store);

	store = open_loaded(directory, &facts);
	assert_int_equal(facts.last_batch, 0);
	store_close(store);
	model_remove_directory(directory);
}

static void test_unknown_task_fails(void **state)
{
	char *directory = model_make_directory();
	struct store_facts facts;
	struct store *store = open_loaded(directory, &facts);
	struct store_txn *txn = store_txn_new();
	struct store_task task = simple_task(7);
	struct err err = ERR_INIT;

	(void)state;
	store_txn_put_task(txn, &task);
	assert_int_equal(model_commit(store, txn, &err), -ENOENT);
	assert_non_null(strstr(err.text, "task 7"));
	txn = store_txn_new();
	store_txn_put_batch(txn, &(struct store_batch){ .id = 1 });
	assert_int_equal(model_commit(store, txn, &err), -ENOENT); /* closed for writing for good */
	store_close(store);
	store = open_loaded(directory, &facts);
	assert_int_equal(facts.last_batch, 0);
	store_close(store);
	model_remove_directory(directory);
}

struct seen {
	uint64_t first, last;
	uint32_t count, calls;
	int status;
};

static void see_events(void *context, const struct store_event_list *list)
{
	struct seen *seen = context;

	seen->calls++;
	seen->count = list->count;
	seen->status = list->status;
	seen->first = list->count > 0 ? list->events[0].seq : 0;
	seen->last = list->count > 0 ? list->events[list->count - 1].seq : 0;
}

static void test_read_events(void **state)
{
	char *directory = model_make_directory();
	struct store_facts facts;
	struct store *store = open_loaded(directory, &facts);
	struct pollfd poll_fd = { .fd = store_fd(store), .events = POLLIN };
	struct store_txn *txn = store_txn_new();
	struct seen some = { 0 }, rest = { 0 };

	(void)state;
	for (uint64_t seq = 1; seq <= 50; seq++)
		store_txn_append_event(txn, &(struct store_event){ .seq = seq, .kind = "task.queued" });
	store_txn_drop_events(txn, 11);
	store_commit(store, txn);
	store_read_events(store, 5, 10, see_events, &some);
	store_read_events(store, 45, 10, see_events, &rest);
	while (store_is_busy(store) || rest.calls == 0) {
		assert_int_equal(poll(&poll_fd, 1, 30000), 1);
		if (store_is_busy(store))
			assert_true(store_finish(store, NULL) != -EIO);
		store_finish_reads(store);
	}
	assert_int_equal(some.first, 11);
	assert_int_equal(some.count, 10);
	assert_int_equal(rest.first, 45);
	assert_int_equal(rest.last, 50);
	assert_int_equal(poll(&poll_fd, 1, 0), 0);
	store_read_events(store, 1, 10, see_events, &some);
	store_close(store);
	assert_int_equal(some.calls, 2); /* answered or cancelled, never forgotten */
	assert_true(some.status == 0 || some.status == -ECANCELED);
	model_remove_directory(directory);
}

static void test_blobs(void **state)
{
	char *directory = model_make_directory();
	struct store_facts facts;
	struct store *store = open_loaded(directory, &facts);
	struct store_txn *txn = store_txn_new();
	char *path = xasprintf("%s/env/abc", directory);
	char bytes[8] = { 0 };
	struct stat status;
	int fd;

	(void)state;
	store_txn_put_blob(txn, "env/abc", "A=1\0B=2", 7);
	assert_false(store_txn_is_empty(txn));
	commit(store, txn);
	txn = store_txn_new();
	store_txn_put_blob(txn, "env/abc", "other", 5); /* a name stands for its contents: kept */
	commit(store, txn);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, bytes, sizeof(bytes)), 7);
	assert_memory_equal(bytes, "A=1\0B=2", 7);
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	fd_close(&fd);
	txn = store_txn_new();
	store_txn_drop_blob(txn, "env/abc");
	store_txn_put_blob(txn, "env/abc", "A=1", 3); /* wanted again */
	commit(store, txn);
	assert_int_equal(access(path, F_OK), 0);
	txn = store_txn_new();
	store_txn_drop_blob(txn, "env/abc");
	commit(store, txn);
	assert_int_equal(access(path, F_OK), -1);
	store_close(store);
	free(path);
	model_remove_directory(directory);
}

/* A blob that cannot be made fails the commit before anything of it is in the database. */
static void test_blob_failure_fails_the_commit(void **state)
{
	char *directory = model_make_directory();
	char *path = xasprintf("%s/env", directory);
	struct store_facts facts;
	struct store *store = open_loaded(directory, &facts);
	struct store_txn *txn = store_txn_new();
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(symlink("/tmp", path), 0);
	store_txn_put_blob(txn, "env/abc", "A=1", 3);
	store_txn_put_batch(txn, &(struct store_batch){ .id = 1 });
	assert_true(model_commit(store, txn, &err) < 0);
	assert_non_null(strstr(err.text, "env/abc"));
	store_close(store);
	assert_int_equal(unlink(path), 0);
	store = open_loaded(directory, &facts);
	assert_int_equal(facts.last_batch, 0);
	store_close(store);
	free(path);
	model_remove_directory(directory);
}

/* States are kept by name under a CHECK: when this fails, task.def changed and the store wants a migration. */
static void test_states_are_those_of_the_schema(void **state)
{
	static const char names[] =
#define STATE(symbol, name, kind, meaning) name " "
#include "core/task.def"
		"/ "
#define CAUSE(symbol, name, meaning) name " "
#include "core/words.def"
		"/ "
#define PRIORITY(symbol, name, ageing) name " "
#include "core/words.def"
		;

	(void)state;
	assert_string_equal(names, "held blocked queued preparing running suspended stopping collecting succeeded failed "
	                           "cancelled timed_out lost skipped / none exit signal oom timeout cancelled start-failed "
	                           "prepare-failed collect-failed reboot vanished shim-lost dependency batch-halted / P0 P1 "
	                           "P2 ");
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_store_is_empty),
		cmocka_unit_test(test_umask_does_not_matter),
		cmocka_unit_test(test_random_transactions),
		cmocka_unit_test(test_ids_are_never_used_again),
		cmocka_unit_test(test_commit_is_asynchronous),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_forgotten_key),
		cmocka_unit_test(test_key_twice_fails),
		cmocka_unit_test(test_unknown_task_fails),
		cmocka_unit_test(test_read_events),
		cmocka_unit_test(test_blobs),
		cmocka_unit_test(test_blob_failure_fails_the_commit),
		cmocka_unit_test(test_states_are_those_of_the_schema),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
