#include "proto/message.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"

/* 15 digits: 0.1 stays 0.1, and nobody measures finer. */
enum { DUMP_FLAGS = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15) };

static int check_members(json_t *request, struct err *err);
static int take_id(json_t *request, struct message *message, struct err *err);
static int take_method(json_t *request, struct message *message, enum api_error *ret_code, struct err *err);
static int take_params(json_t *request, struct message *message, enum api_error *ret_code, struct err *err);
static void add_json(struct buf *buf, const json_t *value);

int message_parse(const char *line, size_t length, struct message *ret, enum api_error *ret_code, struct err *err)
{
	json_t *request = api_parse(line, length, err);
	int error;

	*ret = (struct message){ .method = -1 };
	if (!request) {
		*ret_code = err->code == -EMSGSIZE ? API_ERROR_TOO_LARGE : API_ERROR_PARSE;
		return err->code;
	}
	*ret_code = API_ERROR_INVALID_REQUEST;
	if (json_is_array(request))
		error = err_say(err, -EINVAL, "batches of requests are not taken; send each on a line of its own");
	else
		error = take_id(request, ret, err);
	if (!error)
		error = check_members(request, err);
	if (!error)
		error = take_method(request, ret, ret_code, err);
	if (!error)
		error = take_params(request, ret, ret_code, err);
	json_decref(request);
	return error;
}

void message_done(struct message *message)
{
	json_decref(message->id);
	json_decref(message->params);
	*message = (struct message){ .method = -1 };
}

static int check_members(json_t *request, struct err *err)
{
	static const char *const known[] = { "jsonrpc", "id", "method", "params" };
	const char *version = json_string_value(json_object_get(request, "jsonrpc"));
	const char *name;
	json_t *value;

	if (!version || strcmp(version, "2.0") != 0)
		return err_say(err, -EINVAL, "a request must have \"jsonrpc\": \"2.0\"");
	json_object_foreach(request, name, value) {
		size_t i = 0;

		while (i < ARRAY_SIZE(known) && strcmp(known[i], name) != 0)
			i++;
		if (i == ARRAY_SIZE(known))
			return err_say(err, -EINVAL, "a request has jsonrpc, id, method and params; found '%.64s'", name);
	}
	return 0;
}

static int take_id(json_t *request, struct message *message, struct err *err)
{
	json_t *id = json_object_get(request, "id");

	if (!id)
		return err_say(err, -EINVAL, "a request must have an id: clients' notifications are not taken");
	if (!json_is_integer(id) && (!json_is_string(id) || json_string_length(id) > MESSAGE_ID_MAX))
		return err_say(err, -EINVAL, "an id must be an integer or a string of at most %d bytes", MESSAGE_ID_MAX);
	message->id = json_incref(id);
	return 0;
}

static int take_method(json_t *request, struct message *message, enum api_error *ret_code, struct err *err)
{
	const char *name = json_string_value(json_object_get(request, "method"));
	const char *names[API_METHOD_MAX];
	const char *nearest;

	if (!name)
		return err_say(err, -EINVAL, "a request must have a method, a string");
	message->method = api_find_method(name);
	if (message->method >= 0)
		return 0;
	for (int i = 0; i < API_METHOD_MAX; i++)
		names[i] = api_method_info((enum api_method)i)->name;
	nearest = str_nearest(name, names, API_METHOD_MAX);
	*ret_code = API_ERROR_METHOD_NOT_FOUND;
	if (nearest)
		return err_say(err, -ENOENT, "there is no method '%.64s'; did you mean '%s'?", name, nearest);
	return err_say(err, -ENOENT, "there is no method '%.64s'", name);
}

static int take_params(json_t *request, struct message *message, enum api_error *ret_code, struct err *err)
{
	json_t *params = json_object_get(request, "params");

	if (!params || json_is_null(params)) {
		message->params = json_object();
		return 0;
	}
	*ret_code = API_ERROR_INVALID_PARAMS;
	if (!json_is_object(params))
		return err_say(err, -EINVAL, "params must be an object: parameters go by name");
	message->params = json_incref(params);
	return 0;
}

void message_add_request(struct buf *buf, const json_t *id, enum api_method method, const json_t *params)
{
	buf_add_text(buf, "{\"jsonrpc\":\"2.0\",\"id\":");
	add_json(buf, id);
	buf_add_format(buf, ",\"method\":\"%s\"", api_method_info(method)->name);
	if (params) {
		buf_add_text(buf, ",\"params\":");
		add_json(buf, params);
	}
	buf_add_text(buf, "}\n");
}

void message_add_result(struct buf *buf, const json_t *id, const json_t *result)
{
	buf_add_text(buf, "{\"jsonrpc\":\"2.0\",\"id\":");
	add_json(buf, id);
	buf_add_text(buf, ",\"result\":");
	add_json(buf, result);
	buf_add_text(buf, "}\n");
}

static json_t *make_string(const char *text)
{
	struct buf visible CLEANUP_BUF = BUF_INIT;

	if (!text)
		return json_null();
	str_add_visible(&visible, text, strlen(text));
	return json_stringn(visible.bytes ? visible.bytes : "", visible.length);
}

void message_add_error(struct buf *buf, const json_t *id, const struct message_error *error)
{
	const struct api_error_info *info = api_error_info(error->code);
	json_t *value = json_pack("{s:i, s:o, s:{s:s, s:o, s:O?}}", "code", info->number, "message",
				  make_string(error->text), "data", "name", info->name, "hint", make_string(error->hint),
				  "details", error->details);

	ASSERT(value);
	buf_add_text(buf, "{\"jsonrpc\":\"2.0\",\"id\":");
	add_json(buf, id);
	buf_add_text(buf, ",\"error\":");
	add_json(buf, value);
	buf_add_text(buf, "}\n");
	json_decref(value);
}

void message_add_event(struct buf *buf, const json_t *event)
{
	buf_add_text(buf, "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":");
	add_json(buf, event);
	buf_add_text(buf, "}\n");
}

static int add_bytes(const char *bytes, size_t length, void *buf)
{
	buf_add(buf, bytes, length);
	return 0;
}

/* Straight into the buffer: json_dumps() would build the text elsewhere and copy it twice. */
static void add_json(struct buf *buf, const json_t *value)
{
	if (!value)
		buf_add_text(buf, "null");
	else if (json_dump_callback(value, add_bytes, buf, DUMP_FLAGS))
		NEVER("a value of our own that cannot be written as JSON");
}
