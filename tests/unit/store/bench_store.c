/*
 * bench_store.c - what the store costs: not a test. Usage: bench_store [DIRECTORY], a place on the disk to be measured.
 *
 * CPU of the store's thread is that of the process less that of this thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/alloc.h"
#include "base/units.h"
#include "store_model.h"

enum { TASKS = 100000, COMMITS = 2000, CHANGED = 8 };

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

static uint64_t store_cpu_ns(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID) - clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static struct store_task make_task(uint64_t id, enum task_state state)
{
	static const char spec[] =
		"{\"command\":[\"/usr/bin/make\",\"-C\",\"src/module\",\"check\"],\"cwd\":\"/home/user/project\","
		"\"worktree\":\"auto\",\"base\":\"0123456789abcdef0123456789abcdef01234567\",\"kind\":\"build\"}";

	return (struct store_task){
		.task = { .id = id, .batch = 1, .timeout_ns = 3600 * NS_PER_SEC, .grace_ns = 5 * NS_PER_SEC,
		         .state = (uint8_t)state,
		          .outcome = TASK_STATE_MAX, .slot = TASK_NONE, .due_ns = NEVER_NS, .created_ms = 1700000000000,
		          .ready_ns = 123456789012345 + id, .started_ns = 223456789012345, .started_ms = 1700000001000,
		          .usage = { .cpu_us = 123456, .memory_peak_bytes = 20 << 20, .output_bytes = 12345,
		                    .is_known = true } },
		.name = "module-check", .spec = spec, .nonce = UINT64_C(0x9e3779b97f4a7c15) * id,
	};
}

static void add_event(struct store_txn *txn, uint64_t seq, uint64_t task)
{
	store_txn_append_event(txn, &(struct store_event){
		.seq = seq, .at_ms = 1700000000000, .task = task, .batch = 1, .kind = "task.running",
		.data = "{\"from\":\"preparing\",\"to\":\"running\",\"attempt\":1,\"slot\":3}" });
}

static struct store *open_loaded(const char *directory, struct store_facts *ret_facts)
{
	static const struct store_loader loader;
	struct store *store = NULL;
	struct err err = ERR_INIT;

	if (model_open(directory, 0, &store, &err) < 0 || store_load(store, &loader, ret_facts, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	return store;
}

static void commit(struct store *store, struct store_txn *txn)
{
	struct err err = ERR_INIT;

	if (model_commit(store, txn, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
}

static uint64_t bench_insert(struct store *store, bool with_events, uint64_t first, uint64_t seq)
{
	struct store_txn *txn = store_txn_new();
	uint64_t start = clock_ns(CLOCK_MONOTONIC), filled, cpu = store_cpu_ns();

	if (first == 1)
		store_txn_put_batch(txn, &(struct store_batch){ .id = 1, .spec = "{}" });
	for (uint64_t i = 0; i < TASKS; i++) {
		struct store_task task = make_task(first + i, TASK_QUEUED);

		store_txn_add_task(txn, &task);
		if (with_events)
			add_event(txn, ++seq, first + i);
	}
	filled = clock_ns(CLOCK_MONOTONIC);
	commit(store, txn);
	printf("insert %d tasks%s: fill %.3f s, commit %.3f s, store CPU %.3f s (the checkpoint comes after)\n", TASKS,
	       with_events ? " with an event each" : "", (double)(filled - start) / 1e9,
	       (double)(clock_ns(CLOCK_MONOTONIC) - filled) / 1e9, (double)(store_cpu_ns() - cpu) / 1e9);
	return seq;
}

static int compare(const void *left, const void *right)
{
	const uint64_t *a = left, *b = right;

	return *a < *b ? -1 : *a > *b;
}

/* Transactions of `changed` tasks and as many events, ids `stride` apart. */
static uint64_t bench_update(struct store *store, unsigned changed, uint64_t stride, uint64_t seq)
{
	static uint64_t taken[COMMITS];
	uint64_t start = clock_ns(CLOCK_MONOTONIC), cpu = store_cpu_ns(), main_cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID), wall;

	for (uint64_t i = 0; i < COMMITS; i++) {
		struct store_txn *txn = store_txn_new();
		struct store_facts clock = { .core_last_ns = i };
		uint64_t before = clock_ns(CLOCK_MONOTONIC);

		for (uint64_t j = 0; j < changed; j++) {
			struct store_task task = make_task((i * changed + j) * stride % TASKS + 1, TASK_RUNNING);

			store_txn_put_task(txn, &task);
			add_event(txn, ++seq, task.task.id);
		}
		store_txn_put_clock(txn, &clock);
		commit(store, txn);
		taken[i] = clock_ns(CLOCK_MONOTONIC) - before;
	}
	wall = clock_ns(CLOCK_MONOTONIC) - start;
	qsort(taken, COMMITS, sizeof(*taken), compare);
	printf("%u tasks + %u events, ids %llu apart: %.0f commits/s, store CPU %.0f us, caller CPU %.0f us, latency p50 "
	       "%.0f p99 %.0f max %.0f us\n", changed, changed, (unsigned long long)stride, COMMITS * 1e9 / (double)wall,
	       (double)(store_cpu_ns() - cpu) / COMMITS / 1e3,
	       (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - main_cpu) / COMMITS / 1e3, (double)taken[COMMITS / 2] / 1e3,
	       (double)taken[COMMITS * 99 / 100] / 1e3, (double)taken[COMMITS - 1] / 1e3);
	return seq;
}

int main(int argc, char **argv)
{
	char *directory = argc > 1 ? xstrdup(argv[1]) : model_make_directory();
	struct store_facts facts;
	struct store *store = open_loaded(directory, &facts);
	struct rusage usage;
	uint64_t start, seq = bench_insert(store, false, 1, 0);

	seq = bench_insert(store, true, TASKS + 1, seq);
	seq = bench_update(store, 1, 1, seq);
	seq = bench_update(store, CHANGED, 1, seq);
	seq = bench_update(store, CHANGED, 7919, seq);
	start = clock_ns(CLOCK_MONOTONIC);
	store_close(store);
	printf("close: %.3f s\n", (double)(clock_ns(CLOCK_MONOTONIC) - start) / 1e9);
	start = clock_ns(CLOCK_MONOTONIC);
	store = open_loaded(directory, &facts);
	printf("open and load %llu tasks, %llu events: %.3f s\n", (unsigned long long)facts.last_task,
	       (unsigned long long)facts.last_seq, (double)(clock_ns(CLOCK_MONOTONIC) - start) / 1e9);
	store_close(store);
	getrusage(RUSAGE_SELF, &usage);
	printf("largest resident set: %ld MiB\n", usage.ru_maxrss / 1024);
	if (argc > 1)
		free(directory);
	else
		model_remove_directory(directory);
	return 0;
}
