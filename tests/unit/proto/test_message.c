/*
 * test_message.c - lines out of a stream, requests out of lines, and the lines we write.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/frame.h"
#include "proto/message.h"

static void expect_line(struct frame *frame, const char *expected)
{
	const char *line;
	size_t length;

	assert_int_equal(frame_next(frame, &line, &length), 1);
	assert_int_equal(length, strlen(expected));
	assert_string_equal(line, expected);
}

static void expect_none(struct frame *frame)
{
	const char *line;
	size_t length;

	assert_int_equal(frame_next(frame, &line, &length), 0);
}

static void lines_come_out_whole(void **state)
{
	struct frame frame = FRAME_INIT;

	(void)state;
	expect_none(&frame);
	assert_false(frame_is_partial(&frame));
	frame_push(&frame, "ab", 2);
	expect_none(&frame);
	assert_true(frame_is_partial(&frame));
	frame_push(&frame, "c\n\nde\nf", 7);
	expect_line(&frame, "abc");
	expect_line(&frame, "");
	expect_line(&frame, "de");
	expect_none(&frame);
	assert_true(frame_is_partial(&frame));
	frame_push(&frame, "\n", 1);
	expect_line(&frame, "f");
	expect_none(&frame);
	assert_false(frame_is_partial(&frame));
	assert_null(frame.bytes.bytes);
	frame_done(&frame);
}

/* Pushes `length` bytes without a line's end, in pieces. */
static void push_many(struct frame *frame, size_t length)
{
	char piece[4096];

	memset(piece, 'x', sizeof(piece));
	while (length > 0) {
		size_t part = MIN(length, sizeof(piece));

		frame_push(frame, piece, part);
		length -= part;
	}
}

static void line_length_has_an_edge(void **state)
{
	struct frame frame = FRAME_INIT;
	const char *line;
	size_t length;

	(void)state;
	push_many(&frame, LIMIT_MESSAGE);
	expect_none(&frame);
	frame_push(&frame, "\nnext\n", 6);
	assert_int_equal(frame_next(&frame, &line, &length), 1);
	assert_int_equal(length, LIMIT_MESSAGE);
	expect_line(&frame, "next");
	push_many(&frame, LIMIT_MESSAGE + 1);
	assert_int_equal(frame_next(&frame, &line, &length), -EMSGSIZE);
	frame_done(&frame);
	push_many(&frame, LIMIT_MESSAGE + 1);
	frame_push(&frame, "\n", 1);
	assert_int_equal(frame_next(&frame, &line, &length), -EMSGSIZE);
	frame_done(&frame);
}

/* Parses a request; -1 = it is right, else the error it must be refused with. Returns the message. */
static struct message expect_request(const char *line, int code, const char *part)
{
	struct err err = ERR_INIT;
	struct message message;
	enum api_error found;
	int error = message_parse(line, strlen(line), &message, &found, &err);

	if (code < 0) {
		if (error)
			fail_msg("%s: %s", line, err.text);
		return message;
	}
	assert_true(error < 0);
	assert_int_equal((int)found, code);
	if (!strstr(err.text, part))
		fail_msg("'%s' does not contain '%s'", err.text, part);
	return message;
}

static void right_requests_are_read(void **state)
{
	struct message message = expect_request("{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"status\"}", -1, NULL);

	(void)state;
	assert_int_equal(message.method, API_STATUS);
	assert_int_equal(json_integer_value(message.id), 7);
	assert_int_equal(json_object_size(message.params), 0);
	message_done(&message);
	message = expect_request("{\"params\":{\"task\":\"1\"},\"id\":\"a\",\"method\":\"task.show\",\"jsonrpc\":\"2.0\"}",
				 -1, NULL);
	assert_int_equal(message.method, API_TASK_SHOW);
	assert_string_equal(json_string_value(message.id), "a");
	assert_int_equal(json_object_size(message.params), 1);
	message_done(&message);
	message = expect_request("{\"jsonrpc\":\"2.0\",\"id\":-1,\"method\":\"status\",\"params\":null}\r", -1, NULL);
	message_done(&message);
}

#define VERSION "{\"jsonrpc\":\"2.0\","

static void wrong_requests_are_refused(void **state)
{
	static const struct {
		const char *line;
		int code;
		const char *part;
		bool has_id;
	} cases[] = {
		{ "{", API_ERROR_PARSE, "no JSON", false },
		{ "", API_ERROR_PARSE, "no JSON", false },
		{ "GET / HTTP/1.1", API_ERROR_PARSE, "no JSON", false },
		{ "[]", API_ERROR_INVALID_REQUEST, "batches of requests are not taken", false },
		{ "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}]", API_ERROR_INVALID_REQUEST, "not taken", false },
		{ "{}", API_ERROR_INVALID_REQUEST, "notifications are not taken", false },
		{ VERSION "\"method\":\"status\"}", API_ERROR_INVALID_REQUEST, "must have an id", false },
		{ VERSION "\"id\":null,\"method\":\"status\"}", API_ERROR_INVALID_REQUEST, "an id must be", false },
		{ VERSION "\"id\":1.5,\"method\":\"status\"}", API_ERROR_INVALID_REQUEST, "an id must be", false },
		{ VERSION "\"id\":[1],\"method\":\"status\"}", API_ERROR_INVALID_REQUEST, "an id must be", false },
		{ "{\"id\":1,\"method\":\"status\"}", API_ERROR_INVALID_REQUEST, "\"jsonrpc\": \"2.0\"", true },
		{ "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"status\"}", API_ERROR_INVALID_REQUEST, "jsonrpc", true },
		{ VERSION "\"id\":1,\"result\":{}}", API_ERROR_INVALID_REQUEST, "found 'result'", true },
		{ VERSION "\"id\":1}", API_ERROR_INVALID_REQUEST, "must have a method", true },
		{ VERSION "\"id\":1,\"method\":3}", API_ERROR_INVALID_REQUEST, "must have a method", true },
		{ VERSION "\"id\":1,\"method\":\"task.lst\"}", API_ERROR_METHOD_NOT_FOUND, "mean 'task.list'", true },
		{ VERSION "\"id\":1,\"method\":\"zzzzzzz\"}", API_ERROR_METHOD_NOT_FOUND, "no method 'zzzzzzz'", true },
		{ VERSION "\"id\":1,\"method\":\"status\",\"params\":[]}", API_ERROR_INVALID_PARAMS, "an object", true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct message message = expect_request(cases[i].line, cases[i].code, cases[i].part);

		assert_int_equal(message.id != NULL, cases[i].has_id);
		message_done(&message);
	}
}

static void ids_have_an_edge(void **state)
{
	char id[MESSAGE_ID_MAX + 2];

	(void)state;
	for (int over = 0; over <= 1; over++) {
		char *line CLEANUP_FREE = NULL;
		struct message message;

		memset(id, 'i', sizeof(id));
		id[MESSAGE_ID_MAX + over] = '\0';
		line = xasprintf("{\"jsonrpc\":\"2.0\",\"id\":\"%s\",\"method\":\"status\"}", id);
		message = expect_request(line, over ? API_ERROR_INVALID_REQUEST : -1, "at most 128 bytes");
		message_done(&message);
	}
}

static void lines_are_written_as_documented(void **state)
{
	struct buf line CLEANUP_BUF = BUF_INIT;
	json_t *id = json_string("x");
	json_t *value = json_pack("{s:f, s:n, s:s}", "a", 0.1, "b", "c", "\xc3\xa9\n");

	(void)state;
	message_add_request(&line, id, API_STATUS, NULL);
	assert_string_equal(line.bytes, "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"status\"}\n");
	buf_clear(&line);
	message_add_result(&line, id, value);
	assert_string_equal(line.bytes,
			    "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"result\":{\"a\":0.1,\"b\":null,\"c\":\"\xc3\xa9\\n\"}}\n");
	buf_clear(&line);
	message_add_event(&line, value);
	assert_string_equal(line.bytes, "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"a\":0.1,\"b\":null,"
					"\"c\":\"\xc3\xa9\\n\"}}\n");
	buf_clear(&line);
	message_add_error(&line, NULL,
			  &(struct message_error){ .code = API_ERROR_NOT_FOUND, .text = "no\xff\x1b task" });
	assert_string_equal(line.bytes,
			    "{\"jsonrpc\":\"2.0\",\"id\":null,"
			    "\"error\":{\"code\":-32010,\"message\":\"no\\\\xff\\\\x1b task\","
			    "\"data\":{\"name\":\"not-found\",\"hint\":null,\"details\":null}}}\n");
	json_decref(id);
	json_decref(value);
}

static void what_is_written_can_be_read(void **state)
{
	struct buf line CLEANUP_BUF = BUF_INIT;
	json_t *id = json_integer(3);
	json_t *params = json_pack("{s:s}", "task", "17");
	struct message message;

	(void)state;
	message_add_request(&line, id, API_TASK_WHY, params);
	message = expect_request(line.bytes, -1, NULL);
	assert_int_equal(message.method, API_TASK_WHY);
	assert_true(json_equal(message.id, id));
	assert_true(json_equal(message.params, params));
	message_done(&message);
	json_decref(id);
	json_decref(params);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_come_out_whole),
		cmocka_unit_test(line_length_has_an_edge),
		cmocka_unit_test(right_requests_are_read),
		cmocka_unit_test(wrong_requests_are_refused),
		cmocka_unit_test(ids_have_an_edge),
		cmocka_unit_test(lines_are_written_as_documented),
		cmocka_unit_test(what_is_written_can_be_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
