/*
 * snapshot.h - copies of the database in a directory beside it, taken page by page between commits: what 'drover db
 * restore' fills gaps from. A snapshot is complete and on disk before it has its name, which is the event it ends with.
 */
#pragma once

#include "store/database.h"

enum {
	SNAPSHOT_KEEP = 4,
	SNAPSHOT_NAME_MAX = 32,
};

/* Zero-initialised is none under way. */
struct snapshot {
	sqlite3 *target;
	sqlite3_backup *backup;
};

/* True while one is under way. */
static inline bool snapshot_is_open(const struct snapshot *snapshot)
{
	return snapshot->target != NULL;
}

/* Begins: makes the directory (0700) and a file with another name. 0 or -errno; then none is under way. */
int snapshot_begin(struct snapshot *snapshot, const struct database *database, int state_fd, struct err *err);

/* Copies some pages. 1 when there are more, 0 when all are copied, or -errno. */
int snapshot_step(struct snapshot *snapshot, struct err *err);

/*
 * Syncs, gives the name ("SEQ.db", into `name`), removes all but the SNAPSHOT_KEEP latest. 0 or -errno; none is under way
 * then.
 */
int snapshot_finish(struct snapshot *snapshot, const struct database *database, int state_fd, char name[SNAPSHOT_NAME_MAX],
                    struct err *err);

/* Drops the one under way, if any. */
void snapshot_abort(struct snapshot *snapshot, int state_fd);

/* The event that the name of a snapshot stands for; 0 for other names. */
uint64_t snapshot_read_name(const char *name);

/* The event that the latest snapshot ends with, 0 = there is none; *ret_ms (may be NULL) is when it was taken. */
uint64_t snapshot_latest(int state_fd, int64_t *ret_ms);
