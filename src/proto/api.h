/*
 * api.h - the interface's definition as tables, and the check of a message against it.
 */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "base/limits.h"

enum { API_PROTOCOL = 1 };

enum api_method {
#define METHOD(symbol, name, access, params, result, meaning) API_##symbol,
#include "proto/api.def"
	API_METHOD_MAX
};

enum api_error {
#define ERROR(symbol, number, name, exit, meaning) API_ERROR_##symbol,
#include "proto/api.def"
	API_ERROR_MAX
};

/* Index of an object of the definition. */
enum api_object {
	API_OBJECT_NONE = -1,
#define OBJECT(symbol, name, meaning) API_OBJECT_##symbol,
#define FIELD(owner, name, type, of, presence, meaning)
#include "proto/api.def"
	API_OBJECT_MAX
};

enum {
	API_FIELDS_MAX = 64, /* of one object: the check keeps them as bits of one word */
	API_CONTAINERS_MAX = LIMIT_MESSAGE / 8, /* in one message; an object takes 8 bytes at least in a real one */
	API_LINE_TIMEOUT_S = 30,                /* for a line that has begun to end */
};

enum api_type { API_STRING, API_INTEGER, API_NUMBER, API_BOOLEAN, API_STRINGS, API_OBJECT, API_LIST, API_ANY };

struct api_field_info {
	const char *name;
	const char *meaning;
	enum api_type type;
	int of; /* index for api_object_info(), −1 = none */
	bool is_required;
};

struct api_object_info {
	const char *name;
	const char *meaning;
	const struct api_field_info *fields;
	unsigned field_count;
};

struct api_method_info {
	const char *name;
	const char *meaning;
	bool is_writing;
	int params; /* index for api_object_info() */
	int result;
};

struct api_error_info {
	const char *name;
	const char *meaning;
	int number;
	int exit_status;
};

/* Name of a field's type as in the documents: "string", "list of task_spec" … in `text`, which is returned. */
const char *api_type_text(const struct api_field_info *field, char *text, size_t size);

/* The tables' rows. */
const struct api_method_info *api_method_info(enum api_method method);
const struct api_error_info *api_error_info(enum api_error error);
const struct api_object_info *api_object_info(int object);
int api_object_count(void);

/* The method of a name, or −1; the error of a number, or −1. */
int api_find_method(const char *name);
int api_find_error(int number);

/*
 * Checks an object against a definition: no unknown fields (with the nearest known one named), required ones there, types
 * right, strings free of NUL. The sentence names the field's path, as in tasks[3].retries. 0 or -EINVAL.
 */
int api_check(int object, const json_t *value, struct err *err);

/*
 * The same for what the other side sent: fields that are not known are of its later version, and passed over.
 */
int api_check_received(int object, const json_t *value, struct err *err);

/*
 * Bytes → JSON, an object or an array: at most LIMIT_MESSAGE bytes, depth and number of containers checked before parsing,
 * duplicate keys, trailing bytes and NUL in strings refused, valid UTF-8. Returns a new reference, or NULL with *err: code
 * -EMSGSIZE when it is too long, -EBADMSG otherwise. The sentence may quote what came: show it through str_add_visible().
 */
json_t *api_parse(const char *bytes, size_t length, struct err *err);

/* The whole definition as a JSON Schema (new reference), and as Markdown for docs/protocol.md (to be freed with free()). */
json_t *api_schema(void);
char *api_markdown(void);

/* The closed vocabularies of values that clients give, with '|' behind each: states of a task, priorities. */
extern const char api_state_choices[];
extern const char api_unfinished_choices[];
extern const char api_final_choices[];
extern const char api_priority_choices[];
