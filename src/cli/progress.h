/*
 * progress.h - what is going on, on standard error: a live block on a terminal, plain lines elsewhere, JSON lines, or
 * nothing.
 */
#pragma once

#include "cli/cli.h"
#include "cli/results.h"

enum progress_mode { PROGRESS_NONE, PROGRESS_PLAIN, PROGRESS_FAILURES, PROGRESS_BAR, PROGRESS_JSON };

struct progress_row {
	uint64_t id;
	char *title; /* name or label, "" = none */
	char state[16];
	uint64_t since_ns; /* on the caller's stopwatch */
};

struct progress {
	struct cli *cli;
	enum progress_mode mode;
	bool tells_ends;     /* PROGRESS_BAR: a lasting line for each task that ended, not only for failed ones */
	bool is_interrupted; /* what the user has cancelled need not be told */
	const struct tally *tally;
	struct progress_row *rows; /* active tasks, in the order of their starts */
	size_t row_count;
	size_t row_capacity;
	unsigned drawn_lines; /* of the live block, now on the terminal */
	uint64_t drawn_ns;
};

/* "bar" "plain" "json" "none" → mode; −1 when it is none of them. */
int progress_parse_mode(const char *text);

/* Takes in an event; writes the line that belongs to it. `title` may be "". */
void progress_event(struct progress *progress, const json_t *event, const char *title, uint64_t now_ns);

/* Draws the live block anew, at most ten times a second unless `is_forced`. */
void progress_draw(struct progress *progress, uint64_t now_ns, bool is_forced);

/* Takes the live block off the terminal, before other output. */
void progress_erase(struct progress *progress);

/* Frees the rows. */
void progress_done(struct progress *progress);

/* "#12 lint started", "#12 lint failed 3.2s: exit 3"; nothing for other states. Exposed for tests. */
void progress_format(struct buf *buf, const json_t *event, const char *title, bool has_colour);
