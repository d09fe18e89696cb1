/*
 * apply.c - see apply.h. Keeps database->meta in step with the rows and writes it last, in the same transaction.
 */
#include "store/apply.h"

#include <errno.h>
#include <string.h>

/* Runs a cached statement that takes one number. */
static int step_with_id(struct database *database, enum statement statement, uint64_t id, struct err *err)
{
	int code;

	sqlite3_bind_int64(database->statements[statement], 1, (int64_t)id);
	code = database_step(database, statement);
	return code == 0 ? 0 : database_fail(database, code, err, "remove a row of %llu from", (unsigned long long)id);
}

/* The checksum that the task's state row has now. -ENOENT with a sentence when there is no such row. */
static int get_state_crc(struct database *database, uint64_t id, uint32_t *ret, struct err *err)
{
	sqlite3_stmt *statement = database->statements[STATEMENT_GET_STATE_CRC];
	int code;

	sqlite3_bind_int64(statement, 1, (int64_t)id);
	code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		*ret = (uint32_t)sqlite3_column_int64(statement, 0);
	sqlite3_reset(statement);
	if (code == SQLITE_DONE)
		return err_say(err, -ENOENT, "task %llu is not in %s", (unsigned long long)id, database->path);
	return code == SQLITE_ROW ? 0 : database_fail(database, code, err, "read task %llu of", (unsigned long long)id);
}

static int write_row(struct database *database, enum statement statement, const struct operation *operation,
                     const char *bytes, struct err *err)
{
	int code;

	rows_bind(operation->row, database->statements[statement], bytes, operation->size, operation->crc);
	code = database_step(database, statement);
	return code == 0 ? 0 : database_fail(database, code, err, "write %s %llu to", rows_table(operation->row),
	                                     (unsigned long long)operation->id);
}

/* Counts an inserted row. */
static void note_insert(struct row_meta *meta, const struct operation *operation)
{
	switch ((enum row_kind)operation->row) {
	case ROW_BATCH:
		meta->batches++;
		meta->last_batch = MAX(meta->last_batch, operation->id);
		return;
	case ROW_TASK:
		meta->tasks++;
		meta->last_task = MAX(meta->last_task, operation->id);
		return;
	case ROW_TASK_STATE:
		meta->state_sum += operation->crc;
		return;
	case ROW_EVENT:
		ASSERT(operation->id == meta->last_seq + 1);
		meta->last_seq = operation->id;
		return;
	case ROW_ANSWER:
		meta->answers++;
		return;
	case ROW_PAUSE:
		meta->pauses++;
		return;
	case ROW_META:
	case ROW_MAX:
		break;
	}
	NEVER("no such row is inserted");
}

static int update_state(struct database *database, const struct operation *operation, const char *bytes, struct err *err)
{
	uint32_t old_crc = 0;
	int result = get_state_crc(database, operation->id, &old_crc, err);

	if (result == 0)
		result = write_row(database, STATEMENT_UPDATE_STATE, operation, bytes, err);
	if (result == 0)
		database->meta.state_sum += (uint64_t)operation->crc - old_crc;
	return result;
}

static int forget_task(struct database *database, uint64_t id, struct err *err)
{
	uint32_t old_crc = 0;
	int result = get_state_crc(database, id, &old_crc, err);

	if (result == 0)
		result = step_with_id(database, STATEMENT_FORGET_STATE, id, err);
	if (result == 0)
		result = step_with_id(database, STATEMENT_FORGET_TASK, id, err);
	if (result < 0)
		return result;
	database->meta.state_sum -= old_crc;
	database->meta.tasks--;
	return 0;
}

static int forget_batch(struct database *database, uint64_t id, struct err *err)
{
	int result = step_with_id(database, STATEMENT_FORGET_BATCH, id, err);

	if (result < 0)
		return result;
	if (sqlite3_changes(database->handle) != 1)
		return err_say(err, -ENOENT, "batch %llu is not in %s", (unsigned long long)id, database->path);
	database->meta.batches--;
	return 0;
}

static int forget_pause(struct database *database, uint64_t batch, struct err *err)
{
	int result = step_with_id(database, STATEMENT_FORGET_PAUSE, batch, err);

	if (result == 0)
		database->meta.pauses -= (uint64_t)sqlite3_changes(database->handle);
	return result;
}

static int drop_events(struct database *database, uint64_t below_seq, struct err *err)
{
	struct row_meta *meta = &database->meta;
	int result = step_with_id(database, STATEMENT_DROP_EVENTS, MIN(below_seq, meta->last_seq + 1), err);

	if (result == 0)
		meta->first_seq = MAX(meta->first_seq, MIN(below_seq, meta->last_seq + 1));
	return result;
}

static int drop_answer(struct database *database, const char *key, struct err *err)
{
	int code;

	sqlite3_bind_text(database->statements[STATEMENT_DROP_ANSWER], 1, key, -1, SQLITE_STATIC);
	code = database_step(database, STATEMENT_DROP_ANSWER);
	if (code != 0)
		return database_fail(database, code, err, "remove an answer from");
	database->meta.answers -= (uint64_t)sqlite3_changes(database->handle);
	return 0;
}

static void set_clock(struct row_meta *meta, const char *bytes)
{
	struct store_facts facts;

	memcpy(&facts, bytes, sizeof(facts));
	meta->core_offset_ns = facts.core_offset_ns;
	meta->core_last_ns = facts.core_last_ns;
	meta->core_last_ms = facts.core_last_ms;
	memcpy(meta->boot_id, facts.boot_id, sizeof(meta->boot_id));
}

static int apply_operation(struct database *database, const struct operation *operation, const char *bytes, struct err *err)
{
	int result;

	switch ((enum operation_kind)operation->kind) {
	case OPERATION_INSERT:
		result = write_row(database, STATEMENT_INSERT + operation->row, operation, bytes, err);
		if (result == 0)
			note_insert(&database->meta, operation);
		return result;
	case OPERATION_UPDATE_STATE:
		return update_state(database, operation, bytes, err);
	case OPERATION_FORGET_TASK:
		return forget_task(database, operation->id, err);
	case OPERATION_FORGET_BATCH:
		return forget_batch(database, operation->id, err);
	case OPERATION_FORGET_PAUSE:
		return forget_pause(database, operation->id, err);
	case OPERATION_DROP_EVENTS:
		return drop_events(database, operation->id, err);
	case OPERATION_DROP_ANSWER:
		return drop_answer(database, bytes, err);
	case OPERATION_SET_CLOCK:
		set_clock(&database->meta, bytes);
		return 0;
	case OPERATION_PUT_BLOB:
	case OPERATION_DROP_BLOB:
		break;
	}
	NEVER("blobs lie in a buffer of their own");
}

static int apply_buffer(struct database *database, const struct buf *buf, struct err *err)
{
	struct operation operation;
	const char *bytes;
	size_t at = 0;
	int result = 0;

	while (result == 0 && txn_next(buf, &at, &operation, &bytes))
		result = apply_operation(database, &operation, bytes, err);
	return result;
}

int apply_insert(struct database *database, enum row_kind kind, uint64_t id, const void *row, struct err *err)
{
	struct operation operation = { .row = (uint8_t)kind, .id = id };
	int result;

	buf_clear(&database->scratch);
	operation.crc = rows_encode(kind, row, &database->scratch);
	operation.size = database->scratch.length;
	result = write_row(database, STATEMENT_INSERT + kind, &operation, database->scratch.bytes, err);
	if (result == 0)
		note_insert(&database->meta, &operation);
	return result;
}

int apply_meta(struct database *database, struct err *err)
{
	struct operation operation = { .row = ROW_META, .id = database->meta.id };

	buf_clear(&database->scratch);
	operation.crc = rows_encode(ROW_META, &database->meta, &database->scratch);
	operation.size = database->scratch.length;
	return write_row(database, STATEMENT_UPDATE_META, &operation, database->scratch.bytes, err);
}

int apply_txn(struct database *database, const struct store_txn *txn, struct err *err)
{
	struct row_meta before = database->meta;
	int code = database_step(database, STATEMENT_BEGIN);
	int result = code == 0 ? 0 : database_fail(database, code, err, "begin a transaction on");

	if (result == 0)
		result = apply_buffer(database, &txn->drops, err);
	if (result == 0)
		result = apply_buffer(database, &txn->operations, err);
	if (result == 0)
		result = apply_meta(database, err);
	if (result == 0)
		result = database_check_place(database, err);
	if (result == 0) {
		code = database_step(database, STATEMENT_COMMIT);
		result = code == 0 ? 0 : database_fail(database, code, err, "commit to");
		database_note_log(database);
	}
	/* In a write-ahead log nothing is written to undo: the pages are left behind the last commit, unread. */
	if (result < 0 && !sqlite3_get_autocommit(database->handle))
		(void)database_step(database, STATEMENT_ROLLBACK);
	if (result < 0)
		database->meta = before;
	return result;
}
