/*
 * task.c - the names of states, inputs, causes and priorities, the edges between states, and what must hold of a task.
 *
 * All tables come from the .def files. Formats without stdio, so that the core needs nothing of libc but memory functions.
 */
#include "core/task.h"

#include <signal.h>
#include <string.h>

#include "base/limits.h"
#include "base/units.h"

struct edge_row {
	uint8_t from;
	uint8_t input;
	uint8_t to;
};

static const char *const state_names[] = {
#define STATE(symbol, name, kind, meaning) [TASK_##symbol] = name,
#include "core/task.def"
};

static const uint8_t state_kinds[] = {
#define STATE(symbol, name, kind, meaning) [TASK_##symbol] = TASK_KIND_##kind,
#include "core/task.def"
};

static const char *const input_names[] = {
#define INPUT(symbol, name, meaning) [INPUT_##symbol] = name,
#include "core/task.def"
};

static const struct edge_row edge_rows[] = {
#define EDGE(from_state, by_input, to_state) { TASK_##from_state, INPUT_##by_input, TASK_##to_state },
#include "core/task.def"
};

static const char *const reason_names[] = {
#define REASON(symbol, name, meaning) [REASON_##symbol] = name,
#include "core/words.def"
};

static const char *const cause_names[] = {
#define CAUSE(symbol, name, meaning) [CAUSE_##symbol] = name,
#include "core/words.def"
};

static const char *const priority_names[] = {
#define PRIORITY(symbol, name, ageing) [PRIORITY_##symbol] = name,
#include "core/words.def"
};

static const char *name_at(const char *const *names, size_t count, unsigned at)
{
	return at < count ? names[at] : "?";
}

static int find_name(const char *const *names, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return (int)i;
	return -1;
}

const char *task_state_name(enum task_state state)
{
	return name_at(state_names, ARRAY_SIZE(state_names), (unsigned)state);
}

const char *task_input_name(enum task_input input)
{
	return name_at(input_names, ARRAY_SIZE(input_names), (unsigned)input);
}

const char *wait_reason_name(enum wait_reason reason)
{
	return name_at(reason_names, ARRAY_SIZE(reason_names), (unsigned)reason);
}

const char *cause_kind_name(enum cause_kind kind)
{
	return name_at(cause_names, ARRAY_SIZE(cause_names), (unsigned)kind);
}

const char *priority_name(enum priority priority)
{
	return name_at(priority_names, ARRAY_SIZE(priority_names), (unsigned)priority);
}

int task_state_find(const char *name)
{
	return find_name(state_names, ARRAY_SIZE(state_names), name);
}

int priority_find(const char *name)
{
	return find_name(priority_names, ARRAY_SIZE(priority_names), name);
}

enum task_state_kind task_state_kind(enum task_state state)
{
	ASSERT((unsigned)state < TASK_STATE_MAX);
	return state_kinds[state];
}

bool task_has_edge(enum task_state from, enum task_input input, enum task_state to)
{
	for (size_t i = 0; i < ARRAY_SIZE(edge_rows); i++)
		if (edge_rows[i].from == from && edge_rows[i].input == input && edge_rows[i].to == to)
			return true;
	return false;
}

bool task_takes(enum task_state state, enum task_input input)
{
	for (size_t i = 0; i < ARRAY_SIZE(edge_rows); i++)
		if (edge_rows[i].from == state && edge_rows[i].input == input)
			return true;
	return false;
}

/* ---- the cause in words ------------------------------------------------------------------------------------------ */

/* Text being built in memory of fixed size; what does not fit is cut off. */
struct line {
	char *text;
	size_t size;
	size_t length;
};

static void add_text(struct line *line, const char *text)
{
	size_t room = line->size - line->length - 1;
	size_t length = strlen(text);

	length = MIN(length, room);
	memcpy(line->text + line->length, text, length);
	line->length += length;
	line->text[line->length] = '\0';
}

static void add_number(struct line *line, uint64_t number)
{
	char digits[24];
	size_t at = sizeof(digits) - 1;

	digits[at] = '\0';
	do {
		digits[--at] = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	add_text(line, digits + at);
}

/* "1h", "1h30m", "250ms": exact, unlike units_format_duration(), since it repeats what the user asked for. */
static void add_duration(struct line *line, uint64_t ns)
{
	static const struct {
		uint64_t ns;
		const char *name;
	} units[] = { { NS_PER_DAY, "d" }, { NS_PER_HOUR, "h" }, { NS_PER_MIN, "m" }, { NS_PER_SEC, "s" },
		      { NS_PER_MS, "ms" }, { NS_PER_US, "us" },	 { 1, "ns" } };

	if (ns == 0)
		add_text(line, "0s");
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (ns < units[i].ns)
			continue;
		add_number(line, ns / units[i].ns);
		add_text(line, units[i].name);
		ns %= units[i].ns;
	}
}

static void add_signal(struct line *line, uint64_t number)
{
#define NAMED(signal) { signal, #signal }
	static const struct {
		int number;
		const char *name;
	} signals[] = {
		NAMED(SIGHUP),	NAMED(SIGINT),	  NAMED(SIGQUIT), NAMED(SIGILL),  NAMED(SIGTRAP), NAMED(SIGABRT),
		NAMED(SIGBUS),
		NAMED(SIGFPE),	NAMED(SIGKILL),	  NAMED(SIGUSR1), NAMED(SIGSEGV), NAMED(SIGUSR2), NAMED(SIGPIPE),
		NAMED(SIGALRM),
		NAMED(SIGTERM), NAMED(SIGSTKFLT), NAMED(SIGCHLD), NAMED(SIGCONT), NAMED(SIGSTOP), NAMED(SIGTSTP),
		NAMED(SIGTTIN),
		NAMED(SIGTTOU), NAMED(SIGURG),	  NAMED(SIGXCPU), NAMED(SIGXFSZ), NAMED(SIGVTALRM), NAMED(SIGPROF),
		NAMED(SIGWINCH),
		NAMED(SIGIO),	NAMED(SIGPWR),	  NAMED(SIGSYS),
	};
#undef NAMED

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		if ((uint64_t)signals[i].number == number) {
			add_text(line, signals[i].name);
			return;
		}
	}
	add_number(line, number);
}

/* `words`, then ": " and the detail, or the errno when there is no detail. */
static void add_detailed(struct line *line, const char *words, const char *detail, uint64_t number)
{
	add_text(line, words);
	if (detail && *detail) {
		add_text(line, ": ");
		add_text(line, detail);
	} else if (number != 0) {
		add_text(line, ": errno ");
		add_number(line, number);
	}
}

static void add_numbered(struct line *line, const char *before, uint64_t number, const char *after)
{
	add_text(line, before);
	add_number(line, number);
	add_text(line, after);
}

const char *task_format_cause(const struct task *task, const char *detail, char *text, size_t size)
{
	struct line line = { .text = text, .size = size };

	ASSERT(size > 0);
	text[0] = '\0';
	switch ((enum cause_kind)task->cause.kind) {
	case CAUSE_NONE: break;
	case CAUSE_EXIT: add_numbered(&line, "exit ", task->cause.value, ""); break;
	case CAUSE_SIGNAL:
		add_text(&line, "signal ");
		add_signal(&line, task->cause.value);
		break;
	case CAUSE_OUT_OF_MEMORY: add_text(&line, "out of memory"); break;
	case CAUSE_TIMEOUT:
		add_text(&line, "timeout after ");
		add_duration(&line, task->cause.value);
		break;
	case CAUSE_CANCELLED: add_detailed(&line, "cancelled by user", detail, 0); break;
	case CAUSE_START_FAILED: add_detailed(&line, "failed to start", detail, task->cause.value); break;
	case CAUSE_PREPARE_FAILED: add_detailed(&line, "worktree not made", detail, task->cause.value); break;
	case CAUSE_COLLECT_FAILED: add_detailed(&line, "worktree not collected", detail, task->cause.value); break;
	case CAUSE_REBOOT: add_text(&line, "lost: reboot"); break;
	case CAUSE_VANISHED: add_text(&line, "lost: its process is gone without a record"); break;
	case CAUSE_SHIM_LOST: add_text(&line, "lost: its shim died, so its exit status is unknown"); break;
	case CAUSE_DEPENDENCY: add_numbered(&line, "skipped: #", task->cause.value, " failed"); break;
	case CAUSE_BATCH_HALTED: add_detailed(&line, "batch halted", detail, 0); break;
	case CAUSE_MAX: add_text(&line, "?"); break;
	}
	return text;
}

/* ---- what must hold ---------------------------------------------------------------------------------------------- */

static const char *find_numbers_fault(const struct task *task)
{
	if (task->id == 0 || task->batch == 0)
		return "a task and its batch have ids above 0";
	if (task->state >= TASK_STATE_MAX || task->phase >= PHASE_MAX || task->outcome > TASK_STATE_MAX)
		return "state, phase and outcome are known ones";
	if (task->priority >= PRIORITY_MAX || task->cause.kind >= CAUSE_MAX)
		return "priority and cause are known ones";
	if (task->retries_max > LIMIT_RETRIES || task->retries_used > task->retries_max)
		return "no more retries were used than there are";
	if (task->lost_used > LIMIT_LOST_RETRIES)
		return "a lost task is run again a limited number of times";
	if (task->marks & ~(uint32_t)MARK_ALL)
		return "marks are known ones";
	return NULL;
}

static bool is_phase_right(const struct task *task)
{
	bool has_worktree = task->flags & TASK_WORKTREE;

	switch ((enum task_state)task->state) {
	case TASK_PREPARING: return task->phase == PHASE_START || (task->phase == PHASE_WORKTREE && has_worktree);
	case TASK_RUNNING:
	case TASK_SUSPENDED: return task->phase == PHASE_PROCESS;
	case TASK_STOPPING:
		return task->phase == PHASE_START || task->phase == PHASE_PROCESS ||
			(task->phase == PHASE_WORKTREE && has_worktree);
	case TASK_COLLECTING: return task->phase == PHASE_COLLECT && has_worktree;
	default: return task->phase == PHASE_NONE;
	}
}

static bool is_outcome_right(const struct task *task)
{
	if (task->state == TASK_STOPPING)
		return task->outcome == TASK_CANCELLED || task->outcome == TASK_TIMED_OUT;
	if (task->state == TASK_COLLECTING)
		return task->outcome < TASK_STATE_MAX && task_state_is_final(task->outcome) && task->outcome != TASK_SKIPPED;
	return task->outcome == (task_state_is_final(task->state) ? task->state : TASK_STATE_MAX);
}

static bool is_timer_right(const struct task *task)
{
	switch ((enum task_state)task->state) {
	case TASK_QUEUED: return true;
	case TASK_RUNNING: return (task->due_ns != NEVER_NS) == (task->timeout_ns != 0);
	case TASK_STOPPING: return (task->due_ns != NEVER_NS) == (task->phase == PHASE_PROCESS);
	default: return task->due_ns == NEVER_NS;
	}
}

/* Whether the cause can have led to the outcome. */
static bool is_cause_right(const struct task *task)
{
	enum cause_kind kind = task->cause.kind;

	switch ((enum task_state)task->outcome) {
	case TASK_SUCCEEDED: return kind == CAUSE_EXIT && task->cause.value == 0 && task->exit_code == 0;
	case TASK_FAILED:
		return (kind == CAUSE_EXIT && task->cause.value != 0) || kind == CAUSE_SIGNAL ||
			kind == CAUSE_OUT_OF_MEMORY ||
		       kind == CAUSE_START_FAILED || kind == CAUSE_PREPARE_FAILED || kind == CAUSE_COLLECT_FAILED;
	case TASK_CANCELLED: return kind == CAUSE_CANCELLED || kind == CAUSE_BATCH_HALTED;
	case TASK_TIMED_OUT: return kind == CAUSE_TIMEOUT;
	case TASK_LOST: return kind == CAUSE_REBOOT || kind == CAUSE_VANISHED || kind == CAUSE_SHIM_LOST;
	case TASK_SKIPPED: return kind == CAUSE_DEPENDENCY;
	default: return true;
	}
}

const char *task_find_fault(const struct task *task)
{
	const char *fault = find_numbers_fault(task);
	enum task_state state = task->state;
	bool is_active;

	if (fault)
		return fault;
	is_active = task_state_is_active(state);
	if (is_active != (task->slot != TASK_NONE))
		return "a task has a slot while it is active, and only then";
	if (is_active && task->attempt == 0)
		return "an active task has an attempt";
	if (!is_phase_right(task))
		return "the phase belongs to the state";
	if (!is_outcome_right(task))
		return "the outcome belongs to the state";
	if (!is_timer_right(task))
		return "the timer belongs to the state";
	if (!is_cause_right(task))
		return "every end has a cause, one that fits it";
	if (state == TASK_BLOCKED ? task->waits_for == 0 : (state != TASK_HELD && task->waits_for != 0))
		return "a task is blocked while it waits for others, and only then";
	if (task->phase == PHASE_PROCESS && task->started_ns == 0)
		return "what runs was started";
	if (task->marks & MARK_PAUSED && state != TASK_SUSPENDED)
		return "what a pause suspended is suspended";
	if (task_state_is_final(state) && task->ended_ns == 0)
		return "a final task has ended";
	return NULL;
}

void task_check(const struct task *task)
{
	const char *fault = task_find_fault(task);

	if (__builtin_expect(fault != NULL, 0))
		assert_failed(fault, __FILE__, __LINE__);
}
