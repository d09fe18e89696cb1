/*
 * keeper_link.h - the daemon's end of the socket to its keeper: asks for shims and helpers, starts a new keeper when it
 * died.
 */
#pragma once

#include <uv.h>

#include "base/err.h"
#include "keeper/wire.h"

struct daemon;

struct keeper_link {
	int socket; /* −1 while there is none */
	int pid;
	uint32_t protocol; /* its WIRE_PROTOCOL, from its HELLO */
	uv_poll_t poll;
	bool is_polled;
	bool is_full;         /* a request for a shim found no room; another try is due when there is some */
	uv_process_t process; /* a keeper that this daemon started */
	bool has_process;
	uv_timer_t retry;
	unsigned failures; /* keepers in a row that did not come up */
};

/*
 * Takes over the socket that the keeper left at `socket`, or starts a keeper when it is −1; then asks for the living shims
 * and waits (at most 10 s) until all were told. Called once, before the loop. 0 or -errno.
 */
int keeper_link_open(struct daemon *daemon, int socket, struct err *err);

/* Tells the keeper why the socket ends (exit_status as in wire.h: stop, or restart), and closes. */
void keeper_link_close(struct daemon *daemon, int exit_status);

/*
 * Asks for a shim for the slot; `takes_over` to put it over an attempt whose shim is gone. 0, or -errno: with no keeper, or
 * -EAGAIN when it takes no more orders right now. Who is left without a shim is asked for by attempts_on_keeper_ready(),
 * which follows as soon as there is a keeper, or room.
 */
int keeper_ask_shim(struct daemon *daemon, uint32_t slot, bool takes_over);

/* Asks for a helper with these arguments and its standard streams (the caller keeps its own). 0 or -errno. */
int keeper_run_helper(struct daemon *daemon, uint64_t token, const char *const *argv, const int fds[3]);
