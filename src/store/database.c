#include "store/database.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/paths.h"

enum {
	BUSY_TIMEOUT_MS = 1000,    /* a short look by another program is waited out */
	CHECKPOINT_PAGES = 1000,   /* of 4 KiB: when the log goes into the database */
	LOG_SIZE_LIMIT = 16 << 20, /* bytes to which the log shrinks again after a large transaction */
};

/*
 * Errno for a result code of SQLite; `system_errno` is what the system call said, 0 = none. -ENOSPC and -EDQUOT are
 * promises: a write found no room, so nothing happened and it may be tried again. After a failed sync nobody knows that.
 */
static int errno_of(int code, int system_errno)
{
	if (code == SQLITE_IOERR_WRITE && system_errno == EDQUOT)
		return -EDQUOT;
	if (system_errno == ENOSPC || system_errno == EDQUOT)
		system_errno = EIO;
	if (code == SQLITE_IOERR_NOMEM)
		return -ENOMEM;
	switch (code & 0xff) {
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_ERROR: /* our SQL is constant: it fails only when the schema is not what it was */
		return -EILSEQ;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_CONSTRAINT:
		return code == SQLITE_CONSTRAINT_PRIMARYKEY || code == SQLITE_CONSTRAINT_ROWID ||
		       code == SQLITE_CONSTRAINT_UNIQUE ? -EEXIST : -EINVAL;
	default:
		return system_errno > 0 ? -system_errno : -EIO;
	}
}

/* The result of a failed step has lost it; the file that was written remembers it. `which` asks for that. 0 = none. */
static int find_write_errno(const struct database *database, int which)
{
	sqlite3_file *file = NULL;
	int system_errno = 0;

	if (sqlite3_file_control(database->handle, "main", which, &file) == SQLITE_OK && file &&
	    file->pMethods)
		file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &system_errno);
	return system_errno;
}

int database_fail(const struct database *database, int code, struct err *err, const char *format, ...)
{
	int system_errno = database->handle ? sqlite3_system_errno(database->handle) : 0;
	int result;
	char what[ERR_TEXT_MAX / 2];
	va_list args;

	if (code == SQLITE_IOERR_WRITE)
		system_errno = find_write_errno(database, SQLITE_FCNTL_JOURNAL_POINTER);
	result = errno_of(code, system_errno);
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	if (result == -ENOSPC || result == -EDQUOT)
		return err_say(err, result, "disk full: cannot %s %s: make room on its file system", what, database->path);
	if (result == -EILSEQ)
		return database_say_damaged(database, err, "cannot %s it: %s", what,
		                            database->handle ? sqlite3_errmsg(database->handle) : sqlite3_errstr(code));
	return err_set(err, result, "cannot %s %s: %s", what, database->path,
	               database->handle ? sqlite3_errmsg(database->handle) : sqlite3_errstr(code));
}

int database_say_damaged(const struct database *database, struct err *err, const char *format, ...)
{
	char what[ERR_TEXT_MAX / 2];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	return err_say(err, -EILSEQ, "%s is damaged: %s. Nothing was changed, running tasks go on. 'drover db restore' sets "
	               "it aside and makes a new one of what can be read and of the snapshots; it says what is lost",
	               database->path, what);
}

int database_run(struct database *database, const char *sql, struct err *err)
{
	int code = sqlite3_exec(database->handle, sql, NULL, NULL, NULL);

	return code == SQLITE_OK ? 0 : database_fail(database, code, err, "run '%.60s' on", sql);
}

int database_prepare(struct database *database, const char *sql, sqlite3_stmt **ret, struct err *err)
{
	int code = sqlite3_prepare_v3(database->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);

	return code == SQLITE_OK ? 0 : database_fail(database, code, err, "prepare '%.60s' on", sql);
}

void database_finalize(sqlite3_stmt **statement)
{
	sqlite3_finalize(*statement);
	*statement = NULL;
}

int database_get_number(struct database *database, const char *sql, int64_t *ret, struct err *err)
{
	CLEANUP_STATEMENT sqlite3_stmt *statement = NULL;
	int result = database_prepare(database, sql, &statement, err);
	int code;

	if (result < 0)
		return result;
	code = sqlite3_step(statement);
	if (code != SQLITE_ROW)
		return database_fail(database, code == SQLITE_DONE ? SQLITE_CORRUPT : code, err, "read");
	*ret = sqlite3_column_int64(statement, 0);
	return 0;
}

int database_step(struct database *database, enum statement statement)
{
	sqlite3_stmt *it = database->statements[statement];
	int code = sqlite3_step(it);

	ASSERT(code != SQLITE_ROW);
	sqlite3_reset(it);
	return code == SQLITE_DONE ? 0 : code;
}

static int on_wal(void *context, sqlite3 *handle UNUSED, const char *name UNUSED, int pages)
{
	struct database *database = context;

	database->wal_pages = pages;
	return SQLITE_OK;
}

int database_open(struct database *database, const char *path, struct err *err)
{
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
	int64_t ignored;
	char pragmas[200];
	int code;

	snprintf(pragmas, sizeof(pragmas), "PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON; "
	         "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = %d", LOG_SIZE_LIMIT);
	database->path = path;
	code = sqlite3_open_v2(path, &database->handle, flags, NULL);
	if (code != SQLITE_OK)
		return database_fail(database, code, err, "open");
	if (sqlite3_db_readonly(database->handle, "main") == 1)
		return err_say(err, -EROFS, "%s cannot be written: its file system is mounted read-only, or its mode was "
		               "changed; make it writable or set DROVER_STATE_DIR to another directory", path);
	sqlite3_extended_result_codes(database->handle, 1);
	sqlite3_busy_timeout(database->handle, BUSY_TIMEOUT_MS);
	sqlite3_db_config(database->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	sqlite3_db_config(database->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(database->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	/* Before the first access: with an exclusive lock the log's index lies on the heap, not in a shared file. */
	if (database_run(database, "PRAGMA locking_mode = EXCLUSIVE", err) < 0 ||
	    database_run(database, pragmas, err) < 0)
		return err->code;
	return database_get_number(database, "SELECT count(*) FROM sqlite_schema", &ignored, err);
}

int database_use_log(struct database *database, struct err *err)
{
	CLEANUP_STATEMENT sqlite3_stmt *statement = NULL;
	const char *mode;
	int code;

	if (database_prepare(database, "PRAGMA journal_mode = WAL", &statement, err) < 0)
		return err->code;
	code = sqlite3_step(statement);
	if (code != SQLITE_ROW)
		return database_fail(database, code, err, "turn on the write-ahead log of");
	mode = (const char *)sqlite3_column_text(statement, 0);
	if (!mode || strcmp(mode, "wal") != 0)
		return err_say(err, -ENOTSUP, "%s cannot have a write-ahead log on its file system: set DROVER_STATE_DIR to "
		               "a directory on a local disk", database->path);
	return 0;
}

static int prepare_rows(struct database *database, struct err *err)
{
	int result = 0;

	for (enum row_kind kind = 0; result == 0 && kind < ROW_MAX; kind++) {
		char *sql = rows_sql_insert(kind);

		result = database_prepare(database, sql, &database->statements[STATEMENT_INSERT + kind], err);
		free(sql);
	}
	return result;
}

static int prepare_others(struct database *database, struct err *err)
{
	char *update_state = rows_sql_update(ROW_TASK_STATE);
	char *update_meta = rows_sql_update(ROW_META);
	char *read_events = rows_sql_select(ROW_EVENT, "WHERE seq >= ?1 ORDER BY seq LIMIT ?2");
	const char *const sql[STATEMENT_INSERT] = {
		[STATEMENT_BEGIN] = "BEGIN IMMEDIATE",
		[STATEMENT_COMMIT] = "COMMIT",
		[STATEMENT_ROLLBACK] = "ROLLBACK",
		[STATEMENT_GET_STATE_CRC] = "SELECT row_crc FROM task_state WHERE id = ?1",
		[STATEMENT_FORGET_STATE] = "DELETE FROM task_state WHERE id = ?1",
		[STATEMENT_FORGET_TASK] = "DELETE FROM task WHERE id = ?1",
		[STATEMENT_FORGET_BATCH] = "DELETE FROM batch WHERE id = ?1",
		[STATEMENT_FORGET_PAUSE] = "DELETE FROM pause WHERE batch = ?1",
		[STATEMENT_DROP_EVENTS] = "DELETE FROM event WHERE seq < ?1",
		[STATEMENT_DROP_ANSWER] = "DELETE FROM answer WHERE key = ?1",
		[STATEMENT_READ_EVENTS] = read_events,
		[STATEMENT_UPDATE_STATE] = update_state,
		[STATEMENT_UPDATE_META] = update_meta,
	};
	int result = 0;

	for (int i = 0; result == 0 && i < STATEMENT_INSERT; i++)
		result = database_prepare(database, sql[i], &database->statements[i], err);
	free(update_state);
	free(update_meta);
	free(read_events);
	return result;
}

int database_start(struct database *database, struct err *err)
{
	int result = prepare_rows(database, err);

	if (result == 0)
		result = prepare_others(database, err);
	if (result == 0)
		sqlite3_wal_hook(database->handle, on_wal, database); /* also turns the automatic checkpoint off */
	return result;
}

void database_done(struct database *database, bool is_sound)
{
	for (int i = 0; i < STATEMENT_MAX; i++)
		database_finalize(&database->statements[i]);
	if (is_sound)
		sqlite3_db_config(database->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
	sqlite3_close(database->handle);
	database->handle = NULL;
	buf_done(&database->scratch);
}

int database_checkpoint(struct database *database, struct err *err)
{
	int code;

	if (database->wal_pages < CHECKPOINT_PAGES)
		return 0;
	database->wal_pages = 0;
	code = sqlite3_wal_checkpoint_v2(database->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	if ((code & 0xff) == SQLITE_FULL ||
	    (code == SQLITE_IOERR_WRITE && find_write_errno(database, SQLITE_FCNTL_FILE_POINTER) == EDQUOT))
		return 0; /* the log has all of it still, and grows until there is room */
	return code == SQLITE_OK ? 0 : database_fail(database, code, err, "move the write-ahead log into");
}

int database_empty_log(struct database *database, struct err *err)
{
	int code = sqlite3_wal_checkpoint_v2(database->handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);

	return code == SQLITE_OK ? 0 : database_fail(database, code, err, "move the write-ahead log into");
}

void database_note_log(struct database *database)
{
	char path[PATHS_MAX + 8];
	struct stat status;

	if (database->log_inode != 0)
		return;
	snprintf(path, sizeof(path), "%s-wal", database->path);
	if (stat(path, &status) == 0)
		database->log_inode = status.st_ino;
}

/* SQLite looks only after the database itself. */
static bool has_log_moved(struct database *database)
{
	char path[PATHS_MAX + 8];
	struct stat status;

	if (database->log_inode == 0)
		return false;
	snprintf(path, sizeof(path), "%s-wal", database->path);
	return stat(path, &status) < 0 || status.st_ino != database->log_inode;
}

int database_check_place(struct database *database, struct err *err)
{
	int has_moved = 0;

	sqlite3_file_control(database->handle, "main", SQLITE_FCNTL_HAS_MOVED, &has_moved);
	if (!has_moved && !has_log_moved(database))
		return 0;
	return err_say(err, -ESTALE, "%s%s was moved, replaced or removed while drover used it: run 'drover daemon stop', "
	               "then put the file back together with its -wal file, or run 'drover db restore'", database->path,
	               has_moved ? "" : "-wal");
}
