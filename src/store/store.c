/*
 * store.c - the interface, the thread, and what is handed from one to the other.
 *
 * Who owns what: `database` belongs to the thread, except before the first commit and read (open, load) and after the thread
 * has ended (close). `keys`, `is_busy`, `parked` and `last_seq` belong to the caller. Everything in `shared` is under the
 * mutex.
 * The eventfd is readable exactly while something waits to be fetched.
 */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/paths.h"
#include "store/apply.h"
#include "store/blob.h"
#include "store/guard.h"
#include "store/load.h"
#include "store/schema.h"

struct read {
	struct read *next;
	uint64_t from;
	uint32_t max;
	uint32_t capacity;
	void (*done)(void *context, const struct store_event_list *list);
	void *context;
	struct store_event_list list;
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
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t has_work;

	struct {
		struct store_txn *txn;    /* handed over, not ended */
		struct store_txn *failed; /* ended, to be looked at by store_finish() */
		bool is_ended;            /* the commit in flight; its result is `result` and `result_err` */
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

static void reads_add(struct reads *reads, struct read *read)
{
	read->next = NULL;
	*reads->end = read;
	reads->end = &read->next;
}

static struct read *reads_take(struct reads *reads)
{
	struct read *read = reads->first;

	if (read) {
		reads->first = read->next;
		if (!reads->first)
			reads->end = &reads->first;
	}
	return read;
}

/* Makes the eventfd say what is so. Under the mutex. */
static void set_readable(struct store *store)
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

/* Closes the store for writing. The first error stays. */
static void close_for_writing(struct store *store, int result, const struct err *err)
{
	pthread_mutex_lock(&store->mutex);
	if (store->shared.state == 0) {
		store->shared.state = result;
		err_say(&store->shared.state_err, result, "%s. Nothing more is written, what was acknowledged is safe, "
		        "running tasks go on; when the cause is gone run 'drover daemon restart'", err->text);
	}
	pthread_mutex_unlock(&store->mutex);
}

/* What found no room was rolled back, and may be tried again. */
static bool is_full(int result)
{
	return result == -ENOSPC || result == -EDQUOT;
}

/* The commit, all of it. 0 when it is durable. */
static int perform_txn(struct store *store, const struct store_txn *txn, struct err *err)
{
	int result = store_state(store, err);

	if (result < 0)
		return result;
	if (txn->blobs.length > 0)
		result = blob_make_all(store->state_fd, store->state_dir, txn, err);
	if (result == 0)
		result = apply_txn(&store->database, txn, err);
	if (is_full(result))
		guard_say_full(store->state_fd, store->state_dir, txn->operations.length + txn->blobs.length, err);
	else if (result < 0)
		close_for_writing(store, result, err);
	else if (txn->blobs.length > 0)
		blob_drop_all(store->state_fd, txn);
	return result;
}

static void run_txn(struct store *store, struct store_txn *txn)
{
	struct err err = ERR_INIT;
	int result = perform_txn(store, txn, &err);

	pthread_mutex_lock(&store->mutex);
	store->shared.txn = NULL;
	store->shared.failed = result < 0 ? TAKE_PTR(txn) : NULL;
	store->shared.is_ended = true;
	store->shared.result = result;
	store->shared.result_err = err;
	set_readable(store);
	pthread_mutex_unlock(&store->mutex);
	store_txn_free(txn);
	/* After the acknowledgement, so that nobody waits for it but the next commit. */
	if (result == 0) {
		result = database_checkpoint(&store->database, &err);
		if (result < 0)
			close_for_writing(store, result, &err);
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

static void run_read(struct store *store, struct read *read)
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
	read->list.status = result;
	pthread_mutex_lock(&store->mutex);
	reads_add(&store->shared.answered, read);
	set_readable(store);
	pthread_mutex_unlock(&store->mutex);
}

static void *run_thread(void *context)
{
	struct store *store = context;

	for (;;) {
		struct store_txn *txn;
		struct read *read;
		bool is_closing;

		pthread_mutex_lock(&store->mutex);
		while (!store->shared.txn && !store->shared.wanted.first && !store->shared.is_closing)
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
	}
}

/* Starts the thread with all signals blocked: they are the caller's. */
static int start_thread(struct store *store, struct err *err)
{
	sigset_t all, before;
	int result;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(&store->thread, NULL, run_thread, store);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (result != 0)
		return err_set(err, -result, "cannot start the store's thread");
	pthread_setname_np(store->thread, "store");
	return 0;
}

/* Sentence for a database that another program holds. */
static int say_busy(const struct store *store, struct err *err)
{
	int pid = guard_find_holder(store->state_fd);

	if (pid > 0)
		return err_say(err, -EBUSY, "%s is in use by process %d: end that program and try again", store->path, pid);
	return err_say(err, -EBUSY, "%s is in use by another program ('fuser -v %s' names it): end it and try again",
	               store->path, store->path);
}

static int open_database(struct store *store, uint64_t committed_seq, struct err *err)
{
	char path[PATHS_MAX];
	int result = guard_prepare(store->state_fd, store->state_dir, committed_seq, err);

	if (result == 0)
		result = guard_find_path(store->state_fd, store->state_dir, path, err);
	if (result < 0)
		return result;
	store->path = xstrdup(path);
	result = database_open(&store->database, store->path, err);
	if (result == 0)
		result = schema_prepare(&store->database, committed_seq, err);
	if (result == 0)
		result = database_start(&store->database, err);
	if (result == -EBUSY) {
		database_done(&store->database, false); /* first: looking for the holder opens the file */
		return say_busy(store, err);
	}
	store->last_seq = store->database.meta.last_seq;
	return result;
}

/* Frees what belongs to no thread any more. */
static void free_store(struct store *store, bool is_sound)
{
	database_done(&store->database, is_sound);
	keys_done(&store->keys);
	pthread_cond_destroy(&store->has_work);
	pthread_mutex_destroy(&store->mutex);
	fd_close(&store->event_fd);
	fd_close(&store->state_fd);
	free(store->state_dir);
	free(store->path);
	free(store);
}

/* Descriptors, database, thread, in this order. 0 or -errno. */
static int start_store(struct store *store, const struct store_options *options, struct err *err)
{
	int result;

	store->state_fd = fcntl(options->state_fd, F_DUPFD_CLOEXEC, 3);
	if (store->state_fd < 0)
		return err_set(err, -errno, "cannot open the state directory %s", options->state_dir);
	store->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (store->event_fd < 0)
		return err_set(err, -errno, "cannot make an eventfd for the store");
	result = open_database(store, options->committed_seq, err);
	return result < 0 ? result : start_thread(store, err);
}

int store_open(const struct store_options *options, struct store **ret, struct err *err)
{
	struct store *store = xcalloc(1, sizeof(*store));
	struct err local = ERR_INIT;
	int result;

	store->state_dir = xstrdup(options->state_dir);
	store->state_fd = store->event_fd = -1;
	store->shared.wanted.end = &store->shared.wanted.first;
	store->shared.answered.end = &store->shared.answered.first;
	pthread_mutex_init(&store->mutex, NULL);
	pthread_cond_init(&store->has_work, NULL);
	result = start_store(store, options, &local);
	if (result < 0) {
		free_store(store, false);
		if (err)
			*err = local;
		return result;
	}
	*ret = store;
	return 0;
}

/* Gives a list to its caller and frees it. */
static void finish_read(struct read *read)
{
	read->done(read->context, &read->list);
	for (uint32_t i = 0; i < read->list.count; i++) {
		free((void *)(uintptr_t)read->list.events[i].kind);
		free((void *)(uintptr_t)read->list.events[i].data);
	}
	free(read->list.events);
	free(read);
}

void store_close(struct store *store)
{
	struct read *read;

	if (!store)
		return;
	pthread_mutex_lock(&store->mutex);
	store->shared.is_closing = true;
	pthread_cond_signal(&store->has_work);
	pthread_mutex_unlock(&store->mutex);
	pthread_join(store->thread, NULL);
	while ((read = reads_take(&store->shared.answered)))
		finish_read(read);
	while ((read = reads_take(&store->shared.wanted))) {
		read->list.status = -ECANCELED;
		finish_read(read);
	}
	store_txn_free(store->shared.failed);
	store_txn_free(store->parked);
	free_store(store, store->shared.state == 0);
}

static void fill_facts(const struct row_meta *meta, struct store_facts *ret)
{
	*ret = (struct store_facts){
		.last_task = meta->last_task,
		.last_batch = meta->last_batch,
		.last_seq = meta->last_seq,
		.first_seq = meta->first_seq,
		.core_offset_ns = meta->core_offset_ns,
		.core_last_ns = meta->core_last_ns,
		.core_last_ms = meta->core_last_ms,
		.schema_version = meta->schema_version,
	};
	memcpy(ret->boot_id, meta->boot_id, sizeof(ret->boot_id));
}

int store_load(struct store *store, const struct store_loader *loader, struct store_facts *ret_facts, struct err *err)
{
	struct err local = ERR_INIT;
	int result;

	ASSERT(!store->is_loaded && !store->is_busy);
	result = load_all(&store->database, loader, &store->keys, &local);
	if (result < 0) {
		close_for_writing(store, result, &local);
		if (err)
			*err = local;
		return result;
	}
	store->is_loaded = true;
	fill_facts(&store->database.meta, ret_facts);
	return 0;
}

static void hand_over(struct store *store, struct store_txn *txn)
{
	pthread_mutex_lock(&store->mutex);
	ASSERT(!store->shared.txn && !store->shared.is_ended);
	store->shared.txn = txn;
	pthread_cond_signal(&store->has_work);
	pthread_mutex_unlock(&store->mutex);
}

void store_commit(struct store *store, struct store_txn *txn)
{
	ASSERT(store->is_loaded && !store->is_busy);
	if (txn->first_event > 0) {
		ASSERT(txn->first_event == store->last_seq + 1);
		store->last_seq = txn->last_event;
	}
	txn_publish_keys(txn, &store->keys);
	store->is_busy = true;
	hand_over(store, txn);
}

void store_retry(struct store *store)
{
	ASSERT(store->is_busy && store->parked);
	hand_over(store, TAKE_PTR(store->parked));
}

void store_forget_key(struct store *store, struct store_txn *txn, const char *key)
{
	keys_remove(&store->keys, key);
	txn_drop_key(txn, key);
}

bool store_is_busy(const struct store *store)
{
	return store->is_busy;
}

int store_fd(const struct store *store)
{
	return store->event_fd;
}

int store_finish(struct store *store, struct err *err)
{
	struct store_txn *failed = NULL;
	int result = -EAGAIN;

	ASSERT(store->is_busy);
	pthread_mutex_lock(&store->mutex);
	if (store->shared.is_ended) {
		result = store->shared.result;
		if (result < 0 && err)
			*err = store->shared.result_err;
		failed = TAKE_PTR(store->shared.failed);
		store->shared.is_ended = false;
		store->is_busy = is_full(result);
		set_readable(store);
	}
	pthread_mutex_unlock(&store->mutex);
	if (is_full(result))
		store->parked = TAKE_PTR(failed);
	if (failed)
		txn_retract_keys(failed, &store->keys);
	store_txn_free(failed);
	return result;
}

int store_state(const struct store *store, struct err *err)
{
	struct store *it = (struct store *)(uintptr_t)store; /* only the mutex changes */
	int result;

	pthread_mutex_lock(&it->mutex);
	result = it->shared.state;
	if (result < 0 && err)
		*err = it->shared.state_err;
	pthread_mutex_unlock(&it->mutex);
	return result;
}

char *store_find_key(const struct store *store, const char *key)
{
	const struct keys_entry *entry = keys_find(&store->keys, key);

	return entry ? xstrdup(entry->answer) : NULL;
}

void store_read_events(struct store *store, uint64_t from, uint32_t max,
                       void (*done)(void *context, const struct store_event_list *list), void *context)
{
	struct read *read = xcalloc(1, sizeof(*read));

	ASSERT(store->is_loaded);
	*read = (struct read){ .from = from, .max = max, .done = done, .context = context };
	pthread_mutex_lock(&store->mutex);
	reads_add(&store->shared.wanted, read);
	pthread_cond_signal(&store->has_work);
	pthread_mutex_unlock(&store->mutex);
}

void store_finish_reads(struct store *store)
{
	struct reads answered = { .end = &answered.first };
	struct read *read;

	pthread_mutex_lock(&store->mutex);
	while ((read = reads_take(&store->shared.answered)))
		reads_add(&answered, read);
	set_readable(store);
	pthread_mutex_unlock(&store->mutex);
	while ((read = reads_take(&answered)))
		finish_read(read);
}

int store_check_space(const struct store *store, uint64_t bytes, struct err *err)
{
	return guard_check_space(store->state_fd, store->state_dir, bytes, err);
}

bool store_is_remote(int state_fd, const char **ret_name)
{
	const char *name = guard_remote_name(state_fd);

	if (name)
		*ret_name = name;
	return name != NULL;
}

const char *store_backend(void)
{
	return "SQLite";
}

const char *store_version(void)
{
	return sqlite3_libversion();
}
