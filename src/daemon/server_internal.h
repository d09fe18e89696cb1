/*
 * server_internal.h - what the server's files share. Not seen outside server*.c.
 *
 *     server.c          listening, accepting, subscribers, the beat: one flush per loop iteration
 *     server_client.c   a connection: reading, back-pressure, ending
 *     server_request.c  a message: checks, handlers, answers
 *     server_queue.c    bytes on their way out
 *     server_socket.c   the socket's file
 *
 * Invariants: a client is in server->clients exactly while its state is not CLIENT_GONE; its memory stays until its handle
 * is closed and its last request answered. on_disconnect() is called from the loop or from server_close(), never from
 * inside a call of a handler into the server.
 */
#pragma once

#include "base/limits.h"
#include "daemon/server.h"
#include "proto/frame.h"
#include "proto/message.h"

/* --- server_queue.c --- */

/* A line on its way out, shared by the queues it is in. */
struct packet {
	unsigned references;
	size_t length;
	char *bytes;
};

/* Takes the bytes out of the buffer. The caller has the one reference. */
struct packet *packet_new(struct buf *buf);
void packet_unref(struct packet *packet);

/* What each packet costs a queue besides its bytes. */
enum { PACKET_OVERHEAD = 64 };

/* A ring of packets. Zero-initialised is empty; an empty one holds no memory. */
struct queue {
	struct packet **packets;
	unsigned capacity; /* a power of two, or 0 */
	unsigned first;
	unsigned count;
	size_t sent; /* bytes of the first packet that are out */
	size_t size; /* bytes and overheads of all packets */
};

/* Adds a reference to the packet. */
void queue_add(struct queue *queue, struct packet *packet);

/* Writes as much as the socket takes: 0, also when it takes no more now, or -errno when the connection is broken. */
int queue_flush(struct queue *queue, int fd);
void queue_done(struct queue *queue);

/* --- server_socket.c --- */

/* Tells a file from another of the same name: also from one that got its inode number afterwards. */
struct socket_identity {
	uint64_t device;
	uint64_t inode;
	int64_t changed_s;
	int64_t changed_ns;
};

/* Makes the directory, replaces a stale socket, binds, listens. See server_open(). 0 or -errno. */
int socket_listen(const char *path, int *ret_fd, struct socket_identity *ret_identity, struct err *err);

/* True when the file is the one that socket_listen() made. */
bool socket_is_there(const char *path, const struct socket_identity *identity);

/* True when the process at the other end runs, or ran when it connected, as our user. */
bool socket_peer_is_us(int fd);

/* --- server_client.c --- */

enum {
	PENDING_MAX = 16,                   /* requests of one client without answer; more are not read */
	QUEUE_PAUSE = LIMIT_CLIENT_QUEUE / 4, /* bytes not yet taken by a client from which on it is not read */
	READ_SIZE = 65536,                  /* bytes read from one client in one iteration */
};

enum client_state {
	CLIENT_OPEN,
	CLIENT_INPUT_ENDED, /* it sends no more; its answers still go out */
	CLIENT_ENDING,      /* its last line is queued; nothing more is taken or added */
	CLIENT_GONE,
};

struct client {
	struct server *server; /* valid until CLIENT_GONE */
	uint64_t id;
	uv_poll_t poll;
	int poll_events;
	int fd;
	enum client_state state;
	bool has_said_hello;
	bool is_subscribed;
	bool is_dirty; /* to be flushed in the next iteration */
	struct server_filter filter;
	void *stream;
	unsigned references; /* its handle, each request, the call in progress */
	unsigned pending;    /* requests */
	uint64_t since_ms;   /* when it was last seen to keep us waiting; 0 = it does not */
	struct frame input;
	struct queue output;
};

/* Takes a connected socket. */
struct client *client_new(struct server *server, int fd);
void client_unref(struct client *client);

/* Queues a packet; a queue over its limit ends the connection. Ignored when the connection takes no more. */
void client_send(struct client *client, struct packet *packet);

/* Has the client's queue flushed and its input gone on with in the next iteration. */
void client_mark_dirty(struct client *client);

/* What was marked: writes, reads on, ends. */
void client_beat(struct client *client);

/* Nothing more is read or added; the connection ends when what is queued is written, or too old. */
void client_finish(struct client *client);

/* client_finish() after an error line with id null. */
void client_fail(struct client *client, enum api_error code, const char *hint, const char *format, ...) PRINTF_LIKE(4, 5);

/* Ends the connection now. */
void client_drop(struct client *client);

/* The time at which client_expire() is due, 0 = none. */
uint64_t client_deadline_ms(const struct client *client);

/* Ends a connection that kept us waiting too long. */
void client_expire(struct client *client);

/* --- server_request.c --- */

struct request {
	struct client *client;
	json_t *id;
	enum api_method method;
};

/* One line of input: answered at once with an error, or given to its handler. */
void request_receive(struct client *client, const char *line, size_t length);

/* --- server.c --- */

/* A listening socket; has its own memory because handles close later. */
struct listener {
	struct server *server;
	uv_poll_t poll;
	int fd;
	struct socket_identity identity;
};

struct server {
	struct server_options options;
	char *socket_path;
	struct listener *listener;
	uv_idle_t idle;   /* active while some client is dirty: then the loop does not block */
	uv_timer_t timer; /* active while some client keeps us waiting, or accepting is paused */
	uint64_t timer_due_ms;
	unsigned handles; /* not yet closed */
	bool is_closing;
	bool is_paused; /* no descriptors: connections wait in the kernel */
	int spare_fd;   /* given up to tell a client that there are none */
	bool has_met_stranger; /* another user has connected, and the log says so */
	uint64_t last_client_id;
	unsigned client_count;
	struct client *clients[LIMIT_CLIENTS];
	char scratch[READ_SIZE];
};

/* A handle of the server or of a client is closed; the last one takes the server with it. */
void server_handle_closed(struct server *server);

/* Out of the table, and on with accepting when that was paused. */
void server_forget_client(struct server *server, struct client *client);

/* Makes sure that the idle handle runs in the next iteration. */
void server_want_beat(struct server *server);

/* Makes sure that the timer runs at this time or before. */
void server_want_timer(struct server *server, uint64_t due_ms);

/* Milliseconds of the monotonic clock: not the turn's time, since connections have their own beat. */
uint64_t server_now_ms(void);

/* Milliseconds that a client may keep us waiting. */
uint64_t server_patience_ms(const struct server *server);
