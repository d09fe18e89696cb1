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
	struct task task; /* the part that is set at submission */
	enum worktree_wish worktree;
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
	json_t *names;      /* name → index in tasks */
	bool is_committing; /* waits for the look at the repository */
};

/* Checks one task_spec (it passed api_check) and appends it. 0, -EEXIST a name given twice, -EINVAL, with a sentence. */
int draft_add(struct daemon *daemon, struct draft *draft, json_t *spec, struct err *err);

/* Frees a draft that is in no list any more. */
void draft_free(struct draft *draft);

/* The open draft of this connection that the parameters name, or NULL after answering not-found. */
struct draft *draft_find(struct daemon *daemon, struct request *request, json_t *params);

/* Takes a draft out of the daemon's list; the caller owns it. */
void draft_unlink(struct daemon *daemon, struct draft *draft);

/* What a client is told for an error of a draft. */
enum api_error draft_error(int code);
