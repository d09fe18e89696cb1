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
#include "base/str.h"
#include "client/connect.h"
#include "client/stopwatch.h"
#include "proto/frame.h"

enum {
	READ_BYTES = 64 << 10,
	PATIENCE_S = 30,
	PATIENCE_MAX_S = 24 * 3600,
	EVENTS_MAX = 1 << 16, /* read and not yet asked for */
	RESUME_PAUSE_MS = 50,
	OPEN_WAIT_S = 10,
	ATTEMPTS_MAX = 5, /* of one call */
	OPEN_PAUSE_MS = 10,
};

struct client {
	char *name;
	char *state_dir;
	int fd; /* −1 = lost */
	bool has_started;
	uint64_t last_id;
	struct frame input;
	int patience_ms;
	json_t *asked;   /* id as text → method, answer not yet come */
	json_t *answers; /* id as text → whole message, not yet asked for */
	json_t *events;  /* list of params, oldest first */
	size_t events_taken;
	json_t *hello;
	json_t *subscription; /* params, or NULL */
	uint64_t seq;         /* of the latest event seen */
	struct client_gap gap;
};

/* The connection is of no use any more: what was under way is not known to have happened. */
static int fail_lost(struct client *client, struct client_error *error, int code, const char *what)
{
	struct err cause = ERR_INIT;

	fd_close(&client->fd);
	frame_done(&client->input);
	json_object_clear(client->answers);
	json_object_clear(client->asked);
	err_set(&cause, code < 0 ? code : -ECONNRESET, "%s", what);
	return client_fail(error, &cause);
}

/* The other end does not keep to the protocol: nothing more is believed. */
static int fail_nonsense(struct client *client, struct client_error *error, const char *format, ...) PRINTF_LIKE(3, 4);
static int fail_nonsense(struct client *client, struct client_error *error, const char *format, ...)
{
	struct err cause = ERR_INIT;
	char text[ERR_TEXT_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fail_lost(client, error, -EBADMSG, "");
	err_say(&cause, -EBADMSG, "%s", text);
	client_fail(error, &cause);
	snprintf(error->hint, sizeof(error->hint), "is it of another version? 'drover daemon restart' starts this one's");
	return -EBADMSG;
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

/* A notification. Those that are no events are of later versions. */
static int take_event(struct client *client, const json_t *message, struct client_error *error)
{
	const char *method = json_string_value(json_object_get(message, "method"));
	json_t *event = json_object_get(message, "params");
	json_int_t seq = json_integer_value(json_object_get(event, "seq"));
	struct err err = ERR_INIT;

	if (!method || strcmp(method, "event") != 0)
		return 0;
	if (api_check_received(API_OBJECT_EVENT, event, &err))
		return fail_nonsense(client, error, "the daemon sent an event that is none: %s", err.text);
	if (json_array_size(client->events) - client->events_taken >= EVENTS_MAX)
		return fail_nonsense(client, error, "the daemon sent %d events and no answer", EVENTS_MAX);
	if (seq > 0 && (uint64_t)seq > client->seq)
		client->seq = (uint64_t)seq;
	json_array_append(client->events, event);
	return 0;
}

/* Steals the message. */
static int take_answer(struct client *client, json_t *message, struct client_error *error)
{
	json_int_t id = json_integer_value(json_object_get(message, "id"));
	json_t *result = json_object_get(message, "result");
	const json_t *method;
	struct err err = ERR_INIT;
	char key[24];
	int code = 0;

	snprintf(key, sizeof(key), "%lld", (long long)id);
	method = json_object_get(client->asked, key);
	if (!method)
		code = fail_nonsense(client, error, "the daemon answered request %lld, which was not sent", (long long)id);
	else if (!result && !json_is_object(json_object_get(message, "error")))
		code = fail_nonsense(client, error, "the daemon's answer has neither result nor error");
	else if (result &&
	         api_check_received(api_method_info((enum api_method)json_integer_value(method))->result, result, &err))
		code = fail_nonsense(client, error, "the daemon's answer is wrong: %s", err.text);
	if (code < 0) {
		json_decref(message);
		return code;
	}
	json_object_del(client->asked, key);
	json_object_set_new(client->answers, key, message);
	return 0;
}

/* An error without an id ends the connection: too slow, too many clients. */
static int take_end(struct client *client, const json_t *message, struct client_error *error)
{
	const json_t *reason = json_object_get(message, "error");

	if (!json_is_object(reason))
		return fail_nonsense(client, error, "the daemon sent something that is no message");
	fail_lost(client, error, -ECONNRESET, "the daemon closed the connection");
	read_error(reason, error);
	return -ECONNRESET;
}

/* Sorts one message into answers and events. */
static int take_message(struct client *client, const char *line, size_t length, struct client_error *error)
{
	struct err err = ERR_INIT;
	json_t *message = api_parse(line, length, &err);
	int code;

	if (!message)
		return fail_nonsense(client, error, "the daemon sent something that is no message: %s", err.text);
	if (json_is_integer(json_object_get(message, "id")))
		return take_answer(client, message, error);
	code = json_object_get(message, "method") ? take_event(client, message, error) : take_end(client, message, error);
	json_decref(message);
	return code;
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
		if (wait_for(client, POLLIN | POLLOUT, client->patience_ms) == 0)
			return fail_lost(client, error, -ETIMEDOUT, "the daemon takes no requests");
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
	char key[24];

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
	snprintf(key, sizeof(key), "%llu", (unsigned long long)id);
	json_object_set_new(client->asked, key, json_integer(method));
	return write_all(client, line.bytes, line.length, error);
}

/*
 * Nothing has come for a while. A commit may take as long as the disk does; a daemon that lives tells its status meanwhile.
 * So that is asked for, and when it does not come either, nobody is there.
 */
static int probe(struct client *client, uint64_t *probe_id, struct client_error *error)
{
	char key[24];

	snprintf(key, sizeof(key), "%llu", (unsigned long long)*probe_id);
	if (*probe_id > 0 && !json_object_get(client->answers, key))
		return fail_lost(client, error, -ETIMEDOUT, "the daemon does not answer");
	json_object_del(client->answers, key);
	return client_send(client, API_STATUS, "{}", 2, probe_id, error);
}

/* With `is_patient` a daemon that shows that it lives may take as long as it likes. */
static json_t *receive(struct client *client, uint64_t id, bool is_patient, struct client_error *error)
{
	json_t *message, *result;
	uint64_t probe_id = 0;
	char key[24];

	snprintf(key, sizeof(key), "%llu", (unsigned long long)id);
	while ((message = json_object_get(client->answers, key)) == NULL) {
		int code = read_some(client, error);

		if (code < 0)
			return NULL;
		if (code > 0 || wait_for(client, POLLIN, client->patience_ms) > 0)
			continue;
		if (!is_patient)
			fail_lost(client, error, -ETIMEDOUT, "the daemon does not answer");
		if (!is_patient || probe(client, &probe_id, error) < 0)
			return NULL;
	}
	result = json_incref(json_object_get(message, "result"));
	if (!result)
		read_error(json_object_get(message, "error"), error);
	json_object_del(client->answers, key);
	return result;
}

json_t *client_receive(struct client *client, uint64_t id, struct client_error *error)
{
	return receive(client, id, true, error);
}

/* Sends and receives once. Borrows `params`. */
static json_t *call_once(struct client *client, enum api_method method, const json_t *params, struct client_error *error)
{
	char *text = params ? json_dumps(params, JSON_COMPACT) : xstrdup("{}");
	uint64_t id;
	int code;

	ASSERT(text);
	code = client_send(client, method, text, strlen(text), &id, error);
	free(text);
	return code < 0 ? NULL : receive(client, id, method != API_HELLO, error);
}

static int say_hello(struct client *client, struct client_error *error)
{
	json_t *params = json_pack("{s:i, s:s}", "protocol", API_PROTOCOL, "client", client->name);
	json_t *hello;

	hello = call_once(client, API_HELLO, params, error);
	json_decref(params);
	if (hello && json_integer_value(json_object_get(hello, "protocol")) != API_PROTOCOL) {
		client_refuse(error, API_ERROR_PROTOCOL, "the daemon speaks protocol %lld, this program protocol %d",
		              (long long)json_integer_value(json_object_get(hello, "protocol")), API_PROTOCOL);
		json_decref(hello);
		hello = NULL;
		fd_close(&client->fd);
	}
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

static int read_patience_ms(void)
{
	const char *text = getenv("DROVER_PATIENCE");
	uint64_t patience_s;

	if (!text || str_parse_u64(text, PATIENCE_MAX_S, &patience_s) < 0 || patience_s == 0)
		patience_s = PATIENCE_S;
	return (int)patience_s * 1000;
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
	client->patience_ms = read_patience_ms();
	client->asked = json_object();
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
	json_decref(client->asked);
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
	       method == API_TASK_SUSPEND || method == API_TASK_RESUME || method == API_CLEAN || method == API_EVENTS_LIST;
}

json_t *client_call(struct client *client, enum api_method method, json_t *params, struct client_error *error)
{
	json_t *result;
	bool is_gap;

	result = call_once(client, method, params, error);
	/* Not without end: what ends one daemon would end the next one too. */
	for (int i = 1; i < ATTEMPTS_MAX && !result && client_is_lost(error) && is_repeatable(method); i++) {
		if (client_resume_wait(client, &is_gap, error) < 0)
			break;
		result = call_once(client, method, params, error);
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
	result = call_once(client, API_EVENTS_SUBSCRIBE, params, error);
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
	result = call_once(client, API_EVENTS_SUBSCRIBE, client->subscription, error);
	if (!result)
		return client_is_lost(error) ? -EAGAIN : -EPROTO;
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
		return client_is_lost(error) || error->code == API_ERROR_STOPPING ||
		                       error->code == API_ERROR_TOO_MANY_CLIENTS
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
