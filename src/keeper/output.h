/*
 * output.h - one stream of a task's output: from its pipe into its log, within a cap.
 *
 * Offsets in the log are those of the stream. Beyond head + tail the bytes in between are punched out of the file, so it
 * takes no more room than the cap and a step. What could not be stored (disk full) is dropped likewise. All that was
 * dropped is one gap: [gap_at, gap_at + dropped). The task is never held up or ended because of its log.
 */
#pragma once

#include "base/macros.h"

enum { OUTPUT_STEP = 1 << 20 }; /* the least that is punched at once */

struct output {
	int pipe; /* read end; −1 at its end */
	int log;  /* −1 = this stream is not used */
	uint64_t bytes;   /* of the stream so far */
	uint64_t gap_at;
	uint64_t dropped; /* 0 = no gap yet */
	uint64_t head_bytes;
	uint64_t tail_bytes;
	uint64_t noted_dropped; /* as last recorded: output_has_news() */
	bool cannot_punch;
	bool cannot_splice;
	bool is_nonblocking;
};

#define OUTPUT_NONE ((struct output){ .pipe = -1, .log = -1 })

/*
 * Makes the log `name` below `state_fd` (0600, new; directories on the way 0700), its name with `suffix` added, and a pipe.
 * *ret_write is the pipe's write end. What is there under the name is reused only if it is an empty file of ours, from an
 * earlier start of the same attempt. 0 or -errno.
 */
int output_open(struct output *output, int state_fd, const char *name, const char *suffix, int *ret_write);

enum output_state { OUTPUT_MORE, OUTPUT_EMPTY, OUTPUT_END };

/* Moves what is in the pipe, at most about `limit` bytes. Never waits for the writers. */
enum output_state output_move(struct output *output, uint64_t limit);

/* Moves all that is in the pipe now, and no more than that: somebody outside of the attempt may write on without end. */
enum output_state output_move_rest(struct output *output);

/* True when the gap has grown by a step since the last time this was true: worth a record. */
bool output_has_news(struct output *output);

/* Sets the log's size to the stream's, where a gap stands at its end, and closes both. */
void output_close(struct output *output);

/* The parts of output_move() on their own, for tests: what the cap does after a store; what a failed store does. */
void output_apply_cap(struct output *output);
void output_drop(struct output *output, uint64_t length);
