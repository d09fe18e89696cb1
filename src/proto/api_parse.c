/*
 * api_parse.c - bytes from outside → JSON. The limits are checked by a scanner of our own before the library sees the text:
 * its own depth limit is far higher, and it allocates as it goes, a hundred times the text's size for empty containers.
 */
#include "proto/api.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"

static int scan(const char *bytes, size_t length, struct err *err);

json_t *api_parse(const char *bytes, size_t length, struct err *err)
{
	json_error_t error;
	json_t *value;

	if (length > LIMIT_MESSAGE) {
		err_say(err, -EMSGSIZE, "the message has %zu bytes; at most %d are taken", length, LIMIT_MESSAGE);
		return NULL;
	}
	if (!str_is_utf8(bytes, length)) {
		err_say(err, -EBADMSG, "the message is not valid UTF-8");
		return NULL;
	}
	if (scan(bytes, length, err))
		return NULL;
	value = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &error);
	if (!value)
		err_say(err, -EBADMSG, "the message is no JSON: byte %d: %s", error.position, error.text);
	return value;
}

/* Past the string that begins at `at`, or the end. */
static size_t skip_string(const char *bytes, size_t length, size_t at)
{
	for (at++; at < length && bytes[at] != '"'; at++)
		if (bytes[at] == '\\')
			at++;
	return at;
}

/* Depth and number of containers. Wrong nesting is the parser's to find: only the sum of open brackets matters here. */
static int scan(const char *bytes, size_t length, struct err *err)
{
	unsigned depth = 0, count = 0;

	for (size_t at = 0; at < length; at++) {
		switch (bytes[at]) {
		case '"':
			at = skip_string(bytes, length, at);
			break;
		case '{':
		case '[':
			count++;
			if (++depth > LIMIT_JSON_DEPTH)
				return err_say(err, -EBADMSG, "the message is nested more than %d deep", LIMIT_JSON_DEPTH);
			break;
		case '}':
		case ']':
			depth -= depth > 0;
			break;
		default:
			break;
		}
	}
	if (count > API_CONTAINERS_MAX)
		return err_say(err, -EBADMSG, "the message holds %u objects and lists; at most %d are taken", count,
			       API_CONTAINERS_MAX);
	return 0;
}
