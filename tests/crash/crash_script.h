/*
 * crash_script.h - what the crash tests of the store run and how they judge what is left.
 *
 * The script: open, load, a few random transactions of the model (store_model.h), close. Judged after a failure at any
 * point: a fresh open succeeds, and what it loads is the model after some k of the steps, with every acknowledged one among
 * them and none that was not begun.
 */
#pragma once

#include "store_model.h"

enum { SCRIPT_SEED = 31 };

struct script_result {
	uint64_t acknowledged_seq; /* last sequence number of the last step that was acknowledged */
	uint64_t attempted_seq;    /* of the last one handed over */
	int error;                 /* first error met: of open, load or commit; 0 = none */
	int state;                 /* store_state() before the close; 0 when it did not open */
};

/*
 * Runs `steps` transactions and goes on after an error, which must not be acknowledged any more. `on_acknowledged` may be
 * NULL; it is called after each one with its sequence number.
 */
struct script_result script_run(const char *directory, uint32_t steps,
                                void (*on_acknowledged)(void *context, uint64_t seq), void *context);

/*
 * Opens what is left and compares. Returns the number of steps found, or −1 with a sentence in `why` (512 bytes).
 */
int script_judge(const char *directory, uint64_t acknowledged_seq, uint64_t attempted_seq, char *why);

/* Number of steps whose last event is `seq`, −1 when there is none. */
int script_steps_at(uint64_t seq);
