/*
 * bench_core.c - what a step of the core costs with so many tasks in the queue. bench/p4 runs it for many sizes.
 *
 * usage: bench_core TASKS
 *
 * Fills the queue, then lets tasks start and end, forgets what has ended and adds as many new ones, so that the queue keeps
 * its length; cancels from the middle at last. Prints one JSON object: for each kind of step its mean and the 99th
 * percentile in nanoseconds, clock readings included.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/limits.h"
#include "base/mix.h"
#include "base/str.h"
#include "core/core.h"
#include "platform/clock.h"

enum { BATCHES = 100, CYCLES = 100000, SLOTS = 50, TASKS_MAX = 1000000, STEP_NS = 1000 };

enum kind { KIND_FILL, KIND_STARTED, KIND_ENDED, KIND_FORGET, KIND_ADD, KIND_TICK, KIND_CANCEL, KIND_MAX };

static const char *const kind_names[KIND_MAX] = {
	"fill", "started", "ended, admit next", "forget", "add", "tick", "cancel"
};

struct kind_cost {
	uint32_t *samples_ns;
	uint64_t count;
};

struct bench {
	struct core *core;
	struct random random;
	uint64_t now_ns;
	uint64_t last_id;
	uint64_t running[SLOTS]; /* task ids, 0 = none */
	struct kind_cost costs[KIND_MAX];
};

static int try_step(struct bench *bench, enum kind kind, const struct core_event *event)
{
	struct kind_cost *cost = &bench->costs[kind];
	uint64_t started_ns = clock_monotonic_ns();
	struct effects effects;
	int r = core_step(bench->core, event, bench->now_ns += STEP_NS, &effects);

	if (r < 0)
		return r;
	cost->samples_ns[cost->count++] = (uint32_t)MIN(clock_monotonic_ns() - started_ns, (uint64_t)UINT32_MAX);
	for (uint32_t i = 0; i < effects.count; i++)
		if (effects.items[i].kind == EFFECT_START)
			bench->running[effects.items[i].slot] = effects.items[i].task;
	return 0;
}

static void step(struct bench *bench, enum kind kind, const struct core_event *event)
{
	int r = try_step(bench, kind, event);

	ASSERT(r == 0);
}

static void add(struct bench *bench, enum kind kind)
{
	uint64_t id = ++bench->last_id;
	struct task task = {
		.id = id,
		.batch = 1 + random_below(&bench->random, BATCHES),
		.state = TASK_QUEUED,
		.timeout_ns = NS_PER_HOUR,
		.priority = (uint8_t)random_below(&bench->random, PRIORITY_MAX),
		.retries_max = 1,
		.backoff_ns = 100 * STEP_NS,
	};
	struct core_dependency dependency = { .task = id - 1, .is_any = true };
	bool has_dependency = id % 4 == 0 && core_find(bench->core, id - 1) != NULL;

	step(bench, kind,
	     &(struct core_event){ .kind = CORE_ADD_TASK,
	                           .restore = &task,
	                           .dependencies = &dependency,
	                           .dependency_count = has_dependency });
}

static void cycle(struct bench *bench, uint64_t number)
{
	uint64_t id = bench->running[number % SLOTS];
	uint32_t attempt = id ? core_find(bench->core, id)->attempt : 0;

	if (id == 0 || core_deadline(bench->core) <= bench->now_ns)
		step(bench, KIND_TICK, &(struct core_event){ .kind = CORE_TICK });
	if (id == 0)
		return;
	bench->running[number % SLOTS] = 0;
	step(bench, KIND_STARTED,
	     &(struct core_event){ .kind = CORE_INPUT, .input = INPUT_STARTED, .task = id, .attempt = attempt });
	step(bench, KIND_ENDED,
	     &(struct core_event){ .kind = CORE_INPUT,
	                           .input = INPUT_EXITED,
	                           .task = id,
	                           .attempt = attempt,
	                           .exit_code = number % 8 == 0 });
	if (!task_state_is_final(core_find(bench->core, id)->state))
		return; /* it is to be tried again */
	try_step(bench, KIND_FORGET,
	         &(struct core_event){ .kind = CORE_FORGET_TASK, .task = id }); /* or others wait for it */
	add(bench, KIND_ADD);
}

static void cancel_some(struct bench *bench, uint64_t tasks)
{
	uint64_t first = bench->last_id - tasks / 2;

	for (uint64_t id = bench->last_id; id > first && bench->costs[KIND_CANCEL].count < CYCLES; id--) {
		const struct task *task = core_find(bench->core, id);

		if (task && task->state == TASK_QUEUED)
			step(bench, KIND_CANCEL,
			     &(struct core_event){ .kind = CORE_INPUT, .input = INPUT_CANCEL, .task = id });
	}
}

static int compare(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

	return (a > b) - (a < b);
}

static void report(struct bench *bench, uint64_t tasks)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	printf("{\"tasks\": %llu, \"resident_kib\": %ld, \"steps\": {", (unsigned long long)tasks, usage.ru_maxrss);
	for (int kind = 0; kind < KIND_MAX; kind++) {
		struct kind_cost *cost = &bench->costs[kind];
		uint64_t sum_ns = 0;

		for (uint64_t i = 0; i < cost->count; i++)
			sum_ns += cost->samples_ns[i];
		qsort(cost->samples_ns, cost->count, sizeof(*cost->samples_ns), compare);
		printf("%s\"%s\": {\"count\": %llu, \"mean_ns\": %.1f, \"p99_ns\": %u}", kind ? ", " : "", kind_names[kind],
		       (unsigned long long)cost->count, cost->count ? (double)sum_ns / (double)cost->count : 0.0,
		       cost->count ? cost->samples_ns[cost->count * 99 / 100] : 0);
	}
	printf("}}\n");
}

/* Pages are touched as they are used. */
static void *reserve(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ASSERT(memory != MAP_FAILED);
	return memory;
}

int main(int argc, char **argv)
{
	struct core_limits limits = { .tasks_max = 2 * LIMIT_TASKS, .edges_max = LIMIT_EDGES, .slots_max = LIMIT_SLOTS };
	struct core_config config = { .slots = SLOTS, .slots_hard_max = SLOTS, .backoff_max_ns = NS_PER_MIN, .seed = 1 };
	struct bench bench = { .random = { .state = 1 }, .now_ns = 1 };
	struct effects effects;
	uint64_t tasks;

	if (argc != 2 || str_parse_u64(argv[1], TASKS_MAX, &tasks) < 0 || tasks < SLOTS) {
		fprintf(stderr, "usage: bench_core TASKS (%d to %d)\n", SLOTS, TASKS_MAX);
		return 2;
	}
	for (int kind = 0; kind < KIND_MAX; kind++)
		bench.costs[kind].samples_ns = reserve(sizeof(uint32_t) * (kind == KIND_FILL ? TASKS_MAX : CYCLES));
	bench.core = core_init(reserve(core_size(&limits)), &limits, &config);
	core_resume(bench.core, bench.now_ns, &effects);
	for (uint64_t id = 1; id <= BATCHES; id++)
		core_step(bench.core, &(struct core_event){ .kind = CORE_ADD_BATCH, .batch = id }, bench.now_ns, &effects);
	while (bench.last_id < tasks)
		add(&bench, KIND_FILL);
	for (uint64_t number = 0; number < CYCLES; number++)
		cycle(&bench, number);
	cancel_some(&bench, tasks);
	report(&bench, tasks);
	return 0;
}
