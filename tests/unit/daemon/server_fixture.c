/*
 * server_fixture.c - see server_fixture.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/units.h"
#include "server_fixture.h"

enum { DEADLINE_S = 30 };

const char hello[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\",\"params\":{\"protocol\":1}}";
const char status_2[] = "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"status\"}";
const char show_3[] = "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"task.show\",\"params\":{\"task\":\"1\"}}";

static json_t *make_hello(void *context)
{
	(void)context;
	return json_pack("{s:i, s:s, s:i, s:s}", "protocol", API_PROTOCOL, "version", "0", "pid", (int)getpid(), "state_dir",
			 "/");
}

static void on_disconnect(void *context, struct client *client)
{
	struct fixture *fixture = context;

	fixture->disconnects++;
	fixture->last_gone = server_client_id(client);
}

static void handle_status(void *context, struct request *request, json_t *params)
{
	struct fixture *fixture = context;

	(void)params;
	fixture->answered++;
	server_reply(request, json_pack("{s:i, s:i, s:i, s:i, s:{}, s:i, s:b, s:[]}", "slots", 1, "running", 0, "queued", 0,
					"suspended", 0, "states", "batches", 0, "is_paused", 0, "problems"));
}

static void handle_show(void *context, struct request *request, json_t *params)
{
	struct fixture *fixture = context;

	(void)params;
	assert_true(fixture->kept_count < KEPT_MAX);
	fixture->kept[fixture->kept_count++] = request;
}

static void handle_subscribe(void *context, struct request *request, json_t *params)
{
	struct server_filter filter = {
		.batch = (uint64_t)json_integer_value(json_object_get(params, "after_seq")), /* stands for a resolved name */
		.is_final_only = json_is_true(json_object_get(params, "is_final_only")),
	};

	(void)context;
	server_subscribe(server_client(request), &filter);
	server_reply(request, json_pack("{s:i, s:b}", "seq", 0, "is_gap", 0));
}

/* Answers with a text as long as the reason says. */
static void handle_cancel(void *context, struct request *request, json_t *params)
{
	size_t length = strtoul(json_string_value(json_object_get(params, "reason")), NULL, 10);
	char *text = xcalloc(1, length + 1);

	(void)context;
	memset(text, 'x', length);
	server_reply(request, json_pack("{s:[], s:i, s:[s]}", "tasks", "count", 0, "refused", text));
	free(text);
}

static void handle_wrongly(void *context, struct request *request, json_t *params)
{
	(void)context;
	(void)params;
	server_reply(request, json_pack("{s:i}", "cuont", 1));
}

void open_server(struct fixture *fixture)
{
	struct err err = ERR_INIT;

	if (server_open(&fixture->options, &fixture->server, &err))
		fail_msg("%s", err.text);
}

int setup(void **state)
{
	struct fixture *fixture = xcalloc(1, sizeof(*fixture));

	snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/drover-server.XXXXXX");
	if (!mkdtemp(fixture->directory) || uv_loop_init(&fixture->loop))
		return -1;
	snprintf(fixture->path, sizeof(fixture->path), "%s/run/daemon.sock", fixture->directory);
	fixture->options = (struct server_options){
		.loop = &fixture->loop,
		.socket_path = fixture->path,
		.context = fixture,
		.on_disconnect = on_disconnect,
		.make_hello = make_hello,
		.handlers = { [API_STATUS] = handle_status, [API_TASK_SHOW] = handle_show, [API_TASK_CANCEL] = handle_cancel,
			      [API_EVENTS_SUBSCRIBE] = handle_subscribe, [API_CLEAN] = handle_wrongly },
	};
	*state = fixture;
	return 0;
}

int setup_open(void **state)
{
	if (setup(state))
		return -1;
	open_server(*state);
	return 0;
}

void close_server(struct fixture *fixture)
{
	server_close(fixture->server);
	fixture->server = NULL;
	uv_run(&fixture->loop, UV_RUN_DEFAULT);
}

int teardown(void **state)
{
	struct fixture *fixture = *state;
	pid_t child;

	close_server(fixture);
	assert_int_equal(uv_loop_close(&fixture->loop), 0);
	child = fork();
	if (child == 0) {
		execlp("rm", "rm", "-rf", fixture->directory, NULL);
		_exit(127);
	}
	waitpid(child, NULL, 0);
	free(fixture);
	return 0;
}

void turn(struct fixture *fixture)
{
	uv_run(&fixture->loop, UV_RUN_NOWAIT);
}

int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char *directory CLEANUP_FREE = xmemdup0(path, (size_t)(strrchr(path, '/') - path));
	int directory_fd CLEANUP_FD = open(directory, O_PATH | O_CLOEXEC);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d%s", directory_fd, strrchr(path, '/'));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fd_close(&fd);
	return fd;
}

struct peer peer_open(struct fixture *fixture)
{
	struct peer peer = { .fd = connect_to(fixture->path) };

	assert_true(peer.fd >= 0);
	turn(fixture);
	return peer;
}

void peer_close(struct peer *peer)
{
	fd_close(&peer->fd);
	frame_done(&peer->input);
}

/* Lets the loop run and waits a little for `fd` (−1 = for the loop only). Fails after the deadline. */
void wait_a_little(struct fixture *fixture, int fd, uint64_t started_ns)
{
	struct pollfd polls[] = { { .fd = fd, .events = POLLIN },
				  { .fd = uv_backend_fd(&fixture->loop), .events = POLLIN } };

	assert_true(uv_hrtime() - started_ns < DEADLINE_S * NS_PER_SEC);
	turn(fixture);
	poll(polls, 2, 5);
	turn(fixture);
}

/* Sends all; false when the other end is closed. */
bool peer_send_bytes(struct fixture *fixture, struct peer *peer, const void *bytes, size_t length)
{
	const char *at = bytes;
	uint64_t started_ns = uv_hrtime();

	while (length > 0) {
		ssize_t sent = send(peer->fd, at, length, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno != EAGAIN)
			return false;
		if (sent < 0) {
			wait_a_little(fixture, -1, started_ns);
			continue;
		}
		at += sent;
		length -= (size_t)sent;
	}
	return true;
}

void peer_send(struct fixture *fixture, struct peer *peer, const char *line)
{
	struct buf text CLEANUP_BUF = BUF_INIT;

	buf_add_format(&text, "%s\n", line);
	assert_true(peer_send_bytes(fixture, peer, text.bytes, text.length));
}

/* Takes what is there; false when nothing is. */
static bool peer_read(struct peer *peer)
{
	char bytes[65536];
	ssize_t got = recv(peer->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (got > 0)
		frame_push(&peer->input, bytes, (size_t)got);
	else if (got == 0 || errno != EAGAIN)
		peer->has_ended = true;
	return got >= 0;
}

/* The next line as JSON (new reference), or NULL at the end of the stream. */
json_t *peer_receive(struct fixture *fixture, struct peer *peer)
{
	uint64_t started_ns = uv_hrtime();

	for (;;) {
		struct err err = ERR_INIT;
		const char *line;
		size_t length;
		int found = frame_next(&peer->input, &line, &length);

		assert_true(found >= 0);
		if (found) {
			json_t *value = api_parse(line, length, &err);

			if (!value)
				fail_msg("%s", err.text);
			return value;
		}
		if (peer->has_ended)
			return NULL;
		if (!peer_read(peer) && !peer->has_ended)
			wait_a_little(fixture, peer->fd, started_ns);
	}
}

void expect_end(struct fixture *fixture, struct peer *peer)
{
	json_t *value = peer_receive(fixture, peer);

	if (value)
		fail_msg("a line where the end should be: %s", json_dumps(value, 0));
}

/* The next line answers `id` with a result. */
void expect_result(struct fixture *fixture, struct peer *peer, int id)
{
	json_t *value = peer_receive(fixture, peer);

	assert_non_null(value);
	if (!json_object_get(value, "result"))
		fail_msg("no result: %s", json_dumps(value, 0));
	assert_int_equal(json_integer_value(json_object_get(value, "id")), id);
	json_decref(value);
}

/* The next line is an error of this kind; id 0 stands for null. */
void expect_error(struct fixture *fixture, struct peer *peer, int id, enum api_error code, const char *part)
{
	json_t *value = peer_receive(fixture, peer);
	json_t *error = json_object_get(value, "error");
	json_t *data = json_object_get(error, "data");
	const char *text = json_string_value(json_object_get(error, "message"));
	struct err err = ERR_INIT;

	assert_non_null(value);
	if (!error)
		fail_msg("no error: %s", json_dumps(value, 0));
	assert_int_equal(json_integer_value(json_object_get(error, "code")), api_error_info(code)->number);
	assert_string_equal(json_string_value(json_object_get(data, "name")), api_error_info(code)->name);
	if (api_check(API_OBJECT_ERROR_DATA, data, &err))
		fail_msg("%s", err.text);
	if (!strstr(text, part))
		fail_msg("'%s' does not contain '%s'", text, part);
	if (id == 0)
		assert_true(json_is_null(json_object_get(value, "id")));
	else
		assert_int_equal(json_integer_value(json_object_get(value, "id")), id);
	json_decref(value);
}

struct peer peer_greeted(struct fixture *fixture)
{
	struct peer peer = peer_open(fixture);

	peer_send(fixture, &peer, hello);
	expect_result(fixture, &peer, 1);
	return peer;
}

void expect_alive(struct fixture *fixture, struct peer *peer)
{
	peer_send(fixture, peer, status_2);
	expect_result(fixture, peer, 2);
}

void wait_for_count(struct fixture *fixture, unsigned count)
{
	uint64_t started_ns = uv_hrtime();

	while (server_client_count(fixture->server) != count)
		wait_a_little(fixture, -1, started_ns);
}
