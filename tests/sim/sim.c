/*
 * sim.c - runs the simulator over many seeds: a safety phase with everything that can go wrong, then a calm phase in which
 * all must end. Each seed is one world; the same seed gives the same trace, which is checked.
 *
 * usage: sim [--seeds N] [--start S] [--jobs J] [--verbose]
 *
 * Workers are processes, so that a failed assertion of the core is caught and told with its seed.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/str.h"

enum {
	JOBS_MAX = 16,
	CHAOS_NS_MAX = 90,   /* seconds of the safety phase at most */
	CALM_TURNS_MAX = 20000,
	AGAIN_EVERY = 50,    /* every so many seeds one is run twice and its traces compared */
	COVERED_FROM = 1000, /* with so many seeds every edge must have been taken */
};

struct options {
	uint64_t seeds;
	uint64_t start;
	uint64_t jobs;
	bool is_verbose;
};

/* Written by one worker, read by the parent. */
struct worker {
	uint64_t seed;
	uint64_t hash;
	struct coverage coverage;
};

static struct sim *sim_new(uint64_t seed, struct coverage *coverage)
{
	struct core_limits limits = { .tasks_max = SIM_CORE_TASKS, .edges_max = 512, .slots_max = WORLD_SLOTS };
	struct sim *sim = calloc(1, sizeof(*sim));

	ASSERT(sim);
	world_init(&sim->world, seed);
	sim->random = (struct random){ .state = mix64(seed ^ 0x5eed) };
	sim->config = (struct core_config){
		.slots = 1 + (uint32_t)random_below(&sim->random, 5), .slots_hard_max = 12,
		.backoff_max_ns = 10 * NS_PER_SEC, .seed = seed,
	};
	sim->store.boot = sim->world.boot;
	sim->commit_ends_ns = NEVER_NS;
	sim->memory_size = core_size(&limits);
	sim->memory = aligned_alloc(64, sim->memory_size);
	sim->coverage = coverage;
	ASSERT(sim->memory);
	return sim;
}

static void sim_free(struct sim *sim)
{
	free(sim->memory);
	free(sim);
}

/* The daemon is busy with something else for a moment: a timer may be looked at late, always by the same amount. */
static uint64_t tick_time(const struct sim *sim)
{
	uint64_t deadline_ns = core_deadline(sim->core);
	uint64_t late_ns = mix64(deadline_ns) % 5 == 0 ? mix64(deadline_ns + 1) % NS_PER_SEC : 0;

	return deadline_ns == NEVER_NS ? NEVER_NS : deadline_ns + late_ns;
}

static uint64_t next_time(const struct sim *sim)
{
	uint64_t next_ns = MIN(world_next(&sim->world), tick_time(sim));

	next_ns = MIN(next_ns, sim->commit_ends_ns);
	return sim->is_calm ? next_ns : MIN(next_ns, sim->next_user_ns);
}

static void crash_and_restart(struct sim *sim)
{
	uint64_t back_ns = sim->world.now_ns + random_below(&sim->random, 4 * NS_PER_SEC);
	struct message lost;

	daemon_crash(sim);
	if (random_chance(&sim->random, 150))
		world_reboot(&sim->world);
	while (world_next(&sim->world) <= back_ns)
		world_run_next(&sim->world, &lost);
	sim->world.now_ns = MAX(sim->world.now_ns, back_ns);
	daemon_start(sim);
}

/* One turn: whatever is due first. False when nothing will ever be due again. */
static bool run_turn(struct sim *sim)
{
	uint64_t due_ns = next_time(sim);
	struct message message;

	if (due_ns == NEVER_NS)
		return false;
	sim->world.now_ns = MAX(sim->world.now_ns, due_ns);
	if (world_next(&sim->world) <= due_ns) {
		if (world_run_next(&sim->world, &message))
			daemon_receive(sim, &message);
	} else if (sim->commit_ends_ns <= due_ns) {
		daemon_finish_commit(sim);
	} else if (tick_time(sim) <= due_ns) {
		daemon_step(sim, &(struct core_event){ .kind = CORE_TICK });
	} else {
		user_act(sim);
		sim->next_user_ns = sim->world.now_ns + random_below(&sim->random, 800 * NS_PER_MS);
	}
	daemon_end_turn(sim);
	return true;
}

static uint64_t run_seed(uint64_t seed, struct coverage *coverage)
{
	struct sim *sim = sim_new(seed, coverage);
	uint64_t chaos_ends_ns = sim->world.now_ns + (10 + random_below(&sim->random, CHAOS_NS_MAX - 10)) * NS_PER_SEC;
	unsigned crashes_per_mille = (unsigned)random_below(&sim->random, 20);
	uint64_t hash;

	daemon_start(sim);
	while (sim->world.now_ns < chaos_ends_ns && run_turn(sim))
		if (random_chance(&sim->random, crashes_per_mille))
			crash_and_restart(sim);
	sim->is_calm = true;
	world_calm_down(&sim->world);
	user_calm_down(sim);
	daemon_end_turn(sim);
	for (unsigned turns = 0; run_turn(sim); turns++)
		EXPECT(&sim->world, turns < CALM_TURNS_MAX, "it never becomes quiet");
	expect_all_ended(sim);
	hash = sim->hash;
	sim_free(sim);
	return hash;
}

/* ---- many seeds -------------------------------------------------------------------------------------------------- */

static NORETURN void work(const struct options *options, struct worker *worker, uint64_t first)
{
	for (uint64_t i = first; i < options->seeds; i += options->jobs) {
		struct coverage again = { 0 };
		uint64_t hash;

		worker->seed = options->start + i;
		hash = run_seed(worker->seed, &worker->coverage);
		worker->hash ^= mix64(hash ^ worker->seed);
		if (options->is_verbose)
			printf("seed %llu trace %016llx\n", (unsigned long long)worker->seed, (unsigned long long)hash);
		if (i % AGAIN_EVERY == 0 && run_seed(worker->seed, &again) != hash) {
			fputs("sim: the same seed gave another trace\n", stderr);
			exit(1);
		}
	}
	fflush(stdout);
	_exit(0);
}

static void add_coverage(struct coverage *sum, const struct coverage *part)
{
	sum->crashes += part->crashes;
	sum->steps += part->steps;
	for (unsigned action = 0; action < RECOVER_ACTION_MAX; action++)
		sum->actions[action] += part->actions[action];
	for (unsigned from = 0; from < TASK_STATE_MAX; from++)
		for (unsigned input = 0; input < INPUT_MAX; input++)
			for (unsigned to = 0; to < TASK_STATE_MAX; to++)
				sum->edges[from][input][to] += part->edges[from][input][to];
}

/* How many edges of task.def were never taken, each named. */
static unsigned count_missing_edges(const struct coverage *coverage)
{
	unsigned missing = 0;

	for (unsigned from = 0; from < TASK_STATE_MAX; from++)
		for (unsigned input = 0; input < INPUT_MAX; input++)
			for (unsigned to = 0; to < TASK_STATE_MAX; to++)
				if (task_has_edge(from, input, to) && coverage->edges[from][input][to] == 0) {
					printf("never taken: %s by %s to %s\n", task_state_name(from),
					       task_input_name(input),
					       task_state_name(to));
					missing++;
				}
	return missing;
}

static int report(const struct options *options, const struct worker *workers)
{
	struct coverage sum = { 0 };
	uint64_t hash = 0;
	unsigned missing;

	for (uint64_t job = 0; job < options->jobs; job++) {
		hash ^= workers[job].hash;
		add_coverage(&sum, &workers[job].coverage);
	}
	missing = count_missing_edges(&sum);
	for (unsigned action = 0; action < RECOVER_ACTION_MAX; action++)
		printf("%s %llu  ", recover_action_name(action), (unsigned long long)sum.actions[action]);
	printf("\nsim: %llu seeds from %llu, %llu steps, %llu crashes, trace %016llx\n", (unsigned long long)options->seeds,
	       (unsigned long long)options->start, (unsigned long long)sum.steps, (unsigned long long)sum.crashes,
	       (unsigned long long)hash);
	return missing > 0 && options->seeds >= COVERED_FROM;
}

static int run_all(const struct options *options)
{
	struct worker *workers = mmap(NULL, options->jobs * sizeof(*workers), PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pids[JOBS_MAX]; /* not in the shared memory: the child would write its 0 there */
	bool has_failed = false;

	ASSERT(workers != MAP_FAILED);
	for (uint64_t job = 0; job < options->jobs; job++) {
		pids[job] = fork();
		ASSERT(pids[job] >= 0);
		if (pids[job] == 0)
			work(options, &workers[job], job);
	}
	for (uint64_t job = 0; job < options->jobs; job++) {
		int status;

		ASSERT(waitpid(pids[job], &status, 0) == pids[job]);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			continue;
		fprintf(stderr, "sim: seed %llu FAILED; again: sim --seeds 1 --start %llu\n",
			(unsigned long long)workers[job].seed,
			(unsigned long long)workers[job].seed);
		has_failed = true;
	}
	return has_failed ? 1 : report(options, workers);
}

static int parse(int argc, char **argv, struct options *options)
{
	for (int i = 1; i < argc; i++) {
		uint64_t *number = strcmp(argv[i], "--seeds") == 0   ? &options->seeds
				   : strcmp(argv[i], "--start") == 0 ? &options->start
				   : strcmp(argv[i], "--jobs") == 0  ? &options->jobs
								     : NULL;

		if (strcmp(argv[i], "--verbose") == 0)
			options->is_verbose = true;
		else if (!number || i + 1 == argc || str_parse_u64(argv[++i], UINT64_MAX, number) < 0)
			return -1;
	}
	return options->jobs >= 1 && options->jobs <= JOBS_MAX ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct options options = { .seeds = 100, .start = 1, .jobs = 1 };

	if (parse(argc, argv, &options) < 0) {
		fprintf(stderr, "usage: sim [--seeds N] [--start S] [--jobs 1..%d] [--verbose]\n", JOBS_MAX);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	return run_all(&options);
}
