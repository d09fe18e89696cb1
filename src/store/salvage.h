/*
 * salvage.h - makes a new database of what can be read of a damaged, lost or old one: row by row from the file itself, from
 * snapshots where it has gaps, from the event log and from the slot file for what the rows do not tell.
 *
 * A row counts only when its checksum is right. What is not known to be the latest state of a task never leads to a second
 * run: a waiting task is held, one that ran without a record of its end is lost. All of it is said in the report.
 */
#pragma once

#include "base/buf.h"
#include "store/store.h"

/* A copy of a database, with its -wal file beside it: it is opened for writing, so never the original. */
struct salvage_file {
	const char *path; /* canonical */
	const char *name; /* for the report */
	bool is_live;     /* the database in use: where it is whole, nothing came after it */
};

/* What a slot record says of an attempt: the salvaged row refers to it, and the start that follows reads its end from it. */
struct salvage_attempt {
	uint64_t task;
	uint64_t nonce;
	uint32_t attempt;
	uint32_t slot;
};

struct salvage_options {
	const struct salvage_file *files; /* in the order of preference among equals */
	uint32_t file_count;
	const struct salvage_attempt *attempts;
	uint32_t attempt_count;
	bool is_slot_file_lost; /* nothing tells how attempts went: what ran is lost */
	uint64_t committed_seq; /* what the slot file says was durable, 0 = unknown */
	int64_t now_ms;
	const char *new_path; /* an empty file */
};

struct salvage_result {
	uint64_t tasks;   /* in the new database */
	uint64_t kept;    /* of these, with a state that is known to be the latest */
	uint64_t told;    /* state taken from the event log or the slot file */
	uint64_t held;    /* waiting; not known whether they ran since */
	uint64_t ended;   /* were running, without a record of their end: lost */
	uint64_t gone;    /* tasks of which nothing is left but the id */
	uint64_t unknown; /* at most so many submissions or other events of which not even an id is left */
	bool is_end_unknown; /* nothing tells how many those are: `unknown` is 1 */
	struct buf report; /* lines for people, freed by the caller */
};

/*
 * Builds the database. 0; -ENODATA when none of the files has anything readable, with the report of why; or -errno. On an
 * error the new file is useless.
 */
int salvage_build(const struct salvage_options *options, struct salvage_result *ret, struct err *err);
