/*
 * salvage.c - see salvage.h. Reads the sources, asks resolve.c, writes the new database in one transaction.
 */
#include "store/salvage.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/limits.h"
#include "store/apply.h"
#include "store/load.h"
#include "store/resolve.h"
#include "store/schema.h"
#include "store/source.h"

enum { GAP_MAX = 1 << 24 }; /* events said to be committed behind the last readable one: more is nonsense */

struct salvage {
	const struct salvage_options *options;
	struct salvage_result *result;
	struct source *sources; /* the one that tells the most first */
	uint32_t count;
	struct database new;
	uint64_t known_seq;  /* the last event that any source tells of */
	uint64_t top_seq;    /* the last event there was */
	uint64_t log_start;  /* from here to known_seq every event is readable */
	uint64_t first_task; /* range of ids */
	uint64_t last_task;
	struct newest_event *newest; /* by id − first_task */
	bool *is_slot_used;          /* by slot */
	bool *is_gone;               /* by id − first_task */
	bool *is_absent;             /* the same: nothing tells that there was one */
	uint64_t last_batch;
	bool *is_batch_used; /* by id */
	uint64_t latest_ns;  /* of all times in the rows */
	struct keys keys;
};

static void say(struct salvage *salvage, const char *format, ...) PRINTF_LIKE(2, 3);
static void say(struct salvage *salvage, const char *format, ...)
{
	char line[ERR_TEXT_MAX + 256];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	buf_add_text(&salvage->result->report, line);
	buf_add_byte(&salvage->result->report, '\n');
}

/* ---- what there is ----------------------------------------------------------------------------------------------- */

static int compare_sources(const void *left, const void *right)
{
	const struct source *a = left, *b = right;

	if (a->is_open != b->is_open)
		return a->is_open ? -1 : 1;
	if (a->last_seq != b->last_seq)
		return a->last_seq > b->last_seq ? -1 : 1;
	return (int)b->is_whole - (int)a->is_whole;
}

/* A stable order: sources that tell the same stay in the caller's. */
static void sort_sources(struct salvage *salvage)
{
	for (uint32_t i = 1; i < salvage->count; i++) {
		for (uint32_t k = i; k > 0 && compare_sources(&salvage->sources[k], &salvage->sources[k - 1]) < 0; k--) {
			struct source moved = salvage->sources[k];

			salvage->sources[k] = salvage->sources[k - 1];
			salvage->sources[k - 1] = moved;
		}
	}
}

static void open_sources(struct salvage *salvage)
{
	const struct salvage_options *options = salvage->options;

	salvage->count = options->file_count;
	salvage->sources = xcalloc(salvage->count, sizeof(*salvage->sources));
	for (uint32_t i = 0; i < salvage->count; i++) {
		struct source *source = &salvage->sources[i];

		source_open(source, options->files[i].path, options->files[i].name);
		source->is_live = options->files[i].is_live;
		if (!source->is_open)
			say(salvage, "%s: nothing of it can be read", source->name);
		else
			say(salvage, "%s: %s, up to event %llu", source->name, source->is_whole ? "whole" : "damaged",
			    (unsigned long long)source->last_seq);
	}
	sort_sources(salvage);
}

/* Copies of an earlier day do not tell what came after them; the database in use does, where it is whole. */
static bool has_whole_end(const struct salvage *salvage)
{
	for (uint32_t i = 0; i < salvage->count; i++)
		if (salvage->sources[i].is_live && salvage->sources[i].is_whole &&
		    salvage->sources[i].last_seq == salvage->known_seq)
			return true;
	return false;
}

/* The last event there was, by the slot file or else by the database in use. Else at least one more is taken for lost. */
static void find_top(struct salvage *salvage)
{
	uint64_t committed = salvage->options->committed_seq;

	salvage->top_seq = MAX(salvage->known_seq, committed);
	if (salvage->top_seq - salvage->known_seq > GAP_MAX) {
		say(salvage, "the slot file says that events up to %llu were committed: that is not believed",
		    (unsigned long long)committed);
		committed = 0;
	}
	if (committed > 0)
		return;
	salvage->result->is_end_unknown = !has_whole_end(salvage);
	salvage->top_seq = salvage->known_seq + (salvage->result->is_end_unknown ? 1 : 0);
}

static void find_ranges(struct salvage *salvage)
{

	for (uint32_t i = 0; i < salvage->count; i++) {
		const struct source *source = &salvage->sources[i];

		if (!source->is_open)
			continue;
		salvage->known_seq = MAX(salvage->known_seq, source->last_seq);
		salvage->last_task = MAX(salvage->last_task, source->last_task);
		salvage->last_batch = MAX(salvage->last_batch, source->last_batch);
		if (source->first_task > 0 && (salvage->first_task == 0 || source->first_task < salvage->first_task))
			salvage->first_task = source->first_task;
	}
	salvage->first_task = MAX(salvage->first_task, (uint64_t)1);
	find_top(salvage);
}

static enum fetched fetch_any(struct salvage *salvage, enum row_kind kind, uint64_t id, void *row, struct source **ret)
{
	for (uint32_t i = 0; i < salvage->count; i++) {
		enum fetched found = source_fetch(&salvage->sources[i], kind, id, row);

		*ret = &salvage->sources[i];
		if (found == FETCH_FOUND)
			return FETCH_FOUND;
		/* What a whole source does not have was forgotten; older ones may still have it. */
		if (found == FETCH_ABSENT && salvage->sources[i].is_whole)
			return FETCH_ABSENT;
	}
	return FETCH_ABSENT;
}

static void note_event(struct salvage *salvage, const struct store_event *row)
{
	struct newest_event event;

	if (!resolve_read_event(row, &event) || row->task < salvage->first_task || row->task > salvage->last_task)
		return;
	salvage->newest[row->task - salvage->first_task] = event; /* they ascend */
}

/* The newest event of each task, and from where on the log has no gap. */
static void read_events(struct salvage *salvage)
{
	uint64_t first = UINT64_MAX;

	for (uint32_t i = 0; i < salvage->count; i++)
		if (salvage->sources[i].first_event > 0)
			first = MIN(first, salvage->sources[i].first_event);
	salvage->newest = xcalloc(salvage->last_task - salvage->first_task + 1, sizeof(*salvage->newest));
	salvage->log_start = salvage->known_seq + 1;
	for (uint64_t seq = first; seq <= salvage->known_seq; seq++) {
		struct store_event row;
		struct source *source;

		if (fetch_any(salvage, ROW_EVENT, seq, &row, &source) != FETCH_FOUND) {
			salvage->log_start = salvage->known_seq + 1;
			continue;
		}
		salvage->log_start = MIN(salvage->log_start, seq);
		note_event(salvage, &row);
	}
}

/* ---- what becomes of each task ------------------------------------------------------------------------------------ */

static const struct salvage_attempt *find_attempt(const struct salvage *salvage, uint64_t task)
{
	const struct salvage_attempt *newest = NULL;

	for (uint32_t i = 0; i < salvage->options->attempt_count; i++) {
		const struct salvage_attempt *attempt = &salvage->options->attempts[i];

		if (attempt->task == task && (!newest || attempt->attempt > newest->attempt))
			newest = attempt;
	}
	return newest;
}

/* Whether a text "12 13? 15" names a task that is gone. */
static bool names_gone(const struct salvage *salvage, const char *dependencies)
{
	for (const char *at = dependencies; at && *at; at += strcspn(at, " "), at += strspn(at, " ")) {
		uint64_t id = strtoull(at, NULL, 10);

		if (id >= salvage->first_task && id <= salvage->last_task && salvage->is_gone[id - salvage->first_task])
			return true;
	}
	return false;
}

/* Reads both rows of a task. False when there is no such task, or not enough of it: then it is gone. */
static bool read_task(struct salvage *salvage, uint64_t id, struct row_task *row, struct resolve_facts *facts)
{
	const struct newest_event *event = &salvage->newest[id - salvage->first_task];
	struct store_batch batch;
	struct source *source;
	struct row_task state = { 0 };
	enum fetched has_task, has_state;

	*row = (struct row_task){ 0 };
	has_state = fetch_any(salvage, ROW_TASK_STATE, id, &state, &source);
	*facts = (struct resolve_facts){
		.has_state = has_state == FETCH_FOUND,
		.state_seq = has_state == FETCH_FOUND ? source->last_seq : 0,
		.top_seq = salvage->top_seq,
		.event = event,
		.attempt = find_attempt(salvage, id),
		.is_slot_file_lost = salvage->options->is_slot_file_lost,
	};
	facts->is_log_complete = salvage->top_seq == salvage->known_seq && salvage->log_start <= facts->state_seq + 1;
	if (facts->has_state)
		*row = state;
	has_task = fetch_any(salvage, ROW_TASK, id, row, &source);
	if (has_task == FETCH_FOUND && row->task.task.batch <= salvage->last_batch &&
	    fetch_any(salvage, ROW_BATCH, row->task.task.batch, &batch, &source) == FETCH_FOUND)
		return true;
	/* Forgotten tasks have events too; of one that is gone there is also a row, or it had not ended. */
	salvage->is_gone[id - salvage->first_task] =
		has_task == FETCH_FOUND || facts->has_state || (event->seq > 0 && !task_state_is_final(event->state));
	return false;
}

/* Which tasks are gone, which batches are needed, which slots belong to tasks whose rows are the latest. */
static void survey_task(struct salvage *salvage, uint64_t id)
{
	struct resolve_facts facts;
	struct row_task row;

	if (!read_task(salvage, id, &row, &facts))
		return;
	salvage->is_batch_used[row.task.task.batch] = true;
	facts.attempt = NULL;
	if (resolve_task(&facts, &row.task) == RESOLVE_KEPT && row.task.task.slot < LIMIT_SLOTS)
		salvage->is_slot_used[row.task.task.slot] = true;
}

static void tell_fate(struct salvage *salvage, enum resolve_fate fate, const struct store_task *task)
{
	unsigned long long id = task->task.id;
	const char *name = task->name ? task->name : "";
	const char *space = task->name ? " " : "";

	switch (fate) {
	case RESOLVE_KEPT:
		salvage->result->kept++;
		return;
	case RESOLVE_TOLD:
		salvage->result->told++;
		say(salvage, "task %llu%s%s: %s, by the %s", id, space, name,
		    task->task.state == TASK_RUNNING ? "its attempt" : task_state_name(task->task.state),
		    task->task.state == TASK_RUNNING ? "slot file" : "event log");
		return;
	case RESOLVE_HELD:
		salvage->result->held++;
		say(salvage, "task %llu%s%s: held, since it may have run meanwhile: 'drover release %llu' lets it run", id,
		    space, name, id);
		return;
	case RESOLVE_ENDED:
		salvage->result->ended++;
		say(salvage, "task %llu%s%s: lost, it ran and how it ended is not known", id, space, name);
		return;
	case RESOLVE_FATE_MAX:
		break;
	}
	NEVER("no such fate");
}

static int insert(struct salvage *salvage, enum row_kind kind, uint64_t id, const void *row, struct err *err)
{
	return apply_insert(&salvage->new, kind, id, row, err);
}

static int put_task(struct salvage *salvage, uint64_t id, struct err *err)
{
	struct resolve_facts facts;
	struct row_task row;
	enum resolve_fate fate;
	int result;

	if (!read_task(salvage, id, &row, &facts)) {
		salvage->is_absent[id - salvage->first_task] = !salvage->is_gone[id - salvage->first_task];
		if (salvage->is_absent[id - salvage->first_task])
			return 0;
		salvage->result->gone++;
		say(salvage, "task %llu: gone, its rows or its batch's cannot be read", (unsigned long long)id);
		return 0;
	}
	facts.has_lost_dependency = names_gone(salvage, row.dependencies);
	facts.is_slot_free =
		facts.attempt && facts.attempt->slot < LIMIT_SLOTS && !salvage->is_slot_used[facts.attempt->slot];
	fate = resolve_task(&facts, &row.task);
	if (fate == RESOLVE_TOLD && row.task.task.slot < LIMIT_SLOTS)
		salvage->is_slot_used[row.task.task.slot] = true;
	salvage->latest_ns = MAX(salvage->latest_ns, MAX(row.task.task.ready_ns, row.task.task.started_ns));
	salvage->latest_ns = MAX(salvage->latest_ns, row.task.task.ended_ns);
	result = insert(salvage, ROW_TASK, id, &row, err);
	if (result == 0)
		result = insert(salvage, ROW_TASK_STATE, id, &row, err);
	if (result < 0)
		return result;
	salvage->result->tasks++;
	tell_fate(salvage, fate, &row.task);
	return 0;
}

static void survey(struct salvage *salvage)
{
	salvage->is_gone = xcalloc(salvage->last_task - salvage->first_task + 1, sizeof(*salvage->is_gone));
	salvage->is_absent = xcalloc(salvage->last_task - salvage->first_task + 1, sizeof(*salvage->is_absent));
	salvage->is_slot_used = xcalloc(LIMIT_SLOTS, sizeof(*salvage->is_slot_used));
	salvage->is_batch_used = xcalloc(salvage->last_batch + 1, sizeof(*salvage->is_batch_used));
	for (uint64_t id = salvage->first_task; id <= salvage->last_task; id++)
		survey_task(salvage, id);
}

/* Ids of which there is no trace: of a whole database they are known to be forgotten ones. */
static void tell_absent(struct salvage *salvage)
{
	const struct source *newest = &salvage->sources[0];
	uint64_t seen = salvage->result->tasks + salvage->result->gone;
	uint64_t start = 0;

	if (newest->is_whole || (newest->has_meta && newest->database.meta.tasks <= seen))
		return;
	if (newest->has_meta)
		salvage->result->gone += newest->database.meta.tasks - seen;
	for (uint64_t id = salvage->first_task; id <= salvage->last_task + 1; id++) {
		bool is_absent = id <= salvage->last_task && salvage->is_absent[id - salvage->first_task];

		if (is_absent && start == 0)
			start = id;
		if (is_absent || start == 0)
			continue;
		say(salvage, "tasks %llu to %llu: nothing is left of them: they are gone, or were cleaned away before",
		    (unsigned long long)start, (unsigned long long)id - 1);
		start = 0;
	}
}

static int put_tasks(struct salvage *salvage, struct err *err)
{
	int result = 0;

	for (uint64_t id = salvage->first_task; result == 0 && id <= salvage->last_task; id++)
		result = put_task(salvage, id, err);
	tell_absent(salvage);
	return result;
}

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

static int put_batches(struct salvage *salvage, struct err *err)
{
	int result = 0;

	for (uint64_t id = 1; result == 0 && id <= salvage->last_batch; id++) {
		struct store_batch row;
		struct source *source;

		if (salvage->is_batch_used[id] && fetch_any(salvage, ROW_BATCH, id, &row, &source) == FETCH_FOUND)
			result = insert(salvage, ROW_BATCH, id, &row, err);
	}
	return result;
}

/* A pause that cannot be read becomes one of everything: what it kept from starting does not start by itself. */
static int put_pauses(struct salvage *salvage, struct err *err)
{
	static const char reason[] = "a pause was lost with the database";
	struct store_pause everything = { .since_ms = salvage->options->now_ms, .reason = reason };
	struct source *newest = &salvage->sources[0];
	uint64_t count = 0;
	bool is_broken = false, is_all_paused = false;
	int result = 0;

	for (uint64_t batch = 0; result == 0 && batch <= salvage->last_batch; batch++) {
		struct store_pause row;
		enum fetched found = source_fetch(newest, ROW_PAUSE, batch, &row);

		is_broken = is_broken || found == FETCH_BROKEN;
		if (found != FETCH_FOUND)
			continue;
		count++;
		is_all_paused = is_all_paused || batch == 0;
		if (batch == 0 || salvage->is_batch_used[batch])
			result = insert(salvage, ROW_PAUSE, batch, &row, err);
	}
	is_broken = newest->has_meta ? count < newest->database.meta.pauses : is_broken;
	if (result < 0 || is_all_paused || !is_broken)
		return result;
	say(salvage, "a pause cannot be read: now everything is paused, 'drover unpause' ends that");
	return insert(salvage, ROW_PAUSE, 0, &everything, err);
}

static int put_keys(struct salvage *salvage, struct err *err)
{
	const struct source *newest = &salvage->sources[0];
	int result = 0;

	for (uint32_t i = 0; i < salvage->count; i++) {
		source_take_keys(&salvage->sources[i], &salvage->keys);
		if (salvage->sources[i].is_whole)
			break;
	}
	if (newest->has_meta && salvage->keys.count < newest->database.meta.answers)
		say(salvage, "%llu idempotency keys are gone: a client that submits again with one of them makes new tasks",
		    (unsigned long long)(newest->database.meta.answers - salvage->keys.count));
	for (size_t i = 0; i < salvage->keys.bucket_count; i++) {
		for (const struct keys_entry *entry = salvage->keys.buckets[i]; entry && result == 0; entry = entry->next) {
			struct row_answer row = { .key = entry->key, .at_ms = entry->at_ms, .answer = entry->answer };

			result = insert(salvage, ROW_ANSWER, 0, &row, err);
		}
	}
	return result;
}

/* The log as far back as it has no gap, and one more event; or only that one. */
static int put_events(struct salvage *salvage, struct err *err)
{
	bool has_log = salvage->top_seq == salvage->known_seq && salvage->log_start <= salvage->known_seq;
	uint64_t first = has_log ? salvage->log_start : salvage->top_seq + 1;
	struct store_event mark = { .at_ms = salvage->options->now_ms, .kind = "store.restored" };
	int result = 0;

	salvage->new.meta.first_seq = first;
	salvage->new.meta.last_seq = first - 1;
	if (!has_log && salvage->top_seq > 0)
		say(salvage, "the event log is gone: it goes on at event %llu", (unsigned long long)first);
	else if (first > 1)
		say(salvage, "the event log begins at event %llu", (unsigned long long)first);
	for (uint64_t seq = first; result == 0 && seq <= salvage->top_seq; seq++) {
		struct store_event row;
		struct source *source;

		if (fetch_any(salvage, ROW_EVENT, seq, &row, &source) != FETCH_FOUND)
			return err_say(err, -EIO, "event %llu could be read before and cannot now", (unsigned long long)seq);
		result = insert(salvage, ROW_EVENT, seq, &row, err);
	}
	mark.seq = salvage->top_seq + 1;
	return result < 0 ? result : insert(salvage, ROW_EVENT, mark.seq, &mark, err);
}

/* Ids go on where none was given out, whatever was lost; the clock is that of the newest source that has one. */
static void set_meta(struct salvage *salvage)
{
	const struct source *base = NULL;
	struct row_meta *meta = &salvage->new.meta;
	uint64_t unseen;

	for (uint32_t i = salvage->count; i-- > 0;)
		if (salvage->sources[i].is_open && salvage->sources[i].has_meta)
			base = &salvage->sources[i];
	unseen = salvage->top_seq - (base ? MIN(base->database.meta.last_seq, salvage->top_seq) : 0);
	salvage->result->unknown = salvage->top_seq - salvage->known_seq;
	meta->last_task = MAX(salvage->last_task, (base ? base->database.meta.last_task : 0) + unseen);
	meta->last_batch = MAX(salvage->last_batch, (base ? base->database.meta.last_batch : 0) + unseen);
	meta->core_last_ns = salvage->latest_ns;
	if (base) {
		meta->core_offset_ns = base->database.meta.core_offset_ns;
		meta->core_last_ns = MAX(base->database.meta.core_last_ns, salvage->latest_ns);
		meta->core_last_ms = base->database.meta.core_last_ms;
		memcpy(meta->boot_id, base->database.meta.boot_id, sizeof(meta->boot_id));
	}
	if (salvage->result->is_end_unknown)
		say(salvage,
		    "nothing tells how many events there were behind event %llu: what was submitted then is gone; ids go on "
		    "at %llu",
		    (unsigned long long)salvage->known_seq, (unsigned long long)meta->last_task + 1);
	else if (salvage->result->unknown > 0)
		say(salvage,
		    "%llu events behind event %llu are gone, and with them what was submitted then; ids go on at %llu",
		    (unsigned long long)salvage->result->unknown, (unsigned long long)salvage->known_seq,
		    (unsigned long long)meta->last_task + 1);
}

static int fill(struct salvage *salvage, struct err *err)
{
	int result = database_run(&salvage->new, "BEGIN IMMEDIATE", err);

	survey(salvage);
	if (result == 0)
		result = put_batches(salvage, err);
	if (result == 0)
		result = put_pauses(salvage, err);
	if (result == 0)
		result = put_tasks(salvage, err);
	if (result == 0)
		result = put_keys(salvage, err);
	if (result == 0)
		result = put_events(salvage, err);
	set_meta(salvage);
	if (result == 0)
		result = apply_meta(&salvage->new, err);
	return result < 0 ? result : database_run(&salvage->new, "COMMIT", err);
}

static int write_new(struct salvage *salvage, struct err *err)
{
	int result = database_open(&salvage->new, salvage->options->new_path, err);

	if (result == 0)
		result = schema_prepare(&salvage->new, 0, err);
	if (result == 0)
		result = database_start(&salvage->new, err);
	if (result == 0)
		result = fill(salvage, err);
	if (result == 0)
		result = database_empty_log(&salvage->new, err); /* the file goes into its place without it */
	database_done(&salvage->new, result == 0);
	return result;
}

/* What a start will find: it has to be what was written. */
static int read_new(struct salvage *salvage, struct err *err)
{
	static const struct store_loader no_loader;
	const struct row_meta *written = &salvage->new.meta;
	struct database database = { 0 };
	struct keys keys = { 0 };
	int result = database_open(&database, salvage->options->new_path, err);

	if (result == 0)
		result = schema_prepare(&database, 0, err);
	if (result == 0)
		result = load_all(&database, &no_loader, &keys, err);
	if (result == 0 && (database.meta.tasks != written->tasks || database.meta.last_seq != written->last_seq ||
	                    database.meta.state_sum != written->state_sum))
		result = err_say(err, -EIO, "%s was written with %llu tasks and shows %llu: try again", database.path,
		                 (unsigned long long)written->tasks, (unsigned long long)database.meta.tasks);
	keys_done(&keys);
	database_done(&database, result == 0);
	return result;
}

static int build(struct salvage *salvage, struct err *err)
{
	int result = write_new(salvage, err);

	return result < 0 ? result : read_new(salvage, err);
}

int salvage_build(const struct salvage_options *options, struct salvage_result *ret, struct err *err)
{
	struct salvage salvage = { .options = options, .result = ret };
	int result = -ENODATA;

	*ret = (struct salvage_result){ 0 };
	open_sources(&salvage);
	find_ranges(&salvage);
	if (salvage.sources[0].is_open) {
		read_events(&salvage);
		result = build(&salvage, err);
	} else {
		err_say(err, result, "nothing can be restored: neither the database nor a snapshot can be read");
	}
	for (uint32_t i = 0; i < salvage.count; i++)
		source_close(&salvage.sources[i]);
	free(salvage.sources);
	free(salvage.newest);
	free(salvage.is_gone);
	free(salvage.is_absent);
	free(salvage.is_slot_used);
	free(salvage.is_batch_used);
	keys_done(&salvage.keys);
	return result;
}
