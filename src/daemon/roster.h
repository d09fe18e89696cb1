/*
 * roster.h - the texts beside the core's numbers: what is run, names, words for causes, results. All tasks that are known
 * are here, in memory, finished ones included; the store is their durable copy.
 */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "base/table.h"
#include "core/core.h"

enum worktree_wish { WORKTREE_NONE, WORKTREE_AUTO, WORKTREE_CHECKOUT, WORKTREE_WISH_MAX };

/* Conditions of a running task that are no states. */
enum task_condition { CONDITION_LOST_SHIM = 1 << 0, CONDITION_WORKTREE_MISSING = 1 << 1 };

/* An environment blob that batches share. */
struct roster_environment {
	char *name; /* below the state directory */
	uint32_t users;
	struct roster_environment *next;
};

struct roster_batch {
	uint64_t id;
	uint32_t index;                         /* in roster.batches */
	char *name;                             /* NULL = none */
	struct roster_environment *environment; /* NULL = none */
	char *cwd;
	char *top; /* repository, NULL when no task has a worktree */
	char *common_dir;
	char *prefix;
	char *commit; /* base, pinned at submission */
	uint32_t umask;
	uint32_t limit;
	bool keeps_worktrees; /* after success too */
	int64_t created_ms;
	uint32_t task_count; /* known now */
	struct roster_batch *previous;
	struct roster_batch *next;
	struct roster_batch *next_of_name; /* in its bucket, later ones first */
};

enum { ROSTER_NAME_BUCKETS = 4096 };

struct roster_task {
	uint64_t id; /* 0 = no task at this index */
	struct roster_batch *batch;
	char *name;     /* NULL = none */
	char *spec;     /* JSON text of a task_spec */
	char *detail;   /* words for the cause */
	json_t *result; /* worktree, branch, commit … as worktree.h names them; NULL = none */
	uint64_t nonce; /* of the latest attempt that was ordered to start */
	uint32_t conditions;
	bool is_dirty;          /* its row is to be written by the next commit */
	uint8_t refused_stage;  /* enum start_stage at which the machine could not start it the last time */
	uint16_t refused_errno; /* and why; 0 = it did, or was not asked */
	uint32_t previous;      /* neighbours by id, TASK_NONE at the ends */
	uint32_t next;
};

struct roster {
	const struct core *core;
	struct roster_task *tasks; /* by core index; reserved, untouched before use */
	uint64_t text_bytes;       /* of all specs */
	uint32_t first;            /* lowest id */
	uint32_t last;
	struct roster_batch *first_batch;
	struct roster_batch *last_batch;
	struct table batch_table;                        /* id → index in batches */
	struct roster_batch *names[ROSTER_NAME_BUCKETS]; /* batches that have one, by its hash */
	struct roster_batch **batches;                   /* reserved, untouched before use */
	uint32_t *free_batches;                          /* indices to use again */
	uint32_t free_batch_count;
	uint32_t fresh_batch; /* indices from here on were never used */
	struct roster_environment *environments;
};

/* Reserves memory for LIMIT_TASKS tasks. 0 or -errno. */
int roster_init(struct roster *roster, const struct core *core, struct err *err);
void roster_done(struct roster *roster);

/* The text part of a task the core knows; never NULL for one that was added. */
struct roster_task *roster_task(const struct roster *roster, uint32_t index);

/* Adds a task that the core has at `index`; ids may come in any order, ascending is fast. Takes the texts over. */
struct roster_task *roster_add(struct roster *roster, uint32_t index, struct roster_batch *batch, char *name, char *spec);

/* Frees the texts of a task; its index may come again. */
void roster_forget(struct roster *roster, uint32_t index);

/* Sets the words for the cause; NULL clears them. */
void roster_set_detail(struct roster_task *task, const char *detail);

/* Takes over a batch's texts from *batch (moved). */
struct roster_batch *roster_add_batch(struct roster *roster, struct roster_batch *batch);

/* Frees a batch without tasks. */
void roster_forget_batch(struct roster *roster, struct roster_batch *batch);

/* Batch by id; by id or name in text, the latest of that name. NULL when there is none. */
struct roster_batch *roster_find_batch(const struct roster *roster, uint64_t id);
struct roster_batch *roster_resolve_batch(const struct roster *roster, const char *text);

/* Task by "id", "name" (the latest of it) or "batch/name" in `text`: its index, TASK_NONE when there is none. */
uint32_t roster_resolve(const struct roster *roster, const char *text);

/* A batch's fields other than id, name and times as JSON text (to be freed), and back. */
char *roster_encode_batch(const struct roster_batch *batch);
int roster_decode_batch(const char *spec, struct roster_batch *ret, struct err *err);

/*
 * Counts one more user of the environment blob of this name; *ret_is_new tells that there is no such file yet. A batch that
 * is forgotten gives its own back; a blob without users stays until roster_drop_environments().
 */
struct roster_environment *roster_use_environment(struct roster *roster, const char *name, bool *ret_is_new);

/* True when a blob of this name has users. */
bool roster_has_environment(const struct roster *roster, const char *name);

/* Forgets the blobs without users after calling `drop` with the name of each. */
void roster_drop_environments(struct roster *roster, void (*drop)(void *context, const char *name), void *context);
