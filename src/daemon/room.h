/*
 * room.h - how much more may be submitted, and when to try again where it is too much.
 *
 * Tasks in open batches are counted with those that are known, so that many clients together keep the limit too, and a batch
 * that was taken in full can be committed.
 */
#pragma once

#include "base/macros.h"

struct daemon;
struct draft;
struct request;

struct room {
	uint32_t draft_tasks;  /* in open batches */
	uint64_t draft_bytes;  /* of their descriptions and environments */
	uint64_t window_ns;    /* when the present window of counting began */
	uint32_t ended;        /* tasks that ended in it */
	uint32_t ended_before; /* and in the window before */
};

/*
 * True when an open batch may grow by `tasks`. Else the request is answered: queue-full with details.retry_after_s, or
 * too-large when waiting would not help.
 */
bool room_is_left(struct daemon *daemon, struct request *request, const struct draft *draft, size_t tasks);

/* A task has ended: what the forecast rests on. */
void room_note_end(struct daemon *daemon);
