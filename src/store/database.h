/*
 * database.h - the one connection: opened safely, its statements prepared once, its errors in words.
 *
 * Used by one thread at a time: by the caller's until the store's thread was given its first work, then by that one only.
 */
#pragma once

#include <sqlite3.h>

#include "base/buf.h"
#include "store/rows.h"

enum statement {
	STATEMENT_BEGIN,
	STATEMENT_COMMIT,
	STATEMENT_ROLLBACK,
	STATEMENT_GET_STATE_CRC,
	STATEMENT_FORGET_STATE,
	STATEMENT_FORGET_TASK,
	STATEMENT_FORGET_BATCH,
	STATEMENT_FORGET_PAUSE,
	STATEMENT_DROP_EVENTS,
	STATEMENT_DROP_ANSWER,
	STATEMENT_READ_EVENTS,
	STATEMENT_UPDATE_STATE,
	STATEMENT_UPDATE_META,
	STATEMENT_INSERT, /* and ROW_MAX − 1 more: + enum row_kind */
	STATEMENT_MAX = STATEMENT_INSERT + ROW_MAX
};

struct database {
	sqlite3 *handle;
	sqlite3_stmt *statements[STATEMENT_MAX];
	struct row_meta meta; /* as of the last commit, while applying: of the transaction */
	struct buf scratch;
	const char *path;     /* for sentences; the owner's */
	int wal_pages;        /* in the write-ahead log after the last commit */
	uint64_t log_inode;   /* of the log, 0 = not known yet */
};

/*
 * Opens the database at `path` (canonical; the file exists) and takes its lock; it may be empty yet. A failing open leaves
 * the files as they are. 0, -EBUSY held by another program, -EILSEQ not a database, or -errno.
 */
int database_open(struct database *database, const char *path, struct err *err);

/* Turns the write-ahead log on. 0 or -errno. */
int database_use_log(struct database *database, struct err *err);

/* Prepares the statements: the schema is there now. 0 or -errno. */
int database_start(struct database *database, struct err *err);

/*
 * Closes. `is_sound`: the log is moved into the database and removed, and stays where that fails, which nothing tells; else
 * nothing is written any more, since after an error the kernel may show pages that are not on the disk.
 */
void database_done(struct database *database, bool is_sound);

/* Fills *err from SQLite's result code: "what PATH: words (errno)". Returns -errno. */
int database_fail(const struct database *database, int code, struct err *err, const char *format, ...) PRINTF_LIKE(4, 5);

/* Fills *err for a damaged database: what is wrong where, and what to do. Returns -EILSEQ. */
int database_say_damaged(const struct database *database, struct err *err, const char *format, ...) PRINTF_LIKE(3, 4);

/* Runs SQL without results. 0 or -errno. */
int database_run(struct database *database, const char *sql, struct err *err);

/* The one number that `sql` gives. 0 or -errno. */
int database_get_number(struct database *database, const char *sql, int64_t *ret, struct err *err);

/* Makes a statement of its own, to be finalized with database_finalize(). 0 or -errno. */
int database_prepare(struct database *database, const char *sql, sqlite3_stmt **ret, struct err *err);

/* For CLEANUP(): sqlite3_finalize on a variable. */
void database_finalize(sqlite3_stmt **statement);
#define CLEANUP_STATEMENT CLEANUP(database_finalize)

/* Steps a cached statement that gives no rows, and resets it. 0 or SQLite's code. */
int database_step(struct database *database, enum statement statement);

/* Moves the log into the database when it has grown long enough. 0 or -errno. */
int database_checkpoint(struct database *database, struct err *err);

/* Moves all of the log into the database, on the disk, and empties it: from here the file alone says it all. 0 or -errno. */
int database_empty_log(struct database *database, struct err *err);

/* Remembers which file the log is, once it is there: after a commit. */
void database_note_log(struct database *database);

/* -ESTALE with a sentence when the file, or its log, is no longer the one that is open. 0 otherwise. */
int database_check_place(struct database *database, struct err *err);
