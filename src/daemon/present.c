#include "daemon/present.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "base/units.h"
#include "daemon/daemon.h"
#include "daemon/history.h"
#include "daemon/start_message.h"

static const char *const event_kinds[] = {
#define STATE(symbol, name, kind, meaning) [TASK_##symbol] = "task." name,
#include "core/task.def"
};

const char *present_event_kind(enum task_state state)
{
	ASSERT(state < TASK_STATE_MAX);
	return event_kinds[state];
}

enum task_state present_event_state(const char *kind)
{
	for (unsigned state = 0; state < TASK_STATE_MAX; state++)
		if (strcmp(event_kinds[state], kind) == 0)
			return state;
	return TASK_STATE_MAX;
}

static json_t *time_or_null(int64_t unix_ms)
{
	char text[UNITS_TEXT_MAX];

	return unix_ms > 0 ? json_string(units_format_time(unix_ms, text)) : json_null();
}

static json_t *seconds(uint64_t ns)
{
	return json_real((double)(ns / NS_PER_MS) / 1000.0);
}

/* Text from outside as a string, whatever bytes it has: what is no UTF-8 is shown as escapes. */
static json_t *string(const char *text)
{
	CLEANUP_BUF struct buf visible = BUF_INIT;

	if (str_is_utf8(text, strlen(text)))
		return json_string(text);
	str_add_visible(&visible, text, strlen(text));
	return json_stringn(visible.bytes, visible.length);
}

static json_t *string_or_null(const char *text)
{
	return text ? string(text) : json_null();
}

static json_t *field_or_null(const json_t *object, const char *name)
{
	json_t *value = json_object_get(object, name);

	return value ? json_incref(value) : json_null();
}

static void set(json_t *object, const char *name, json_t *value)
{
	if (json_object_set_new_nocheck(object, name, value) < 0)
		abort(); /* out of memory */
}

static json_t *signal_name(int number)
{
	const char *name = number > 0 ? sigabbrev_np(number) : NULL;
	char text[32];

	if (number <= 0)
		return json_null();
	if (name)
		snprintf(text, sizeof(text), "SIG%s", name);
	else
		snprintf(text, sizeof(text), "SIGRT%+d", number - SIGRTMIN);
	return json_string(text);
}

static json_t *cause_or_null(const struct task *task, const char *detail)
{
	char text[1024];

	if (task->cause.kind == CAUSE_NONE)
		return json_null();
	task_format_cause(task, detail, text, sizeof(text));
	str_trim_utf8(text);
	return string(text);
}

/* From the start of the latest attempt to its end, or until now. */
static json_t *duration_or_null(const struct daemon *daemon, const struct task *task)
{
	/* An end before the start is that of the attempt before. */
	bool has_ended = task->ended_ns > 0 && task->ended_ns >= task->started_ns;
	uint64_t end = has_ended ? task->ended_ns : daemon->now_ns;

	if (task->started_ns == 0)
		return json_null();
	return seconds(end > task->started_ns ? end - task->started_ns : 0);
}

/* A text of a task_spec: the bytes that it stands for, those that are no UTF-8 as escapes. */
static json_t *spec_text(const json_t *spec, const json_t *text)
{
	CLEANUP_BUF struct buf bytes = BUF_INIT;
	const char *at = json_string_value(text);

	if (!json_is_true(json_object_get(spec, "is_latin1")))
		return json_string(at);
	for (; *at != '\0'; at++) {
		unsigned char byte = (unsigned char)*at;

		if (byte >= 0xc2 && byte < 0xc4) /* U+0080 to U+00FF */
			byte = (unsigned char)(byte << 6 | (*++at & 0x3f));
		buf_add_byte(&bytes, (char)byte);
	}
	return string(bytes.bytes ? bytes.bytes : "");
}

/* The first `room` bytes of a string, and an ellipsis. */
static json_t *cut_string(const json_t *value, size_t room)
{
	CLEANUP_FREE char *text = xmemdup0(json_string_value(value), room);

	str_trim_utf8(text);
	return json_sprintf("%s…", text);
}

/* Words as they are up to PRESENT_TEXT_MAX bytes in all; steals them. A listing holds many tasks, and a message is short. */
static json_t *cut_words(json_t *words)
{
	json_t *list = json_array();
	size_t room = PRESENT_TEXT_MAX;
	size_t i;
	json_t *word;

	json_array_foreach (words, i, word) {
		size_t length = json_string_length(word) + 1;

		if (length > room) {
			json_array_append_new(list, cut_string(word, room));
			break;
		}
		json_array_append(list, word);
		room -= length;
	}
	json_decref(words);
	return list;
}

static json_t *label_or_null(const json_t *spec)
{
	const json_t *label = json_object_get(spec, "label");

	return json_string_length(label) > PRESENT_LABEL_MAX ? cut_string(label, PRESENT_LABEL_MAX)
	                                                     : field_or_null(spec, "label");
}

static json_t *command_words(const json_t *spec)
{
	const json_t *command = json_object_get(spec, "command");
	json_t *words = json_array();
	json_t *word;
	size_t i;

	if (!json_is_array(command)) {
		json_array_append_new(words, json_string("sh"));
		json_array_append_new(words, json_string("-c"));
		json_array_append_new(words, spec_text(spec, json_object_get(spec, "shell")));
	}
	json_array_foreach (command, i, word)
		json_array_append_new(words, spec_text(spec, word));
	return words;
}

char *present_command_line(const char *text)
{
	json_t *spec = json_loads(text, 0, NULL);
	json_t *words = command_words(spec);
	struct buf line = BUF_INIT;
	bool is_shell = !json_is_array(json_object_get(spec, "command"));
	json_t *word;
	size_t i;

	json_array_foreach (words, i, word)
		if (!is_shell || i == json_array_size(words) - 1)
			buf_add_format(&line, "%s%s", line.length > 0 ? " " : "", json_string_value(word));
	json_decref(words);
	json_decref(spec);
	return buf_take(&line);
}

static json_t *start_error_or_null(const struct task *task)
{
	const char *name = task->cause.kind == CAUSE_START_FAILED ? strerrorname_np((int)task->cause.value) : NULL;

	return name ? json_string(name) : json_null();
}

static void set_outcome(struct daemon *daemon, json_t *object, const struct task *task, const struct roster_task *texts)
{
	bool has_ended = task->ended_ms > 0;

	set(object, "cause", cause_or_null(task, texts->detail));
	set(object, "exit_code", has_ended && task->exit_code >= 0 ? json_integer(task->exit_code) : json_null());
	set(object, "signal", has_ended ? signal_name(task->exit_signal) : json_null());
	set(object, "start_error", start_error_or_null(task));
	set(object, "duration_s", duration_or_null(daemon, task));
	set(object, "peak_memory_bytes",
	    task->usage.is_known ? json_integer((json_int_t)task->usage.memory_peak_bytes) : json_null());
	set(object, "changed_files", field_or_null(texts->result, "changed_files"));
	set(object, "branch", field_or_null(texts->result, "branch"));
}

json_t *present_log_path(const struct daemon *daemon, uint64_t task, uint32_t attempt)
{
	char name[64];

	if (attempt == 0)
		return json_null();
	attempts_log_name(task, attempt, name);
	return json_sprintf("%s/%s", daemon->state_dir, name);
}

static json_t *log_path_or_null(const struct daemon *daemon, const struct task *task)
{
	return present_log_path(daemon, task->id, task->attempt);
}

json_t *present_task(struct daemon *daemon, uint32_t index)
{
	const struct task *task = core_task_at(daemon->core, index);
	const struct roster_task *texts = roster_task(&daemon->roster, index);
	json_t *spec = json_loads(texts->spec, 0, NULL);
	json_t *object = json_object();
	struct wait wait;

	core_explain(daemon->core, task->id, daemon->now_ns, &wait);
	set(object, "id", json_integer((json_int_t)task->id));
	set(object, "name", string_or_null(texts->name));
	set(object, "batch", json_integer((json_int_t)task->batch));
	set(object, "batch_name", string_or_null(texts->batch->name));
	set(object, "state", json_string(task_state_name(task->state)));
	set(object, "reason", wait.reason == REASON_NONE ? json_null() : json_string(wait_reason_name(wait.reason)));
	set(object, "priority", json_string(priority_name(task->priority)));
	set(object, "attempt", json_integer(task->attempt));
	set(object, "command",
	    strlen(texts->spec) > PRESENT_TEXT_MAX ? cut_words(command_words(spec)) : command_words(spec));
	set(object, "label", label_or_null(spec));
	set(object, "worktree", field_or_null(texts->result, "path"));
	set(object, "base", task->flags & TASK_WORKTREE ? string_or_null(texts->batch->commit) : json_null());
	set(object, "commit", field_or_null(texts->result, "commit"));
	set(object, "log_path", log_path_or_null(daemon, task));
	set(object, "created_at", time_or_null(task->created_ms));
	set(object, "started_at", time_or_null(task->started_ms));
	set(object, "ended_at", time_or_null(task->ended_ms));
	set(object, "cpu_s", task->usage.is_known ? seconds(task->usage.cpu_us * NS_PER_US) : json_null());
	set_outcome(daemon, object, task, texts);
	json_decref(spec);
	return object;
}

size_t present_task_size(const struct daemon *daemon, uint32_t index)
{
	enum { BESIDES = 1000, ESCAPED = 6 }; /* paths and numbers; a byte of a string may take six */

	size_t spec = strlen(roster_task(&daemon->roster, index)->spec);

	return BESIDES + MIN(2 * spec, (size_t)ESCAPED * (PRESENT_TEXT_MAX + PRESENT_LABEL_MAX));
}

static json_t *output_bytes_or_null(const struct usage *usage)
{
	return usage->is_known ? json_integer((json_int_t)usage->output_bytes) : json_null();
}

json_t *present_attempt(const struct daemon *daemon, const struct task *task, const struct roster_task *texts)
{
	json_t *object = json_object();
	bool has_ended = !task_state_is_active(task->state);

	set(object, "attempt", json_integer(task->attempt));
	set(object, "state", json_string(task_state_name(task->state)));
	set(object, "cause", has_ended ? cause_or_null(task, texts->detail) : json_null());
	set(object, "exit_code", has_ended && task->exit_code >= 0 ? json_integer(task->exit_code) : json_null());
	set(object, "signal", has_ended ? signal_name(task->exit_signal) : json_null());
	set(object, "start_error", has_ended ? start_error_or_null(task) : json_null());
	set(object, "started_at", time_or_null(task->started_ms));
	set(object, "ended_at", has_ended ? time_or_null(task->ended_ms) : json_null());
	set(object, "duration_s", duration_or_null(daemon, task));
	set(object, "peak_memory_bytes",
	    task->usage.is_known ? json_integer((json_int_t)task->usage.memory_peak_bytes) : json_null());
	set(object, "cpu_s", task->usage.is_known ? seconds(task->usage.cpu_us * NS_PER_US) : json_null());
	set(object, "output_bytes", output_bytes_or_null(&task->usage));
	set(object, "worktree", field_or_null(texts->result, "path"));
	set(object, "branch", field_or_null(texts->result, "branch"));
	return object;
}

static json_t *present_dependency(struct daemon *daemon, const struct core_dependency *dependency)
{
	uint32_t index = core_index(daemon->core, dependency->task);
	json_t *object = json_object();

	set(object, "id", json_integer((json_int_t)dependency->task));
	set(object, "name", index == TASK_NONE ? json_null() : string_or_null(roster_task(&daemon->roster, index)->name));
	set(object, "state",
	    index == TASK_NONE ? json_null() : json_string(task_state_name(core_task_at(daemon->core, index)->state)));
	set(object, "is_any", json_boolean(dependency->is_any));
	return object;
}

/* All dependencies of a task; *ret is to be freed. */
static uint32_t take_dependencies(struct daemon *daemon, uint64_t task, struct core_dependency **ret)
{
	uint32_t count = core_dependencies(daemon->core, task, NULL, 0);

	*ret = xcalloc(count, sizeof(**ret));
	core_dependencies(daemon->core, task, *ret, count);
	return count;
}

json_t *present_predecessors(struct daemon *daemon, uint64_t task)
{
	CLEANUP_FREE struct core_dependency *dependencies = NULL;
	uint32_t count = take_dependencies(daemon, task, &dependencies);
	json_t *list = json_array();

	for (uint32_t i = 0; i < count; i++) {
		uint32_t index = core_index(daemon->core, dependencies[i].task);
		json_t *object = json_object();

		set(object, "id", json_integer((json_int_t)dependencies[i].task));
		if (index != TASK_NONE) {
			const struct task *other = core_task_at(daemon->core, index);
			const struct roster_task *texts = roster_task(&daemon->roster, index);

			set(object, "name", string_or_null(texts->name));
			set(object, "state", json_string(task_state_name(other->state)));
			set(object, "branch", field_or_null(texts->result, "branch"));
			set(object, "commit", field_or_null(texts->result, "commit"));
			set(object, "log_path", log_path_or_null(daemon, other));
		}
		json_array_append_new(list, object);
	}
	return list;
}

static const char *const reason_texts[] = {
#define REASON(symbol, name, meaning) [REASON_##symbol] = meaning,
#include "core/words.def"
};

/* The words for a task in the user's hands, or under a pause. */
static void add_hold(struct daemon *daemon, const struct task *task, struct buf *text)
{
	const struct roster_task *texts = roster_task(&daemon->roster, core_index(daemon->core, task->id));
	const struct pause_note *pause = pauses_covering(daemon, task->batch);

	if (pause && (task->state == TASK_QUEUED || task->marks & MARK_PAUSED)) {
		buf_add_format(text, "%s is paused ", pause->batch == 0 ? "everything" : "its batch");
		pauses_add_words(text, pause);
	} else if (task->state == TASK_SUSPENDED) {
		buf_add_format(text, "the user suspended it%s%s", texts->detail ? ": " : "",
		               texts->detail ? texts->detail : "");
	} else {
		buf_add_text(text, "the user holds it");
	}
}

static json_t *present_wait(struct daemon *daemon, const struct task *task, const struct wait *wait)
{
	json_t *object = json_object();
	struct core_totals totals;
	struct buf text = BUF_INIT;
	const struct roster_task *texts = roster_task(&daemon->roster, core_index(daemon->core, task->id));
	char number[UNITS_TEXT_MAX];
	uint32_t holder = core_index(daemon->core, wait->holder);
	bool has_counts = wait->need > 0;
	bool has_until = wait->reason == REASON_BACKOFF && wait->until_ns != NEVER_NS;

	core_count(daemon->core, &totals);
	if (wait->reason == REASON_USER_HOLD || wait->reason == REASON_BATCH_PAUSED)
		add_hold(daemon, task, &text);
	else
		buf_add_text(&text, reason_texts[wait->reason]);
	if (has_counts)
		buf_add_format(&text, " (%u of %u)", wait->have, wait->need);
	if (wait->reason == REASON_SLOTS && totals.by_state[TASK_SUSPENDED] > 0)
		buf_add_format(&text, ", %u of them suspended", totals.by_state[TASK_SUSPENDED]);
	if (holder != TASK_NONE)
		buf_add_format(&text, ": #%llu %s", (unsigned long long)wait->holder,
		               task_state_name(core_task_at(daemon->core, holder)->state));
	if (has_until && wait->until_ns > daemon->now_ns)
		buf_add_format(&text, ", in %s", units_format_duration(wait->until_ns - daemon->now_ns, number));
	if (wait->reason == REASON_BACKOFF && texts->refused_errno > 0)
		buf_add_format(&text, "; the machine cannot do it now: %s: %s", record_stage_name(texts->refused_stage),
		               strerror(texts->refused_errno));
	set(object, "reason", json_string(wait_reason_name(wait->reason)));
	set(object, "text", string(text.bytes));
	set(object, "holder", wait->holder ? json_integer((json_int_t)wait->holder) : json_null());
	set(object, "have", has_counts ? json_integer(wait->have) : json_null());
	set(object, "need", has_counts ? json_integer(wait->need) : json_null());
	set(object, "until", has_until ? time_or_null(daemon_wall_ms(daemon, wait->until_ns)) : json_null());
	buf_done(&text);
	return object;
}

static json_t *present_conditions(const struct roster_task *texts)
{
	json_t *list = json_array();

	if (texts->conditions & CONDITION_LOST_SHIM)
		json_array_append_new(list, json_string("lost-shim"));
	if (texts->conditions & CONDITION_WORKTREE_MISSING)
		json_array_append_new(list, json_string("worktree-missing"));
	return list;
}

static void set_usage(json_t *object, const struct usage *usage)
{
	set(object, "output_bytes", output_bytes_or_null(usage));
	set(object, "output_dropped_bytes",
	    usage->is_known ? json_integer((json_int_t)usage->output_dropped_bytes) : json_null());
	set(object, "strays", usage->is_known ? json_integer(usage->strays) : json_null());
}

json_t *present_details(struct daemon *daemon, uint32_t index)
{
	const struct task *task = core_task_at(daemon->core, index);
	const struct roster_task *texts = roster_task(&daemon->roster, index);
	CLEANUP_FREE struct core_dependency *dependencies = NULL;
	uint32_t count = take_dependencies(daemon, task->id, &dependencies);
	json_t *spec = json_loads(texts->spec, 0, NULL);
	CLEANUP_FREE char *directory = start_message_directory(texts, spec);
	json_t *object = json_object();
	json_t *after = json_array();
	int pid = attempts_leader_pid(daemon, task);
	struct wait wait;

	for (uint32_t i = 0; i < count && i < LIMIT_PAGE; i++)
		json_array_append_new(after, present_dependency(daemon, &dependencies[i]));
	core_explain(daemon->core, task->id, daemon->now_ns, &wait);
	set(object, "task", present_task(daemon, index));
	set(object, "wait", wait.reason == REASON_NONE ? json_null() : present_wait(daemon, task, &wait));
	set(object, "spec", strlen(texts->spec) <= PRESENT_SPEC_MAX ? json_incref(spec) : json_null());
	set(object, "cwd", string(directory));
	set(object, "after", after);
	set(object, "attempts", history_present(daemon, index));
	set_usage(object, &task->usage);
	set(object, "pid", pid > 0 ? json_integer(pid) : json_null());
	set(object, "conditions", present_conditions(texts));
	set(object, "note", field_or_null(texts->result, "note"));
	set(object, "salvage", field_or_null(texts->result, "salvage"));
	json_decref(spec);
	return object;
}

void present_add_event_data(struct buf *data, const struct turn_event *event)
{
	buf_add_format(data, "{\"attempt\":%u", event->attempt);
	if (event->cause != CAUSE_NONE)
		buf_add_format(data, ",\"cause\":\"%s\"", cause_kind_name(event->cause));
	if (event->exit_code >= 0)
		buf_add_format(data, ",\"exit_code\":%d", event->exit_code);
	if (event->exit_signal > 0)
		buf_add_format(data, ",\"signal\":%d", event->exit_signal);
	buf_add_byte(data, '}');
}

/* The task is still as it was at the event, so that what is known of it goes with it. */
static bool is_as_logged(const struct task *task, const struct turn_event *event)
{
	bool has_outcome =
		event->state < TASK_STATE_MAX && (task_state_is_final(event->state) || event->state == TASK_QUEUED);

	return has_outcome && task->state == event->state && task->attempt == event->attempt;
}

/* How an attempt ended, from what the log says of it: the task has gone on since. */
static void set_logged_outcome(json_t *object, const struct turn_event *event)
{
	json_t *signal = signal_name(event->exit_signal);
	json_t *cause = json_null();

	if (event->cause == CAUSE_EXIT)
		cause = json_sprintf("exit %d", event->exit_code);
	else if (event->cause == CAUSE_SIGNAL && json_is_string(signal))
		cause = json_sprintf("signal %s", json_string_value(signal));
	else if (event->cause != CAUSE_NONE)
		cause = json_string(cause_kind_name(event->cause));
	set(object, "cause", cause);
	set(object, "exit_code", event->exit_code >= 0 ? json_integer(event->exit_code) : json_null());
	set(object, "signal", signal);
}

static json_t *event_object(struct daemon *daemon, const struct turn_event *event, const char *kind)
{
	uint32_t index = core_index(daemon->core, event->task);
	json_t *object = json_object();
	const struct task *task;

	set(object, "seq", json_integer((json_int_t)event->seq));
	set(object, "at", time_or_null(event->at_ms));
	set(object, "kind", json_string(kind));
	set(object, "task", event->task ? json_integer((json_int_t)event->task) : json_null());
	set(object, "batch", event->batch ? json_integer((json_int_t)event->batch) : json_null());
	set(object, "state", event->state < TASK_STATE_MAX ? json_string(task_state_name(event->state)) : json_null());
	set(object, "attempt", event->task ? json_integer(event->attempt) : json_null());
	if (index == TASK_NONE) {
		set_logged_outcome(object, event);
		return object;
	}
	task = core_task_at(daemon->core, index);
	set(object, "name", string_or_null(roster_task(&daemon->roster, index)->name));
	set(object, "log_path", present_log_path(daemon, event->task, event->attempt));
	if (!is_as_logged(task, event)) {
		set_logged_outcome(object, event);
		return object;
	}
	set_outcome(daemon, object, task, roster_task(&daemon->roster, index));
	if (task_state_is_final(event->state))
		set(object, "output_bytes", output_bytes_or_null(&task->usage));
	return object;
}

static int number_of(const json_t *data, const char *name, int absent)
{
	const json_t *value = json_object_get(data, name);

	return json_is_integer(value) ? (int)json_integer_value(value) : absent;
}

/* The kind of a cause by its name; CAUSE_NONE for one that is not known. */
static enum cause_kind find_cause(const char *name)
{
	for (unsigned kind = 0; name && kind < CAUSE_MAX; kind++)
		if (strcmp(cause_kind_name(kind), name) == 0)
			return kind;
	return CAUSE_NONE;
}

json_t *present_event(struct daemon *daemon, const struct store_event *event, enum task_state state)
{
	json_t *data = event->data ? json_loads(event->data, 0, NULL) : NULL;
	struct turn_event line = {
		.seq = event->seq,
		.task = event->task,
		.batch = event->batch,
		.at_ms = event->at_ms,
		.attempt = (uint32_t)number_of(data, "attempt", 0),
		.exit_code = number_of(data, "exit_code", -1),
		.exit_signal = number_of(data, "signal", 0),
		.cause = (uint8_t)find_cause(json_string_value(json_object_get(data, "cause"))),
		.state = (uint8_t)state,
	};

	json_decref(data);
	return event_object(daemon, &line, event->kind);
}

json_t *present_turn_event(struct daemon *daemon, const struct turn_event *event)
{
	return event_object(daemon, event, event->kind);
}

static json_t *present_states(const struct core_totals *totals)
{
	json_t *object = json_object();

	for (unsigned state = 0; state < TASK_STATE_MAX; state++)
		set(object, task_state_name(state), json_integer(totals->by_state[state]));
	return object;
}

static json_t *present_problems(const struct daemon *daemon)
{
	json_t *list = json_array();
	struct err err = ERR_INIT;

	if (daemon->is_broken)
		json_array_append_new(list, string(daemon->broken.text));
	else if (daemon->is_full)
		json_array_append_new(list, string(daemon->full.text));
	else if (store_check_space(daemon->store, 0, &err) < 0)
		json_array_append_new(list, string(err.text));
	if (daemon->remote_name)
		json_array_append_new(list, json_sprintf(REMOTE_WARNING, daemon->state_dir, daemon->remote_name));
	if (daemon->restore_notice)
		json_array_append_new(list, string(daemon->restore_notice));
	if (daemon->has_few_descriptors)
		json_array_append_new(list, json_sprintf(DESCRIPTORS_FEW, (unsigned long long)daemon->descriptors.limit,
		                                         daemon->descriptors.slots_max));
	if (daemon->keeper.socket < 0)
		json_array_append_new(list,
		                      json_string("the keeper is gone and could not be started again: nothing can start"));
	if (daemon->is_draining)
		json_array_append_new(list, json_string("the daemon is stopping: it starts nothing new"));
	return list;
}

json_t *present_status(struct daemon *daemon)
{
	struct core_totals totals;
	json_t *object = json_object();

	core_count(daemon->core, &totals);
	set(object, "level", json_null());
	set(object, "level_name", json_null());
	set(object, "slots", json_integer(totals.slot_limit));
	set(object, "running", json_integer(totals.active));
	set(object, "queued",
	    json_integer(totals.by_state[TASK_QUEUED] + totals.by_state[TASK_BLOCKED] + totals.by_state[TASK_HELD]));
	set(object, "suspended", json_integer(totals.by_state[TASK_SUSPENDED]));
	set(object, "states", present_states(&totals));
	set(object, "batches", json_integer(totals.batches));
	set(object, "is_paused", json_boolean(totals.is_paused));
	set(object, "pauses", pauses_present_all(daemon));
	set(object, "problems", present_problems(daemon));
	set(object, "signals", json_null());
	return object;
}
