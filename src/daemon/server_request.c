/*
 * server_request.c - from a line to its handler, and from the handler's answer to a line. Every request is answered exactly
 * once; an answer whose connection is gone goes nowhere.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/log.h"
#include "daemon/server_internal.h"

static void refuse(struct client *client, const json_t *id, const struct message_error *error);
static void say_hello(struct client *client, const struct message *message);
static void call_handler(struct client *client, struct message *message);

void request_receive(struct client *client, const char *line, size_t length)
{
	struct err err = ERR_INIT;
	struct message message;
	enum api_error code;

	if (message_parse(line, length, &message, &code, &err)) {
		refuse(client, message.id, &(struct message_error){ .code = code, .text = err.text });
	} else if (message.method == API_HELLO) {
		say_hello(client, &message);
	} else if (!client->has_said_hello) {
		refuse(client, message.id,
		       &(struct message_error){ .code = API_ERROR_HELLO_FIRST, .text = "the first message must be hello" });
	} else {
		call_handler(client, &message);
	}
	message_done(&message);
}

static void send_line(struct client *client, struct buf *line)
{
	struct packet *packet = packet_new(line);

	client_send(client, packet);
	packet_unref(packet);
}

static void refuse(struct client *client, const json_t *id, const struct message_error *error)
{
	struct buf line CLEANUP_BUF = BUF_INIT;

	message_add_error(&line, id, error);
	send_line(client, &line);
}

/* A result or event that does not keep to api.def is a bug that must not reach a client. Costs time: not in releases. */
static void check_ours(int object, const json_t *value)
{
#ifdef API_CHECK_RESULTS
	struct err err = ERR_INIT;

	if (api_check(object, value, &err)) {
		char text[ERR_TEXT_MAX + 128];

		snprintf(text, sizeof(text), "%s as api.def has it: %s", api_object_info(object)->name, err.text);
		assert_failed(text, __FILE__, __LINE__);
	}
#else
	(void)object;
	(void)value;
#endif
}

/* A message too large to be sent is answered with the error: the client can ask for less. */
static void add_result(struct buf *line, const json_t *id, const json_t *result)
{
	char text[128];
	size_t length;

	message_add_result(line, id, result);
	length = line->length;
	if (length <= (size_t)LIMIT_MESSAGE + 1)
		return;
	snprintf(text, sizeof(text), "the answer would have %zu bytes; at most %d are sent", length, LIMIT_MESSAGE);
	buf_clear(line);
	message_add_error(line, id,
	                  &(struct message_error){ .code = API_ERROR_TOO_LARGE, .text = text, .hint = "ask for less" });
}

/*
 * The number is compared before anything else is looked at: a client of another protocol may send fields that we do not
 * know, and must learn why it is refused.
 */
static void say_hello(struct client *client, const struct message *message)
{
	const struct server_options *options = &client->server->options;
	json_t *protocol = json_object_get(message->params, "protocol");
	struct err err = ERR_INIT;
	json_t *result;
	struct buf line CLEANUP_BUF = BUF_INIT;

	if (json_is_integer(protocol) && json_integer_value(protocol) != API_PROTOCOL) {
		char text[128];

		snprintf(text, sizeof(text), "the daemon speaks protocol %d, the client protocol %lld", API_PROTOCOL,
		         (long long)json_integer_value(protocol));
		refuse(client, message->id,
		       &(struct message_error){
			       .code = API_ERROR_PROTOCOL,
			       .text = text,
			       .hint = json_integer_value(protocol) > API_PROTOCOL
		                               ? "the running daemon is older: 'drover daemon restart'"
		                               : "the client is older: use the daemon's version of drover" });
		client_finish(client);
		return;
	}
	if (api_check(api_method_info(API_HELLO)->params, message->params, &err)) {
		refuse(client, message->id, &(struct message_error){ .code = API_ERROR_INVALID_PARAMS, .text = err.text });
		return;
	}
	if (client->has_said_hello) {
		refuse(client, message->id,
		       &(struct message_error){ .code = API_ERROR_INVALID_REQUEST,
		                                .text = "hello was said on this connection already" });
		return;
	}
	client->has_said_hello = true;
	client->since_ms = 0;
	result = options->make_hello(options->context);
	check_ours(api_method_info(API_HELLO)->result, result);
	add_result(&line, message->id, result);
	json_decref(result);
	send_line(client, &line);
}

static void call_handler(struct client *client, struct message *message)
{
	const struct server_options *options = &client->server->options;
	const struct api_method_info *info = api_method_info((enum api_method)message->method);
	server_handler handler = options->handlers[message->method];
	struct err err = ERR_INIT;
	struct request *request;

	if (!handler) {
		err_say(&err, -ENOSYS, "this daemon does not have the method '%s'", info->name);
		refuse(client, message->id, &(struct message_error){ .code = API_ERROR_METHOD_NOT_FOUND, .text = err.text });
		return;
	}
	if (api_check(info->params, message->params, &err)) {
		refuse(client, message->id, &(struct message_error){ .code = API_ERROR_INVALID_PARAMS, .text = err.text });
		return;
	}
	request = xcalloc(1, sizeof(*request));
	request->client = client;
	request->id = TAKE_PTR(message->id);
	request->method = (enum api_method)message->method;
	client->references++;
	client->pending++;
	handler(options->context, request, message->params);
}

struct client *server_client(const struct request *request)
{
	return request->client->state == CLIENT_GONE ? NULL : request->client;
}

/* Sends the answer and ends the request. */
static void finish(struct request *request, struct buf *line)
{
	struct client *client = request->client;

	ASSERT(client->pending > 0);
	client->pending--;
	if (client->state != CLIENT_GONE)
		send_line(client, line);
	client_mark_dirty(client);
	json_decref(request->id);
	free(request);
	client_unref(client);
}

void server_reply(struct request *request, json_t *result)
{
	struct buf line CLEANUP_BUF = BUF_INIT;

	check_ours(api_method_info(request->method)->result, result);
	if (server_client(request))
		add_result(&line, request->id, result);
	json_decref(result);
	finish(request, &line);
}

void server_fail(struct request *request, enum api_error code, json_t *data, const char *hint, const char *format, ...)
{
	struct buf line CLEANUP_BUF = BUF_INIT;
	char text[ERR_TEXT_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	message_add_error(&line, request->id,
	                  &(struct message_error){ .code = code, .text = text, .hint = hint, .details = data });
	if (line.length > (size_t)LIMIT_MESSAGE + 1) {
		buf_clear(&line);
		message_add_error(&line, request->id, &(struct message_error){ .code = code, .text = text, .hint = hint });
	}
	json_decref(data);
	finish(request, &line);
}

/* Only what every event has: for one that is too long because of a text somebody gave. */
static json_t *shorten_event(const json_t *event)
{
	const struct api_object_info *info = api_object_info(API_OBJECT_EVENT);
	json_t *shorter = json_object();

	for (unsigned i = 0; i < info->field_count; i++)
		if (info->fields[i].is_required)
			json_object_set(shorter, info->fields[i].name, json_object_get(event, info->fields[i].name));
	return shorter;
}

static struct packet *make_event(const json_t *event)
{
	struct buf line CLEANUP_BUF = BUF_INIT;

	check_ours(API_OBJECT_EVENT, event);
	message_add_event(&line, event);
	if (line.length > (size_t)LIMIT_MESSAGE + 1) {
		json_t *shorter = shorten_event(event);

		buf_clear(&line);
		message_add_event(&line, shorter);
		json_decref(shorter);
	}
	return packet_new(&line);
}

static bool wants(const struct client *client, uint64_t batch, bool is_final)
{
	return client->is_subscribed && (client->filter.batch == 0 || client->filter.batch == batch) &&
	       (is_final || !client->filter.is_final_only);
}

bool server_has_subscriber(const struct server *server, uint64_t batch, bool is_final)
{
	for (unsigned i = 0; server && i < LIMIT_CLIENTS; i++)
		if (server->clients[i] && wants(server->clients[i], batch, is_final))
			return true;
	return false;
}

void server_publish(struct server *server, json_t *event, uint64_t batch, bool is_final)
{
	struct packet *packet;

	if (!server_has_subscriber(server, batch, is_final))
		return;
	packet = make_event(event);
	for (unsigned i = 0; i < LIMIT_CLIENTS; i++)
		if (server->clients[i] && wants(server->clients[i], batch, is_final))
			client_send(server->clients[i], packet);
	packet_unref(packet);
}

void server_send_event(struct client *client, json_t *event)
{
	struct packet *packet = make_event(event);

	client_send(client, packet);
	packet_unref(packet);
}

void server_subscribe(struct client *client, const struct server_filter *filter)
{
	if (client->state >= CLIENT_ENDING)
		return;
	client->filter = *filter;
	client->is_subscribed = true;
}

void server_unsubscribe(struct client *client)
{
	client->is_subscribed = false;
}
