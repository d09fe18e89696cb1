/*
 * client.h - a connection to the daemon: calls, events, and coming back when the daemon starts anew.
 *
 * Blocking, by poll; one thread. A daemon that falls silent is given up after 30 s, or the seconds in DROVER_PATIENCE; while
 * a call waits for the disk the daemon is asked for its status instead. What comes is checked against the definition, so
 * that results have the fields and types it says; anything else ends the connection. The connection is lost when the daemon
 * ends: client_call() comes back by itself where doing the call twice does no harm, client_resume() serves those who wait
 * for events. Idempotent submission: submission.h.
 */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "proto/api.h"

struct client;

enum { CLIENT_HINT_MAX = 512, CLIENT_RESUME_S = 30 };

/* Why a call failed. */
struct client_error {
	int code; /* enum api_error, or −1: the daemon could not be reached or the connection was lost (exit status 3) */
	int exit_status; /* of a program that ends by it */
	char text[ERR_TEXT_MAX];
	char hint[CLIENT_HINT_MAX]; /* "" = none */
	struct err cause;           /* code −1 only */
};

struct client_options {
	const char *name;      /* of the program, for the daemon's log */
	const char *state_dir; /* NULL = paths_state_dir() */
	bool may_start;        /* start a daemon when none answers */
};

/* Connects and says hello. 0, or -errno with *error: -ENOENT, -ECONNREFUSED when there is no daemon and none may be started.
 */
int client_open(const struct client_options *options, struct client **ret, struct client_error *error);

/* Ends the connection; NULL is fine. */
void client_close(struct client *client);

/* For CLEANUP(). */
void client_cleanup(struct client **client);

/* What the daemon said in its hello, borrowed: protocol, version, pid, state_dir. */
const json_t *client_hello(const struct client *client);

/* The state directory. */
const char *client_state_dir(const struct client *client);

/* True when client_open() had to start the daemon. */
bool client_has_started_daemon(const struct client *client);

/*
 * One call. Steals `params` (NULL = none). Returns the result, a new reference, or NULL with *error. When the connection is
 * lost meanwhile, calls that only read, and those whose repetition changes nothing, are sent again to the next daemon.
 */
json_t *client_call(struct client *client, enum api_method method, json_t *params, struct client_error *error);

/*
 * Sends a request without waiting; many may be under way. `params` is JSON text of an object. 0 with *ret_id, or -errno with
 * *error; -EMSGSIZE when it is over LIMIT_MESSAGE.
 */
int client_send(struct client *client, enum api_method method, const char *params, size_t length, uint64_t *ret_id,
                struct client_error *error);

/* Waits for the answer to a request, answers to others being kept. As client_call(), but never sends anything again. */
json_t *client_receive(struct client *client, uint64_t id, struct client_error *error);

/*
 * Subscribes to events. `params` (stolen) are those of events.subscribe. Returns its result, or NULL. The subscription is
 * renewed by client_resume(), from the latest event seen.
 */
json_t *client_subscribe(struct client *client, json_t *params, struct client_error *error);

/* What the latest subscription, or its renewal, could not get: events from … to (0 = none), or the log is another one. */
struct client_gap {
	uint64_t from;
	uint64_t to;
	bool is_new_log; /* its numbers are below those seen: the state directory was made anew */
};
struct client_gap client_gap(const struct client *client);

/* The descriptor to poll for reading. It changes with client_resume(). */
int client_fd(const struct client *client);

/*
 * The next event (the params of its notification) in *ret_event, a new reference: 1; 0 when none is there now; -errno with
 * *error when the connection is lost. Never blocks.
 */
int client_take_event(struct client *client, json_t **ret_event, struct client_error *error);

/*
 * One attempt to connect again after a loss, and to subscribe again; never starts a daemon (its keeper does). 0; -EAGAIN:
 * try again soon; another -errno: it is of no use. *ret_is_gap: some events were missed, so list the tasks.
 */
int client_resume(struct client *client, bool *ret_is_gap, struct client_error *error);

/* The same, tried for up to CLIENT_RESUME_S seconds. 0 or -errno with *error. */
int client_resume_wait(struct client *client, bool *ret_is_gap, struct client_error *error);

/* True when the connection was lost, so that another try may fare better: the other end neither fell silent nor lied. */
bool client_is_lost(const struct client_error *error);

/* Fills in *error for what is not the daemon's word: code −1, exit status 3. Returns cause->code. */
int client_fail(struct client_error *error, const struct err *cause);

/* Fills in *error by a row of the interface's errors with a sentence of one's own. Returns -EINVAL. */
int client_refuse(struct client_error *error, enum api_error code, const char *format, ...) PRINTF_LIKE(3, 4);
