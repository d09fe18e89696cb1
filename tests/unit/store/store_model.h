/*
 * store_model.h - what the store must remember, kept in plain memory, and random transactions that change both alike.
 *
 * A model after k steps follows from the seed alone, so that a test can say "the database is the model after k steps" for a
 * process that is dead. Every step appends at least one event: the last sequence number tells how many steps a database
 * holds.
 */
#pragma once

#include "base/mix.h"
#include "store/store.h"

enum { MODEL_TASKS = 6000, MODEL_BATCHES = 800, MODEL_EVENTS = 12000, MODEL_KEYS = 1500, MODEL_DEPENDENCIES = 3 };

/* Texts are named by numbers: 0 is NULL, others see model_text(). */
struct model_task {
	struct task task;
	uint64_t nonce;
	uint32_t name, spec, detail, result;
	uint32_t dependency_count;
	struct store_dependency dependencies[MODEL_DEPENDENCIES];
	bool is_there;
};

struct model_batch {
	uint32_t name, spec;
	int64_t created_ms;
	bool has_environment;
	bool is_there;
};

struct model_pause {
	int64_t since_ms;
	uint32_t who, reason;
	bool suspends;
	bool is_there;
};

struct model_event {
	int64_t at_ms;
	uint64_t task, batch;
	uint32_t data;
};

struct model_key {
	int64_t at_ms;
	uint32_t answer;
	bool is_there;
};

struct model {
	struct random random;
	uint64_t seed;
	uint32_t steps;
	int64_t now_ms;
	struct store_facts facts;
	struct model_task tasks[MODEL_TASKS];     /* by id − 1 */
	struct model_batch batches[MODEL_BATCHES]; /* by id − 1 */
	struct model_pause pauses[MODEL_BATCHES + 1]; /* by id of the batch; 0 is everything */
	struct model_event events[MODEL_EVENTS];   /* by seq − 1 */
	struct model_key keys[MODEL_KEYS];
	uint32_t key_count;
};

/* A new, empty model; freed with free(). */
struct model *model_new(uint64_t seed);

/* Changes the model at random and, where `txn` is not NULL, fills the same into it. */
void model_step(struct model *model, struct store_txn *txn);

/* A new model after so many steps that its last event is `last_seq`; NULL when no number of steps gives that. */
struct model *model_at(uint64_t seed, uint64_t last_seq);

/*
 * Loads the store and compares. Returns what store_load() returned; *ret_is_equal says whether everything was as in the
 * model, else `why` (256 bytes) what was not.
 */
int model_load(const struct model *model, struct store *store, bool *ret_is_equal, char *why, struct err *err);

/* Commits and waits (30 s at most, then it aborts). Returns what store_finish() did. */
int model_commit(struct store *store, struct store_txn *txn, struct err *err);

/* The same for a commit that was handed over before, by store_retry(). */
int model_finish(struct store *store, struct err *err);

/* The text of a number: its length varies, some are longer than a page. Lives in one of four buffers, used in turn. */
const char *model_text(uint32_t number);

/*
 * A fresh directory 0700 under the system's directory for temporary files; removed with all in it by
 * model_remove_directory().
 */
char *model_make_directory(void);
void model_remove_directory(char *path);

/* Opens the store in a directory. */
int model_open(const char *directory, uint64_t committed_seq, struct store **ret, struct err *err);
