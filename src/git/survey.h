/*
 * survey.h - what a worktree of drover's holds that is nowhere else: files that differ, commits, work put aside.
 *
 * git is run in its hardened form, with the worktree's filters emptied, and writes nothing.
 */
#pragma once

#include "git/inventory.h"
#include "git/steps.h"

/* What is the same for all worktrees of a repository. */
struct survey_ground {
	char *main_ref;  /* what the main worktree is on: "refs/heads/main", "HEAD" when detached, NULL when there is none */
	char *main_name; /* for people: "main" */
	bool has_remotes; /* there are remote-tracking branches */
};

struct survey {
	char *head;          /* commit that is checked out; the base where its branch is gone; NULL = not known */
	char *branch;        /* that is checked out; NULL = none, or not known */
	uint64_t changed;    /* files that differ from that commit, in the index or beside it */
	uint64_t untracked;  /* files that are new and not ignored */
	uint64_t ignored;    /* files and whole directories that are ignored */
	char *ignored_names; /* the first of them, to be shown; NULL = none */
	char *obstacle;      /* a clause: what in it no commit can hold; NULL = nothing */
	const char *remedy;  /* what can be done about that in it; NULL = not known */
	uint64_t ahead;      /* commits that main_ref does not have; when has_ahead */
	uint64_t unpushed;   /* commits that no remote-tracking branch has; when has_unpushed */
	bool has_ahead;
	bool has_unpushed;
};

/* Learns the ground; a repository without commits has an empty one. 0 or -errno. */
int survey_take_ground(const struct repository *repository, struct survey_ground *ret, struct err *err);

/* What is to be looked at. */
struct survey_place {
	const struct repository *repository;
	const struct survey_ground *ground; /* NULL = commits are not counted */
	const struct site *site;            /* has an admin directory */
	const char *directory; /* in the root: where the files are, its own or where it was moved to; NULL = they vanished:
	                          then what git's index and HEAD for it still say is looked at */
	const char *against;   /* commit that the files are compared with, NULL = what is checked out */
};

/*
 * Sets *git to the place and *ret to what git points at, with the filters emptied: refuses (-ELOOP) where git would write
 * through a link. Both are to be freed, git first, also after an error. 0 or -errno.
 */
int survey_open(const struct survey_place *place, struct git *git, struct steps_site *ret, struct err *err);

/* Looks. 0 or -errno. */
int survey_take(const struct survey_place *place, struct survey *ret, struct err *err);

/*
 * A ref other than `except` (NULL = any) that has the commit: `preferred` if it does, else a branch, remote-tracking branch,
 * tag or salvage ref of drover's (that one only with `may_be_salvage`). *ret_ref is to be freed, NULL when there is none.
 * 0 or -errno.
 */
struct survey_holder {
	const char *commit;
	const char *preferred;
	const char *except;
	bool may_be_salvage;
};
int survey_find_holder(const struct repository *repository, const struct survey_holder *wanted, char **ret_ref,
                       struct err *err);

/* How many commits `commit` has that `ref` does not. 0 or -errno. */
int survey_count_ahead(const struct repository *repository, const char *commit, const char *ref, uint64_t *ret,
                       struct err *err);

/* The full hash of what `revision` names, to be freed; NULL when it names nothing. 0 or -errno. */
int survey_resolve(const struct git *git, const char *revision, char **ret, struct err *err);

/* A ref's name for people: without refs/heads/, refs/remotes/, refs/tags/. */
const char *survey_short_name(const char *ref);

/* Frees what was filled above; fine with empty ones. */
void survey_ground_done(struct survey_ground *ground);
void survey_done(struct survey *survey);
