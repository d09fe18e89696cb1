/*
 * submit.h - from the options of `run` and `add` to a batch that the daemon has queued.
 */
#pragma once

#include "cli/cli.h"
#include "cli/input.h"
#include "cli/joblog.h"
#include "client/submission.h"

struct submit_options {
	/* of the batch */
	const char *jobs; /* -j: number or auto */
	const char *worktree;
	const char *base;
	const char *batch; /* its name */
	const char *cwd;
	struct option_list environment; /* --env K=V, or K with --clean-env */
	bool has_clean_environment;
	/* of each task */
	const char *name;
	const char *priority;
	const char *stdin_file;
	struct option_list after;
	struct option_list after_any;
	struct option_number timeout;
	struct option_number grace;
	struct option_number retries;
	struct option_number retry_delay;
	bool is_idempotent;
	bool leaves_running;
	bool splits_output;
	bool is_held;
	/* what to run */
	const char *file;                /* -f */
	struct option_list values_files; /* -a */
	bool is_nul_separated;
	const char *column_separator;
	struct option_number records_per_task; /* -n */
	bool links_all;
	bool is_dry_run;
	const char *results; /* directory for copies of the outputs */
	/* what of it need not run */
	const char *joblog;
	bool is_resumed;        /* what the joblog has is done */
	bool is_resumed_failed; /* what it has as succeeded */
	bool is_quiet;          /* says only what went wrong */
};

struct submit_result {
	uint64_t batch; /* 0 = there was nothing to run */
	uint64_t first; /* id of the first task; the others follow */
	uint64_t count;
	int64_t seq;        /* of the last event before */
	bool is_file;       /* from a batch file */
	bool is_single;     /* one plain command: its exit status is ours */
	bool splits_output; /* of some task, at least */
	struct input input; /* unless it was a batch file: values for labels */
	uint64_t *numbers;  /* of the tasks as {#} counts them, where some were left out; else NULL */
	char **commands;    /* of a batch file's tasks, for the joblog; else NULL */
	struct joblog joblog;
	const char *results; /* NULL = none */
	bool is_resumed;
	bool has_record_failed; /* that joblog or results are not whole was told */
};

/* Reads the input, connects and submits; tells what is wrong. 0 with *ret_client, or an exit status. submit_done() either
 * way. */
int submit_batch(struct cli *cli, const struct submit_options *options, const struct option_rest *rest,
                 struct submit_result *ret, struct client **ret_client);

/* Frees what the result holds. */
void submit_done(struct submit_result *result);

/* Which {#} the task at a place of the batch has. */
uint64_t submit_number(const struct submit_result *result, uint64_t index);

/* Adds what the task at a place of the batch runs, as a shell would read it. */
void submit_add_command_text(const struct submit_result *result, uint64_t index, struct buf *text);

/* Adds to `spec` (JSON text of an object, open at the end) what the options say of every task; exposed for tests. */
int submit_add_task_options(const struct submit_options *options, struct buf *spec, struct err *err);
