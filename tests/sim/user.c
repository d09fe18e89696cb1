/*
 * user.c - the simulator's user: submits, cancels, retries, suspends, pauses, forgets, and asks for nonsense.
 */
#include "sim.h"

#include <errno.h>

static uint64_t some_task(struct sim *sim)
{
	return sim->model.last_task == 0 ? 0 : 1 + random_below(&sim->random, sim->model.last_task);
}

static void mark_task(struct sim *sim, uint64_t id)
{
	sim->next.is_task_dirty[id] = true;
	sim->next.is_empty = false;
}

/* ---- submitting -------------------------------------------------------------------------------------------------- */

static uint64_t add_batch(struct sim *sim)
{
	struct core_event event = { .kind = CORE_ADD_BATCH, .batch = sim->model.last_batch + 1 };

	if (event.batch >= SIM_BATCHES)
		return 1 + random_below(&sim->random, SIM_BATCHES - 1); /* lost or forgotten meanwhile: it is refused */
	if (random_chance(&sim->random, 500))
		event.limit = 1 + (uint32_t)random_below(&sim->random, 12);
	EXPECT(&sim->world, daemon_step(sim, &event) == 0, "no batch");
	sim->model.last_batch = event.batch;
	sim->known_batches[event.batch] = (struct batch_row){ .exists = true, .limit = event.limit };
	sim->next.is_batch_dirty[event.batch] = true;
	sim->next.is_empty = false;
	return event.batch;
}

static struct task some_options(struct random *random)
{
	struct task task = {
		.priority = (uint8_t)random_below(random, PRIORITY_MAX),
		.grace_ns = random_below(random, 3) * 2 * NS_PER_SEC,
		.created_ms = 1,
	};

	if (random_chance(random, 400))
		task.timeout_ns = NS_PER_SEC + random_below(random, 20 * NS_PER_SEC);
	if (random_chance(random, 400)) {
		task.retries_max = 1 + (uint32_t)random_below(random, 3);
		task.backoff_ns = random_below(random, 2) * random_below(random, 5 * NS_PER_SEC);
	}
	if (random_chance(random, 500))
		task.flags |= TASK_WORKTREE;
	if (random_chance(random, 500))
		task.flags |= TASK_IDEMPOTENT;
	if (random_chance(random, 80))
		task.state = TASK_HELD;
	else
		task.state = TASK_QUEUED;
	return task;
}

static void add_task(struct sim *sim, uint64_t batch)
{
	struct task task = some_options(&sim->random);
	struct row *row = &sim->known[sim->model.last_task + 1];
	struct core_event event = { .kind = CORE_ADD_TASK, .restore = &task, .dependencies = row->dependencies };
	int r;

	if (sim->model.last_task + 1 >= WORLD_TASKS)
		return;
	task.id = ++sim->model.last_task;
	task.batch = batch;
	*row = (struct row){ .exists = true };
	if (task.id > 1 && random_chance(&sim->random, 500))
		row->dependency_count = 1 + (uint32_t)random_below(&sim->random, SIM_DEPENDENCIES);
	for (uint32_t i = 0; i < row->dependency_count; i++) {
		uint64_t back = 1 + random_below(&sim->random, MIN(task.id - 1, (uint64_t)8));

		row->dependencies[i] = (struct core_dependency){ .task = task.id - back,
			.is_any = random_chance(&sim->random, 500) };
	}
	event.dependency_count = row->dependency_count;
	r = daemon_step(sim, &event);
	EXPECT(&sim->world, r == 0 || r == -ENOENT, "task %u: %d", (unsigned)task.id, r);
	if (r < 0)
		*row = (struct row){ 0 };
}

static void submit(struct sim *sim)
{
	uint64_t batch = add_batch(sim);
	uint64_t count = 1 + random_below(&sim->random, 8);

	for (uint64_t i = 0; i < count; i++)
		add_task(sim, batch);
}

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

static void ask(struct sim *sim, enum task_input input, uint64_t id)
{
	const struct task *task = core_find(sim->core, id);
	struct core_event event = { .kind = CORE_INPUT, .input = (uint8_t)input, .task = id };
	bool is_legal = task && task_takes(task->state, input);
	bool is_exhausted = task && task->attempt + 8 >= WORLD_ATTEMPTS;
	int r;

	if (input == INPUT_RETRY && is_exhausted)
		return;
	if (input == INPUT_CANCEL || input == INPUT_HALT)
		sim->model.was_cancelled[id] = true;
	if (input == INPUT_SUSPEND)
		sim->model.was_suspended[id] = true;
	if (input == INPUT_RESUME && is_legal)
		sim->model.may_run_on[id] = true;
	r = daemon_step(sim, &event);
	EXPECT(&sim->world, r == (is_legal ? 0 : task ? -EPERM : -ENOENT), "%s of task %u: %d", task_input_name(input),
	       (unsigned)id, r);
}

/* Anything at all: must be taken or refused, never break anything. */
static void ask_nonsense(struct sim *sim)
{
	enum task_input input = (enum task_input)random_below(&sim->random, INPUT_MAX + 1);
	struct core_event event = {
		.kind = CORE_INPUT, .input = (uint8_t)input, .task = some_task(sim), .attempt = UINT32_MAX, .exit_code = 0,
	};

	if (input == INPUT_RELEASE || input >= INPUT_CANCEL)
		event.task = UINT64_MAX;
	EXPECT(&sim->world, daemon_step(sim, &event) < 0, "nonsense was taken");
}

/* What runs when a pause begins is suspended by it, whatever the user said of it before. */
static void note_pause(struct sim *sim, uint64_t batch, struct pause_row pause)
{
	for (uint64_t id = 1; id <= sim->model.last_task; id++) {
		const struct task *task = core_find(sim->core, id);

		if (!pause.suspends || !task || (batch != 0 && task->batch != batch))
			continue;
		sim->model.may_run_on[id] = false;
		sim->model.was_suspended[id] = true;
	}
}

static void set_pause(struct sim *sim, struct pause_row pause, bool is_draining)
{
	sim->model.pause = pause;
	note_pause(sim, 0, pause);
	sim->next.is_empty = false;
	daemon_step(sim, &(struct core_event){ .kind = CORE_PAUSE, .value = pause.is_set, .suspends = pause.suspends });
	sim->model.is_draining = is_draining;
	daemon_step(sim, &(struct core_event){ .kind = CORE_DRAIN, .value = is_draining });
}

static void pause_batch(struct sim *sim, uint64_t batch, struct pause_row pause)
{
	struct core_event event = {
		.kind = CORE_PAUSE_BATCH, .batch = batch, .value = pause.is_set, .suspends = pause.suspends,
	};

	if (!sim->known_batches[batch].exists) {
		EXPECT(&sim->world, daemon_step(sim, &event) < 0, "a batch that is not there was paused");
		return;
	}
	sim->known_batches[batch].pause = pause;
	note_pause(sim, batch, pause);
	sim->next.is_batch_dirty[batch] = true;
	sim->next.is_empty = false;
	EXPECT(&sim->world, daemon_step(sim, &event) == 0, "batch %u is not paused", (unsigned)batch);
}

static struct pause_row some_pause(struct random *random, unsigned per_mille)
{
	bool is_set = random_chance(random, per_mille);

	return (struct pause_row){ .is_set = is_set, .suspends = is_set && random_chance(random, 500) };
}

static void configure(struct sim *sim)
{
	struct core_event event = { .kind = CORE_CONFIGURE, .config = &sim->config };

	sim->config.slots = 1 + (uint32_t)random_below(&sim->random, 6);
	sim->config.slots_hard_max = 1 + (uint32_t)random_below(&sim->random, WORLD_SLOTS);
	daemon_step(sim, &event);
}

static void forget(struct sim *sim)
{
	uint64_t id = some_task(sim);
	uint64_t batch = 1 + random_below(&sim->random, SIM_BATCHES - 1);

	if (daemon_step(sim, &(struct core_event){ .kind = CORE_FORGET_TASK, .task = id }) == 0) {
		sim->model.was_forgotten[id] = true;
		mark_task(sim, id);
	}
	if (daemon_step(sim, &(struct core_event){ .kind = CORE_FORGET_BATCH, .batch = batch }) == 0) {
		sim->known_batches[batch] = (struct batch_row){ 0 };
		sim->next.is_batch_dirty[batch] = true;
		sim->next.is_empty = false;
	}
}

void user_act(struct sim *sim)
{
	uint64_t dice = random_below(&sim->random, 100);

	if (dice < 22)
		submit(sim);
	else if (dice < 32)
		ask(sim, INPUT_CANCEL, some_task(sim));
	else if (dice < 36)
		ask(sim, INPUT_HALT, some_task(sim));
	else if (dice < 48)
		ask(sim, INPUT_RETRY, some_task(sim));
	else if (dice < 60)
		ask(sim, INPUT_SUSPEND, some_task(sim));
	else if (dice < 70)
		ask(sim, INPUT_RESUME, some_task(sim));
	else if (dice < 76)
		ask(sim, INPUT_RELEASE, some_task(sim));
	else if (dice < 82)
		set_pause(sim, some_pause(&sim->random, 200), random_chance(&sim->random, 100));
	else if (dice < 88)
		pause_batch(sim, 1 + random_below(&sim->random, SIM_BATCHES - 1), some_pause(&sim->random, 400));
	else if (dice < 92)
		configure(sim);
	else if (dice < 96)
		forget(sim);
	else
		ask_nonsense(sim);
}

void user_calm_down(struct sim *sim)
{
	set_pause(sim, (struct pause_row){ 0 }, false);
	for (uint64_t batch = 1; batch < SIM_BATCHES; batch++)
		pause_batch(sim, batch, (struct pause_row){ 0 });
	for (uint64_t id = 1; id <= sim->model.last_task; id++) {
		const struct task *task = core_find(sim->core, id);

		if (task && task->state == TASK_HELD)
			ask(sim, INPUT_RELEASE, id);
		else if (task && task->state == TASK_SUSPENDED)
			ask(sim, INPUT_RESUME, id);
	}
}
