/*
 * server_client.c - one connection: what it sends, what it does not read, how it ends.
 *
 * A client that does not read its answers is not read either, so its own requests cannot fill its queue; only events can,
 * and then it is ended with a named error. One that says no hello, begins a line and does not end it, reads nothing of a
 * long queue (but for one that pages through the past, which costs no more than that), or does not take the last lines of
 * an ended connection is dropped after a while; idle ones may stay for ever and cost no timer.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "daemon/server_internal.h"

static void on_poll(uv_poll_t *poll, int status, int events);
static void on_poll_closed(uv_handle_t *handle);
static void client_read(struct client *client);
static void client_process(struct client *client);
static void client_settle(struct client *client);

struct client *client_new(struct server *server, int fd)
{
	struct client *client = xcalloc(1, sizeof(*client));

	client->server = server;
	client->id = ++server->last_client_id;
	client->fd = fd;
	client->references = 1;
	client->poll.data = client;
	server->handles++;
	if (uv_poll_init(server->options.loop, &client->poll, fd))
		NEVER("a connected socket that cannot be polled");
	client_settle(client);
	return client;
}

void client_unref(struct client *client)
{
	ASSERT(client->references > 0);
	if (--client->references == 0)
		free(client);
}

static bool takes_input(const struct client *client)
{
	return client->state < CLIENT_ENDING && client->pending < PENDING_MAX && client->output.size <= QUEUE_PAUSE;
}

void client_send(struct client *client, struct packet *packet)
{
	if (client->state >= CLIENT_ENDING)
		return;
	if (client->output.size + packet->length + PACKET_OVERHEAD > LIMIT_CLIENT_QUEUE) {
		client_fail(client, API_ERROR_TOO_SLOW, "connect again and subscribe after the last event's number",
		            "%zu bytes wait to be read on this connection, and at most %d may", client->output.size,
		            LIMIT_CLIENT_QUEUE);
		return;
	}
	queue_add(&client->output, packet);
	client_mark_dirty(client);
}

void server_set_stream(struct client *client, void *stream)
{
	client->stream = stream;
	if (stream)
		client_mark_dirty(client);
}

void server_end_slow(struct client *client)
{
	client_fail(client, API_ERROR_TOO_SLOW, "connect again and subscribe after the last event's number",
		    "events were forgotten before this connection had read them");
}

void server_end_unreadable(struct client *client, uint64_t seq)
{
	client_fail(client, API_ERROR_STORE_FAILED, "'drover daemon restart' looks at the database anew",
	            "the event log cannot be read from %llu on", (unsigned long long)seq);
}

void *server_stream(const struct client *client)
{
	return client->stream;
}

bool server_has_room(const struct client *client)
{
	return client->state < CLIENT_ENDING && client->output.size <= QUEUE_PAUSE;
}

void client_mark_dirty(struct client *client)
{
	if (client->state == CLIENT_GONE)
		return;
	client->is_dirty = true;
	server_want_beat(client->server);
}

void client_finish(struct client *client)
{
	if (client->state >= CLIENT_ENDING)
		return;
	client->state = CLIENT_ENDING;
	client->is_subscribed = false;
	client->since_ms = 0;
	client_mark_dirty(client);
}

void client_fail(struct client *client, enum api_error code, const char *hint, const char *format, ...)
{
	struct buf line CLEANUP_BUF = BUF_INIT;
	char text[ERR_TEXT_MAX];
	struct packet *packet;
	va_list args;

	if (client->state >= CLIENT_ENDING)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	message_add_error(&line, NULL, &(struct message_error){ .code = code, .text = text, .hint = hint });
	packet = packet_new(&line);
	queue_add(&client->output, packet);
	packet_unref(packet);
	client_finish(client);
}

void client_drop(struct client *client)
{
	struct server *server = client->server;

	if (client->state == CLIENT_GONE)
		return;
	client->state = CLIENT_GONE;
	client->is_subscribed = false;
	queue_done(&client->output);
	frame_done(&client->input);
	uv_close((uv_handle_t *)&client->poll, on_poll_closed);
	fd_close(&client->fd);
	server_forget_client(server, client);
	if (server->options.on_disconnect)
		server->options.on_disconnect(server->options.context, client);
}

static void on_poll_closed(uv_handle_t *handle)
{
	struct client *client = handle->data;

	server_handle_closed(client->server);
	client_unref(client);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct client *client = poll->data;

	client->references++;
	if (status < 0) {
		/* The other end closed without reading all: whatever it sent, nobody waits for the answer. */
		client_drop(client);
	} else {
		if (events & UV_READABLE)
			client_read(client);
		if (events & UV_WRITABLE)
			client_mark_dirty(client);
		client_settle(client);
	}
	client_unref(client);
}

/* Once per iteration, so that a busy client does not keep the others waiting. */
static void client_read(struct client *client)
{
	char *scratch = client->server->scratch;
	ssize_t got;

	if (client->state != CLIENT_OPEN)
		return;
	got = read(client->fd, scratch, READ_SIZE);
	if (got < 0) {
		if (errno != EAGAIN && errno != EINTR)
			client_drop(client);
		return;
	}
	if (got == 0)
		client->state = CLIENT_INPUT_ENDED;
	frame_push(&client->input, scratch, (size_t)got);
	client_process(client);
}

static void client_process(struct client *client)
{
	while (takes_input(client)) {
		const char *line;
		size_t length;
		int result = frame_next(&client->input, &line, &length);

		if (result == 0)
			return;
		if (client->has_said_hello)
			client->since_ms = 0;
		if (result < 0) {
			client_fail(client, API_ERROR_TOO_LARGE, "send large things in parts",
			            "a message is longer than %d bytes", LIMIT_MESSAGE);
			return;
		}
		request_receive(client, line, length);
	}
}

void client_beat(struct client *client)
{
	size_t before = client->output.size;

	client->references++;
	client->is_dirty = false;
	if (queue_flush(&client->output, client->fd))
		client_drop(client);
	if (client->output.size < before && client->state == CLIENT_OPEN && client->has_said_hello)
		client->since_ms = 0; /* it reads, however slowly */
	if (takes_input(client))
		client_process(client);
	if (client->stream && server_has_room(client) && client->server->options.on_room)
		client->server->options.on_room(client->server->options.context, client);
	client_settle(client);
	client_unref(client);
}

/* All is done that this connection was still there for. */
static bool is_over(const struct client *client)
{
	if (client->output.count > 0)
		return false;
	return client->state == CLIENT_ENDING || (client->state == CLIENT_INPUT_ENDED && client->pending == 0);
}

/* True while we wait for something that a client in order does at once. */
static bool keeps_waiting(const struct client *client)
{
	if (client->state == CLIENT_OPEN)
		return !client->has_said_hello || (client->output.size > QUEUE_PAUSE && !client->stream) ||
		       (takes_input(client) && frame_is_partial(&client->input));
	return client->state == CLIENT_ENDING || client->pending == 0;
}

/* After each change: what is polled for, whether the connection is over, how long it may stay as it is. */
static void client_settle(struct client *client)
{
	struct server *server = client->server;
	int events = 0;

	if (client->state == CLIENT_GONE)
		return;
	if (is_over(client)) {
		client_drop(client);
		return;
	}
	if (client->state == CLIENT_OPEN && takes_input(client))
		events |= UV_READABLE;
	if (client->output.count > 0 && !client->is_dirty)
		events |= UV_WRITABLE;
	if (events != client->poll_events) {
		int error = events ? uv_poll_start(&client->poll, events, on_poll) : uv_poll_stop(&client->poll);

		ASSERT(error == 0);
		client->poll_events = events;
	}
	if (!keeps_waiting(client)) {
		client->since_ms = 0;
	} else if (client->since_ms == 0) {
		client->since_ms = MAX(server_now_ms(), UINT64_C(1));
		server_want_timer(server, client_deadline_ms(client));
	}
}

uint64_t client_deadline_ms(const struct client *client)
{
	return client->since_ms ? client->since_ms + server_patience_ms(client->server) : 0;
}

void client_expire(struct client *client)
{
	unsigned patience_s = (unsigned)(server_patience_ms(client->server) / 1000);

	if (client->state != CLIENT_OPEN)
		client_drop(client);
	else if (!client->has_said_hello)
		client_fail(client, API_ERROR_HELLO_FIRST, NULL, "no hello came within %u s", patience_s);
	else if (client->output.size > QUEUE_PAUSE)
		client_fail(client, API_ERROR_TOO_SLOW, NULL, "nothing of %zu bytes was read within %u s",
		            client->output.size, patience_s);
	else
		client_fail(client, API_ERROR_INVALID_REQUEST, NULL, "a message was begun and not ended within %u s",
		            patience_s);
}
