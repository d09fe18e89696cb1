/*
 * watch.h - `run` in the foreground: follows a submitted batch to its end, passes on output, shows progress, heeds Ctrl-C.
 *
 * The tasks do not need it: when it ends, they go on.
 */
#pragma once

#include "cli/progress.h"
#include "cli/submit.h"

struct watch_options {
	enum progress_mode progress;
	bool is_quiet;    /* no progress, table or summary */
	bool keeps_order; /* outputs in the order of the tasks */
	bool is_tagged;
	bool is_raw; /* terminals get outputs as they are */
	const char *notify; /* when to give a notice: see notify.h */
	bool is_json; /* a line for each end of a task, and last the summary, on standard output instead of outputs */
};

/* Returns the exit status. */
int watch_batch(struct cli *cli, struct client *client, struct submit_result *submitted,
                const struct watch_options *options);
