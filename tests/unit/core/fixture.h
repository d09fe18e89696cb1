/*
 * fixture.h - a small core for the unit tests, with short ways to feed it and look at what it says.
 *
 * Time is a number in the fixture; tests move it by hand.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "core/core.h"

enum { FIXTURE_TASKS = 64, FIXTURE_EDGES = 128, FIXTURE_SLOTS = 16 };

#define SEC NS_PER_SEC

struct fixture {
	struct core_limits limits;
	struct core_config config;
	struct core *core;
	void *memory;
	size_t size;
	uint64_t now_ns;
	struct effects effects; /* of the latest step */
};

/* A core that is not resumed yet. */
static inline void fixture_init(struct fixture *f, uint32_t slots)
{
	*f = (struct fixture){
		.limits = { .tasks_max = FIXTURE_TASKS, .edges_max = FIXTURE_EDGES, .slots_max = FIXTURE_SLOTS },
		.config = { .slots = slots, .slots_hard_max = 12, .backoff_max_ns = 100 * SEC, .seed = 7 },
		.now_ns = 1000 * SEC,
	};
	f->size = core_size(&f->limits);
	f->memory = aligned_alloc(64, f->size);
	assert_non_null(f->memory);
	memset(f->memory, 0, f->size);
	f->core = core_init(f->memory, &f->limits, &f->config);
}

/* A core in operation with one batch, 1, without a limit. */
static inline void fixture_start(struct fixture *f, uint32_t slots)
{
	fixture_init(f, slots);
	core_resume(f->core, f->now_ns, &f->effects);
	assert_int_equal(core_step(f->core, &(struct core_event){ .kind = CORE_ADD_BATCH, .batch = 1 }, f->now_ns,
				   &f->effects), 0);
}

static inline void fixture_done(struct fixture *f)
{
	core_check(f->core);
	free(f->memory);
}

static inline int step(struct fixture *f, const struct core_event *event)
{
	return core_step(f->core, event, f->now_ns, &f->effects);
}

static inline void add_batch(struct fixture *f, uint64_t batch, uint32_t limit)
{
	assert_int_equal(step(f, &(struct core_event){ .kind = CORE_ADD_BATCH, .batch = batch, .limit = limit }), 0);
}

/* Adds a task of the given options; id and batch 1 unless set. */
static inline int add_task(struct fixture *f, uint64_t id, struct task options, const struct core_dependency *deps,
			   uint32_t count)
{
	options.id = id;
	options.batch = options.batch ? options.batch : 1;
	return step(f, &(struct core_event){
		.kind = CORE_ADD_TASK, .restore = &options, .dependencies = deps, .dependency_count = count, .wall_ms = 5,
	});
}

static inline void add(struct fixture *f, uint64_t id, struct task options)
{
	if (options.state == TASK_HELD)
		options.state = TASK_QUEUED; /* 0 is HELD: a test that wants it says so with add_held() */
	assert_int_equal(add_task(f, id, options, NULL, 0), 0);
}

static inline void add_held(struct fixture *f, uint64_t id, struct task options)
{
	options.state = TASK_HELD;
	assert_int_equal(add_task(f, id, options, NULL, 0), 0);
}

static inline void add_after(struct fixture *f, uint64_t id, uint64_t on, bool is_any)
{
	struct core_dependency dependency = { .task = on, .is_any = is_any };

	assert_int_equal(add_task(f, id, (struct task){ .state = TASK_QUEUED }, &dependency, 1), 0);
}

static inline const struct task *get(struct fixture *f, uint64_t id)
{
	const struct task *task = core_find(f->core, id);

	assert_non_null(task);
	return task;
}

/* An input about the latest attempt. */
static inline int input(struct fixture *f, uint64_t id, enum task_input what)
{
	return step(f, &(struct core_event){
		.kind = CORE_INPUT, .input = (uint8_t)what, .task = id, .attempt = get(f, id)->attempt, .exit_code = -1,
		.wall_ms = 9,
	});
}

static inline void must(struct fixture *f, uint64_t id, enum task_input what)
{
	assert_int_equal(input(f, id, what), 0);
}

static inline void exited(struct fixture *f, uint64_t id, int code)
{
	struct core_event event = {
		.kind = CORE_INPUT, .input = INPUT_EXITED, .task = id, .attempt = get(f, id)->attempt, .exit_code = code,
	};

	assert_int_equal(step(f, &event), 0);
}

static inline void killed(struct fixture *f, uint64_t id, int signal)
{
	struct core_event event = {
		.kind = CORE_INPUT, .input = INPUT_EXITED, .task = id, .attempt = get(f, id)->attempt, .exit_code = -1,
		.exit_signal = signal,
	};

	assert_int_equal(step(f, &event), 0);
}

static inline void lost(struct fixture *f, uint64_t id, enum cause_kind why)
{
	struct core_event event = {
		.kind = CORE_INPUT, .input = INPUT_ATTEMPT_LOST, .task = id, .attempt = get(f, id)->attempt, .exit_code = -1,
		.cause = { .kind = why },
	};

	assert_int_equal(step(f, &event), 0);
}

/* PREPARE_FAILED, START_FAILED or COLLECTED with a cause. */
static inline void failed(struct fixture *f, uint64_t id, enum task_input what, enum cause_kind cause, bool is_transient)
{
	struct core_event event = {
		.kind = CORE_INPUT, .input = (uint8_t)what, .task = id, .attempt = get(f, id)->attempt, .exit_code = -1,
		.cause = { .kind = cause, .value = 2 }, .is_transient = is_transient,
	};

	assert_int_equal(step(f, &event), 0);
}

/* The clock stands at `now_ns`, and the core is told. */
static inline void tick_at(struct fixture *f, uint64_t now_ns)
{
	f->now_ns = now_ns;
	assert_int_equal(step(f, &(struct core_event){ .kind = CORE_TICK }), 0);
}

static inline unsigned count_effects(const struct fixture *f, enum effect_kind kind)
{
	unsigned count = 0;

	for (uint32_t i = 0; i < f->effects.count; i++)
		count += f->effects.items[i].kind == kind;
	return count;
}

#define assert_state(f, id, wanted) assert_string_equal(task_state_name(get(f, id)->state), task_state_name(wanted))

/* Brings a fresh task without dependencies into a state; `worktree` tasks pass COLLECTING. */
static inline void run_to_running(struct fixture *f, uint64_t id)
{
	if (get(f, id)->phase == PHASE_WORKTREE)
		must(f, id, INPUT_PREPARED);
	must(f, id, INPUT_STARTED);
	assert_state(f, id, TASK_RUNNING);
}
