#include "client/client.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fd.h"
#include "client/connect.h"
#include "client/stopwatch.h"
#include "proto/frame.h"

enum {
	READ_BYTES = 64 << 10,
	HELLO_WAIT_MS = 30000,
	RESUME_PAUSE_MS = 50,
	OPEN_WAIT_S = 10,
	OPEN_PAUSE_MS = 10,
};

struct client {
	char *name;
	char *state_dir;
	int fd; /* −1 = lost */
	bool has_started;
	uint64_t last_id;
	struct frame input;
	json_t *answers; /* id as text → whole message, not yet asked for */
	json_t *events;  /* list of params, oldest first */
	size_t events_taken;
	json_t *hello;
	json_t *subscription; /* params, or NULL */
	uint64_t seq;         /* of the latest event seen */
	struct client_gap gap;
};

int client_fail(struct client_error *error, const struct err *cause)
{
	*error = (struct client_error){ .code = -1, .exit_status = 3, .cause = *cause };
	snprintf(error->text, sizeof(error->text), "%s", cause->text);
	return cause->code;
}

int client_refuse(struct client_error *error, enum api_error code, const char *format, ...)
{
	va_list args;

	*error = (struct client_error){ .code = (int)code, .exit_status = api_error_info(code)->exit_status };
	va_start(args, format);
	vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	return -EINVAL;
}

/* The connection is of no use any more: what was under way is not known to have happened. */
static int fail_lost(struct client *client, struct client_error *error, int code, const char *what)
{
	struct err cause = ERR_INIT;

	fd_close(&client->fd);
	frame_done(&client->input);
	json_object_clear(client->answers);
	err_set(&cause, code < 0 ? code : -ECONNRESET, "%s", what);
	return client_fail(error, &cause);
}

/* An error answer → *error. */
static void read_error(const json_t *answer, struct client_error *error)
{
	const char *text = json_string_value(json_object_get(answer, "message"));
	const char *hint = json_string_value(json_object_get(json_object_get(answer, "data"), "hint"));
	int code = api_find_error((int)json_integer_value(json_object_get(answer, "code")));

	*error = (struct client_error){ .code = code < 0 ? API_ERROR_INTERNAL : code };
	error->exit_status = api_error_info((enum api_error)error->code)->exit_status;
	snprintf(error->text, sizeof(error->text), "%s", text ? text : "the daemon gave an error without words");
	snprintf(error->hint, sizeof(error->hint), "%s", hint ? hint : "");
}

static void take_event(struct client *client, json_t *message)
{
	json_t *event = json_object_get(message, "params");
	json_int_t seq = json_integer_value(json_object_get(event, "seq"));

	if (seq > 0 && (uint64_t)seq > client->seq)
		client->seq = (uint64_t)seq;
	if (json_is_object(event))
		json_array_append(client->events, event);
}

/* Sorts one message into answers and events. */
static int take_message(struct client *client, const char *line, size_t length, struct client_error *error)
{
	struct err err = ERR_INIT;
	json_t *message = api_parse(line, length, &err);
	json_t *id;
	char key[24];

	if (!message)
		return fail_lost(client, error, -EBADMSG, "the daemon sent something that is no message");
	id = json_object_get(message, "id");
	if (json_is_integer(id)) {
		snprintf(key, sizeof(key), "%lld", (long long)json_integer_value(id));
		json_object_set_new(client->answers, key, message);
		return 0;
	}
	if (json_object_get(message, "method"))
		take_event(client, message);
	else if (json_object_get(message, "error")) {
		/* An error without an id ends the connection: too slow, too many clients. */
		fail_lost(client, error, -ECONNRESET, "the daemon closed the connection");
		read_error(json_object_get(message, "error"), error);
		json_decref(message);
		return -ECONNRESET;
	}
	json_decref(message);
	return 0;
}

/* Reads what is there. 1 = something came, 0 = nothing now, -errno = lost. */
static int read_some(struct client *client, struct client_error *error)
{
	char bytes[READ_BYTES];
	const char *line;
	size_t length;
	ssize_t got;
	int code;

	if (client->fd < 0)
		return fail_lost(client, error, -ENOTCONN, "there is no connection to the daemon");
	got = recv(client->fd, bytes, sizeof(bytes), 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got <= 0)
		return fail_lost(client, error, got < 0 ? -errno : -ECONNRESET, "the daemon closed the connection");
	frame_push(&client->input, bytes, (size_t)got);
	while ((code = frame_next(&client->input, &line, &length)) > 0) {
		code = take_message(client, line, length, error);
		if (code < 0)
			return code;
	}
	return code < 0 ? fail_lost(client, error, code, "the daemon sent a message over the limit") : 1;
}

static int wait_for(const struct client *client, short events, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = client->fd, .events = events };
	int ready = poll(&poll_fd, 1, timeout_ms);

	return ready < 0 && errno == EINTR ? 1 : ready;
}

/* Writes everything, reading meanwhile: a daemon that waits for us to read would never read itself. */
static int write_all(struct client *client, const char *bytes, size_t length, struct client_error *error)
{
	while (length > 0) {
		ssize_t written;
		int code = 0;

		if (client->fd < 0)
			return fail_lost(client, error, -ENOTCONN, "there is no connection to the daemon");
		written = send(client->fd, bytes, length, MSG_NOSIGNAL);
		if (written >= 0) {
			bytes += written;
			length -= (size_t)written;
			continue;
		}
		if (errno == EPIPE || errno == ECONNRESET) {
			/* What the daemon said before it hung up is the better message. */
			while ((code = read_some(client, error)) > 0)
				;
			return code < 0 ? code : fail_lost(client, error, -EPIPE, "the daemon closed the connection");
		}
		if (errno != EAGAIN && errno != EINTR)
			return fail_lost(client, error, -errno, "the connection to the daemon broke");
		wait_for(client, POLLIN | POLLOUT, -1);
		code = read_some(client, error);
		if (code < 0)
			return code;
	}
	return 0;
}

int client_send(struct client *client, enum api_method method, const char *params, size_t length, uint64_t *ret_id,
                struct client_error *error)
{
	CLEANUP_BUF struct buf line = BUF_INIT;
	uint64_t id = ++client->last_id;

	buf_add_format(&line, "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"method\":\"%s\",\"params\":", (unsigned long long)id,
	               api_method_info(method)->name);
	buf_add(&line, params, length);
	buf_add_text(&line, "}\n");
	if (line.length > LIMIT_MESSAGE) {
		client_refuse(error, API_ERROR_TOO_LARGE, "a message of %zu bytes is needed, %d are possible", line.length,
		              LIMIT_MESSAGE);
		snprintf(error->hint, sizeof(error->hint), "put long texts into a file and name that file in the command");
		return -EMSGSIZE;
	}
	*ret_id = id;
	return write_all(client, line.bytes, line.length, error);
}

/* As client_receive(), but gives up after `timeout_ms` without a message (−1 = never). */
static json_t *receive(struct client *client, uint64_t id, int timeout_ms, struct client_error *error)
{
	json_t *message, *result;
	char key[24];

	snprintf(key, sizeof(key), "%llu", (unsigned long long)id);
	while ((message = json_object_get(client->answers, key)) == NULL) {
		int code = read_some(client, error);

		if (code < 0)
			return NULL;
		if (code == 0 && wait_for(client, POLLIN, timeout_ms) == 0) {
			fail_lost(client, error, -ETIMEDOUT, "the daemon does not answer");
			return NULL;
		}
	}
	result = json_incref(json_object_get(message, "result"));
	if (!result)
		read_error(json_object_get(message, "error"), error);
	json_object_del(client->answers, key);
	return result;
}

json_t *client_receive(struct client *client, uint64_t id, struct client_error *error)
{
	return receive(client, id, -1, error);
}

/* Sends and receives once. Borrows `params`. */
static json_t *call_once(struct client *client, enum api_method method, const json_t *params, int timeout_ms,
                         struct client_error *error)
{
	char *text = params ? json_dumps(params, JSON_COMPACT) : xstrdup("{}");
	uint64_t id;
	int code;

	ASSERT(text);
	code = client_send(client, method, text, strlen(text), &id, error);
	free(text);
	return code < 0 ? NULL : receive(client, id, timeout_ms, error);
}

static int say_hello(struct client *client, struct client_error *error)
{
	json_t *params = json_pack("{s:i, s:s}", "protocol", API_PROTOCOL, "client", client->name);
	json_t *hello;

	hello = call_once(client, API_HELLO, params, HELLO_WAIT_MS, error);
	json_decref(params);
	if (hello) {
		json_decref(client->hello);
		client->hello = hello;
		return 0;
	}
	if (error->code == API_ERROR_PROTOCOL && error->hint[0] == '\0')
		snprintf(error->hint, sizeof(error->hint),
		         "'drover daemon restart' starts the one that belongs to this program");
	return error->code < 0 ? error->cause.code : -EPROTO;
}

/* Connects and says hello once. 0, or -errno with *error. */
static int open_once(struct client *client, bool may_start, struct client_error *error)
{
	struct err err = ERR_INIT;
	bool was_started = false;

	fd_close(&client->fd);
	frame_done(&client->input);
	if (may_start)
		client->fd = connect_start(client->state_dir, &was_started, &err);
	else
		client->fd = connect_daemon(client->state_dir, &err);
	client->has_started = client->has_started || was_started;
	return client->fd < 0 ? client_fail(error, &err) : say_hello(client, error);
}

/* A daemon that is about to end still accepts connections, and then closes them: the next one, or none, is what counts. */
static bool is_ending(const struct client_error *error)
{
	return error->code == API_ERROR_STOPPING ||
	       (error->code < 0 && (error->cause.code == -ECONNRESET || error->cause.code == -EPIPE));
}

int client_open(const struct client_options *options, struct client **ret, struct client_error *error)
{
	CLEANUP(stopwatch_done) struct stopwatch watch = STOPWATCH_INIT;
	uint64_t patience_ns = options->may_start ? OPEN_WAIT_S * NS_PER_SEC : NS_PER_SEC;
	struct client *client;
	char state_dir[PATHS_MAX];
	struct err err = ERR_INIT;
	int code;

	if (!options->state_dir && paths_state_dir(state_dir, &err) < 0)
		return client_fail(error, &err);
	client = xcalloc(1, sizeof(*client));
	client->name = xstrdup(options->name);
	client->state_dir = xstrdup(options->state_dir ? options->state_dir : state_dir);
	client->answers = json_object();
	client->events = json_array();
	client->fd = -1;
	code = open_once(client, options->may_start, error);
	if (code < 0 && is_ending(error) && stopwatch_start(&watch) == 0) {
		do {
			stopwatch_sleep_ms(OPEN_PAUSE_MS);
			code = open_once(client, options->may_start, error);
		} while (code < 0 && is_ending(error) && stopwatch_ns(&watch) < patience_ns);
	}
	if (code < 0) {
		client_close(client);
		return code;
	}
	*ret = client;
	return 0;
}

void client_close(struct client *client)
{
	if (!client)
		return;
	fd_close(&client->fd);
	frame_done(&client->input);
	json_decref(client->answers);
	json_decref(client->events);
	json_decref(client->hello);
	json_decref(client->subscription);
	free(client->name);
	free(client->state_dir);
	free(client);
}

void client_cleanup(struct client **client)
{
	client_close(*client);
}

const json_t *client_hello(const struct client *client)
{
	return client->hello;
}

const char *client_state_dir(const struct client *client)
{
	return client->state_dir;
}

bool client_has_started_daemon(const struct client *client)
{
	return client->has_started;
}

/* Doing it twice is as good as once. A retry is not: the first may have run and ended before the second. */
static bool is_repeatable(enum api_method method)
{
	return method == API_TASK_LIST || method == API_TASK_SHOW || method == API_TASK_WHY || method == API_STATUS ||
	       method == API_DAEMON_STATUS || method == API_TASK_CANCEL || method == API_TASK_RELEASE ||
	       method == API_TASK_SUSPEND || method == API_TASK_RESUME || method == API_CLEAN ||
	       method == API_EVENTS_LIST;
}

json_t *client_call(struct client *client, enum api_method method, json_t *params, struct client_error *error)
{
	json_t *result;
	bool is_gap;

	result = call_once(client, method, params, -1, error);
	while (!result && error->code < 0 && is_repeatable(method)) {
		if (client_resume_wait(client, &is_gap, error) < 0)
			break;
		result = call_once(client, method, params, -1, error);
	}
	json_decref(params);
	return result;
}

/* What the answer to a subscription after number `asked` says is missing. True when something is. */
static bool note_gap(struct client *client, const json_t *result, uint64_t asked)
{
	uint64_t latest = (uint64_t)json_integer_value(json_object_get(result, "seq"));

	client->gap = (struct client_gap){
		.from = (uint64_t)json_integer_value(json_object_get(result, "missing_from")),
		.to = (uint64_t)json_integer_value(json_object_get(result, "missing_to")),
		.is_new_log = latest < asked,
	};
	if (client->gap.is_new_log)
		client->seq = latest;
	return client->gap.is_new_log || json_is_true(json_object_get(result, "is_gap"));
}

json_t *client_subscribe(struct client *client, json_t *params, struct client_error *error)
{
	bool has_after = json_is_integer(json_object_get(params, "after_seq"));
	uint64_t after = (uint64_t)MAX(json_integer_value(json_object_get(params, "after_seq")), (json_int_t)0);
	json_t *result;

	if (has_after)
		client->seq = after; /* before the call: the first events may come together with its answer */
	result = call_once(client, API_EVENTS_SUBSCRIBE, params, -1, error);
	if (!result) {
		json_decref(params);
		return NULL;
	}
	json_decref(client->subscription);
	client->subscription = params;
	if (!has_after)
		client->seq = MAX(client->seq, (uint64_t)json_integer_value(json_object_get(result, "seq")));
	note_gap(client, result, after);
	return result;
}

struct client_gap client_gap(const struct client *client)
{
	return client->gap;
}

int client_fd(const struct client *client)
{
	return client->fd;
}

int client_take_event(struct client *client, json_t **ret_event, struct client_error *error)
{
	int code = 1;

	if (client->events_taken == json_array_size(client->events)) {
		json_array_clear(client->events);
		client->events_taken = 0;
		code = read_some(client, error);
	}
	/* What came before a loss is handed out first. */
	if (client->events_taken < json_array_size(client->events)) {
		*ret_event = json_incref(json_array_get(client->events, client->events_taken++));
		return 1;
	}
	return code < 0 ? code : 0;
}

/* Subscribes again from the latest event that was seen. */
static int renew_subscription(struct client *client, bool *ret_is_gap, struct client_error *error)
{
	uint64_t after = client->seq;
	json_t *result;

	*ret_is_gap = false;
	if (!client->subscription)
		return 0;
	json_object_set_new(client->subscription, "after_seq", json_integer((json_int_t)after));
	result = call_once(client, API_EVENTS_SUBSCRIBE, client->subscription, -1, error);
	if (!result)
		return error->code < 0 ? -EAGAIN : -EPROTO;
	*ret_is_gap = note_gap(client, result, after);
	json_decref(result);
	return 0;
}

int client_resume(struct client *client, bool *ret_is_gap, struct client_error *error)
{
	struct err err = ERR_INIT;
	int code;

	*ret_is_gap = false;
	fd_close(&client->fd);
	client->fd = connect_daemon(client->state_dir, &err);
	if (client->fd < 0) {
		client_fail(error, &err);
		return connect_is_absence(err.code) ? -EAGAIN : err.code;
	}
	code = say_hello(client, error);
	if (code < 0)
		return error->code < 0 || error->code == API_ERROR_STOPPING || error->code == API_ERROR_TOO_MANY_CLIENTS
		               ? -EAGAIN
		               : code;
	return renew_subscription(client, ret_is_gap, error);
}

int client_resume_wait(struct client *client, bool *ret_is_gap, struct client_error *error)
{
	CLEANUP(stopwatch_done) struct stopwatch watch = STOPWATCH_INIT;
	int code;

	if (stopwatch_start(&watch) < 0)
		return client_resume(client, ret_is_gap, error);
	while ((code = client_resume(client, ret_is_gap, error)) == -EAGAIN) {
		if (stopwatch_ns(&watch) > CLIENT_RESUME_S * NS_PER_SEC)
			return -ETIMEDOUT;
		stopwatch_sleep_ms(RESUME_PAUSE_MS);
	}
	return code;
}
