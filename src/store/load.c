/*
 * load.c - see load.h.
 *
 * Tasks come in the order (ready_ns, id), which the core wants: the order is made here from 16 bytes a task, since a sort in
 * SQL would carry whole rows and knows no unsigned numbers.
 */
#include "store/load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

struct place {
	uint64_t ready_ns;
	uint64_t id;
};

struct loading {
	struct database *database;
	const struct store_loader *loader;
	struct keys *keys;
	struct err *err;
	uint64_t *batches; /* ids, ascending */
	uint64_t batch_count;
	uint64_t pauses;
	uint64_t *tasks; /* ids, ascending */
	struct place *order;
	uint64_t task_count;
	uint64_t capacity;   /* of tasks and order */
	uint64_t next_seq;   /* expected of the next event */
	uint64_t answers;
	uint64_t state_sum;
	sqlite3_stmt *get_task;
	sqlite3_stmt *get_state;
	struct store_dependency *dependencies;
	uint32_t dependency_capacity;
};

/* Wraps a sentence of rows_decode() into the one for damage. */
static int fail_row(struct loading *loading)
{
	struct err inner = *loading->err;

	return database_say_damaged(loading->database, loading->err, "%s", inner.text);
}

/* Runs `sql` and gives each row to `take`, which returns 0 or an error. */
static int each_row(struct loading *loading, const char *sql, int (*take)(struct loading *loading, sqlite3_stmt *row))
{
	CLEANUP_STATEMENT sqlite3_stmt *statement = NULL;
	int result = database_prepare(loading->database, sql, &statement, loading->err);
	int code = SQLITE_DONE;

	while (result == 0 && (code = sqlite3_step(statement)) == SQLITE_ROW)
		result = take(loading, statement);
	if (result == 0 && code != SQLITE_DONE)
		result = database_fail(loading->database, code, loading->err, "read");
	return result;
}

static int each_whole_row(struct loading *loading, enum row_kind kind, const char *tail,
                          int (*take)(struct loading *loading, sqlite3_stmt *row))
{
	CLEANUP_FREE char *sql = rows_sql_select(kind, tail);

	return each_row(loading, sql, take);
}

static int take_event(struct loading *loading, sqlite3_stmt *row)
{
	struct store_event event;

	if (rows_decode(ROW_EVENT, row, &event, loading->err) < 0)
		return fail_row(loading);
	if (event.seq != loading->next_seq)
		return database_say_damaged(loading->database, loading->err, "in table event, row %llu: event %llu is "
		                            "missing before it", (unsigned long long)event.seq,
		                            (unsigned long long)loading->next_seq);
	loading->next_seq++;
	return 0;
}

static int load_events(struct loading *loading)
{
	const struct row_meta *meta = &loading->database->meta;
	int result;

	loading->next_seq = meta->first_seq;
	result = each_whole_row(loading, ROW_EVENT, "ORDER BY seq", take_event);
	if (result == 0 && loading->next_seq != meta->last_seq + 1)
		return database_say_damaged(loading->database, loading->err, "in table event, row %llu: the log goes on to "
		                            "%llu, but this event is missing", (unsigned long long)loading->next_seq,
		                            (unsigned long long)meta->last_seq);
	return result;
}

static int take_answer(struct loading *loading, sqlite3_stmt *row)
{
	struct row_answer answer;

	if (rows_decode(ROW_ANSWER, row, &answer, loading->err) < 0)
		return fail_row(loading);
	if (!answer.key || !answer.answer || !keys_add(loading->keys, answer.key, answer.at_ms, answer.answer))
		return database_say_damaged(loading->database, loading->err, "in table answer: a key is there twice");
	loading->answers++;
	return 0;
}

/* What SQLite itself finds: pages used twice, broken trees, free pages that are not free. */
static int take_check(struct loading *loading, sqlite3_stmt *row)
{
	const char *text = (const char *)sqlite3_column_text(row, 0);

	if (text && strcmp(text, "ok") == 0)
		return 0;
	return database_say_damaged(loading->database, loading->err, "SQLite's check says: %.200s", text ? text : "?");
}

static int take_batch(struct loading *loading, sqlite3_stmt *row)
{
	struct store_batch batch;

	if (rows_decode(ROW_BATCH, row, &batch, loading->err) < 0)
		return fail_row(loading);
	if (loading->batch_count == loading->database->meta.batches)
		return database_say_damaged(loading->database, loading->err, "in table batch, row %llu: %llu rows were "
		                            "expected in all", (unsigned long long)batch.id,
		                            (unsigned long long)loading->batch_count);
	loading->batches[loading->batch_count++] = batch.id;
	if (loading->loader->on_batch)
		loading->loader->on_batch(loading->loader->context, &batch);
	return 0;
}

static int compare_ids(const void *left, const void *right)
{
	const uint64_t *a = left, *b = right;

	return *a < *b ? -1 : *a > *b;
}

static bool has_batch(const struct loading *loading, uint64_t id)
{
	return bsearch(&id, loading->batches, loading->batch_count, sizeof(uint64_t), compare_ids) != NULL;
}

static int take_pause(struct loading *loading, sqlite3_stmt *row)
{
	struct store_pause pause;

	if (rows_decode(ROW_PAUSE, row, &pause, loading->err) < 0)
		return fail_row(loading);
	if (pause.batch != 0 && !has_batch(loading, pause.batch))
		return database_say_damaged(loading->database, loading->err, "in table pause, row %llu: its batch is "
		                            "missing",
		                            (unsigned long long)pause.batch);
	loading->pauses++;
	if (loading->loader->on_pause)
		loading->loader->on_pause(loading->loader->context, &pause);
	return 0;
}

/* Only sorts and sums: the row is verified when it is read whole. */
static int take_place(struct loading *loading, sqlite3_stmt *row)
{
	uint64_t id = (uint64_t)sqlite3_column_int64(row, 0);

	if (loading->task_count == loading->capacity)
		return database_say_damaged(loading->database, loading->err, "in table task_state, row %llu: %llu rows were "
		                            "expected in all", (unsigned long long)id,
		                            (unsigned long long)loading->capacity);
	loading->tasks[loading->task_count] = id;
	loading->order[loading->task_count++] = (struct place){ (uint64_t)sqlite3_column_int64(row, 1), id };
	loading->state_sum += (uint64_t)sqlite3_column_int64(row, 2);
	return 0;
}

static int compare_places(const void *left, const void *right)
{
	const struct place *a = left, *b = right;

	if (a->ready_ns != b->ready_ns)
		return a->ready_ns < b->ready_ns ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

/*
 * Reads "12 13? 15" into loading->dependencies, leaving out tasks that were forgotten: ids are never used again, so a name
 * of a task that is not there is one. False when the text makes no sense.
 */
static bool parse_dependencies(struct loading *loading, const char *text, uint32_t *ret_count)
{
	uint32_t count = 0;

	while (text && *text) {
		struct store_dependency dependency = { 0 };
		char *end;

		errno = 0;
		dependency.task = strtoull(text, &end, 10);
		if (end == text || errno != 0)
			return false;
		dependency.is_any = *end == '?';
		text = end + dependency.is_any;
		if (*text != ' ' && *text != '\0')
			return false;
		text += *text == ' ';
		if (!bsearch(&dependency.task, loading->tasks, loading->task_count, sizeof(uint64_t), compare_ids))
			continue;
		if (count == loading->dependency_capacity) {
			loading->dependency_capacity = MAX(16U, 2 * count);
			loading->dependencies =
				xrealloc(loading->dependencies, loading->dependency_capacity * sizeof(dependency));
		}
		loading->dependencies[count++] = dependency;
	}
	*ret_count = count;
	return true;
}

/* Steps `statement` to the row `id` of a table. 0 or an error. */
static int seek_row(struct loading *loading, sqlite3_stmt *statement, uint64_t id, enum row_kind kind, struct row_task *row)
{
	int code;

	sqlite3_bind_int64(statement, 1, (int64_t)id);
	code = sqlite3_step(statement);
	if (code == SQLITE_DONE)
		return database_say_damaged(loading->database, loading->err, "in table %s, row %llu is missing",
		                            rows_table(kind), (unsigned long long)id);
	if (code != SQLITE_ROW)
		return database_fail(loading->database, code, loading->err, "read task %llu of", (unsigned long long)id);
	return rows_decode(kind, statement, row, loading->err) < 0 ? fail_row(loading) : 0;
}

static int load_task(struct loading *loading, uint64_t id)
{
	struct row_task row = { 0 };
	struct store_task *task = &row.task;
	int result = seek_row(loading, loading->get_task, id, ROW_TASK, &row);

	if (result == 0)
		result = seek_row(loading, loading->get_state, id, ROW_TASK_STATE, &row);
	if (result < 0)
		return result;
	if (task->task.state >= TASK_STATE_MAX || task->task.priority >= PRIORITY_MAX ||
	    task->task.cause.kind >= CAUSE_MAX || task->task.phase >= PHASE_MAX ||
	    !parse_dependencies(loading, row.dependencies, &task->dependency_count))
		return database_say_damaged(loading->database, loading->err, "task %llu: a value makes no sense",
		                            (unsigned long long)id);
	if (task->task.batch != 0 && !has_batch(loading, task->task.batch))
		return database_say_damaged(loading->database, loading->err, "in table task, row %llu: its batch %llu "
		                            "is missing",
		                            (unsigned long long)id, (unsigned long long)task->task.batch);
	task->dependencies = task->dependency_count > 0 ? loading->dependencies : NULL;
	if (loading->loader->on_task)
		loading->loader->on_task(loading->loader->context, task);
	sqlite3_reset(loading->get_task);
	sqlite3_reset(loading->get_state);
	return 0;
}

static int load_tasks(struct loading *loading)
{
	CLEANUP_FREE char *get_task = rows_sql_select(ROW_TASK, "WHERE id = ?1");
	CLEANUP_FREE char *get_state = rows_sql_select(ROW_TASK_STATE, "WHERE id = ?1");
	int result = each_row(loading, "SELECT id, ready_ns, row_crc FROM task_state ORDER BY id", take_place);

	if (result == 0)
		result = database_prepare(loading->database, get_task, &loading->get_task, loading->err);
	if (result == 0)
		result = database_prepare(loading->database, get_state, &loading->get_state, loading->err);
	if (result < 0)
		return result;
	qsort(loading->order, loading->task_count, sizeof(*loading->order), compare_places);
	for (uint64_t i = 0; result == 0 && i < loading->task_count; i++)
		result = load_task(loading, loading->order[i].id);
	return result;
}

/* Compares what was read with what table meta says there must be. */
static int check_counts(struct loading *loading)
{
	const struct row_meta *meta = &loading->database->meta;
	int64_t tasks = 0;
	int result = database_get_number(loading->database, "SELECT count(*) FROM task", &tasks, loading->err);

	if (result < 0)
		return result;
	if (loading->batch_count != meta->batches || loading->task_count != meta->tasks || (uint64_t)tasks != meta->tasks ||
	    loading->answers != meta->answers)
		return database_say_damaged(loading->database, loading->err, "rows are missing: %llu of %llu batches, %llu "
		                            "and %lld of %llu tasks, %llu of %llu answers are there",
		                            (unsigned long long)loading->batch_count, (unsigned long long)meta->batches,
		                            (unsigned long long)loading->task_count, (long long)tasks,
		                            (unsigned long long)meta->tasks, (unsigned long long)loading->answers,
		                            (unsigned long long)meta->answers);
	if (loading->pauses != meta->pauses)
		return database_say_damaged(loading->database, loading->err, "rows are missing: %llu of %llu pauses "
		                            "are there",
		                            (unsigned long long)loading->pauses, (unsigned long long)meta->pauses);
	if (loading->state_sum != meta->state_sum)
		return database_say_damaged(loading->database, loading->err, "in table task_state, a row is older than the "
		                            "rest: a write was lost");
	return 0;
}

/* Room for as many rows as table meta announces: it has a checksum, so the number can be believed, within reason. */
static int reserve(struct loading *loading)
{
	const struct row_meta *meta = &loading->database->meta;

	if (meta->tasks > INT32_MAX || meta->batches > INT32_MAX || meta->first_seq > meta->last_seq + 1)
		return database_say_damaged(loading->database, loading->err, "table meta makes no sense");
	loading->capacity = meta->tasks;
	loading->tasks = xcalloc(meta->tasks, sizeof(*loading->tasks));
	loading->order = xcalloc(meta->tasks, sizeof(*loading->order));
	loading->batches = xcalloc(meta->batches, sizeof(*loading->batches));
	return 0;
}

int load_all(struct database *database, const struct store_loader *loader, struct keys *keys, struct err *err)
{
	struct loading loading = { .database = database, .loader = loader, .keys = keys, .err = err };
	int result = reserve(&loading);

	if (result == 0)
		result = each_row(&loading, "PRAGMA quick_check(1)", take_check);
	if (result == 0)
		result = load_events(&loading);
	if (result == 0)
		result = each_whole_row(&loading, ROW_ANSWER, "", take_answer);
	if (result == 0)
		result = each_whole_row(&loading, ROW_BATCH, "ORDER BY id", take_batch);
	if (result == 0)
		result = each_whole_row(&loading, ROW_PAUSE, "ORDER BY batch", take_pause);
	if (result == 0)
		result = load_tasks(&loading);
	if (result == 0)
		result = check_counts(&loading);
	sqlite3_finalize(loading.get_task);
	sqlite3_finalize(loading.get_state);
	free(loading.batches);
	free(loading.tasks);
	free(loading.order);
	free(loading.dependencies);
	return result;
}
