/*
 * store_internal.h - the store as its interface (store.c) and its thread (store_thread.c) share it.
 *
 * Who owns what: `database`, `snapshot` and `copying` belong to the thread, except before the first commit and read (open,
 * load) and after the thread has ended (close). `keys`, `is_busy`, `parked` and `last_seq` belong to the caller.
 * Everything in `shared` is under the mutex. The eventfd is readable exactly while something waits to be fetched.
 */
#pragma once

#include <errno.h>
#include <pthread.h>

#include "store/apply.h"
#include "store/snapshot.h"

enum read_kind { READ_EVENTS, READ_CHECK, READ_SNAPSHOT };

/* Anything that the thread is asked for beside commits. */
struct read {
	struct read *next;
	enum read_kind kind;
	store_done told; /* CHECK, SNAPSHOT */
	struct err err;  /* of the same */
	char text[128];
	uint64_t from;
	uint32_t max;
	uint32_t capacity;
	void (*done)(void *context, const struct store_event_list *list);
	void *context;
	struct store_event_list list; /* EVENTS; of the others its status */
};

struct reads {
	struct read *first;
	struct read **end;
};

struct store {
	char *state_dir;
	char *path;
	int state_fd;
	int event_fd;
	struct database database;
	struct snapshot snapshot;
	struct read *copying; /* who asked for the snapshot under way */
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t has_work;

	struct {
		struct store_txn *txn;    /* handed over, not ended */
		struct store_txn *failed; /* ended, to be looked at by store_finish() */
		bool is_ended;            /* the commit in flight; its result is `result` and `result_err` */
		bool is_waiting;          /* it changed nothing, and is to be tried again: `failed` is not given up */
		int result;
		struct err result_err;
		int state; /* 0, or why nothing is written any more */
		struct err state_err;
		struct reads wanted;
		struct reads answered;
		bool is_closing;
	} shared;

	struct keys keys;
	uint64_t last_seq; /* of what was handed over */
	struct store_txn *parked; /* in flight, and waiting for room on the disk */
	bool is_busy;
	bool is_loaded;
};

/* Adds at the end of a queue; takes the first of one, NULL when it is empty. Under the mutex where the queue is shared. */
void reads_add(struct reads *reads, struct read *read);
struct read *reads_take(struct reads *reads);

/* Makes the eventfd say what is so. Under the mutex. */
void store_set_readable(struct store *store);

/* Closes the store for writing. The first error stays. */
void store_close_for_writing(struct store *store, int result, const struct err *err);

/* What found no room was rolled back, and may be tried again. */
static inline bool store_is_full(int result)
{
	return result == -ENOSPC || result == -EDQUOT;
}

/* The thread: commits, reads and copies until the store is closing. `context` is the store. */
void *store_run_thread(void *context);
