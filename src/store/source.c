#include "store/source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/load.h"
#include "store/schema.h"

enum { EXTREME_TRIES = 64 }; /* rows at an end of a table that are passed over because they are damaged */

enum fetched source_fetch(struct source *source, enum row_kind kind, uint64_t id, void *row)
{
	sqlite3_stmt *statement = source->get[kind];
	struct err err = ERR_INIT;
	int code;

	if (!statement)
		return FETCH_BROKEN;
	sqlite3_reset(statement);
	sqlite3_bind_int64(statement, 1, (int64_t)id);
	code = sqlite3_step(statement);
	if (code == SQLITE_DONE)
		return FETCH_ABSENT;
	if (code != SQLITE_ROW || rows_decode(kind, statement, row, &err) < 0)
		return FETCH_BROKEN;
	return FETCH_FOUND;
}

static bool is_valid(struct source *source, enum row_kind kind, uint64_t id)
{
	union {
		struct store_batch batch;
		struct store_event event;
		struct row_task task;
	} row;

	return source_fetch(source, kind, id, &row) == FETCH_FOUND;
}

/* The lowest (or highest) id of a table whose row is right; 0 when there is none near that end. */
static uint64_t find_extreme(struct source *source, enum row_kind kind, bool is_highest)
{
	const char *key = kind == ROW_EVENT ? "seq" : "id";
	CLEANUP_STATEMENT sqlite3_stmt *statement = NULL;
	struct err err = ERR_INIT;
	char sql[120];
	uint64_t id = 0;

	snprintf(sql, sizeof(sql), "SELECT %s FROM %s WHERE %s > 0 ORDER BY %s %s LIMIT %d", key, rows_table(kind), key, key,
	         is_highest ? "DESC" : "ASC", EXTREME_TRIES);
	if (database_prepare(&source->database, sql, &statement, &err) < 0)
		return 0;
	while (sqlite3_step(statement) == SQLITE_ROW) {
		id = (uint64_t)sqlite3_column_int64(statement, 0);
		if (is_valid(source, kind, id))
			return id;
	}
	return 0;
}

static void find_ranges(struct source *source)
{
	const struct row_meta *meta = &source->database.meta;
	uint64_t lowest_state = find_extreme(source, ROW_TASK_STATE, false);

	source->first_task = find_extreme(source, ROW_TASK, false);
	if (source->first_task == 0 || (lowest_state > 0 && lowest_state < source->first_task))
		source->first_task = lowest_state;
	source->last_task = MAX(find_extreme(source, ROW_TASK, true), find_extreme(source, ROW_TASK_STATE, true));
	source->last_batch = find_extreme(source, ROW_BATCH, true);
	source->first_event = find_extreme(source, ROW_EVENT, false);
	source->last_event = find_extreme(source, ROW_EVENT, true);
	source->last_seq = source->last_event;
	if (!source->has_meta)
		return;
	source->last_task = MAX(source->last_task, meta->last_task);
	source->last_batch = MAX(source->last_batch, meta->last_batch);
	source->last_seq = MAX(source->last_seq, meta->last_seq);
}

static void prepare_gets(struct source *source)
{
	static const enum row_kind kinds[] = { ROW_BATCH, ROW_TASK, ROW_TASK_STATE, ROW_EVENT, ROW_PAUSE };
	struct err err = ERR_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const char *key = kinds[i] == ROW_EVENT   ? "WHERE seq = ?1"
		                  : kinds[i] == ROW_PAUSE ? "WHERE batch = ?1"
		                                          : "WHERE id = ?1";
		char *sql = rows_sql_select(kinds[i], key);

		if (database_prepare(&source->database, sql, &source->get[kinds[i]], &err) < 0)
			source->get[kinds[i]] = NULL;
		free(sql);
	}
}

/* Our layout, brought up from an older one by schema_prepare() where that could be done. */
static bool has_schema(struct source *source)
{
	struct err err = ERR_INIT;
	int64_t version;

	return database_get_number(&source->database, "PRAGMA user_version", &version, &err) == 0 &&
	       version == schema_version();
}

static bool is_meta_right(struct source *source)
{
	CLEANUP_STATEMENT sqlite3_stmt *statement = NULL;
	struct row_meta meta = { 0 };
	struct err err = ERR_INIT;
	char *sql = rows_sql_select(ROW_META, "WHERE id = 1");
	int result = database_prepare(&source->database, sql, &statement, &err);

	free(sql);
	if (result < 0 || sqlite3_step(statement) != SQLITE_ROW || rows_decode(ROW_META, statement, &meta, &err) < 0)
		return false;
	source->database.meta = meta;
	return true;
}

void source_open(struct source *source, const char *path, const char *name)
{
	static const struct store_loader no_loader;
	struct keys keys = { 0 };
	int result;

	*source = (struct source){ .name = name };
	result = database_open(&source->database, path, &source->fault);
	if (result == 0)
		result = schema_prepare(&source->database, 0, &source->fault);
	source->is_open = source->database.handle && has_schema(source);
	if (!source->is_open)
		return;
	source->has_meta = is_meta_right(source);
	if (result == 0)
		result = load_all(&source->database, &no_loader, &keys, &source->fault);
	keys_done(&keys);
	source->is_whole = result == 0;
	prepare_gets(source);
	find_ranges(source);
}

void source_close(struct source *source)
{
	for (size_t i = 0; i < ARRAY_SIZE(source->get); i++)
		database_finalize(&source->get[i]);
	database_done(&source->database, false);
}

/* Scans in one direction until the end or the first damage. */
static uint64_t take_keys(struct source *source, struct keys *keys, const char *order)
{
	CLEANUP_STATEMENT sqlite3_stmt *statement = NULL;
	struct err err = ERR_INIT;
	char *sql = rows_sql_select(ROW_ANSWER, order);
	uint64_t count = 0;
	int result = database_prepare(&source->database, sql, &statement, &err);

	free(sql);
	while (result == 0 && sqlite3_step(statement) == SQLITE_ROW) {
		struct row_answer row = { 0 };

		if (rows_decode(ROW_ANSWER, statement, &row, &err) == 0 && row.key && row.answer &&
		    keys_add(keys, row.key, row.at_ms, row.answer))
			count++;
	}
	return count;
}

uint64_t source_take_keys(struct source *source, struct keys *keys)
{
	uint64_t count;

	if (!source->is_open)
		return 0;
	count = take_keys(source, keys, "ORDER BY key");
	return source->is_whole ? count : count + take_keys(source, keys, "ORDER BY key DESC");
}
