/*
 * server.c - the unix socket's life: listening, accepting, the beat of the connections, closing.
 *
 * Answers and events only go into queues; an idle handle, active while some queue has something new, writes them at the next
 * iteration's start: one write for each connection, however many messages one iteration made, and wherever in it.
 */
#include "daemon/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "daemon/server_internal.h"
#include "platform/clock.h"

enum { ACCEPTS_MAX = 16, PAUSE_MS = 1000 };

static int listener_open(struct server *server, struct listener **ret, struct err *err);
static void listener_close(struct listener *listener);
static void on_listener(uv_poll_t *poll, int status, int events);
static void on_idle(uv_idle_t *idle);
static void on_timer(uv_timer_t *timer);
static void on_closed(uv_handle_t *handle);

int server_open(const struct server_options *options, struct server **ret, struct err *err)
{
	struct server *server = xcalloc(1, sizeof(*server));
	int error;

	server->options = *options;
	if (server->options.clients_max == 0)
		server->options.clients_max = LIMIT_CLIENTS;
	ASSERT(server->options.clients_max <= LIMIT_CLIENTS);
	server->socket_path = xstrdup(options->socket_path);
	server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	error = server->spare_fd < 0 ? err_set(err, -errno, "cannot open '/dev/null'")
	                             : listener_open(server, &server->listener, err);
	if (error) {
		fd_close(&server->spare_fd);
		free(server->socket_path);
		free(server);
		return error;
	}
	uv_idle_init(options->loop, &server->idle);
	uv_timer_init(options->loop, &server->timer);
	server->idle.data = server;
	server->timer.data = server;
	server->handles += 2;
	*ret = server;
	return 0;
}

void server_close(struct server *server)
{
	if (!server || server->is_closing)
		return;
	server->is_closing = true;
	for (unsigned i = 0; i < LIMIT_CLIENTS; i++) {
		struct client *client = server->clients[i];

		if (!client)
			continue;
		if (queue_flush(&client->output, client->fd))
			log_debug("a client went away while the daemon stopped");
		client_drop(client);
	}
	ASSERT(server->client_count == 0);
	if (socket_is_there(server->socket_path, &server->listener->identity) && unlink(server->socket_path) < 0)
		log_warning("cannot remove the socket '%s'", server->socket_path);
	listener_close(server->listener);
	fd_close(&server->spare_fd);
	uv_close((uv_handle_t *)&server->idle, on_closed);
	uv_close((uv_handle_t *)&server->timer, on_closed);
}

bool server_is_bound(const struct server *server)
{
	return socket_is_there(server->socket_path, &server->listener->identity);
}

int server_rebind(struct server *server, struct err *err)
{
	struct listener *listener;
	int error = listener_open(server, &listener, err);

	if (error)
		return error;
	listener_close(server->listener);
	server->listener = listener;
	server->is_paused = false;
	return 0;
}

unsigned server_client_count(const struct server *server)
{
	return server->client_count;
}

uint64_t server_client_id(const struct client *client)
{
	return client->id;
}

void server_handle_closed(struct server *server)
{
	ASSERT(server->handles > 0);
	if (--server->handles > 0 || !server->is_closing)
		return;
	free(server->socket_path);
	free(server);
}

static void on_closed(uv_handle_t *handle)
{
	server_handle_closed(handle->data);
}

static int listener_open(struct server *server, struct listener **ret, struct err *err)
{
	struct listener *listener = xcalloc(1, sizeof(*listener));
	int error = socket_listen(server->socket_path, &listener->fd, &listener->identity, err);

	if (error) {
		free(listener);
		return error;
	}
	listener->server = server;
	listener->poll.data = listener;
	error = uv_poll_init(server->options.loop, &listener->poll, listener->fd);
	ASSERT(error == 0);
	error = uv_poll_start(&listener->poll, UV_READABLE, on_listener);
	ASSERT(error == 0);
	server->handles++;
	*ret = listener;
	return 0;
}

static void on_listener_closed(uv_handle_t *handle)
{
	struct listener *listener = handle->data;

	server_handle_closed(listener->server);
	free(listener);
}

static void listener_close(struct listener *listener)
{
	uv_close((uv_handle_t *)&listener->poll, on_listener_closed);
	fd_close(&listener->fd);
}

static void pause_accepting(struct server *server)
{
	server->is_paused = true;
	uv_poll_stop(&server->listener->poll);
	server_want_timer(server, server_now_ms() + PAUSE_MS);
}

static void resume_accepting(struct server *server)
{
	if (!server->is_paused || server->is_closing)
		return;
	if (server->spare_fd < 0)
		server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (server->spare_fd < 0) {
		pause_accepting(server);
		return;
	}
	server->is_paused = false;
	uv_poll_start(&server->listener->poll, UV_READABLE, on_listener);
}

/* A fresh socket's buffer is empty, so the line fits. */
static void refuse_client(int fd, const char *text, const char *hint)
{
	struct buf line CLEANUP_BUF = BUF_INIT;
	struct queue queue = { 0 };
	struct packet *packet;

	message_add_error(&line, NULL,
	                  &(struct message_error){ .code = API_ERROR_TOO_MANY_CLIENTS, .text = text, .hint = hint });
	packet = packet_new(&line);
	queue_add(&queue, packet);
	packet_unref(packet);
	if (queue_flush(&queue, fd))
		log_debug("a client went away before it was refused");
	queue_done(&queue);
}

/* No descriptor is left: gives up the spare one to say so. Without it connections wait in the kernel; the loop sleeps. */
static void accept_without_descriptors(struct server *server)
{
	int fd CLEANUP_FD = -1;
	bool is_stuck;

	fd_close(&server->spare_fd);
	fd = accept4(server->listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0 && socket_peer_is_us(fd))
		refuse_client(fd, "the daemon has no file descriptors left", "raise its limit of open files");
	is_stuck = fd < 0 && errno != EAGAIN;
	fd_close(&fd);
	server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (server->spare_fd < 0 || is_stuck)
		pause_accepting(server);
}

static void take_client(struct server *server, int fd)
{
	unsigned index = 0;

	if (!socket_peer_is_us(fd)) {
		if (!server->has_met_stranger) /* once: the log is not theirs to fill */
			log_warning("refused a connection of another user; further ones are refused without a word");
		server->has_met_stranger = true;
		fd_close(&fd);
		return;
	}
	if (server->client_count >= server->options.clients_max) {
		char text[64];

		snprintf(text, sizeof(text), "there are %u connections, as many as may be",
			 server->options.clients_max);
		refuse_client(fd, text, "end some clients, or try again later");
		fd_close(&fd);
		return;
	}
	while (server->clients[index])
		index++;
	ASSERT(index < LIMIT_CLIENTS);
	server->clients[index] = client_new(server, fd);
	server->client_count++;
}

static void on_listener(uv_poll_t *poll, int status UNUSED, int events UNUSED)
{
	struct listener *listener = poll->data;
	struct server *server = listener->server;

	for (unsigned i = 0; i < ACCEPTS_MAX; i++) {
		int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			take_client(server, fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if ((errno == EMFILE || errno == ENFILE) && server->spare_fd >= 0)
			accept_without_descriptors(server);
		else if (errno != EAGAIN)
			pause_accepting(server);
		return;
	}
}

void server_forget_client(struct server *server, struct client *client)
{
	for (unsigned i = 0; i < LIMIT_CLIENTS; i++) {
		if (server->clients[i] != client)
			continue;
		server->clients[i] = NULL;
		server->client_count--;
		resume_accepting(server);
		return;
	}
	NEVER("a client that the server does not know");
}

void server_want_beat(struct server *server)
{
	if (!server->is_closing)
		uv_idle_start(&server->idle, on_idle);
}

/* Stops first: what becomes dirty meanwhile is for the next iteration. */
static void on_idle(uv_idle_t *idle)
{
	struct server *server = idle->data;

	uv_idle_stop(idle);
	for (unsigned i = 0; i < LIMIT_CLIENTS && !server->is_closing; i++)
		if (server->clients[i] && server->clients[i]->is_dirty)
			client_beat(server->clients[i]);
}

uint64_t server_now_ms(void)
{
	return clock_monotonic_ns() / NS_PER_MS;
}

uint64_t server_patience_ms(const struct server *server)
{
	return server->options.patience_ms ? server->options.patience_ms : API_LINE_TIMEOUT_S * 1000;
}

void server_want_timer(struct server *server, uint64_t due_ms)
{
	uint64_t now_ms = server_now_ms();

	if (server->is_closing || (uv_is_active((uv_handle_t *)&server->timer) && server->timer_due_ms <= due_ms))
		return;
	server->timer_due_ms = due_ms;
	uv_timer_start(&server->timer, on_timer, due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

static void on_timer(uv_timer_t *timer)
{
	struct server *server = timer->data;
	uint64_t now_ms = server_now_ms();

	resume_accepting(server);
	for (unsigned i = 0; i < LIMIT_CLIENTS && !server->is_closing; i++) {
		struct client *client = server->clients[i];
		uint64_t due_ms = client ? client_deadline_ms(client) : 0;

		if (due_ms == 0)
			continue;
		if (due_ms <= now_ms)
			client_expire(client);
		else
			server_want_timer(server, due_ms);
	}
}
