/*
 * step.c - what each input does to a task, and what follows from it for others.
 *
 * Inputs are tested before they are applied, so that applying cannot fail half way. Nothing recurses: tasks that became
 * final wait in a list until step_settle() has told their successors.
 */
#include "core/internal.h"

#include <errno.h>

#include "base/mix.h"

static const uint64_t refused_backoff_ns = 250 * NS_PER_MS; /* before the second try to start; doubles */
static const uint64_t kill_again_ns = 5 * NS_PER_SEC;       /* at least so long between two KILL */

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

uint64_t step_backoff(const struct core *core, const struct task *task, uint64_t base_ns, uint32_t doublings)
{
	uint64_t most_ns = MAX(core->config.backoff_max_ns, base_ns > 0 ? (uint64_t)1 : 0);
	uint64_t wait_ns = most_ns;
	uint64_t hash;

	if (base_ns == 0)
		return 0;
	if (doublings < 63 && base_ns <= most_ns >> doublings)
		wait_ns = base_ns << doublings;
	hash = mix64(core->config.seed ^ mix64(mix64(task->id) + ((uint64_t)task->attempt << 32 | doublings)));
	return wait_ns - wait_ns / 4 + hash % (wait_ns / 4 * 2 + 1);
}

/* A task that has just become QUEUED: into its queue, at once or after a while. */
static void start_waiting(struct core *core, uint32_t index, uint64_t wait_ns)
{
	struct task *task = &core->tasks[index];

	task->ready_ns = core->now_ns;
	task->ended_ns = 0;
	task->ended_ms = 0;
	if (wait_ns > 0)
		timer_set(core, index, core->now_ns + wait_ns);
	else
		queue_push(core, index);
}

static void skip(struct core *core, uint32_t index, uint32_t failed)
{
	struct task *task = &core->tasks[index];
	const struct task *reason = &core->tasks[failed];
	uint64_t id = reason->state == TASK_SKIPPED ? reason->cause.value : reason->id; /* the one that began it */

	task->waits_for = 0;
	task->cause = (struct cause){ .kind = CAUSE_DEPENDENCY, .value = id };
	state_write(core, index, INPUT_DEPENDENCY_FAILED, TASK_SKIPPED);
}

void step_enter(struct core *core, uint32_t index, bool is_held)
{
	const struct task *task = &core->tasks[index];
	uint32_t failed = deps_evaluate(core, index);

	state_enter(core, index, is_held ? TASK_HELD : task->waits_for > 0 ? TASK_BLOCKED : TASK_QUEUED);
	if (task->state == TASK_QUEUED)
		start_waiting(core, index, 0);
	if (failed != NONE)
		skip(core, index, failed);
}

static void count_met(struct core *core, uint32_t index)
{
	struct task *task = &core->tasks[index];

	ASSERT(task->waits_for > 0);
	if (--task->waits_for > 0)
		return;
	if (task->state == TASK_HELD) {
		state_write(core, index, INPUT_DEPENDENCIES_MET, TASK_HELD);
		return;
	}
	state_write(core, index, INPUT_DEPENDENCIES_MET, TASK_QUEUED);
	start_waiting(core, index, 0);
}

void step_settle(struct core *core)
{
	while (core->first_settling != NONE) {
		uint32_t index = core->first_settling;

		for (uint32_t at = core->nodes[index].first_in; at != NONE; at = core->edges[at].next_in) {
			uint32_t from = core->edges[at].from;
			enum task_state state = core->tasks[from].state;

			if (state != TASK_HELD && state != TASK_BLOCKED)
				continue;
			if (deps_is_satisfied(core, &core->edges[at]))
				count_met(core, from);
			else
				skip(core, from, index);
		}
		core->first_settling = core->nodes[index].next_settling;
	}
}

/* ---- the end of an attempt --------------------------------------------------------------------------------------- */

static bool may_retry(const struct task *task, enum task_state outcome)
{
	if (task->marks & MARK_NO_RETRY)
		return false;
	if (outcome == TASK_LOST)
		return task->flags & TASK_IDEMPOTENT && task->lost_used < LIMIT_LOST_RETRIES;
	return (outcome == TASK_FAILED || outcome == TASK_TIMED_OUT) && task->retries_used < task->retries_max;
}

/* Nothing of the attempt is left to wait for: another one, or the end. */
static void conclude(struct core *core, uint32_t index, enum task_input input, enum task_state outcome)
{
	struct task *task = &core->tasks[index];
	uint32_t *used = outcome == TASK_LOST ? &task->lost_used : &task->retries_used;
	uint64_t wait_ns;

	if (!may_retry(task, outcome)) {
		state_write(core, index, input, outcome);
		return;
	}
	wait_ns = step_backoff(core, task, task->backoff_ns, *used);
	++*used;
	state_write(core, index, input, TASK_QUEUED);
	start_waiting(core, index, wait_ns);
}

/* No process of the attempt is left: collect its worktree, or conclude. */
static void end_process(struct core *core, uint32_t index, enum task_input input, enum task_state outcome)
{
	struct task *task = &core->tasks[index];

	core->nodes[index].refusals = 0;
	if (task->state == TASK_STOPPING)
		outcome = task->outcome;
	if (!(task->flags & TASK_WORKTREE)) {
		conclude(core, index, input, outcome);
		return;
	}
	state_write(core, index, input, TASK_COLLECTING);
	task->outcome = (uint8_t)outcome;
	task->phase = PHASE_COLLECT;
	state_order(core, index, EFFECT_COLLECT);
}

static void note_started(struct core *core, uint32_t index)
{
	struct task *task = &core->tasks[index];

	task->started_ns = MAX(core->now_ns, (uint64_t)1);
	task->started_ms = core->wall_ms;
	core->nodes[index].since_ns = core->now_ns;
	core->nodes[index].refusals = 0;
}

static void note_ended(struct core *core, struct task *task, const struct core_event *event)
{
	task->ended_ns = MAX(core->now_ns, (uint64_t)1);
	task->ended_ms = core->wall_ms;
	if (event->usage.is_known)
		task->usage = event->usage;
}

/* What was decided before it ended (cancelled, time over) stays the cause. */
static void note_cause(struct task *task, enum cause_kind kind, uint64_t value)
{
	if (task->state != TASK_STOPPING)
		task->cause = (struct cause){ .kind = kind, .value = value };
}

static void apply_exited(struct core *core, uint32_t index, const struct core_event *event)
{
	struct task *task = &core->tasks[index];

	ASSERT((event->exit_code >= 0) != (event->exit_signal > 0));
	if (task->started_ns == 0)
		note_started(core, index);
	note_ended(core, task, event);
	task->exit_code = event->exit_code;
	task->exit_signal = event->exit_signal;
	if (event->exit_code == 0)
		note_cause(task, CAUSE_EXIT, 0);
	else if (event->cause.kind == CAUSE_OUT_OF_MEMORY)
		note_cause(task, CAUSE_OUT_OF_MEMORY, 0);
	else if (event->exit_signal > 0)
		note_cause(task, CAUSE_SIGNAL, (uint64_t)event->exit_signal);
	else
		note_cause(task, CAUSE_EXIT, (uint64_t)event->exit_code);
	end_process(core, index, INPUT_EXITED, event->exit_code == 0 ? TASK_SUCCEEDED : TASK_FAILED);
}

static void apply_lost(struct core *core, uint32_t index, const struct core_event *event)
{
	struct task *task = &core->tasks[index];
	enum cause_kind kind = event->cause.kind;

	note_ended(core, task, event);
	note_cause(task, kind == CAUSE_REBOOT || kind == CAUSE_SHIM_LOST ? kind : CAUSE_VANISHED, 0);
	end_process(core, index, INPUT_ATTEMPT_LOST, TASK_LOST);
}

static void apply_start_failed(struct core *core, uint32_t index, const struct core_event *event)
{
	struct task *task = &core->tasks[index];

	note_ended(core, task, event);
	note_cause(task, CAUSE_START_FAILED, event->cause.value);
	if (!event->is_transient)
		task->marks |= MARK_NO_RETRY;
	end_process(core, index, INPUT_START_FAILED, TASK_FAILED);
}

static void apply_prepare_failed(struct core *core, uint32_t index, const struct core_event *event)
{
	struct task *task = &core->tasks[index];

	note_ended(core, task, event);
	note_cause(task, CAUSE_PREPARE_FAILED, event->cause.value);
	if (!event->is_transient)
		task->marks |= MARK_NO_RETRY;
	conclude(core, index, INPUT_PREPARE_FAILED, task->state == TASK_STOPPING ? task->outcome : TASK_FAILED);
}

static void apply_start_refused(struct core *core, uint32_t index)
{
	struct task *task = &core->tasks[index];
	uint32_t refusals = core->nodes[index].refusals;

	if (task->state == TASK_STOPPING) {
		end_process(core, index, INPUT_START_REFUSED, task->outcome);
		return;
	}
	if (task->marks & MARK_NO_RETRY) { /* halted: starting it later would be a new beginning */
		task->cause = (struct cause){ .kind = CAUSE_CANCELLED };
		end_process(core, index, INPUT_START_REFUSED, TASK_CANCELLED);
		return;
	}
	state_write(core, index, INPUT_START_REFUSED, TASK_QUEUED);
	task->marks |= MARK_SAME_ATTEMPT;
	core->nodes[index].refusals = refusals + 1;
	start_waiting(core, index, step_backoff(core, task, refused_backoff_ns, refusals));
}

static void apply_collected(struct core *core, uint32_t index, const struct core_event *event)
{
	struct task *task = &core->tasks[index];

	if (event->cause.kind == CAUSE_COLLECT_FAILED && task->outcome == TASK_SUCCEEDED) {
		/* The work is done and lies in the worktree: doing it again would help nobody. */
		task->cause = (struct cause){ .kind = CAUSE_COLLECT_FAILED, .value = event->cause.value };
		task->outcome = TASK_FAILED;
		task->marks |= MARK_NO_RETRY;
	}
	conclude(core, index, INPUT_COLLECTED, task->outcome);
}

/* ---- on the way -------------------------------------------------------------------------------------------------- */

static void start_process(struct core *core, uint32_t index)
{
	core->tasks[index].phase = PHASE_START;
	state_order(core, index, EFFECT_START);
}

static void terminate(struct core *core, uint32_t index)
{
	state_order(core, index, EFFECT_TERMINATE);
	timer_set(core, index, core->now_ns + core->tasks[index].grace_ns);
}

static void apply_prepared(struct core *core, uint32_t index)
{
	if (core->tasks[index].state == TASK_STOPPING) {
		end_process(core, index, INPUT_PREPARED, core->tasks[index].outcome);
		return;
	}
	state_write(core, index, INPUT_PREPARED, TASK_PREPARING);
	start_process(core, index);
}

/* The rest of the time limit begins to run. */
static void arm_time_limit(struct core *core, uint32_t index)
{
	const struct task *task = &core->tasks[index];
	uint64_t left_ns = task->timeout_ns > task->ran_ns ? task->timeout_ns - task->ran_ns : 0;

	core->nodes[index].since_ns = core->now_ns;
	if (task->timeout_ns > 0)
		timer_set(core, index, core->now_ns + left_ns);
}

void step_suspend(struct core *core, uint32_t index, uint32_t marks)
{
	struct task *task = &core->tasks[index];

	task->ran_ns += core->now_ns - core->nodes[index].since_ns;
	state_write(core, index, INPUT_SUSPEND, TASK_SUSPENDED);
	task->marks |= marks;
	state_order(core, index, EFFECT_FREEZE);
}

void step_unsuspend(struct core *core, uint32_t index)
{
	state_write(core, index, INPUT_RESUME, TASK_RUNNING);
	state_order(core, index, EFFECT_THAW);
	arm_time_limit(core, index);
}

static void apply_started(struct core *core, uint32_t index)
{
	struct task *task = &core->tasks[index];

	note_started(core, index);
	task->phase = PHASE_PROCESS;
	if (task->state == TASK_STOPPING) {
		state_write(core, index, INPUT_STARTED, TASK_STOPPING);
		terminate(core, index);
		return;
	}
	state_write(core, index, INPUT_STARTED, TASK_RUNNING);
	arm_time_limit(core, index);
	if (pause_suspends(core, index))
		step_suspend(core, index, MARK_PAUSED);
}

/* From now on the attempt is to end, and `outcome` is what it will have come to. */
static void stop(struct core *core, uint32_t index, enum task_input input, enum task_state outcome)
{
	struct task *task = &core->tasks[index];
	enum task_state from = task->state;

	state_write(core, index, input, TASK_STOPPING);
	task->outcome = (uint8_t)outcome;
	if (from == TASK_SUSPENDED)
		state_order(core, index, EFFECT_THAW);
	if (task->phase == PHASE_PROCESS)
		terminate(core, index);
}

static struct cause find_cancel_cause(const struct core_event *event)
{
	bool is_halted = event->cause.kind == CAUSE_BATCH_HALTED;

	return (struct cause){ .kind = is_halted ? CAUSE_BATCH_HALTED : CAUSE_CANCELLED };
}

static void apply_cancel(struct core *core, uint32_t index, const struct core_event *event)
{
	struct task *task = &core->tasks[index];

	if (task->state == TASK_STOPPING || task->state == TASK_COLLECTING) {
		task->marks |= MARK_NO_RETRY;
		state_write(core, index, INPUT_CANCEL, task->state);
		return;
	}
	task->cause = find_cancel_cause(event);
	if (task_state_is_active(task->state)) {
		stop(core, index, INPUT_CANCEL, TASK_CANCELLED);
		return;
	}
	task->waits_for = 0;
	state_write(core, index, INPUT_CANCEL, TASK_CANCELLED);
}

/* What runs keeps its own end; only what would have followed it is taken away. */
static void apply_halt(struct core *core, uint32_t index, const struct core_event *event)
{
	struct task *task = &core->tasks[index];

	if (!task_state_is_active(task->state)) {
		task->cause = find_cancel_cause(event);
		task->waits_for = 0;
		state_write(core, index, INPUT_HALT, TASK_CANCELLED);
		return;
	}
	task->marks |= MARK_NO_RETRY;
	state_write(core, index, INPUT_HALT, task->state);
}

static void apply_release(struct core *core, uint32_t index)
{
	bool is_blocked = core->tasks[index].waits_for > 0;

	state_write(core, index, INPUT_RELEASE, is_blocked ? TASK_BLOCKED : TASK_QUEUED);
	if (!is_blocked)
		start_waiting(core, index, 0);
}

static void apply_retry(struct core *core, uint32_t index)
{
	struct task *task = &core->tasks[index];
	uint32_t failed;

	deps_reopen(core, index);
	failed = deps_evaluate(core, index);
	task->retries_used = 0;
	task->lost_used = 0;
	task->ended_ns = 0;
	task->ended_ms = 0;
	if (task->waits_for == 0) {
		state_write(core, index, INPUT_RETRY, TASK_QUEUED);
		start_waiting(core, index, 0);
		return;
	}
	state_write(core, index, INPUT_RETRY, TASK_BLOCKED);
	if (failed != NONE)
		skip(core, index, failed);
}

/* ---- inputs from outside ----------------------------------------------------------------------------------------- */

/* The phase that an answer belongs to, PHASE_MAX for inputs that are no answer, PHASE_NONE for any phase with a process. */
static enum attempt_phase phase_of(enum task_input input)
{
	switch (input) {
	case INPUT_PREPARED:
	case INPUT_PREPARE_FAILED: return PHASE_WORKTREE;
	case INPUT_STARTED:
	case INPUT_START_FAILED:
	case INPUT_START_REFUSED: return PHASE_START;
	case INPUT_COLLECTED: return PHASE_COLLECT;
	case INPUT_EXITED:
	case INPUT_ATTEMPT_LOST: return PHASE_NONE;
	default: return PHASE_MAX;
	}
}

int step_test_input(const struct core *core, uint32_t index, const struct core_event *event)
{
	const struct task *task = &core->tasks[index];
	enum task_input input = event->input;
	enum attempt_phase wanted;

	if (input >= INPUT_MAX)
		return -EPERM;
	wanted = phase_of(input);
	if (wanted != PHASE_MAX && event->attempt != task->attempt)
		return -ESTALE;
	if (input == INPUT_ADMIT || input == INPUT_DEPENDENCIES_MET || input == INPUT_DEPENDENCY_FAILED ||
	    input == INPUT_TIME_OVER)
		return -EPERM;
	if (!task_takes(task->state, input))
		return -EPERM;
	if (wanted == PHASE_NONE)
		return task->phase == PHASE_START || task->phase == PHASE_PROCESS ? 0 : -EPERM;
	return wanted == PHASE_MAX || wanted == task->phase ? 0 : -EPERM;
}

void step_apply_input(struct core *core, uint32_t index, const struct core_event *event)
{
	switch ((enum task_input)event->input) {
	case INPUT_RELEASE: apply_release(core, index); break;
	case INPUT_PREPARED: apply_prepared(core, index); break;
	case INPUT_PREPARE_FAILED: apply_prepare_failed(core, index, event); break;
	case INPUT_STARTED: apply_started(core, index); break;
	case INPUT_START_FAILED: apply_start_failed(core, index, event); break;
	case INPUT_START_REFUSED: apply_start_refused(core, index); break;
	case INPUT_EXITED: apply_exited(core, index, event); break;
	case INPUT_ATTEMPT_LOST: apply_lost(core, index, event); break;
	case INPUT_COLLECTED: apply_collected(core, index, event); break;
	case INPUT_CANCEL: apply_cancel(core, index, event); break;
	case INPUT_HALT: apply_halt(core, index, event); break;
	case INPUT_SUSPEND: step_suspend(core, index, 0); break;
	case INPUT_RESUME: step_unsuspend(core, index); break;
	case INPUT_RETRY: apply_retry(core, index); break;
	case INPUT_DEPENDENCIES_MET:
	case INPUT_DEPENDENCY_FAILED:
	case INPUT_ADMIT:
	case INPUT_TIME_OVER:
	case INPUT_MAX: NEVER("step_test_input() refuses these");
	}
}

/* ---- what the core does by itself -------------------------------------------------------------------------------- */

static void run_timer(struct core *core, uint32_t index)
{
	struct task *task = &core->tasks[index];

	switch ((enum task_state)task->state) {
	case TASK_QUEUED:
		timer_set(core, index, NEVER_NS);
		task->ready_ns = core->now_ns;
		queue_push(core, index);
		break;
	case TASK_RUNNING:
		task->cause = (struct cause){ .kind = CAUSE_TIMEOUT, .value = task->timeout_ns };
		stop(core, index, INPUT_TIME_OVER, TASK_TIMED_OUT);
		break;
	case TASK_STOPPING:
		state_order(core, index, EFFECT_KILL);
		timer_set(core, index, core->now_ns + MAX(task->grace_ns, kill_again_ns));
		break;
	default: NEVER("task_find_fault() allows a timer in these three states only");
	}
}

void step_run_timers(struct core *core)
{
	uint32_t tasks_left = core->timers.count; /* each timer once: one set anew in here may be due at once */

	while (tasks_left-- > 0) {
		uint32_t index = heap_first(&core->timers);

		if (index == HEAP_ABSENT || core->tasks[index].due_ns > core->now_ns)
			break;
		run_timer(core, index);
	}
}

static void admit(struct core *core, uint32_t index)
{
	struct task *task = &core->tasks[index];

	if (!(task->marks & MARK_SAME_ATTEMPT))
		task->attempt++;
	task->marks &= ~(uint32_t)MARK_SAME_ATTEMPT;
	task->slot = slot_take(core);
	task->phase = task->flags & TASK_WORKTREE ? PHASE_WORKTREE : PHASE_START;
	task->exit_code = -1;
	task->exit_signal = 0;
	task->started_ns = 0;
	task->started_ms = 0;
	task->ran_ns = 0;
	task->usage = (struct usage){ 0 };
	state_write(core, index, INPUT_ADMIT, TASK_PREPARING);
	if (task->phase == PHASE_WORKTREE)
		state_order(core, index, EFFECT_PREPARE);
	else
		start_process(core, index);
}

void step_admit(struct core *core)
{
	if (!core->is_resumed || core->pause.is_set || core->is_draining)
		return;
	while (core->active < queue_slot_limit(core)) {
		uint32_t index = queue_first(core);

		if (index == NONE)
			break;
		admit(core, index);
	}
}

/* ---- after a restart --------------------------------------------------------------------------------------------- */

static void resume_waiting(struct core *core, uint32_t index)
{
	const struct task *task = &core->tasks[index];

	for (uint32_t at = core->nodes[index].first_out; at != NONE; at = core->edges[at].next_out) {
		if (deps_is_failed(core, &core->edges[at])) {
			skip(core, index, core->edges[at].to);
			return;
		}
	}
	if (task->state == TASK_BLOCKED && task->waits_for == 0) {
		state_write(core, index, INPUT_DEPENDENCIES_MET, TASK_QUEUED);
		start_waiting(core, index, 0);
	}
}

void step_resume_task(struct core *core, uint32_t index)
{
	const struct task *task = &core->tasks[index];

	switch ((enum task_state)task->state) {
	case TASK_HELD:
	case TASK_BLOCKED: resume_waiting(core, index); break;
	case TASK_PREPARING: state_order(core, index, task->phase == PHASE_WORKTREE ? EFFECT_PREPARE : EFFECT_START); break;
	case TASK_RUNNING: state_order(core, index, EFFECT_THAW); break;
	case TASK_SUSPENDED: state_order(core, index, EFFECT_FREEZE); break;
	case TASK_STOPPING:
		if (task->phase == PHASE_PROCESS) {
			state_order(core, index, EFFECT_THAW);
			state_order(core, index, EFFECT_TERMINATE);
			break;
		}
		state_order(core, index, task->phase == PHASE_WORKTREE ? EFFECT_PREPARE : EFFECT_START);
		break;
	case TASK_COLLECTING: state_order(core, index, EFFECT_COLLECT); break;
	default: break;
	}
}

bool core_will_retry(const struct core *core, uint64_t id)
{
	const struct task *task = core_find(core, id);

	return task && task->state == TASK_COLLECTING && may_retry(task, task->outcome);
}
