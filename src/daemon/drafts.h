/*
 * drafts.h - batches being filled on a connection: checked, but not yet tasks.
 */
#pragma once

#include "core/core.h"
#include "daemon/roster.h"
#include "proto/api.h"

struct daemon;
struct request;

struct draft_reference {
	char *text;
	bool is_any;
};

struct draft_task {
	char *name;
	char *spec; /* compact JSON */
	struct draft_reference *references;
	uint32_t reference_count;
	uint32_t retries_max; /* from here as in struct task, which is four times as large as all of this */
	uint64_t timeout_ns;
	uint64_t grace_ns;
	uint64_t backoff_ns;
	uint32_t flags;
	uint8_t priority;
	uint8_t worktree; /* enum worktree_wish */
	bool is_held;
};

struct draft {
	struct draft *next;
	uint64_t id;
	uint64_t client; /* server_client_id() */
	struct roster_batch batch;
	enum worktree_wish worktree;
	char *base; /* revision asked for, NULL = HEAD */
	char *environment;
	size_t environment_length;
	size_t environment_capacity;
	struct draft_task *tasks;
	uint32_t count;
	uint32_t capacity;
	uint64_t bytes;     /* of specs and environment */
	json_t *names;      /* name → index in tasks */
	bool is_committing; /* waits for the look at the repository */
};

/* Checks one task_spec (it passed api_check) and appends it. 0, -EEXIST a name given twice, -EINVAL, with a sentence. */
int draft_add(struct daemon *daemon, struct draft *draft, json_t *spec, struct err *err);

/* Takes the latest tasks away again until `count` are left. */
void draft_truncate(struct daemon *daemon, struct draft *draft, uint32_t count);

/* Counts `bytes` more as the draft's. */
void draft_count_bytes(struct daemon *daemon, struct draft *draft, uint64_t bytes);

/* Frees a draft that is in no list any more. */
void draft_free(struct draft *draft);

/* The open draft of this connection that the parameters name, or NULL after answering not-found. */
struct draft *draft_find(struct daemon *daemon, struct request *request, json_t *params);

/* Takes a draft out of the daemon's list, and what it holds off the account of room; the caller owns it. */
void draft_unlink(struct daemon *daemon, struct draft *draft);

/* What a client is told for an error of a draft. */
enum api_error draft_error(int code);
