/*
 * rows.c - see rows.h. Knows values and columns; runs no statement.
 *
 * Unsigned 64-bit numbers are kept as SQLite's signed ones, bit by bit (NEVER_NS is −1 there). States, causes and priorities
 * are kept by name: their numbers may move when a .def file grows.
 */
#include "store/rows.h"

#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/crc32c.h"

enum value_tag { VALUE_NULL, VALUE_INTEGER, VALUE_TEXT, VALUE_BLOB };

enum column_kind { COLUMN_BOOL, COLUMN_U8, COLUMN_U32, COLUMN_I32, COLUMN_U64, COLUMN_I64, COLUMN_TEXT, COLUMN_BOOT_ID };

struct column {
	const char *name;
	uint16_t offset; /* of the member in the row's struct */
	uint8_t kind;    /* enum column_kind */
	uint8_t name_count;
	const char *const *names; /* of the values of a number kept by name; a number beyond them is NULL */
};

struct row_type {
	const char *table;
	const struct column *columns;
	uint32_t count;
};

static const char *const state_names[] = {
#define STATE(symbol, name, kind, meaning) name,
#include "core/task.def"
};

static const char *const cause_names[] = {
#define CAUSE(symbol, name, meaning) name,
#include "core/words.def"
};

static const char *const priority_names[] = {
#define PRIORITY(symbol, name, ageing) name,
#include "core/words.def"
};

_Static_assert(ARRAY_SIZE(state_names) == TASK_STATE_MAX, "the list of names is the enum");
_Static_assert(PHASE_MAX == 5, "phases are kept as numbers: a change to them is a migration");

#define KIND_OF(value)                                                                                                      \
	_Generic((value), bool: COLUMN_BOOL, uint8_t: COLUMN_U8, uint32_t: COLUMN_U32, int32_t: COLUMN_I32,                 \
		 uint64_t: COLUMN_U64, int64_t: COLUMN_I64, const char *: COLUMN_TEXT, uint8_t *: COLUMN_BOOT_ID)
#define COLUMN(row, member, sql_name)                                                                                       \
	{ .name = sql_name, .offset = offsetof(row, member), .kind = KIND_OF(((row *)NULL)->member) }
#define NAMED(row, member, sql_name, list)                                                                                  \
	{                                                                                                                   \
		.name = sql_name, .offset = offsetof(row, member), .kind = KIND_OF(((row *)NULL)->member), .names = list,   \
		.name_count = ARRAY_SIZE(list)                                                                              \
	}

static const struct column meta_columns[] = {
	COLUMN(struct row_meta, id, "id"),
	COLUMN(struct row_meta, schema_version, "schema_version"),
	COLUMN(struct row_meta, schema_crc, "schema_crc"),
	COLUMN(struct row_meta, last_task, "last_task"),
	COLUMN(struct row_meta, last_batch, "last_batch"),
	COLUMN(struct row_meta, last_seq, "last_seq"),
	COLUMN(struct row_meta, first_seq, "first_seq"),
	COLUMN(struct row_meta, core_offset_ns, "core_offset_ns"),
	COLUMN(struct row_meta, core_last_ns, "core_last_ns"),
	COLUMN(struct row_meta, core_last_ms, "core_last_ms"),
	COLUMN(struct row_meta, boot_id, "boot_id"),
	COLUMN(struct row_meta, batches, "batches"),
	COLUMN(struct row_meta, tasks, "tasks"),
	COLUMN(struct row_meta, answers, "answers"),
	COLUMN(struct row_meta, state_sum, "state_sum"),
	COLUMN(struct row_meta, pauses, "pauses"),
};

static const struct column batch_columns[] = {
	COLUMN(struct store_batch, id, "id"),
	COLUMN(struct store_batch, name, "name"),
	COLUMN(struct store_batch, spec, "spec"),
	COLUMN(struct store_batch, environment, "environment"),
	COLUMN(struct store_batch, created_ms, "created_ms"),
};

static const struct column task_columns[] = {
	COLUMN(struct row_task, task.task.id, "id"),
	COLUMN(struct row_task, task.task.batch, "batch"),
	COLUMN(struct row_task, task.name, "name"),
	COLUMN(struct row_task, task.task.timeout_ns, "timeout_ns"),
	COLUMN(struct row_task, task.task.grace_ns, "grace_ns"),
	COLUMN(struct row_task, task.task.backoff_ns, "backoff_ns"),
	COLUMN(struct row_task, task.task.retries_max, "retries_max"),
	COLUMN(struct row_task, task.task.flags, "flags"),
	COLUMN(struct row_task, task.task.created_ms, "created_ms"),
	COLUMN(struct row_task, dependencies, "dependencies"),
	COLUMN(struct row_task, task.spec, "spec"),
};

static const struct column task_state_columns[] = {
	COLUMN(struct row_task, task.task.id, "id"),
	NAMED(struct row_task, task.task.state, "state", state_names),
	NAMED(struct row_task, task.task.priority, "priority", priority_names),
	COLUMN(struct row_task, task.task.phase, "phase"),
	NAMED(struct row_task, task.task.outcome, "outcome", state_names),
	COLUMN(struct row_task, task.task.attempt, "attempt"),
	COLUMN(struct row_task, task.task.retries_used, "retries_used"),
	COLUMN(struct row_task, task.task.lost_used, "lost_used"),
	COLUMN(struct row_task, task.task.slot, "slot"),
	COLUMN(struct row_task, task.task.waits_for, "waits_for"),
	NAMED(struct row_task, task.task.cause.kind, "cause", cause_names),
	COLUMN(struct row_task, task.task.cause.value, "cause_value"),
	COLUMN(struct row_task, task.task.exit_code, "exit_code"),
	COLUMN(struct row_task, task.task.exit_signal, "exit_signal"),
	COLUMN(struct row_task, task.task.ready_ns, "ready_ns"),
	COLUMN(struct row_task, task.task.due_ns, "due_ns"),
	COLUMN(struct row_task, task.task.started_ns, "started_ns"),
	COLUMN(struct row_task, task.task.ran_ns, "ran_ns"),
	COLUMN(struct row_task, task.task.ended_ns, "ended_ns"),
	COLUMN(struct row_task, task.task.started_ms, "started_ms"),
	COLUMN(struct row_task, task.task.ended_ms, "ended_ms"),
	COLUMN(struct row_task, task.task.usage.is_known, "is_usage_known"),
	COLUMN(struct row_task, task.task.usage.cpu_us, "cpu_us"),
	COLUMN(struct row_task, task.task.usage.memory_peak_bytes, "memory_peak_bytes"),
	COLUMN(struct row_task, task.task.usage.output_bytes, "output_bytes"),
	COLUMN(struct row_task, task.task.usage.output_dropped_bytes, "output_dropped_bytes"),
	COLUMN(struct row_task, task.task.usage.strays, "strays"),
	COLUMN(struct row_task, task.nonce, "nonce"),
	COLUMN(struct row_task, task.detail, "detail"),
	COLUMN(struct row_task, task.result, "result"),
	COLUMN(struct row_task, task.task.marks, "marks"),
};

static const struct column event_columns[] = {
	COLUMN(struct store_event, seq, "seq"),     COLUMN(struct store_event, at_ms, "at_ms"),
	COLUMN(struct store_event, task, "task"),   COLUMN(struct store_event, batch, "batch"),
	COLUMN(struct store_event, kind, "kind"),   COLUMN(struct store_event, data, "data"),
};

static const struct column answer_columns[] = {
	COLUMN(struct row_answer, key, "key"),
	COLUMN(struct row_answer, at_ms, "at_ms"),
	COLUMN(struct row_answer, answer, "answer"),
};

static const struct column pause_columns[] = {
	COLUMN(struct store_pause, batch, "batch"),
	COLUMN(struct store_pause, since_ms, "since_ms"),
	COLUMN(struct store_pause, suspends, "suspends"),
	COLUMN(struct store_pause, who, "who"),
	COLUMN(struct store_pause, reason, "reason"),
};

#define ROW_TYPE(name, list) { .table = name, .columns = list, .count = ARRAY_SIZE(list) }

static const struct row_type row_types[ROW_MAX] = {
	[ROW_META] = ROW_TYPE("meta", meta_columns),
	[ROW_BATCH] = ROW_TYPE("batch", batch_columns),
	[ROW_TASK] = ROW_TYPE("task", task_columns),
	[ROW_TASK_STATE] = ROW_TYPE("task_state", task_state_columns),
	[ROW_EVENT] = ROW_TYPE("event", event_columns),
	[ROW_ANSWER] = ROW_TYPE("answer", answer_columns),
	[ROW_PAUSE] = ROW_TYPE("pause", pause_columns),
};

const char *rows_table(enum row_kind kind)
{
	ASSERT(kind < ROW_MAX);
	return row_types[kind].table;
}

uint32_t rows_count_columns(enum row_kind kind)
{
	ASSERT(kind < ROW_MAX);
	return row_types[kind].count;
}

char *rows_sql_insert(enum row_kind kind)
{
	const struct row_type *type = &row_types[kind];
	struct buf sql = BUF_INIT;

	buf_add_format(&sql, "INSERT INTO %s (", type->table);
	for (uint32_t i = 0; i < type->count; i++)
		buf_add_format(&sql, "%s, ", type->columns[i].name);
	buf_add_text(&sql, "row_crc) VALUES (");
	for (uint32_t i = 0; i < type->count; i++)
		buf_add_format(&sql, "?%u, ", i + 1);
	buf_add_format(&sql, "?%u)", type->count + 1);
	return buf_take(&sql);
}

char *rows_sql_update(enum row_kind kind)
{
	const struct row_type *type = &row_types[kind];
	struct buf sql = BUF_INIT;

	buf_add_format(&sql, "UPDATE %s SET ", type->table);
	for (uint32_t i = 1; i < type->count; i++)
		buf_add_format(&sql, "%s = ?%u, ", type->columns[i].name, i + 1);
	buf_add_format(&sql, "row_crc = ?%u WHERE %s = ?1", type->count + 1, type->columns[0].name);
	return buf_take(&sql);
}

char *rows_sql_select(enum row_kind kind, const char *tail)
{
	return rows_sql_select_first(kind, row_types[kind].count, tail);
}

char *rows_sql_select_first(enum row_kind kind, uint32_t count, const char *tail)
{
	const struct row_type *type = &row_types[kind];
	struct buf sql = BUF_INIT;

	ASSERT(count <= type->count);
	buf_add_text(&sql, "SELECT ");
	for (uint32_t i = 0; i < count; i++)
		buf_add_format(&sql, "%s, ", type->columns[i].name);
	buf_add_format(&sql, "row_crc FROM %s %s", type->table, tail);
	return buf_take(&sql);
}

/* The number in a member, whatever its width. */
static int64_t get_number(const struct column *column, const void *row)
{
	const void *at = (const char *)row + column->offset;

	switch ((enum column_kind)column->kind) {
	case COLUMN_BOOL:
		return *(const bool *)at;
	case COLUMN_U8:
		return *(const uint8_t *)at;
	case COLUMN_U32:
		return *(const uint32_t *)at;
	case COLUMN_I32:
		return *(const int32_t *)at;
	case COLUMN_U64:
		return (int64_t)*(const uint64_t *)at;
	case COLUMN_I64:
		return *(const int64_t *)at;
	case COLUMN_TEXT:
	case COLUMN_BOOT_ID:
		break;
	}
	NEVER("a text is not a number");
}

/* Sets a member; false when the number does not fit. */
static bool set_number(const struct column *column, void *row, int64_t value)
{
	void *at = (char *)row + column->offset;

	switch ((enum column_kind)column->kind) {
	case COLUMN_BOOL:
		*(bool *)at = value != 0;
		return value == 0 || value == 1;
	case COLUMN_U8:
		*(uint8_t *)at = (uint8_t)value;
		return value >= 0 && value <= UINT8_MAX;
	case COLUMN_U32:
		*(uint32_t *)at = (uint32_t)value;
		return value >= 0 && value <= UINT32_MAX;
	case COLUMN_I32:
		*(int32_t *)at = (int32_t)value;
		return value >= INT32_MIN && value <= INT32_MAX;
	case COLUMN_U64:
		*(uint64_t *)at = (uint64_t)value;
		return true;
	case COLUMN_I64:
		*(int64_t *)at = value;
		return true;
	case COLUMN_TEXT:
	case COLUMN_BOOT_ID:
		break;
	}
	NEVER("a text is not a number");
}

static void add_integer(struct buf *buf, int64_t value)
{
	char *at = buf_reserve(buf, 1 + sizeof(value));

	at[0] = VALUE_INTEGER;
	memcpy(at + 1, &value, sizeof(value));
	at[1 + sizeof(value)] = '\0';
	buf->length += 1 + sizeof(value);
}

static void add_bytes(struct buf *buf, enum value_tag tag, const void *bytes, size_t length)
{
	uint32_t short_length = (uint32_t)length;
	char *at = buf_reserve(buf, 1 + sizeof(short_length) + length);

	ASSERT(length < INT32_MAX);
	at[0] = (char)tag;
	memcpy(at + 1, &short_length, sizeof(short_length));
	memcpy(at + 1 + sizeof(short_length), bytes, length);
	at[1 + sizeof(short_length) + length] = '\0';
	buf->length += 1 + sizeof(short_length) + length;
}

static void add_text(struct buf *buf, const char *text)
{
	if (text)
		add_bytes(buf, VALUE_TEXT, text, strlen(text));
	else
		buf_add_byte(buf, VALUE_NULL);
}

static uint32_t start_checksum(enum row_kind kind)
{
	return crc32c(0, row_types[kind].table, strlen(row_types[kind].table));
}

uint32_t rows_encode(enum row_kind kind, const void *row, struct buf *buf)
{
	const struct row_type *type = &row_types[kind];
	size_t start = buf->length;

	for (uint32_t i = 0; i < type->count; i++) {
		const struct column *column = &type->columns[i];
		const char *at = (const char *)row + column->offset;

		if (column->kind == COLUMN_TEXT) {
			add_text(buf, *(const char *const *)(const void *)at);
		} else if (column->kind == COLUMN_BOOT_ID) {
			add_bytes(buf, VALUE_BLOB, at, 16);
		} else if (column->names) {
			int64_t number = get_number(column, row);

			add_text(buf, number < column->name_count ? column->names[number] : NULL);
		} else {
			add_integer(buf, get_number(column, row));
		}
	}
	return crc32c(start_checksum(kind), buf->bytes + start, buf->length - start);
}

void rows_bind(enum row_kind kind, sqlite3_stmt *statement, const char *bytes, size_t length, uint32_t crc)
{
	const char *end = bytes + length;
	int count = (int)rows_count_columns(kind);

	for (int i = 1; i <= count; i++) {
		enum value_tag tag = (enum value_tag)*bytes++;

		if (tag == VALUE_NULL) {
			sqlite3_bind_null(statement, i);
		} else if (tag == VALUE_INTEGER) {
			int64_t value;

			memcpy(&value, bytes, sizeof(value));
			sqlite3_bind_int64(statement, i, value);
			bytes += sizeof(value);
		} else {
			uint32_t size;

			memcpy(&size, bytes, sizeof(size));
			bytes += sizeof(size);
			if (tag == VALUE_TEXT)
				sqlite3_bind_text(statement, i, bytes, (int)size, SQLITE_STATIC);
			else
				sqlite3_bind_blob(statement, i, bytes, (int)size, SQLITE_STATIC);
			bytes += size;
		}
	}
	sqlite3_bind_int64(statement, count + 1, crc);
	ASSERT(bytes == end);
}

/* Goes on with a checksum over column `i` of the row, in the form of add_integer() and add_bytes(). */
static uint32_t checksum_column(uint32_t crc, sqlite3_stmt *statement, int i)
{
	int type = sqlite3_column_type(statement, i);
	bool is_text = type == SQLITE_TEXT;
	char head[1 + sizeof(int64_t)];
	const void *bytes;
	uint32_t length;

	if (type == SQLITE_NULL) {
		head[0] = VALUE_NULL;
		return crc32c(crc, head, 1);
	}
	if (type == SQLITE_INTEGER) {
		int64_t value = sqlite3_column_int64(statement, i);

		head[0] = VALUE_INTEGER;
		memcpy(head + 1, &value, sizeof(value));
		return crc32c(crc, head, sizeof(head));
	}
	bytes = is_text ? sqlite3_column_text(statement, i) : sqlite3_column_blob(statement, i);
	length = (uint32_t)sqlite3_column_bytes(statement, i);
	head[0] = (char)(is_text ? VALUE_TEXT : type == SQLITE_BLOB ? VALUE_BLOB : -1);
	memcpy(head + 1, &length, sizeof(length));
	crc = crc32c(crc, head, 1 + sizeof(length));
	return bytes ? crc32c(crc, bytes, length) : crc;
}

uint32_t rows_append_checksum(uint32_t crc, int64_t value)
{
	char bytes[1 + sizeof(value)] = { VALUE_INTEGER };

	memcpy(bytes + 1, &value, sizeof(value));
	return crc32c(crc, bytes, sizeof(bytes));
}

static bool find_name(const struct column *column, const char *name, int64_t *ret)
{
	if (!name) {
		*ret = column->name_count;
		return true;
	}
	for (int64_t i = 0; i < column->name_count; i++) {
		if (strcmp(column->names[i], name) == 0) {
			*ret = i;
			return true;
		}
	}
	return false;
}

/* Sets the member of one column from the row; false when the value makes no sense. */
static bool decode_column(const struct column *column, sqlite3_stmt *statement, int i, void *row)
{
	int type = sqlite3_column_type(statement, i);
	char *at = (char *)row + column->offset;
	int64_t number;

	if (column->kind == COLUMN_BOOT_ID) {
		if (type != SQLITE_BLOB || sqlite3_column_bytes(statement, i) != 16)
			return false;
		memcpy(at, sqlite3_column_blob(statement, i), 16);
		return true;
	}
	if (column->kind == COLUMN_TEXT) {
		*(const char **)(void *)at = type == SQLITE_NULL ? NULL : (const char *)sqlite3_column_text(statement, i);
		return type == SQLITE_NULL || type == SQLITE_TEXT;
	}
	if (column->names)
		return (type == SQLITE_NULL || type == SQLITE_TEXT) &&
		       find_name(column, (const char *)sqlite3_column_text(statement, i), &number) &&
		       set_number(column, row, number);
	return type == SQLITE_INTEGER && set_number(column, row, sqlite3_column_int64(statement, i));
}

/* The sentence for row `statement` stands at. Last use of the row: reading the key as text may change its type. */
static int say_damage(enum row_kind kind, sqlite3_stmt *statement, struct err *err, const char *what)
{
	const char *key = (const char *)sqlite3_column_text(statement, 0);

	return err_say(err, -EILSEQ, "in table %s, row %s: %s", rows_table(kind), key ? key : "?", what);
}

int rows_decode(enum row_kind kind, sqlite3_stmt *statement, void *row, struct err *err)
{
	const struct row_type *type = &row_types[kind];
	int count = sqlite3_column_count(statement) - 1;
	uint32_t crc = start_checksum(kind);

	ASSERT(count > 0 && count <= (int)type->count);
	for (int i = 0; i < count; i++)
		crc = checksum_column(crc, statement, i);
	if (sqlite3_column_type(statement, count) != SQLITE_INTEGER || sqlite3_column_int64(statement, count) != crc)
		return say_damage(kind, statement, err, "the checksum is wrong");
	for (int i = 0; i < count; i++)
		if (!decode_column(&type->columns[i], statement, i, row))
			return say_damage(kind, statement, err, "a value makes no sense");
	return 0;
}
