/*
 * source.h - one database to salvage from: what can be read of it, however damaged it is.
 */
#pragma once

#include "store/database.h"
#include "store/keys.h"

enum fetched { FETCH_BROKEN = -1, FETCH_ABSENT, FETCH_FOUND };

struct source {
	struct database database;
	const char *name;
	bool is_open;   /* something may be readable */
	bool has_meta;  /* database.meta is right */
	bool is_whole;  /* all checks of a start pass */
	bool is_live;   /* struct salvage_file's, filled in by salvage.c */
	uint64_t last_seq;   /* up to which its rows tell the state of things */
	uint64_t first_task; /* lowest and highest ids that may be there */
	uint64_t last_task;
	uint64_t last_batch;
	uint64_t first_event;
	uint64_t last_event;
	struct err fault; /* what is wrong, when it is not whole */
	sqlite3_stmt *get[ROW_MAX];
};

/* Opens a copy and looks it over. A file that is no database at all is a source with nothing in it. */
void source_open(struct source *source, const char *path, const char *name);
void source_close(struct source *source);

/*
 * Reads the row `id` (events: seq) of a table. Texts are valid until the next fetch from the same table of the same source.
 */
enum fetched source_fetch(struct source *source, enum row_kind kind, uint64_t id, void *row);

/* Adds the idempotency keys that can be read; returns how many were new. */
uint64_t source_take_keys(struct source *source, struct keys *keys);
