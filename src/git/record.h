/*
 * record.h - what drover has begun or done in a repository, as small JSON files in <common dir>/drover/.
 *
 * A record in intents/ says what its writer was about to do; whoever finds it under the locks finishes or undoes it. Renamed
 * into worktrees/ it says that this was done. So each step is written once, and its end is one rename.
 *
 *   verb     in intents/: unfinished            in worktrees/: done
 *   prepare  worktree and branch being made     they stand
 *   remove   work is safe, worktree being       it is gone; `result` is the answer to give again
 *            removed
 *   keep     (never)                            collected, and the worktree stays
 *
 * The files are read as input from outside: names that lead elsewhere are refused.
 */
#pragma once

#include <jansson.h>

#include "base/buf.h"
#include "git/worktree.h"

enum record_verb { RECORD_PREPARE, RECORD_REMOVE, RECORD_KEEP, RECORD_VERB_MAX };

struct record {
	enum record_verb verb;
	uint64_t task;
	uint32_t attempt;
	char *owner;        /* NULL = none */
	char *directory;    /* name in .parallel-worktrees/ */
	char *branch;       /* with parallel/ before it */
	char *commit;       /* base */
	char *admin;        /* remove: name in <common dir>/worktrees/, NULL = it had vanished */
	char *trash;        /* remove: name the directories get in the trash */
	bool is_new_branch; /* prepare: the branch did not exist, undoing takes it away again */
	bool is_again;      /* remove: the branch was set back to base for the next attempt */
	bool is_asked;      /* remove: the user asked for it, see removal.h: who finds it unfinished may have to undo it */
	char *doomed;       /* remove, asked: the branch goes too while its tip is this; NULL = it stays */
	struct worktree_result result; /* remove */
};

/* Adds the record as JSON. */
void record_format(const struct record *record, struct buf *buf);

/* Reads one. 0 or -EBADMSG with a sentence; then *ret is untouched. */
int record_parse(const struct buf *text, struct record *ret, struct err *err);

/* Frees what it points to. */
void record_done(struct record *record);

/* A result as the JSON object of worktree.h; the caller owns the reference. */
json_t *record_result_to_json(const struct worktree_result *result);
