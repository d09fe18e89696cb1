/*
 * store.h - what drover remembers: batches, tasks, the event log, idempotency keys.
 *
 * One thread of its own owns the connection; the caller (one thread) fills a transaction, hands it over and goes on. One
 * commit is in flight at a time. A transaction is durable or it did not happen; effects and replies wait for it.
 *
 * Each row carries a checksum. The event log is append-only and its sequence has no gaps. There is no outbox table: the
 * state column orders its effect again at recovery (core_resume), a second list would say the same twice.
 *
 * Errors: the first failed write closes the store for writing for good (no fsync is tried again; what the kernel dropped is
 * gone). store_state() says so; the daemon then refuses new work and keeps supervising what runs. One error is not of that
 * kind: a write that finds the disk full changes nothing, and the same commit can be tried again when there is room.
 *
 * Behind this interface lies SQLite; a second backend on libpq comes to stand beside it in store/, so nothing here names
 * one.
 */
#pragma once

#include "core/task.h"
#include "base/err.h"

struct store;
struct store_txn;

struct store_options {
	int state_fd;          /* the state directory */
	const char *state_dir; /* its path */
	uint64_t committed_seq; /* what the slot file says was durable; a database that ends before it lost its WAL: refused
	                           with the restore hint */
};

/* A batch row. Texts are UTF-8. */
struct store_batch {
	uint64_t id;
	const char *name;        /* NULL = none */
	const char *spec;        /* JSON: cwd, umask, limit, environment, repository … the daemon's */
	const char *environment; /* name of its environment blob below the state directory, NULL = none */
	int64_t created_ms;
};

/* A task row: the core's numbers and the daemon's texts. */
struct store_task {
	struct task task;
	const char *name;   /* NULL = none */
	const char *spec;   /* JSON of what was submitted; written once, at the first put */
	const char *detail; /* words for the cause; NULL = none */
	const char *result; /* JSON: worktree, branch, commit, changed files …; NULL = none */
	uint64_t nonce;     /* of the latest attempt, 0 = none */
	const struct store_dependency *dependencies; /* first put only */
	uint32_t dependency_count;
};

struct store_dependency {
	uint64_t task;
	bool is_any;
};

/* A pause: nothing new starts. */
struct store_pause {
	uint64_t batch; /* 0 = everything */
	int64_t since_ms;
	bool suspends;      /* and what runs is suspended */
	const char *who;    /* asked for it; NULL = not known */
	const char *reason; /* NULL = none */
};

/* One line of the event log. */
struct store_event {
	uint64_t seq;
	int64_t at_ms;
	uint64_t task;  /* 0 = of no task */
	uint64_t batch; /* 0 = of no batch */
	const char *kind; /* "task.running" … */
	const char *data; /* JSON object or NULL */
};

/* Facts about the whole store. */
struct store_facts {
	uint64_t last_task;  /* ids given out so far; never used again */
	uint64_t last_batch;
	uint64_t last_seq;
	uint64_t first_seq;  /* oldest event kept; last_seq + 1 when there is none */
	uint64_t core_offset_ns; /* core time = CLOCK_MONOTONIC + this, valid for boot_id */
	uint64_t core_last_ns;   /* core time of the last commit */
	int64_t core_last_ms;    /* wall time of the last commit */
	uint8_t boot_id[16];
	uint32_t schema_version;
};

/*
 * What store_load() calls, in this order: each batch, each pause, each task (ascending ready_ns, then id). Strings live for
 * the call. NULL = not wanted.
 */
struct store_loader {
	void *context;
	void (*on_batch)(void *context, const struct store_batch *batch);
	void (*on_pause)(void *context, const struct store_pause *pause);
	void (*on_task)(void *context, const struct store_task *task);
};

/*
 * Opens or makes the database and starts the thread. Refused with a sentence and what to do: a newer schema, a damaged
 * database, one that lost its WAL or is older than options->committed_seq, one that is a link, a directory that others may
 * write to. 0 or -errno: -EPROTO newer schema, -EILSEQ damaged, -EBUSY held by another program, -errno.
 */
int store_open(const struct store_options *options, struct store **ret, struct err *err);

/*
 * Waits for the commit in flight, ends the thread, closes. Reads still wanted are answered, with status -ECANCELED when they
 * were not done. NULL is fine.
 */
void store_close(struct store *store);

/*
 * Everything that is known; once, before the first commit or read. Checks every row's checksum, the event log's sequence and
 * that nothing is missing: -EILSEQ names table and row, what the loader got is void then and nothing may be committed.
 * Dependencies on tasks that were forgotten are left out. 0 or -errno.
 */
int store_load(struct store *store, const struct store_loader *loader, struct store_facts *ret_facts, struct err *err);

/* A new, empty transaction. Filling it copies everything. */
struct store_txn *store_txn_new(void);
void store_txn_free(struct store_txn *txn);

/* True when nothing was put in. */
bool store_txn_is_empty(const struct store_txn *txn);

/* Inserts a batch. */
void store_txn_put_batch(struct store_txn *txn, const struct store_batch *batch);

/* Inserts a task with its spec and dependencies. */
void store_txn_add_task(struct store_txn *txn, const struct store_task *task);

/* Updates what changes of a known task: all but name, spec, dependencies and what struct task calls set at submission. */
void store_txn_put_task(struct store_txn *txn, const struct store_task *task);

/* Forgets a task, its dependencies (both ways), or a batch. */
void store_txn_forget_task(struct store_txn *txn, uint64_t id);
void store_txn_forget_batch(struct store_txn *txn, uint64_t id);

/* Makes or changes the pause of a batch, or of everything; ends it. Forgetting a batch does not end its pause. */
void store_txn_put_pause(struct store_txn *txn, const struct store_pause *pause);
void store_txn_forget_pause(struct store_txn *txn, uint64_t batch);

/* Appends to the event log; seq must be the next one. Drops events below `seq`. */
void store_txn_append_event(struct store_txn *txn, const struct store_event *event);
void store_txn_drop_events(struct store_txn *txn, uint64_t below_seq);

/*
 * Remembers the answer to an idempotency key; drops keys older than `before_ms`. A key that is there already fails the
 * commit with -EEXIST (the caller looks it up first, so this is a bug).
 */
void store_txn_put_key(struct store_txn *txn, const char *key, int64_t at_ms, const char *answer);
void store_txn_drop_keys(struct store_txn *txn, int64_t before_ms);

/*
 * Makes a file of these bytes below the state directory (mode 0600, synced, directory synced) before the commit, unless one
 * of that name is there; removes one after it. For environment blobs, which belong in no backup of the database.
 */
void store_txn_put_blob(struct store_txn *txn, const char *name, const void *bytes, size_t length);
void store_txn_drop_blob(struct store_txn *txn, const char *name);

/* Sets the clock facts: core time and wall time of this commit, boot id, offset. */
void store_txn_put_clock(struct store_txn *txn, const struct store_facts *facts);

/*
 * Hands the transaction over (the store frees it). Only while none is in flight. Completion: store_fd() becomes readable,
 * then store_finish() tells.
 */
void store_commit(struct store *store, struct store_txn *txn);

/* True while a commit is in flight. */
bool store_is_busy(const struct store *store);

/* An eventfd, readable while the end of a commit or the answer of a read waits to be fetched. */
int store_fd(const struct store *store);

/*
 * Takes the result of the ended commit: 0 durable; -errno with *err filled: not durable as far as is known, and the store
 * is closed for writing; an unfinished one is -EAGAIN. When store_is_busy() afterwards, -ENOSPC, -EDQUOT, -EMFILE, -ENFILE
 * or -ENOMEM say what was short: nothing of it was written, and it stays in flight until store_retry() makes it go through.
 */
int store_finish(struct store *store, struct err *err);

/*
 * Tries the commit again that found the disk full, with `more` (NULL = nothing; the store frees it) as its last part: all of
 * it becomes durable at once, or nothing. Ends as after store_commit().
 */
void store_retry(struct store *store, struct store_txn *more);

/* True while the commit in flight waits for store_retry(). */
bool store_is_parked(const struct store *store);

/* Forgets the answer to a key at once; the row goes with `txn`, in the order of the calls, also one that `txn` puts. */
void store_forget_key(struct store *store, struct store_txn *txn, const char *key);

/* 0, or the error that closed the store for writing, with its sentence in *err. */
int store_state(const struct store *store, struct err *err);

/*
 * The kept answer for a key, or NULL; to be freed. From memory: loaded at start, and known from store_commit() of the
 * transaction that puts it (so while store_is_busy(), the answer may have to wait for that commit); gone again when that one
 * fails.
 */
char *store_find_key(const struct store *store, const char *key);

/*
 * Reads events seq ≥ from, at most `max`, in order; asynchronously, in the store's thread between commits. `done` is called
 * from store_finish_reads() in the caller's thread. For history older than what the daemon holds in memory.
 */
struct store_event_list {
	struct store_event *events;
	uint32_t count;
	int status; /* 0, or -errno when reading stopped at a fault; the events before it are there */
};
void store_read_events(struct store *store, uint64_t from, uint32_t max,
                       void (*done)(void *context, const struct store_event_list *list), void *context);
void store_finish_reads(struct store *store);

/*
 * Both are done in the store's thread between commits, and tell by a call of `done` from store_finish_reads(), with NULL or
 * what failed. store_check() verifies all that a start verifies, commits wait for it; `text` counts what is there. Damage
 * closes the store for writing. store_take_snapshot() copies the database into the directory of snapshots, a few pages at a
 * time; `text` is the name there. -EBUSY when one is being taken.
 */
typedef void (*store_done)(void *context, const struct err *failure, const char *text);
void store_check(struct store *store, store_done done, void *context);
void store_take_snapshot(struct store *store, store_done done, void *context);

/* The event that the latest snapshot ends with, 0 = there is none; *ret_ms is when it was taken, by the wall clock. */
uint64_t store_latest_snapshot(const struct store *store, int64_t *ret_ms);

/*
 * -ENOSPC with a sentence ("disk full: …") unless the state directory's file system has room for `bytes` more of specs and
 * blobs and inodes for them, with enough left over for the ends of running tasks. Asked before a submission is taken, since
 * a commit that finds the disk full has to wait for room. 0 or -errno.
 */
int store_check_space(const struct store *store, uint64_t bytes, struct err *err);

/*
 * True when the state directory lies on a network or FUSE file system, where SQLite's locks cannot be trusted; *ret_name is
 * its kind then, for the warning.
 */
bool store_is_remote(int state_fd, const char **ret_name);

/* Name and version of the database library in use, for doctor: "SQLite" and "3.40.1". */
const char *store_backend(void);
const char *store_version(void);
