/*
 * handover.h - what a shim leaves for the keeper at the start of each attempt, in a socket that both can read: descriptors
 * for going on with its output, should it die. It takes its message back after the end; the keeper is never woken for it.
 */
#pragma once

#include "base/macros.h"

enum { HANDOVER_OUTPUTS = 2, HANDOVER_FDS = 2 * HANDOVER_OUTPUTS };

/* With the pipe's read end and the log of each open output, in this order, as descriptors. */
struct handover {
	uint64_t task;
	uint64_t nonce;
	uint64_t head_bytes;
	uint64_t tail_bytes;
	uint32_t attempt;
	bool is_left_running; /* the attempt is over; what it left may still write */
	struct {
		bool is_open; /* its two descriptors are there */
		uint64_t bytes;
		uint64_t gap_at;
		uint64_t dropped;
	} outputs[HANDOVER_OUTPUTS]; /* when it was sent */
};
