/*
 * store_thread.c - what the store's thread does: commits first, then what is read, then a few pages of a snapshot.
 */
#include "store/store_internal.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "store/blob.h"
#include "store/guard.h"
#include "store/load.h"

void reads_add(struct reads *reads, struct read *read)
{
	read->next = NULL;
	*reads->end = read;
	reads->end = &read->next;
}

struct read *reads_take(struct reads *reads)
{
	struct read *read = reads->first;

	if (read) {
		reads->first = read->next;
		if (!reads->first)
			reads->end = &reads->first;
	}
	return read;
}

void store_set_readable(struct store *store)
{
	uint64_t value;

	/* Nonblocking: reading an empty one and adding to a full one change nothing. */
	if (read(store->event_fd, &value, sizeof(value)) < 0 && errno != EAGAIN)
		NEVER("reading an eventfd fails");
	value = 1;
	if ((store->shared.is_ended || store->shared.answered.first) &&
	    write(store->event_fd, &value, sizeof(value)) != (ssize_t)sizeof(value))
		NEVER("writing an eventfd fails");
}

void store_close_for_writing(struct store *store, int result, const struct err *err)
{
	pthread_mutex_lock(&store->mutex);
	if (store->shared.state == 0) {
		store->shared.state = result;
		err_say(&store->shared.state_err, result,
		        "%s. Nothing more is written, what was acknowledged is safe, "
		        "running tasks go on; when the cause is gone run 'drover daemon restart'",
		        err->text);
	}
	pthread_mutex_unlock(&store->mutex);
}

/* Making a file anew is harmless, so more may be waited for there than while writing to the database. */
static bool is_passing(int result)
{
	return result == -EMFILE || result == -ENFILE || result == -ENOMEM;
}

/* The commit, all of it. 0 when it is durable; *ret_is_waiting when it changed nothing and may be tried again. */
static int perform_txn(struct store *store, const struct store_txn *txn, bool *ret_is_waiting, struct err *err)
{
	int result = store_state(store, err);
	bool is_waiting = false;

	if (result < 0)
		return result;
	if (txn->blobs.length > 0) {
		result = blob_make_all(store->state_fd, store->state_dir, txn, err);
		is_waiting = store_is_full(result) || is_passing(result);
	}
	if (result == 0) {
		result = apply_txn(&store->database, txn, err);
		if (result == -ENOMEM)
			alloc_fail(); /* as for any other memory: nothing was written, and the keeper starts us again */
		is_waiting = store_is_full(result);
	}
	if (store_is_full(result))
		guard_say_full(store->state_fd, store->state_dir, txn->operations.length + txn->blobs.length, err);
	else if (result < 0 && !is_waiting)
		store_close_for_writing(store, result, err);
	else if (result == 0 && txn->blobs.length > 0)
		blob_drop_all(store->state_fd, txn);
	*ret_is_waiting = is_waiting;
	return result;
}

/*
 * The files are no longer where their names lead, but the descriptors still hold everything: a snapshot, all at once, keeps
 * it for 'drover db restore'.
 */
static void save_copy(struct store *store)
{
	struct snapshot snapshot = { 0 };
	struct err ignored = ERR_INIT;
	char name[SNAPSHOT_NAME_MAX];
	int result = snapshot_begin(&snapshot, &store->database, store->state_fd, &ignored);

	while (result == 0 && snapshot_step(&snapshot, &ignored) > 0)
		;
	if (result == 0)
		result = snapshot_finish(&snapshot, &store->database, store->state_fd, name, &ignored);
	snapshot_abort(&snapshot, store->state_fd);
	if (result < 0)
		err_ignore(&ignored, "the sentence about the lost file stands, and older snapshots may be there");
}

static void run_txn(struct store *store, struct store_txn *txn)
{
	struct err err = ERR_INIT;
	bool is_waiting = false;
	int result = perform_txn(store, txn, &is_waiting, &err);

	pthread_mutex_lock(&store->mutex);
	store->shared.txn = NULL;
	store->shared.failed = result < 0 ? TAKE_PTR(txn) : NULL;
	store->shared.is_ended = true;
	store->shared.is_waiting = is_waiting;
	store->shared.result = result;
	store->shared.result_err = err;
	store_set_readable(store);
	pthread_mutex_unlock(&store->mutex);
	store_txn_free(txn);
	if (result == -ESTALE)
		save_copy(store);
	/* After the acknowledgement, so that nobody waits for it but the next commit. */
	if (result == 0) {
		result = database_checkpoint(&store->database, &err);
		if (result == -ENOMEM)
			alloc_fail();
		if (result < 0)
			store_close_for_writing(store, result, &err);
	}
}

/* Copies the event at which the statement stands. */
static int add_event(struct read *read, sqlite3_stmt *statement, struct err *err)
{
	struct store_event_list *list = &read->list;
	struct store_event event;
	int result = rows_decode(ROW_EVENT, statement, &event, err);

	if (result < 0)
		return result;
	if (list->count == read->capacity) {
		read->capacity = MAX(16U, 2 * read->capacity);
		list->events = xrealloc(list->events, read->capacity * sizeof(*list->events));
	}
	event.kind = xstrdup(event.kind);
	event.data = xstrdup(event.data);
	list->events[list->count++] = event;
	return 0;
}

static void answer(struct store *store, struct read *read, int status)
{
	read->list.status = status;
	pthread_mutex_lock(&store->mutex);
	reads_add(&store->shared.answered, read);
	store_set_readable(store);
	pthread_mutex_unlock(&store->mutex);
}

static int read_events(struct store *store, struct read *read)
{
	sqlite3_stmt *statement = store->database.statements[STATEMENT_READ_EVENTS];
	struct err err = ERR_INIT;
	int code = SQLITE_DONE;
	int result = 0;

	sqlite3_bind_int64(statement, 1, (int64_t)read->from);
	sqlite3_bind_int64(statement, 2, read->max);
	while (result == 0 && (code = sqlite3_step(statement)) == SQLITE_ROW)
		result = add_event(read, statement, &err);
	sqlite3_reset(statement);
	if (result == 0 && code != SQLITE_DONE)
		result = database_fail(&store->database, code, &err, "read events of");
	if (result == -ENOMEM)
		alloc_fail();
	return result;
}

/* All that a start checks. Damage closes the store: nothing is built upon it. */
static int check(struct store *store, struct read *read)
{
	static const struct store_loader no_loader;
	const struct row_meta *meta = &store->database.meta;
	struct keys keys = { 0 };
	int result = load_all(&store->database, &no_loader, &keys, &read->err);

	keys_done(&keys);
	if (result == -EILSEQ)
		store_close_for_writing(store, result, &read->err);
	snprintf(read->text, sizeof(read->text), "%llu tasks, %llu batches, events %llu to %llu",
	         (unsigned long long)meta->tasks, (unsigned long long)meta->batches, (unsigned long long)meta->first_seq,
	         (unsigned long long)meta->last_seq);
	return result;
}

static void begin_snapshot(struct store *store, struct read *read)
{
	int result = store->copying ? err_say(&read->err, -EBUSY, "another snapshot is being taken")
	                            : store_state(store, &read->err);
	int64_t size = 0;

	if (result == 0)
		result = database_get_number(&store->database,
		                             "SELECT page_count * page_size FROM pragma_page_count, "
		                             "pragma_page_size",
		                             &size, &read->err);
	if (result == 0)
		result = guard_check_space(store->state_fd, store->state_dir, (uint64_t)size, &read->err);
	if (result == 0)
		result = snapshot_begin(&store->snapshot, &store->database, store->state_fd, &read->err);
	if (result < 0)
		answer(store, read, result);
	else
		store->copying = read;
}

/* A few pages: commits that come meanwhile wait no longer than that. */
static void go_on_copying(struct store *store)
{
	struct read *read = store->copying;
	int result = snapshot_step(&store->snapshot, &read->err);

	if (result > 0)
		return;
	if (result == 0)
		result = snapshot_finish(&store->snapshot, &store->database, store->state_fd, read->text, &read->err);
	snapshot_abort(&store->snapshot, store->state_fd);
	store->copying = NULL;
	answer(store, read, result);
}

static void run_read(struct store *store, struct read *read)
{
	switch (read->kind) {
	case READ_EVENTS:
		answer(store, read, read_events(store, read));
		return;
	case READ_CHECK:
		answer(store, read, check(store, read));
		return;
	case READ_SNAPSHOT:
		begin_snapshot(store, read);
		return;
	}
	NEVER("no such kind");
}

void *store_run_thread(void *context)
{
	struct store *store = context;

	for (;;) {
		struct store_txn *txn;
		struct read *read;
		bool is_closing;

		pthread_mutex_lock(&store->mutex);
		while (!store->shared.txn && !store->shared.wanted.first && !store->shared.is_closing && !store->copying)
			pthread_cond_wait(&store->has_work, &store->mutex);
		txn = store->shared.txn;
		is_closing = store->shared.is_closing;
		read = is_closing ? NULL : reads_take(&store->shared.wanted);
		pthread_mutex_unlock(&store->mutex);
		if (txn)
			run_txn(store, txn);
		if (read)
			run_read(store, read);
		if (is_closing)
			return NULL;
		if (store->copying)
			go_on_copying(store);
	}
}
