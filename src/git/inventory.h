/*
 * inventory.h - what drover has made in a repository, from its records and from the locks it put on git's worktrees.
 *
 * Ours is what a record of drover's names, as long as git's own files agree; and a worktree in .parallel-worktrees/ that git
 * keeps locked with drover's reason, should its record be lost. Everything else belongs to somebody else: another worktree
 * in that place makes ours "missing", anything else there makes it "replaced". No git is run and no lock taken, so work of
 * other helpers may be seen half done.
 */
#pragma once

#include "git/repository.h"

enum site_condition {
	SITE_OK,
	SITE_MISSING,    /* nothing of it is there; `admin` may be */
	SITE_REPLACED,   /* something else is in its place */
	SITE_UNFINISHED, /* being made or removed, or that was cut short */
	SITE_CONDITION_MAX,
};

struct site {
	struct record record; /* made up from git's lock when has_record is false: then without owner and with commit NULL */
	bool has_record;
	unsigned root; /* index in inventory.roots */
	char *path;
	char *admin;       /* ours; NULL = there is none */
	char *lock_reason; /* NULL = git does not have it locked */
	bool is_locked_by_us;
	enum site_condition condition;
	int64_t created_ms; /* Unix time, 0 = not known */
};

struct inventory {
	struct repository *roots; /* one for each .parallel-worktrees/ of the repository, the given one first */
	unsigned root_count;
	struct site *sites; /* ascending by task, attempt, directory */
	size_t count;
};

/* Takes the inventory. 0 or -errno: -ENOENT no such repository. */
int inventory_take(const char *common_dir, const char *top, struct inventory *ret, struct err *err);

/* The same for what the repository stands for, its task: of others' worktrees only those without a record are in it. */
int inventory_take_own(const struct repository *repository, const char *owner, struct inventory *ret, struct err *err);

/* Closes and frees all of it; fine with an empty one. */
void inventory_done(struct inventory *inventory);

/* "ok", "missing", "replaced", "unfinished". */
const char *inventory_condition_name(enum site_condition condition);

/* What sorts sites: "TASK.ATTEMPT.DIRECTORY" with leading zeros, into `ret`. */
enum { INVENTORY_CURSOR_MAX = 20 + 10 + 256 + 3 };
void inventory_format_cursor(const struct site *site, char ret[INVENTORY_CURSOR_MAX]);
