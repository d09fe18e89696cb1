/*
 * results.h - how a batch ended: counts, the closing table, the summary.
 */
#pragma once

#include "cli/cli.h"

struct tally {
	uint64_t total;
	uint64_t succeeded, failed, cancelled, timed_out, lost, skipped;
};

/* Counts a task that ended in `state`; false when that is no final state. */
bool tally_add(struct tally *tally, const char *state);

/* Number of tasks that have ended. */
uint64_t tally_ended(const struct tally *tally);

/* "12 tasks: 10 succeeded, 1 failed, 1 skipped in 4.2s" */
void tally_format(const struct tally *tally, uint64_t duration_ns, struct buf *buf);

/* {batch, tasks, succeeded, failed, …, duration_s}, numbers all of them, a new reference. */
json_t *tally_json(const struct tally *tally, uint64_t batch, uint64_t duration_ns);

/* The table of a batch's final events (NULL = has not ended): task, state, time, peak memory, changed files, branch. */
void results_add_table(struct buf *buf, json_t *const *finals, uint64_t count, unsigned width, bool has_colour);

/* Nanoseconds of a number of seconds from JSON; 0 for null. */
uint64_t results_ns(const json_t *seconds);
