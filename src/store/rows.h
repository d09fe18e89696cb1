/*
 * rows.h - the columns of every table, in one list each: from it come the SQL, the bytes of a row in a transaction, the
 * reading back and the checksum.
 *
 * Checksum of a row: crc32c over the table's name and then each listed column in order, as a tag byte and its value, so that
 * a changed type is seen as well as a changed value. The lists, the tags and the names are part of the file format: a change
 * to them is a migration (schema.c).
 */
#pragma once

#include <sqlite3.h>

#include "base/buf.h"
#include "store/store.h"

enum row_kind { ROW_META, ROW_BATCH, ROW_TASK, ROW_TASK_STATE, ROW_EVENT, ROW_ANSWER, ROW_PAUSE, ROW_MAX };

/* The one row of table meta. */
struct row_meta {
	uint64_t id; /* 1 */
	uint32_t schema_version;
	uint32_t schema_crc; /* of the text of the schema, see schema.c */
	uint64_t last_task;
	uint64_t last_batch;
	uint64_t last_seq;
	uint64_t first_seq;
	uint64_t core_offset_ns;
	uint64_t core_last_ns;
	int64_t core_last_ms;
	uint8_t boot_id[16];
	uint64_t batches; /* rows in the tables of these names, so that a vanished row is seen */
	uint64_t tasks;
	uint64_t answers;
	uint64_t pauses;
	uint64_t state_sum; /* sum of task_state.row_crc: shows a row that fell back to an older, valid version */
};

/* A row of table task (what never changes) and of task_state (what does) together. */
struct row_task {
	struct store_task task;   /* its dependency members are not columns */
	const char *dependencies; /* "12 13? 15": ids, '?' for is_any; NULL = none */
};

/* A row of table answer. */
struct row_answer {
	const char *key;
	int64_t at_ms;
	const char *answer;
};

/* Name of the table and number of its columns without row_crc. */
const char *rows_table(enum row_kind kind);
uint32_t rows_count_columns(enum row_kind kind);

/*
 * Text of a statement, to be freed: INSERT and UPDATE take the columns as ?1… and the checksum behind; UPDATE finds its row
 * by the first column. SELECT gives the columns and the checksum; `tail` follows it. rows_sql_select_first() gives only the
 * first `count` columns: those that a table had in an earlier version, since columns are only ever added behind the others.
 */
char *rows_sql_insert(enum row_kind kind);
char *rows_sql_update(enum row_kind kind);
char *rows_sql_select(enum row_kind kind, const char *tail);
char *rows_sql_select_first(enum row_kind kind, uint32_t count, const char *tail);

/* Adds the values of a row (of the struct that belongs to the kind) to *buf; returns their checksum. */
uint32_t rows_encode(enum row_kind kind, const void *row, struct buf *buf);

/* Binds the encoded values and the checksum. The bytes must stay until the statement was reset. */
void rows_bind(enum row_kind kind, sqlite3_stmt *statement, const char *bytes, size_t length, uint32_t crc);

/*
 * The checksum of a row that gets one more column, of a number, behind the others. What did not fit its row before does not
 * fit it after.
 */
uint32_t rows_append_checksum(uint32_t crc, int64_t value);

/*
 * Reads the row at which a SELECT made by rows_sql_select() or _first() stands. Texts point into the statement. Returns
 * 0, or -EILSEQ with a sentence that names table and row when the checksum is wrong or a value makes no sense.
 */
int rows_decode(enum row_kind kind, sqlite3_stmt *statement, void *row, struct err *err);
