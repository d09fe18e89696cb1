/*
 * store.c - the interface: opens, hands over to the thread and fetches from it. Who owns what: store_internal.h.
 */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/paths.h"
#include "store/guard.h"
#include "store/load.h"
#include "store/schema.h"
#include "store/store_internal.h"

/* Starts the thread with all signals blocked: they are the caller's. */
static int start_thread(struct store *store, struct err *err)
{
	sigset_t all, before;
	int result;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(&store->thread, NULL, store_run_thread, store);
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
	int result;

	/* A snapshot is a witness too: the slot file may be gone with the database. */
	committed_seq = MAX(committed_seq, snapshot_latest(store->state_fd, NULL));
	result = guard_prepare(store->state_fd, store->state_dir, committed_seq, err);

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

/* Gives what was read to its caller and frees it. */
static void finish_read(struct read *read)
{
	if (read->kind == READ_EVENTS)
		read->done(read->context, &read->list);
	else
		read->told(read->context, read->list.status < 0 ? &read->err : NULL, read->text);
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
	if (store->copying)
		reads_add(&store->shared.wanted, TAKE_PTR(store->copying));
	snapshot_abort(&store->snapshot, store->state_fd);
	while ((read = reads_take(&store->shared.wanted))) {
		read->list.status = err_say(&read->err, -ECANCELED, "the daemon is stopping");
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
		store_close_for_writing(store, result, &local);
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

/* What is known of a transaction from its hand-over on. */
static void publish(struct store *store, struct store_txn *txn)
{
	if (txn->first_event > 0) {
		ASSERT(txn->first_event == store->last_seq + 1);
		store->last_seq = txn->last_event;
	}
	txn_publish_keys(txn, &store->keys);
}

void store_commit(struct store *store, struct store_txn *txn)
{
	ASSERT(store->is_loaded && !store->is_busy);
	publish(store, txn);
	store->is_busy = true;
	hand_over(store, txn);
}

void store_retry(struct store *store, struct store_txn *more)
{
	ASSERT(store->is_busy && store->parked);
	if (more) {
		publish(store, more);
		txn_append(store->parked, more);
		store_txn_free(more);
	}
	hand_over(store, TAKE_PTR(store->parked));
}

bool store_is_parked(const struct store *store)
{
	return store->parked != NULL;
}

void store_forget_key(struct store *store, struct store_txn *txn, const char *key)
{
	keys_remove(&store->keys, key);
	txn_forget_key(txn, key);
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
		store->is_busy = store->shared.is_waiting;
		store_set_readable(store);
	}
	pthread_mutex_unlock(&store->mutex);
	if (failed && store->is_busy)
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

static void want(struct store *store, struct read *read)
{
	ASSERT(store->is_loaded);
	pthread_mutex_lock(&store->mutex);
	reads_add(&store->shared.wanted, read);
	pthread_cond_signal(&store->has_work);
	pthread_mutex_unlock(&store->mutex);
}

static void want_told(struct store *store, enum read_kind kind, store_done done, void *context)
{
	struct read *read = xcalloc(1, sizeof(*read));

	*read = (struct read){ .kind = kind, .told = done, .context = context };
	want(store, read);
}

void store_check(struct store *store, store_done done, void *context)
{
	want_told(store, READ_CHECK, done, context);
}

void store_take_snapshot(struct store *store, store_done done, void *context)
{
	want_told(store, READ_SNAPSHOT, done, context);
}

void store_read_events(struct store *store, uint64_t from, uint32_t max,
                       void (*done)(void *context, const struct store_event_list *list), void *context)
{
	struct read *read = xcalloc(1, sizeof(*read));

	*read = (struct read){ .kind = READ_EVENTS, .from = from, .max = max, .done = done, .context = context };
	want(store, read);
}

void store_finish_reads(struct store *store)
{
	struct reads answered = { .end = &answered.first };
	struct read *read;

	pthread_mutex_lock(&store->mutex);
	while ((read = reads_take(&store->shared.answered)))
		reads_add(&answered, read);
	store_set_readable(store);
	pthread_mutex_unlock(&store->mutex);
	while ((read = reads_take(&answered)))
		finish_read(read);
}

uint64_t store_latest_snapshot(const struct store *store, int64_t *ret_ms)
{
	return snapshot_latest(store->state_fd, ret_ms);
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
