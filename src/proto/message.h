/*
 * message.h - JSON-RPC 2.0 messages as drover uses them: read a request, write each kind. For both ends of the socket.
 *
 * Stricter than the standard: every request has an id (a string of at most 128 bytes or an integer), params are an object,
 * batches of requests are refused, and so are members that the standard does not know.
 */
#pragma once

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"
#include "proto/api.h"

enum { MESSAGE_ID_MAX = 128 };

/* One request; owned references. */
struct message {
	json_t *id;     /* NULL when none could be read; then the error's id is null */
	json_t *params; /* an object, empty when none was sent */
	int method;     /* enum api_method */
};

/*
 * Reads one request. Params are not checked against the method's definition. 0, or -errno with *ret_code and *err; *ret is
 * to be given to message_done() either way, and holds the id where it could be read.
 */
int message_parse(const char *line, size_t length, struct message *ret, enum api_error *ret_code, struct err *err);

/* Drops the references. */
void message_done(struct message *message);

/* What an error answer says besides its code. */
struct message_error {
	enum api_error code;
	const char *text;    /* one sentence; bytes that JSON or a terminal should not see are made visible */
	const char *hint;    /* or NULL */
	const json_t *details; /* or NULL; borrowed */
};

/* Add one line, its end included. `id` NULL is written as null. */
void message_add_request(struct buf *buf, const json_t *id, enum api_method method, const json_t *params);
void message_add_result(struct buf *buf, const json_t *id, const json_t *result);
void message_add_error(struct buf *buf, const json_t *id, const struct message_error *error);
void message_add_event(struct buf *buf, const json_t *event);
