#include "client/submission.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/alloc.h"
#include "base/str.h"

enum {
	CHUNK_BYTES = 512 << 10, /* of a message's parameters; more is sent at once, so that the daemon can begin */
	KEY_BYTES = 16,
	ATTEMPTS_MAX = 5,
	WINDOW = 8, /* requests under way without having been answered */
};

_Static_assert(CHUNK_BYTES < LIMIT_MESSAGE / 2 + 1, "a chunk and one more entry fit into a message");

/* The parameters of one request without the draft's number and the closing brace: `,"tasks":[…]`. */
struct chunk {
	struct chunk *next;
	enum api_method method;
	struct buf text;
};

struct submission {
	json_t *open_params;
	char key[2 * KEY_BYTES + 1];
	struct chunk *first;
	struct chunk *last;
	uint64_t count;
	bool is_open;   /* the last chunk is a list that can take more */
	bool is_latin1; /* it is one of such settings */
};

struct submission *submission_new(json_t *open_params, struct err *err)
{
	unsigned char bytes[KEY_BYTES];
	struct submission *submission;

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
		err_set(err, -errno, "cannot get random bytes");
		json_decref(open_params);
		return NULL;
	}
	submission = xcalloc(1, sizeof(*submission));
	submission->open_params = open_params;
	for (int i = 0; i < KEY_BYTES; i++)
		snprintf(submission->key + 2 * i, 3, "%02x", bytes[i]);
	return submission;
}

void submission_free(struct submission *submission)
{
	if (!submission)
		return;
	while (submission->first) {
		struct chunk *chunk = submission->first;

		submission->first = chunk->next;
		buf_done(&chunk->text);
		free(chunk);
	}
	json_decref(submission->open_params);
	free(submission);
}

void submission_add_string(struct buf *buf, const char *text, bool is_latin1)
{
	buf_add_byte(buf, '"');
	for (; *text != '\0'; text++) {
		unsigned char byte = (unsigned char)*text;

		if (byte == '"' || byte == '\\') {
			buf_add_byte(buf, '\\');
			buf_add_byte(buf, *text);
		} else if (byte < 0x20 || byte == 0x7f || (is_latin1 && byte >= 0x80)) {
			buf_add_format(buf, "\\u%04x", byte);
		} else {
			buf_add_byte(buf, *text);
		}
	}
	buf_add_byte(buf, '"');
}

static void close_chunk(struct submission *submission)
{
	struct chunk *chunk = submission->last;

	if (!submission->is_open)
		return;
	buf_add_text(&chunk->text,
	             chunk->method == API_BATCH_ENVIRONMENT && submission->is_latin1 ? "],\"is_latin1\":true}" : "]}");
	submission->is_open = false;
}

/* The chunk that takes the next entry of `length` bytes. */
static struct buf *next_chunk(struct submission *submission, enum api_method method, size_t length)
{
	struct chunk *chunk = submission->last;

	if (submission->is_open && chunk->method == method && chunk->text.length + length < CHUNK_BYTES) {
		buf_add_byte(&chunk->text, ',');
		return &chunk->text;
	}
	close_chunk(submission);
	chunk = xcalloc(1, sizeof(*chunk));
	chunk->method = method;
	buf_add_text(&chunk->text, method == API_BATCH_ADD ? ",\"tasks\":[" : ",\"environment\":[");
	if (submission->last)
		submission->last->next = chunk;
	else
		submission->first = chunk;
	submission->last = chunk;
	submission->is_open = true;
	return &chunk->text;
}

static void add_settings(struct submission *submission, const char *const *settings, bool is_latin1)
{
	close_chunk(submission);
	submission->is_latin1 = is_latin1;
	for (; *settings; settings++) {
		size_t length = strlen(*settings);

		if (strncmp(*settings, "GIT_", 4) != 0 && strchr(*settings, '=') &&
		    str_is_utf8(*settings, length) != is_latin1)
			submission_add_string(next_chunk(submission, API_BATCH_ENVIRONMENT, length), *settings, is_latin1);
	}
	close_chunk(submission);
}

void submission_add_environment(struct submission *submission, const char *const *settings)
{
	add_settings(submission, settings, false);
	add_settings(submission, settings, true);
}

int submission_add_task(struct submission *submission, const char *spec, size_t length, struct client_error *error)
{
	if (length + 256 > LIMIT_MESSAGE) {
		client_refuse(error, API_ERROR_TOO_LARGE, "task %llu takes %zu bytes to describe, about %d are possible",
		              (unsigned long long)submission->count + 1, length, LIMIT_MESSAGE);
		snprintf(error->hint, sizeof(error->hint), "put long texts into a file and name that file in the command");
		return -EMSGSIZE;
	}
	buf_add(next_chunk(submission, API_BATCH_ADD, length), spec, length);
	submission->count++;
	return 0;
}

uint64_t submission_count(const struct submission *submission)
{
	return submission->count;
}

/* Answers of the requests ids `from` … `to` must not be errors. */
static int expect_answers(struct client *client, uint64_t from, uint64_t to, struct client_error *error)
{
	for (uint64_t id = from; id <= to; id++) {
		json_t *answer = client_receive(client, id, error);

		if (!answer)
			return -EIO;
		json_decref(answer);
	}
	return 0;
}

/* The chunks, a few under way at a time; then all their answers. */
static int send_chunks(const struct submission *submission, struct client *client, json_int_t draft,
                       struct client_error *error)
{
	CLEANUP_BUF struct buf params = BUF_INIT;
	uint64_t id = 0, answered = 0;

	for (const struct chunk *chunk = submission->first; chunk; chunk = chunk->next) {
		int code;

		buf_clear(&params);
		buf_add_format(&params, "{\"draft\":%lld", (long long)draft);
		buf_add(&params, chunk->text.bytes, chunk->text.length);
		code = client_send(client, chunk->method, params.bytes, params.length, &id, error);
		if (code < 0)
			return code;
		if (answered == 0)
			answered = id - 1;
		if (id - answered >= WINDOW) {
			code = expect_answers(client, answered + 1, answered + 1, error);
			if (code < 0)
				return code;
			answered++;
		}
	}
	return id > 0 ? expect_answers(client, answered + 1, id, error) : 0;
}

static json_t *send_once(const struct submission *submission, struct client *client, struct client_error *error)
{
	json_t *opened = client_call(client, API_BATCH_OPEN, json_incref(submission->open_params), error);
	json_int_t draft;

	if (!opened)
		return NULL;
	draft = json_integer_value(json_object_get(opened, "draft"));
	json_decref(opened);
	if (send_chunks(submission, client, draft, error) < 0)
		return NULL;
	return client_call(client, API_BATCH_COMMIT, json_pack("{s:I, s:s}", "draft", draft, "key", submission->key), error);
}

json_t *submission_send(struct submission *submission, struct client *client, struct client_error *error)
{
	json_t *result;
	bool is_gap;

	close_chunk(submission);
	result = send_once(submission, client, error);
	for (int attempt = 1; !result && client_is_lost(error) && attempt < ATTEMPTS_MAX; attempt++) {
		if (client_resume_wait(client, &is_gap, error) < 0)
			break;
		result = send_once(submission, client, error);
	}
	if (!result && error->code < 0 && error->hint[0] == '\0')
		snprintf(error->hint, sizeof(error->hint), "the tasks may have been queued or not: 'drover ls' tells");
	return result;
}
