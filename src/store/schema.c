/*
 * schema.c - see schema.h.
 *
 * migrations[n] brings version n to n + 1. One that was released is never edited: a new column, state or constraint is a new
 * migration (a changed list of states means a new CHECK: make the table anew and copy it). The text of the whole schema
 * has a checksum in table meta, so that a damaged CHECK is not found by the first task that fails it.
 */
#include "store/schema.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"

/* "drov": tells file(1) and us whose the file is. */
#define APPLICATION_ID 0x64726f76

static const char migration_1[] =
	"CREATE TABLE meta ("
	" id INTEGER PRIMARY KEY CHECK (id = 1), schema_version INTEGER NOT NULL, schema_crc INTEGER NOT NULL,"
	" last_task INTEGER NOT NULL, last_batch INTEGER NOT NULL, last_seq INTEGER NOT NULL, first_seq INTEGER NOT NULL,"
	" core_offset_ns INTEGER NOT NULL, core_last_ns INTEGER NOT NULL, core_last_ms INTEGER NOT NULL,"
	" boot_id BLOB NOT NULL, batches INTEGER NOT NULL, tasks INTEGER NOT NULL, answers INTEGER NOT NULL,"
	" state_sum INTEGER NOT NULL, row_crc INTEGER NOT NULL);"
	"CREATE TABLE batch ("
	" id INTEGER PRIMARY KEY, name TEXT, spec TEXT, environment TEXT, created_ms INTEGER NOT NULL,"
	" row_crc INTEGER NOT NULL);"
	/* What is set at submission; apart from what changes, so that a change of state writes a small row. */
	"CREATE TABLE task ("
	" id INTEGER PRIMARY KEY, batch INTEGER NOT NULL, name TEXT, timeout_ns INTEGER NOT NULL, grace_ns INTEGER NOT NULL,"
	" backoff_ns INTEGER NOT NULL, retries_max INTEGER NOT NULL, flags INTEGER NOT NULL, created_ms INTEGER NOT NULL,"
	" dependencies TEXT, spec TEXT, row_crc INTEGER NOT NULL);"
	"CREATE TABLE task_state ("
	" id INTEGER PRIMARY KEY,"
	" state TEXT NOT NULL CHECK (0"
#define STATE(symbol, name, kind, meaning) " OR state = '" name "'"
#include "core/task.def"
	"),"
	" priority TEXT NOT NULL, phase INTEGER NOT NULL, outcome TEXT, attempt INTEGER NOT NULL,"
	" retries_used INTEGER NOT NULL, lost_used INTEGER NOT NULL, slot INTEGER NOT NULL, waits_for INTEGER NOT NULL,"
	" cause TEXT NOT NULL, cause_value INTEGER NOT NULL, exit_code INTEGER NOT NULL, exit_signal INTEGER NOT NULL,"
	" ready_ns INTEGER NOT NULL, due_ns INTEGER NOT NULL, started_ns INTEGER NOT NULL, ran_ns INTEGER NOT NULL,"
	" ended_ns INTEGER NOT NULL, started_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL,"
	" is_usage_known INTEGER NOT NULL, cpu_us INTEGER NOT NULL, memory_peak_bytes INTEGER NOT NULL,"
	" output_bytes INTEGER NOT NULL, output_dropped_bytes INTEGER NOT NULL, strays INTEGER NOT NULL,"
	" nonce INTEGER NOT NULL, detail TEXT, result TEXT, row_crc INTEGER NOT NULL);"
	"CREATE TABLE event ("
	" seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, task INTEGER NOT NULL, batch INTEGER NOT NULL,"
	" kind TEXT NOT NULL, data TEXT, row_crc INTEGER NOT NULL);"
	"CREATE TABLE answer ("
	" key TEXT NOT NULL PRIMARY KEY, at_ms INTEGER NOT NULL, answer TEXT NOT NULL,"
	" row_crc INTEGER NOT NULL) WITHOUT ROWID;";

/* What the core notes of an attempt outlives the daemon; pauses do. */
static const char migration_2[] =
	"ALTER TABLE task_state ADD COLUMN marks INTEGER NOT NULL DEFAULT 0;"
	"UPDATE task_state SET row_crc = append_checksum(row_crc, marks);"
	"ALTER TABLE meta ADD COLUMN pauses INTEGER NOT NULL DEFAULT 0;"
	"CREATE TABLE pause ("
	" batch INTEGER PRIMARY KEY, since_ms INTEGER NOT NULL, suspends INTEGER NOT NULL, who TEXT, reason TEXT,"
	" row_crc INTEGER NOT NULL);";

struct migration {
	const char *sql;       /* may call append_checksum(row_crc, column) for a column that is added behind the others */
	uint32_t meta_columns; /* of table meta before it, besides row_crc */
};

static const struct migration migrations[] = { { migration_1, 0 }, { migration_2, 15 } };

uint32_t schema_version(void)
{
	return ARRAY_SIZE(migrations);
}

/* Checksum of the schema's text as SQLite keeps it. 0 or -errno. */
static int get_schema_crc(struct database *database, uint32_t *ret, struct err *err)
{
	CLEANUP_STATEMENT sqlite3_stmt *statement = NULL;
	uint32_t crc = 0;
	int code;
	int result = database_prepare(database, "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name",
	                              &statement, err);

	if (result < 0)
		return result;
	while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
		for (int i = 0; i < 4; i++) {
			const char *text = (const char *)sqlite3_column_text(statement, i);

			crc = crc32c(crc, text ? text : "", text ? strlen(text) + 1 : 1);
		}
	}
	if (code != SQLITE_DONE)
		return database_fail(database, code, err, "read the schema of");
	*ret = crc;
	return 0;
}

/* Reads the first `columns` of table meta; the members of later ones stay. */
static int load_meta(struct database *database, uint32_t columns, struct err *err)
{
	CLEANUP_STATEMENT sqlite3_stmt *statement = NULL;
	char *sql = rows_sql_select_first(ROW_META, columns, "WHERE id = 1");
	int result = database_prepare(database, sql, &statement, err);
	int code;

	free(sql);
	if (result < 0)
		return result;
	code = sqlite3_step(statement);
	if (code == SQLITE_DONE)
		return database_say_damaged(database, err, "table meta is empty");
	if (code != SQLITE_ROW)
		return database_fail(database, code, err, "read");
	if (rows_decode(ROW_META, statement, &database->meta, err) < 0) {
		struct err inner = *err;

		return database_say_damaged(database, err, "%s", inner.text);
	}
	return 0;
}

/* Writes the meta row of the version that was just made. */
static int save_meta(struct database *database, bool is_new, struct err *err)
{
	struct row_meta *meta = &database->meta;
	CLEANUP_STATEMENT sqlite3_stmt *statement = NULL;
	char *sql = is_new ? rows_sql_insert(ROW_META) : rows_sql_update(ROW_META);
	int result = database_prepare(database, sql, &statement, err);
	uint32_t crc;
	int code;

	free(sql);
	if (result == 0)
		result = get_schema_crc(database, &meta->schema_crc, err);
	if (result < 0)
		return result;
	meta->schema_version = schema_version();
	buf_clear(&database->scratch);
	crc = rows_encode(ROW_META, meta, &database->scratch);
	rows_bind(ROW_META, statement, database->scratch.bytes, database->scratch.length, crc);
	code = sqlite3_step(statement);
	return code == SQLITE_DONE ? 0 : database_fail(database, code, err, "set up");
}

static void append_checksum(sqlite3_context *context, int count UNUSED, sqlite3_value **values)
{
	uint32_t crc = (uint32_t)sqlite3_value_int64(values[0]);

	sqlite3_result_int64(context, rows_append_checksum(crc, sqlite3_value_int64(values[1])));
}

/* -EILSEQ when the database is not one of `version` as this program knows it. */
static int check_before(struct database *database, uint32_t version, struct err *err)
{
	uint32_t crc = 0;
	int result = load_meta(database, migrations[version].meta_columns, err);

	if (result == 0)
		result = get_schema_crc(database, &crc, err);
	if (result == 0 && (database->meta.schema_version != version || database->meta.schema_crc != crc))
		return database_say_damaged(database, err, "its schema is not that of version %u", version);
	return result;
}

/*
 * One migration. The sum of the checksums moves by as much as they do: a write that was lost before is missed after, too.
 */
static int migrate_once(struct database *database, uint32_t version, struct err *err)
{
	static const char sum[] = "SELECT coalesce(sum(row_crc), 0) FROM task_state";
	int64_t before = 0, after = 0;
	int result = version > 0 ? database_get_number(database, sum, &before, err) : 0;

	if (result == 0)
		result = database_run(database, migrations[version].sql, err);
	if (result == 0)
		result = database_get_number(database, sum, &after, err);
	database->meta.state_sum += (uint64_t)after - (uint64_t)before;
	return result;
}

/* Runs the migrations from `version` on, in one transaction that a failure leaves open: the connection is closed then. */
static int migrate(struct database *database, uint32_t version, struct err *err)
{
	bool is_new = version == 0;
	char pragma[64];
	int result = database_run(database, "BEGIN IMMEDIATE", err);

	if (result == 0 && sqlite3_create_function(database->handle, "append_checksum", 2, SQLITE_UTF8 | SQLITE_DIRECTONLY,
	                                           NULL, append_checksum, NULL, NULL) != SQLITE_OK)
		return err_say(err, -ENOMEM, "out of memory while %s is brought up to date", database->path);
	if (is_new)
		database->meta = (struct row_meta){ .id = 1, .first_seq = 1 };
	else if (result == 0)
		result = check_before(database, version, err);
	for (uint32_t i = version; result == 0 && i < schema_version(); i++)
		result = migrate_once(database, i, err);
	snprintf(pragma, sizeof(pragma), "PRAGMA application_id = %d; PRAGMA user_version = %u", APPLICATION_ID,
	         schema_version());
	if (result == 0)
		result = database_run(database, pragma, err);
	if (result == 0)
		result = save_meta(database, is_new, err);
	if (result == 0)
		result = database_run(database, "COMMIT", err);
	return result;
}

/* Whether the file may be touched at all; *ret_version is 0 for an empty one. */
static int look(struct database *database, uint32_t *ret_version, struct err *err)
{
	int64_t version, application, objects;

	if (database_get_number(database, "PRAGMA user_version", &version, err) < 0 ||
	    database_get_number(database, "PRAGMA application_id", &application, err) < 0 ||
	    database_get_number(database, "SELECT count(*) FROM sqlite_schema", &objects, err) < 0)
		return err->code;
	if (objects == 0 && version == 0 && application == 0) {
		*ret_version = 0;
		return 0;
	}
	if (application != APPLICATION_ID)
		return database_say_damaged(database, err, "it is not a database of drover (application id %lld)",
		                            (long long)application);
	if (version > schema_version())
		return err_say(err, -EPROTO, "%s was written by a newer drover (its schema is version %lld, this program "
		               "knows up to %u): install that version again; nothing was changed", database->path,
		               (long long)version, schema_version());
	if (version < 1 || objects == 0)
		return database_say_damaged(database, err, "it names schema version %lld and holds %lld tables",
		                            (long long)version, (long long)objects);
	*ret_version = (uint32_t)version;
	return 0;
}

/* Refuses a database that ends before what is known to have been committed: its log was lost, or it is an old copy. */
static int check_committed(const struct database *database, uint64_t last_seq, uint64_t committed_seq, struct err *err)
{
	if (last_seq >= committed_seq)
		return 0;
	return err_say(err, -EILSEQ, "%s ends at event %llu, but events up to %llu were committed: its -wal file was lost, "
	               "or it is an old copy. Put back the newest one together with its -wal file; or run 'drover db "
	               "restore', which takes what is there and says what is lost", database->path,
	               (unsigned long long)last_seq, (unsigned long long)committed_seq);
}

int schema_prepare(struct database *database, uint64_t committed_seq, struct err *err)
{
	uint32_t version = 0, crc = 0;
	int result = look(database, &version, err);

	if (result == 0 && version == 0)
		result = check_committed(database, 0, committed_seq, err);
	if (result == 0)
		result = database_use_log(database, err);
	if (result == 0 && version < schema_version())
		result = migrate(database, version, err);
	else if (result == 0)
		result = load_meta(database, rows_count_columns(ROW_META), err);
	if (result == 0)
		result = get_schema_crc(database, &crc, err);
	if (result == 0 && (database->meta.schema_version != schema_version() || database->meta.schema_crc != crc))
		return database_say_damaged(database, err, "its schema is not that of version %u", schema_version());
	return result < 0 ? result : check_committed(database, database->meta.last_seq, committed_seq, err);
}
