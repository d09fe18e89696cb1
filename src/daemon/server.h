/*
 * server.h - the unix socket: connections, message frames, hello, limits, back-pressure, event subscribers.
 *
 * Knows JSON-RPC and the method table of proto/, not what the methods do: it checks each request against the definition and
 * hands it to the handler of its method. A handler answers at once or later (after the commit), exactly once.
 */
#pragma once

#include <jansson.h>
#include <uv.h>

#include "base/err.h"
#include "proto/api.h"

struct server;
struct client;  /* one connection */
struct request; /* one call not yet answered; may outlive its connection, then the answer goes nowhere */

/*
 * Handles one request whose parameters passed the definition's check. `params` is an object, borrowed for the call; keep it
 * with json_incref.
 */
typedef void (*server_handler)(void *context, struct request *request, json_t *params);

struct server_options {
	uv_loop_t *loop;
	const char *socket_path;
	void *context;                                /* given to the handlers */
	server_handler handlers[API_METHOD_MAX];      /* NULL = answered with method-not-available */
	/*
	 * Once for each connection, before it is freed; may be NULL. Called from the loop or server_close(), never from
	 * inside server_reply(), _fail(), _publish() or _send_event().
	 */
	void (*on_disconnect)(void *context, struct client *client);
	/*
	 * From the loop, when little waits to be read by a connection that server_set_stream() gave something: time to send
	 * more of a long answer. May be NULL.
	 */
	void (*on_room)(void *context, struct client *client);
	json_t *(*make_hello)(void *context);         /* result of hello, new reference */
	unsigned clients_max;                         /* connections at once; 0 = LIMIT_CLIENTS, which it may not exceed */
	unsigned patience_ms;                         /* with clients that keep us waiting; 0 = API_LINE_TIMEOUT_S */
};

/*
 * Binds and listens: directory 0700 and the user's own, socket 0600, no links followed, any path length (through
 * /proc/self/fd). A stale socket is replaced: the caller holds the daemon's lock, so nobody else owns it. 0 or -errno.
 */
int server_open(const struct server_options *options, struct server **ret, struct err *err);

/*
 * Closes all connections after writing what can be written at once; unlinks the socket if it is still ours (same inode).
 * The memory goes when the loop has closed the handles: run it once more. Requests may still be answered, to nowhere. NULL
 * is fine.
 */
void server_close(struct server *server);

/* True unless the socket's file is gone or somebody else's; server_rebind() makes it anew. Called now and then. */
bool server_is_bound(const struct server *server);
int server_rebind(struct server *server, struct err *err);

/* Number of connections now. */
unsigned server_client_count(const struct server *server);

/* The connection of a request, NULL when it is gone. For drafts and subscriptions, which end with it. */
struct client *server_client(const struct request *request);

/* A number that is never used again for another connection; key for the handlers' own tables. */
uint64_t server_client_id(const struct client *client);

/* Answers; steals the reference to `result`. The request is gone afterwards. */
void server_reply(struct request *request, json_t *result);

/* Answers with an error of the definition file: a sentence, a hint or NULL, data or NULL (reference stolen). */
void server_fail(struct request *request, enum api_error code, json_t *data, const char *hint, const char *format, ...)
	PRINTF_LIKE(5, 6);

/*
 * Subscribes the connection to events: server_publish() then sends it those for which the filter (stored here) holds.
 */
struct server_filter {
	uint64_t batch;   /* 0 = all */
	bool is_final_only;
};
void server_subscribe(struct client *client, const struct server_filter *filter);

/* Ends the subscription, if there is one. */
void server_unsubscribe(struct client *client);

/* What is being sent to a connection piece by piece, the handlers' own; NULL = nothing. While set, on_room() is called. */
void server_set_stream(struct client *client, void *stream);
void *server_stream(const struct client *client);

/* Ends a connection that did not keep up, with the named error: coming back by number, it learns what it missed. */
void server_end_slow(struct client *client);

/* Ends a connection that was to be sent events from `seq` on, which cannot be read. */
void server_end_unreadable(struct client *client, uint64_t seq);

/* True while so much waits to be read that a stream must pause until on_room(); a connection that ends has no room. */
bool server_has_room(const struct client *client);

/* True when some subscriber's filter takes such an event: else it need not be made. A NULL server has none. */
bool server_has_subscriber(const struct server *server, uint64_t batch, bool is_final);

/*
 * Sends the notification {"jsonrpc","method":"event","params":event} to each subscriber whose filter takes it. The text is
 * made once. A subscriber whose queue is over its limit is disconnected with the named error (it resumes by sequence
 * number). An event longer than a message may be goes with its required fields only.
 */
void server_publish(struct server *server, json_t *event, uint64_t batch, bool is_final);

/* Sends one event to one connection: the replay of a subscription. */
void server_send_event(struct client *client, json_t *event);
