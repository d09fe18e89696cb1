/*
 * test_salvage.c - a database is harmed, and a new one made of it and of a snapshot that is older. Whatever the harm: no row
 * of the new one is wrong, no task that has run will run again, and what is not as it was is told. FAULTS rows 15 and 16.
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
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/mix.h"
#include "base/units.h"
#include "fault_vfs.h"
#include "store/resolve.h"
#include "store_model.h"

enum { TASKS = 240, PER_BATCH = 8, STEPS = 900, SNAPSHOT_AT = 500, FLIPS = 60, BAD_PAGES = 12 };

/* What is true, and by what steps it became so. */
struct world {
	struct random random;
	struct task tasks[TASKS + 1]; /* by id; state TASK_STATE_MAX before it is added */
	uint64_t last_task;
	uint64_t last_seq;
	uint64_t now_ns;
};

static void add_event(struct world *world, struct store_txn *txn, const struct task *task)
{
	char kind[40], data[120];
	struct store_event event = {
		.seq = ++world->last_seq, .at_ms = 5, .task = task->id, .batch = task->batch, .kind = kind, .data = data
	};
	int length = snprintf(data, sizeof(data), "{\"attempt\":%u", task->attempt);

	snprintf(kind, sizeof(kind), "task.%s", task_state_name(task->state));
	if (task_state_is_final(task->state))
		length += snprintf(data + length, sizeof(data) - (size_t)length, ",\"cause\":\"%s\",\"exit_code\":%d",
		                   cause_kind_name(task->cause.kind), task->exit_code);
	snprintf(data + length, sizeof(data) - (size_t)length, "}");
	store_txn_append_event(txn, &event);
}

static void add_task(struct world *world, struct store_txn *txn)
{
	struct task *task = &world->tasks[++world->last_task];
	char name[32];
	struct store_task row = { .name = name, .spec = "{\"command\":[\"true\"]}" };

	*task = (struct task){ .id = world->last_task, .batch = (world->last_task - 1) / PER_BATCH + 1, .state = TASK_QUEUED,
		               .outcome = TASK_STATE_MAX, .slot = TASK_NONE, .exit_code = -1, .due_ns = NEVER_NS,
		               .priority = PRIORITY_P1, .ready_ns = ++world->now_ns };
	snprintf(name, sizeof(name), "task-%llu", (unsigned long long)task->id);
	if (task->id == 1)
		store_txn_put_pause(txn, &(struct store_pause){ .batch = 1, .reason = "wait" });
	if (task->id % PER_BATCH == 1)
		store_txn_put_batch(txn, &(struct store_batch){ .id = task->batch, .spec = "{}" });
	row.task = *task;
	store_txn_add_task(txn, &row);
	add_event(world, txn, task);
	snprintf(name, sizeof(name), "key-%llu", (unsigned long long)task->id);
	store_txn_put_key(txn, name, 5, "{}");
}

/* One state on: queued, preparing, running, the end. */
static void move_task(struct world *world, struct store_txn *txn, struct task *task)
{
	struct store_task row = { .nonce = task->id + 1000 };

	world->now_ns++;
	if (task->state == TASK_QUEUED) {
		task->state = TASK_PREPARING;
		task->phase = PHASE_START;
		task->slot = (uint32_t)task->id;
		task->attempt++;
	} else if (task->state == TASK_PREPARING) {
		task->state = TASK_RUNNING;
		task->phase = PHASE_PROCESS;
		task->started_ns = world->now_ns;
	} else {
		task->exit_code = (int32_t)random_below(&world->random, 3);
		task->state = task->exit_code == 0 ? TASK_SUCCEEDED : TASK_FAILED;
		task->outcome = task->state;
		task->cause = (struct cause){ .kind = CAUSE_EXIT, .value = (uint64_t)task->exit_code };
		task->phase = PHASE_NONE;
		task->slot = TASK_NONE;
		task->ended_ns = world->now_ns;
	}
	row.task = *task;
	store_txn_put_task(txn, &row);
	add_event(world, txn, task);
}

static void step(struct world *world, struct store *store)
{
	struct store_txn *txn = store_txn_new();
	struct task *task = world->last_task > 0 ? &world->tasks[1 + random_below(&world->random, world->last_task)] : NULL;

	if (world->last_task < TASKS && (!task || random_chance(&world->random, 300)))
		add_task(world, txn);
	else if (task && !task_state_is_final(task->state))
		move_task(world, txn, task);
	assert_int_equal(model_commit(store, txn, NULL), 0);
}

static void on_snapshot(void *context, const struct err *failure, const char *text)
{
	assert_null(failure);
	snprintf(context, 64, "snapshots/%s", text);
}

static void take_snapshot(struct store *store, char name[64])
{
	struct pollfd ready = { .fd = store_fd(store), .events = POLLIN };

	name[0] = '\0';
	store_take_snapshot(store, on_snapshot, name);
	while (name[0] == '\0') {
		assert_int_equal(poll(&ready, 1, 30000), 1);
		store_finish_reads(store);
	}
}

/* A directory with a database and a snapshot of it that is older. */
struct fixture {
	char *directory;
	struct world world;
	struct buf database;
	struct buf snapshot;
};

static void read_file(const char *directory, const char *name, struct buf *ret)
{
	CLEANUP_FREE char *path = xasprintf("%s/%s", directory, name);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_read_all(fd, ret, 64 << 20), 0);
}

static char *write_file(const char *directory, const char *name, const void *bytes, size_t length)
{
	char *path = xasprintf("%s/%s", directory, name);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, bytes, length), 0);
	return path;
}

static int setup(void **state)
{
	static const struct store_loader no_loader;
	struct fixture *fixture = xcalloc(1, sizeof(*fixture));
	struct store *store = NULL;
	struct store_facts facts;
	char name[64] = "";

	fixture->directory = model_make_directory();
	fixture->world.random.state = 4;
	assert_int_equal(model_open(fixture->directory, 0, &store, NULL), 0);
	assert_int_equal(store_load(store, &no_loader, &facts, NULL), 0);
	for (int i = 0; i < STEPS; i++) {
		if (i == SNAPSHOT_AT)
			take_snapshot(store, name);
		step(&fixture->world, store);
	}
	store_close(store);
	read_file(fixture->directory, "drover.db", &fixture->database);
	read_file(fixture->directory, name, &fixture->snapshot);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	model_remove_directory(fixture->directory);
	buf_done(&fixture->database);
	buf_done(&fixture->snapshot);
	free(fixture);
	return 0;
}

/* ---- what came of it --------------------------------------------------------------------------------------------- */

struct comparison {
	const struct world *world;
	const struct salvage_result *result;
	bool is_seen[TASKS + 1];
	bool has_pause;
	uint32_t wrong, same;
};

static bool is_told(const struct salvage_result *result, uint64_t task)
{
	char text[40];
	size_t length = (size_t)snprintf(text, sizeof(text), "task %llu", (unsigned long long)task);

	for (const char *at = result->report.bytes; (at = strstr(at, text)); at += length)
		if (at[length] == ':' || at[length] == ' ')
			return true;
	for (const char *at = result->report.bytes; (at = strstr(at, "\ntasks ")); at++) {
		char *end;
		uint64_t first = strtoull(at + strlen("\ntasks "), &end, 10);

		if (first <= task && task <= strtoull(end + strlen(" to "), NULL, 10))
			return true;
	}
	return false;
}

static void note_pause(void *context, const struct store_pause *pause)
{
	struct comparison *comparison = context;

	assert_true(pause->batch == 1 || strstr(comparison->result->report.bytes, "everything is paused"));
	comparison->has_pause = true;
}

static void compare_task(void *context, const struct store_task *row)
{
	struct comparison *comparison = context;
	const struct task *task = &row->task;
	const struct task *truth = &comparison->world->tasks[task->id];
	char name[32];

	assert_in_range(task->id, 1, comparison->world->last_task);
	snprintf(name, sizeof(name), "task-%llu", (unsigned long long)task->id);
	assert_string_equal(row->name, name);
	assert_int_equal(task->batch, truth->batch);
	assert_null(task_find_fault(task));
	comparison->is_seen[task->id] = true;
	if (task->state == truth->state && task->attempt == truth->attempt && task->exit_code == truth->exit_code &&
	    task->ready_ns == truth->ready_ns) {
		comparison->same++;
		return;
	}
	comparison->wrong++;
	if (!is_told(comparison->result, task->id))
		fail_msg("task %llu is %s, not %s, and nobody tells", (unsigned long long)task->id,
		         task_state_name(task->state), task_state_name(truth->state));
	/* Nothing that has begun runs by itself a second time; nothing that failed is called a success. */
	assert_true(task->state == TASK_HELD || task->state == TASK_LOST || task->state == truth->state ||
	            (task->state == TASK_RUNNING && truth->attempt > 0));
}

/* Salvages from harmed bytes (NULL = no database) and the snapshot, loads what came of it, compares with the truth. */
static void salvage_and_compare(struct fixture *fixture, const struct buf *harmed, struct salvage_options *options,
                                struct comparison *comparison)
{
	struct store_loader loader = { .context = comparison, .on_pause = note_pause, .on_task = compare_task };
	char *directory = model_make_directory();
	char *paths[2] = { NULL, NULL }, *new_path = write_file(directory, "drover.db", "", 0);
	struct salvage_file files[2];
	struct salvage_result result;
	struct store *store = NULL;
	struct store_facts facts;
	struct err err = ERR_INIT;

	options->files = files;
	options->file_count = 0;
	if (harmed) {
		paths[0] = write_file(directory, "0.db", harmed->bytes, harmed->length);
		files[options->file_count++] = (struct salvage_file){ paths[0], "drover.db", true };
	}
	paths[1] = write_file(directory, "1.db", fixture->snapshot.bytes, fixture->snapshot.length);
	files[options->file_count++] = (struct salvage_file){ paths[1], "snapshot", false };
	options->new_path = new_path;
	if (salvage_build(options, &result, &err) < 0)
		fail_msg("%s", err.text);
	*comparison = (struct comparison){ .world = &fixture->world, .result = &result };
	if (model_open(directory, options->committed_seq, &store, &err) < 0 ||
	    store_load(store, &loader, &facts, &err) < 0)
		fail_msg("%s", err.text);
	for (uint64_t id = 1; id <= fixture->world.last_task; id++)
		if (!comparison->is_seen[id] && !is_told(&result, id) && result.unknown == 0)
			fail_msg("task %llu is gone, and nobody tells: %s", (unsigned long long)id, result.report.bytes);
	for (uint64_t id = 1; id <= PER_BATCH; id++)
		assert_true(comparison->has_pause || !comparison->is_seen[id]); /* of batch 1, which is paused */
	assert_true(options->committed_seq == 0 || facts.last_task >= fixture->world.last_task);
	assert_true(options->committed_seq == 0 || facts.last_seq > fixture->world.last_seq);
	store_close(store);
	buf_done(&result.report);
	comparison->result = NULL;
	free(paths[0]);
	free(paths[1]);
	free(new_path);
	model_remove_directory(directory);
}

static uint64_t count_flips(void)
{
	const char *text = getenv("DROVER_TEST_FLIPS");

	return text ? strtoull(text, NULL, 10) : FLIPS;
}

static void test_single_bits(void **state)
{
	struct fixture *fixture = *state;
	struct random random = { .state = 31 };
	uint64_t same = 0, wrong = 0;

	for (uint64_t i = 0; i < count_flips(); i++) {
		struct salvage_options options = { .committed_seq = fixture->world.last_seq };
		struct buf *bytes = &fixture->database;
		uint64_t bit = random_below(&random, bytes->length * 8);
		struct comparison comparison;

		bytes->bytes[bit / 8] = (char)(bytes->bytes[bit / 8] ^ (1 << bit % 8));
		salvage_and_compare(fixture, bytes, &options, &comparison);
		bytes->bytes[bit / 8] = (char)(bytes->bytes[bit / 8] ^ (1 << bit % 8));
		same += comparison.same;
		wrong += comparison.wrong;
	}
	print_message("%llu tasks as they were, %llu told to be otherwise\n", (unsigned long long)same,
	              (unsigned long long)wrong);
	assert_true(wrong * 10 < same); /* a bit costs a page at the most, and events and snapshot mend much of it */
}

static void test_several_pages(void **state)
{
	struct fixture *fixture = *state;
	struct random random = { .state = 32 };

	for (int i = 0; i < BAD_PAGES; i++) {
		struct salvage_options options = { .committed_seq = fixture->world.last_seq };
		struct comparison comparison;
		struct buf bytes = BUF_INIT;

		buf_add(&bytes, fixture->database.bytes, fixture->database.length);
		for (int k = 0; k <= i; k++) {
			uint64_t page = random_below(&random, bytes.length / 4096);

			memset(bytes.bytes + page * 4096, (int)random_next(&random), 4096);
		}
		salvage_and_compare(fixture, &bytes, &options, &comparison);
		buf_done(&bytes);
	}
}

/* Only the snapshot is there: what ended before it is as it was, what waited is held, what ran is found in the slot file. */
static void test_snapshot_only(void **state)
{
	struct fixture *fixture = *state;
	struct salvage_attempt attempts[TASKS];
	struct salvage_options options = { .committed_seq = fixture->world.last_seq, .attempts = attempts };
	struct comparison comparison;

	for (uint64_t id = 1; id <= fixture->world.last_task; id++)
		if (fixture->world.tasks[id].state == TASK_RUNNING)
			attempts[options.attempt_count++] = (struct salvage_attempt){
				.task = id, .nonce = id + 1000, .attempt = 1, .slot = (uint32_t)id
			};
	assert_true(options.attempt_count > 3);
	salvage_and_compare(fixture, NULL, &options, &comparison);
	assert_true(comparison.same > 10 && comparison.wrong > 10);
}

/* The database is whole, but older than what was committed. */
static void test_old_copy(void **state)
{
	struct fixture *fixture = *state;
	struct salvage_options options = { .committed_seq = fixture->world.last_seq };
	struct comparison comparison;

	salvage_and_compare(fixture, &fixture->snapshot, &options, &comparison);
	assert_true(comparison.same > 10);
}

/* Database and slot file are gone: how far the log went is unknown, and what waits in the snapshot may have run. */
static void test_unknown_end(void **state)
{
	struct fixture *fixture = *state;
	struct salvage_options options = { .is_slot_file_lost = true };
	struct comparison comparison;

	salvage_and_compare(fixture, NULL, &options, &comparison);
	assert_true(comparison.same > 10 && comparison.wrong > 10);
}

static void test_nothing_readable(void **state)
{
	struct fixture *fixture = *state;
	char *path = write_file(fixture->directory, "junk.db", "no database at all, but long enough to be read", 46);
	char *new_path = write_file(fixture->directory, "new.db", "", 0);
	struct salvage_file file = { path, "junk", false };
	struct salvage_options options = { .files = &file, .file_count = 1, .new_path = new_path };
	struct salvage_result result;
	struct err err = ERR_INIT;

	assert_int_equal(salvage_build(&options, &result, &err), -ENODATA);
	assert_non_null(strstr(result.report.bytes, "nothing of it can be read"));
	buf_done(&result.report);
	free(path);
	free(new_path);
}

/* A committed number that cannot be: the ids do not go to the sky, and nobody waits for a loop to get there. */
static void test_absurd_committed_number(void **state)
{
	struct fixture *fixture = *state;
	char *directory = model_make_directory();
	char *path = write_file(directory, "0.db", fixture->database.bytes, fixture->database.length);
	char *new_path = write_file(directory, "new.db", "", 0);
	struct salvage_file file = { path, "drover.db", true };
	struct salvage_options options = {
		.files = &file, .file_count = 1, .new_path = new_path, .committed_seq = UINT64_MAX / 3
	};
	struct salvage_result result;

	assert_int_equal(salvage_build(&options, &result, NULL), 0);
	assert_non_null(strstr(result.report.bytes, "not believed"));
	assert_int_equal(result.kept, fixture->world.last_task);
	buf_done(&result.report);
	free(path);
	free(new_path);
	model_remove_directory(directory);
}

/* ---- one task, by the facts -------------------------------------------------------------------------------------- */

static struct store_task make_row(enum task_state state)
{
	struct store_task row = { .task = { .id = 1, .batch = 1, .state = (uint8_t)state, .outcome = TASK_STATE_MAX,
		                            .slot = TASK_NONE, .exit_code = -1, .due_ns = NEVER_NS, .attempt = 1 } };

	if (task_state_is_active(state)) {
		row.task.slot = 3;
		row.task.phase = PHASE_PROCESS;
		row.task.started_ns = 1;
	}
	if (state == TASK_BLOCKED)
		row.task.waits_for = 1;
	return row;
}

static void test_one_task(void **state)
{
	static const struct salvage_attempt older = { .task = 1, .nonce = 9, .attempt = 1, .slot = 3 };
	static const struct salvage_attempt newer = { .task = 1, .nonce = 9, .attempt = 2, .slot = 3 };
	static const struct newest_event none, timed_out = { .seq = 9, .state = TASK_TIMED_OUT, .cause = CAUSE_TIMEOUT,
	                                                     .attempt = 1, .exit_code = -1 };
	static const struct newest_event nonsense = { .seq = 9, .state = TASK_SUCCEEDED, .cause = CAUSE_SIGNAL };
	static const struct {
		enum task_state was;
		struct resolve_facts facts;
		enum task_state is;
	} rows[] = {
		/* nothing came after */
		{ TASK_QUEUED, { .has_state = true, .state_seq = 5, .top_seq = 5, .event = &none }, TASK_QUEUED },
		{ TASK_RUNNING, { .has_state = true, .state_seq = 5, .top_seq = 5, .event = &none }, TASK_RUNNING },
		/* something came after, and none of it can be read */
		{ TASK_QUEUED, { .has_state = true, .state_seq = 5, .top_seq = 9, .event = &none }, TASK_HELD },
		{ TASK_RUNNING, { .has_state = true, .state_seq = 5, .top_seq = 9, .event = &none }, TASK_LOST },
		/* all of it can, and nothing is about this task */
		{ TASK_QUEUED, { .has_state = true, .state_seq = 5, .top_seq = 9, .is_log_complete = true, .event = &none },
		  TASK_QUEUED },
		/* the log tells the end */
		{ TASK_RUNNING, { .has_state = true, .state_seq = 5, .top_seq = 9, .event = &timed_out }, TASK_TIMED_OUT },
		{ TASK_HELD, { .event = &timed_out, .top_seq = 9 }, TASK_TIMED_OUT },
		/* the log tells what cannot be */
		{ TASK_RUNNING, { .has_state = true, .state_seq = 5, .top_seq = 9, .event = &nonsense }, TASK_LOST },
		/* the slot file knows the attempt */
		{ TASK_RUNNING, { .has_state = true, .state_seq = 5, .top_seq = 9, .event = &none, .attempt = &older,
		                  .is_slot_free = true }, TASK_RUNNING },
		{ TASK_QUEUED, { .has_state = true, .state_seq = 5, .top_seq = 9, .event = &none, .attempt = &newer,
		                 .is_slot_free = true }, TASK_RUNNING },
		{ TASK_QUEUED, { .has_state = true, .state_seq = 5, .top_seq = 9, .event = &none, .attempt = &older,
		                 .is_slot_free = true }, TASK_HELD },
		{ TASK_RUNNING, { .has_state = true, .state_seq = 5, .top_seq = 9, .event = &timed_out, .attempt = &older,
		                  .is_slot_free = true }, TASK_TIMED_OUT },
		/* the slot is another's */
		{ TASK_RUNNING, { .has_state = true, .state_seq = 5, .top_seq = 9, .event = &none, .attempt = &older },
		  TASK_LOST },
		/* what it waits for is gone */
		{ TASK_BLOCKED, { .has_state = true, .state_seq = 5, .top_seq = 5, .event = &none,
		                  .has_lost_dependency = true }, TASK_HELD },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct store_task row = make_row(rows[i].was);

		resolve_task(&rows[i].facts, &row);
		if (row.task.state != rows[i].is || task_find_fault(&row.task))
			fail_msg("row %zu: %s, %s", i, task_state_name(row.task.state), task_find_fault(&row.task));
	}
}

int main(void)
{
	static struct fault_vfs fault; /* for its syncs, which do nothing */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_single_bits),       cmocka_unit_test(test_several_pages),
		cmocka_unit_test(test_snapshot_only),     cmocka_unit_test(test_old_copy),
		cmocka_unit_test(test_nothing_readable),  cmocka_unit_test(test_absurd_committed_number),
		cmocka_unit_test(test_one_task),          cmocka_unit_test(test_unknown_end),
	};

	fault_vfs_install(&fault);
	return cmocka_run_group_tests(tests, setup, teardown);
}
