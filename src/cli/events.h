/*
 * events.h - events for those who wait: over the end of a connection and the start of another daemon.
 */
#pragma once

#include "cli/cli.h"

enum event_outcome {
	EVENTS_NONE, /* nothing within the time, or another descriptor is ready */
	EVENTS_NEW,  /* *ret_event */
	EVENTS_GAP,  /* the daemon came back and some events were missed: list the tasks */
	EVENTS_LOST, /* it did not come back; told */
};

struct events {
	struct cli *cli;
	struct client *client;
	int other_fd;      /* also waited for; −1 = none */
	int exit_status;   /* after EVENTS_LOST */
	unsigned failures; /* attempts to connect since the loss */
	bool is_lost;
	bool is_endless; /* never gives up: EVENTS_LOST only when coming back is of no use */
};

/* Subscribes from `after_seq` (−1 = from now): only ends of tasks, and of one batch (NULL = all). 0 or an exit status. */
struct events_filter {
	const char *batch; /* id or name */
	int64_t after_seq;
	bool is_final_only;
};
int events_subscribe(struct events *events, const struct events_filter *filter, bool *ret_is_gap);

/* Waits at most `timeout_ms` (−1 = for ever). The event is a new reference. */
enum event_outcome events_next(struct events *events, int timeout_ms, json_t **ret_event);

/* True for the six final states. */
bool events_is_final(const char *state);
