/*
 * run.h - calls git so that nothing of the repository's is executed.
 *
 * Repositories are written by agents and strangers. The environment is cleared to what git needs, no GIT_* comes in, hooks,
 * fsmonitor, the network and automatic maintenance are off, and once git_load_config was called every filter driver the
 * configuration names is empty. All settings go through GIT_CONFIG_KEY_n, because `-c filter.a=b.clean=` would be taken
 * apart at the wrong '='. git is looked for in the absolute entries of PATH only: where it is started, a task may have put
 * a program of that name. What git then prints is data; it is parsed from NUL-ended output only.
 *
 * This module knows nothing of worktrees.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "platform/command.h"

/* A driver of filter.NAME.* in the configuration. */
struct git_filter {
	char *name;
	bool has_clean; /* it changes what is committed: clean or process is not empty */
};

/* Where and how git is called. Strings belong to the caller; zero-initialise, then set `directory` and `kept_fd` (or −1). */
struct git {
	const char *git_dir;        /* absolute; NULL = git looks for it from the working directory, and checks its owner */
	const char *common_dir;     /* absolute; goes with git_dir, so that a forged `commondir` file is not read */
	const char *work_tree;      /* absolute; goes with git_dir, so that a forged core.worktree is not obeyed */
	int directory;              /* descriptor of the working directory, −1 = this process's */
	int kept_fd;                /* git and its children hold it open: a lock lives as long as they do. −1 = none */
	struct git_filter *filters; /* those that are emptied; filled by git_load_config */
	size_t filters_count;
	bool has_name; /* the configuration says who commits; else "drover <drover@localhost>" */
	bool has_email;
};

struct git_call {
	const char *const *arguments; /* without "git"; ends with NULL */
	const void *input;            /* NULL = none */
	size_t input_length;
};

#define GIT_ARGUMENTS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/*
 * Runs git; ret->status tells how it ended, whatever that was. Returns -errno when it could not be run to an end:
 * -ENOPKG there is no git, -ETIMEDOUT, -EFBIG.
 */
int git_try(const struct git *git, const struct git_call *call, struct command_result *ret, struct err *err);

/*
 * As git_try, but anything except exit status 0 is an error with git's own last words: -ENOSPC when the disk is full,
 * -EPERM when it refuses a foreign owner, -EBUSY when another's lock file is in the way, else -EIO.
 */
int git_run(const struct git *git, const struct git_call *call, struct command_result *ret, struct err *err);

/* For a result that git_try gave: the error that git_run would have returned. */
int git_failure(const struct git_call *call, const struct command_result *result, struct err *err);

/* Learns filter drivers and identity from the configuration. Must come before any call that reads or writes files. */
int git_load_config(struct git *git, struct err *err);

/* The same from the output of `git config -z --get-regexp`. -E2BIG when there are too many drivers to empty. */
int git_parse_config(struct git *git, const struct buf *output);

/* True when some driver would change what is committed, or with `name` when this one would. */
bool git_has_clean_filter(const struct git *git, const char *name);

/* Frees what git_load_config learned. */
void git_done(struct git *git);
