/*
 * fault_vfs.h - a file system for SQLite that counts, fails, kills or records; real files lie below it.
 *
 * For tests of the store: installed as SQLite's default, it is used by whatever store_open() opens. Syncs do not reach the
 * disk, which a test of processes that die does not need and which makes it fast.
 */
#pragma once

#include <sqlite3.h>

#include "base/buf.h"

enum fault_action {
	FAULT_NONE,
	FAULT_ERROR_ONCE, /* the call fails; a write leaves its first half behind */
	FAULT_ERROR_EVER, /* so do all after it */
	FAULT_FULL_EVER,  /* the same with SQLITE_FULL */
	FAULT_KILL,       /* the process kills itself after the first half of the write */
};

struct fault_vfs {
	sqlite3_vfs vfs; /* first: SQLite's face */
	sqlite3_vfs *real;
	enum fault_action action;
	uint64_t at;    /* number of the call, from 1, at which it happens */
	uint64_t calls; /* writes, truncations, syncs, removals so far */
	bool is_recording;
	struct buf record; /* of struct fault_entry, each followed by its bytes */
};

enum fault_entry_kind { FAULT_ENTRY_WRITE, FAULT_ENTRY_TRUNCATE, FAULT_ENTRY_SYNC, FAULT_ENTRY_REMOVE, FAULT_ENTRY_MARK };

/* One recorded call. */
struct fault_entry {
	uint32_t kind;   /* enum fault_entry_kind */
	uint32_t size;   /* of the bytes behind */
	uint64_t offset; /* of a write; new size of a truncation; number of a mark */
	char suffix[16]; /* how the file's name ends: ".db", "-wal" … */
};

/* Makes *fault SQLite's default file system until fault_vfs_remove(). */
void fault_vfs_install(struct fault_vfs *fault);
void fault_vfs_remove(struct fault_vfs *fault);

/* Counts anew and does `action` at the call `at`. */
void fault_vfs_arm(struct fault_vfs *fault, enum fault_action action, uint64_t at);

/* Puts a mark of the test's own into the record. */
void fault_vfs_mark(struct fault_vfs *fault, uint64_t number);
