/*
 * bench_core.c - what a step of the core costs with a million tasks in the queue. Not a test: it prints numbers.
 *
 * usage: bench_core [TASKS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "base/limits.h"
#include "base/mix.h"
#include "base/str.h"
#include "core/core.h"

enum { BATCHES = 100, CYCLES = 200000, SLOTS = 50 };

struct bench {
	struct core *core;
	struct random random;
	uint64_t now_ns;
	uint64_t worst_ns;
	uint64_t running[SLOTS]; /* task ids */
};

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

static void step(struct bench *bench, const struct core_event *event)
{
	uint64_t started_ns = clock_ns();
	struct effects effects;
	int r = core_step(bench->core, event, bench->now_ns += 1000, &effects);

	bench->worst_ns = MAX(bench->worst_ns, clock_ns() - started_ns);
	ASSERT(r == 0);
	for (uint32_t i = 0; i < effects.count; i++)
		if (effects.items[i].kind == EFFECT_START)
			bench->running[effects.items[i].slot] = effects.items[i].task;
}

static void report(struct bench *bench, const char *what, uint64_t started_ns, uint64_t steps)
{
	double each_us = (double)(clock_ns() - started_ns) / (double)steps / 1e3;

	printf("%-34s %9llu steps  %.3f us each, worst %.0f us\n", what, (unsigned long long)steps, each_us,
	       (double)bench->worst_ns / 1e3);
	bench->worst_ns = 0;
}

static void add_all(struct bench *bench, uint64_t tasks)
{
	uint64_t started_ns;

	for (uint64_t id = 1; id <= BATCHES; id++)
		step(bench, &(struct core_event){ .kind = CORE_ADD_BATCH, .batch = id });
	started_ns = clock_ns();
	for (uint64_t id = 1; id <= tasks; id++) {
		struct task task = {
			.id = id, .batch = 1 + random_below(&bench->random, BATCHES), .state = TASK_QUEUED,
			.timeout_ns = NS_PER_HOUR,
			.priority = (uint8_t)random_below(&bench->random, PRIORITY_MAX), .retries_max = 1,
			.backoff_ns = NS_PER_SEC,
		};
		struct core_dependency dependency = { .task = id - 1, .is_any = true };

		step(bench, &(struct core_event){
			.kind = CORE_ADD_TASK, .restore = &task, .dependencies = &dependency,
			.dependency_count = id % 4 == 0,
		});
	}
	report(bench, "add", started_ns, tasks);
}

static void run_some(struct bench *bench)
{
	uint64_t started_ns = clock_ns();

	for (uint64_t i = 0; i < CYCLES; i++) {
		uint64_t id = bench->running[i % SLOTS];
		uint32_t attempt = core_find(bench->core, id)->attempt;
		int code = i % 8 == 0;

		step(bench, &(struct core_event){ .kind = CORE_INPUT, .input = INPUT_STARTED, .task = id,
			.attempt = attempt });
		step(bench, &(struct core_event){
			.kind = CORE_INPUT, .input = INPUT_EXITED, .task = id, .attempt = attempt, .exit_code = code,
		});
	}
	report(bench, "start, end, admit the next", started_ns, 2 * CYCLES);
}

static void cancel_some(struct bench *bench, uint64_t tasks)
{
	uint64_t started_ns = clock_ns();
	uint64_t steps = 0;

	for (uint64_t id = tasks; id > tasks / 2; id--) {
		if (core_find(bench->core, id)->state != TASK_QUEUED)
			continue;
		step(bench, &(struct core_event){ .kind = CORE_INPUT, .input = INPUT_CANCEL, .task = id });
		steps++;
	}
	report(bench, "cancel from the middle", started_ns, steps);
}

int main(int argc, char **argv)
{
	struct core_limits limits = { .tasks_max = LIMIT_TASKS, .edges_max = LIMIT_EDGES, .slots_max = LIMIT_SLOTS };
	struct core_config config = { .slots = SLOTS, .slots_hard_max = SLOTS, .backoff_max_ns = NS_PER_MIN, .seed = 1 };
	struct bench bench = { .random = { .state = 1 }, .now_ns = 1 };
	uint64_t tasks = LIMIT_TASKS;
	size_t size = core_size(&limits);
	struct effects effects;
	struct rusage usage;
	void *memory;

	if (argc > 1 && str_parse_u64(argv[1], LIMIT_TASKS, &tasks) < 0) {
		fprintf(stderr, "usage: bench_core [TASKS up to %d]\n", LIMIT_TASKS);
		return 2;
	}
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT(memory != MAP_FAILED);
	bench.core = core_init(memory, &limits, &config);
	core_resume(bench.core, bench.now_ns, &effects);
	getrusage(RUSAGE_SELF, &usage);
	printf("reserved %zu MiB; resident after init %ld KiB\n", size >> 20, usage.ru_maxrss);
	add_all(&bench, tasks);
	getrusage(RUSAGE_SELF, &usage);
	printf("resident with %llu tasks: %ld MiB\n", (unsigned long long)tasks, usage.ru_maxrss >> 10);
	run_some(&bench);
	cancel_some(&bench, tasks);
	return 0;
}
