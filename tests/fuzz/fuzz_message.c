/*
 * fuzz_message.c - a stream of bytes through the frame and the reading of requests, as the server does it.
 *
 * The first byte chooses into what pieces the rest is cut. Checked: the lines are those a plain search finds, however they
 * came; a request that is taken can be written and read again; a refusal can be written, and is valid JSON.
 */
#include <errno.h>
#include <string.h>

#include "fuzz.h"
#include "proto/frame.h"
#include "proto/message.h"

static void check_written(const struct buf *line)
{
	struct err err = ERR_INIT;
	json_t *value = api_parse(line->bytes, line->length - 1, &err);

	ASSERT(line->bytes[line->length - 1] == '\n');
	ASSERT(!memchr(line->bytes, '\n', line->length - 1));
	/* Written JSON may be longer than what was read, as escapes are. */
	ASSERT(value || err.code == -EMSGSIZE);
	json_decref(value);
}

static void check_taken(const struct message *message)
{
	struct buf line CLEANUP_BUF = BUF_INIT;
	struct err err = ERR_INIT;
	struct message again;
	enum api_error code;

	ASSERT(message->method >= 0 && message->method < API_METHOD_MAX);
	ASSERT(message->id && json_is_object(message->params));
	message_add_request(&line, message->id, (enum api_method)message->method, message->params);
	check_written(&line);
	if (message_parse(line.bytes, line.length - 1, &again, &code, &err) == 0) {
		ASSERT(again.method == message->method);
		ASSERT(json_equal(again.id, message->id));
	}
	message_done(&again);
}

static void run_line(const char *text, size_t length)
{
	struct buf line CLEANUP_BUF = BUF_INIT;
	struct err err = ERR_INIT;
	struct message message;
	enum api_error code;

	if (message_parse(text, length, &message, &code, &err) == 0) {
		check_taken(&message);
		if (api_check(api_method_info((enum api_method)message.method)->params, message.params, &err))
			message_add_error(&line, message.id,
			                  &(struct message_error){ .code = API_ERROR_INVALID_PARAMS, .text = err.text });
	} else {
		message_add_error(&line, message.id, &(struct message_error){ .code = code, .text = err.text });
	}
	if (line.length > 0)
		check_written(&line);
	message_done(&message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame frame = FRAME_INIT;
	size_t piece = size > 0 ? data[0] + 1U : 1;
	size_t pushed = 1, taken = 1;

	while (pushed < size) {
		size_t length = MIN(piece, size - pushed);
		const char *line;
		size_t line_length;
		int found;

		frame_push(&frame, data + pushed, length);
		pushed += length;
		while ((found = frame_next(&frame, &line, &line_length)) > 0) {
			const uint8_t *end = memchr(data + taken, '\n', pushed - taken);

			ASSERT(end && (size_t)(end - (data + taken)) == line_length);
			ASSERT(memcmp(line, data + taken, line_length) == 0);
			taken += line_length + 1;
			run_line(line, line_length);
		}
		if (found < 0)
			break;
		ASSERT(frame_is_partial(&frame) == (taken < pushed));
	}
	frame_done(&frame);
	return 0;
}
