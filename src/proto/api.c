/*
 * api.c - the definition file as constant tables, and look-ups in them. Decides nothing about messages (api_check.c).
 *
 * All fields stand in one array in the order of api.def; an object's are a run of it. The compiler counts where the run
 * begins and how long it is, and refuses a field that stands outside its owner's.
 */
#include "proto/api.h"

#include <stdio.h>
#include <string.h>

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)

/* FIRST_x: index of x's first field. Each row has a line of its own, which serves as its name. */
enum {
#define OBJECT(symbol, name, meaning) FIRST_##symbol, BEFORE_##symbol = FIRST_##symbol - 1,
#define FIELD(owner, name, type, of, presence, meaning) PASTE(FIELD_AT_LINE_, __LINE__),
#include "proto/api.def"
	FIELD_COUNT
};

/* sizeof(struct count_x) - 1 is the number of x's fields. */
struct count_before {
	char one;
#define OBJECT(symbol, name, meaning) }; struct count_##symbol { char one;
#define FIELD(owner, name, type, of, presence, meaning) char PASTE(at_line_, __LINE__);
#include "proto/api.def"
};

#define COUNT_OF(symbol) (int)(sizeof(struct count_##symbol) - 1)

#define OBJECT(symbol, name, meaning) _Static_assert(COUNT_OF(symbol) <= API_FIELDS_MAX, name " has too many fields");
#define FIELD(owner, name, type, of, presence, meaning)                                                                    \
	_Static_assert(PASTE(FIELD_AT_LINE_, __LINE__) >= (int)FIRST_##owner &&                                             \
		       PASTE(FIELD_AT_LINE_, __LINE__) < (int)FIRST_##owner + COUNT_OF(owner),                              \
		       name " does not stand with its owner");
#include "proto/api.def"

enum { IS_OPTIONAL, IS_REQUIRED };
enum { IS_READS, IS_WRITES };

static const struct api_field_info fields[FIELD_COUNT] = {
#define OBJECT(symbol, name, meaning)
#define FIELD(owner, name, type, of, presence, meaning)                                                                    \
	[PASTE(FIELD_AT_LINE_, __LINE__)] = { name, meaning, API_##type, API_OBJECT_##of, IS_##presence },
#include "proto/api.def"
};

static const struct api_object_info objects[API_OBJECT_MAX] = {
#define OBJECT(symbol, name, meaning) [API_OBJECT_##symbol] = { name, meaning, fields + FIRST_##symbol, COUNT_OF(symbol) },
#define FIELD(owner, name, type, of, presence, meaning)
#include "proto/api.def"
};

static const struct api_method_info methods[API_METHOD_MAX] = {
#define METHOD(symbol, name, access, params, result, meaning)                                                              \
	[API_##symbol] = { name, meaning, IS_##access, API_OBJECT_##params, API_OBJECT_##result },
#include "proto/api.def"
};

static const struct api_error_info errors[API_ERROR_MAX] = {
#define ERROR(symbol, number, name, exit, meaning) [API_ERROR_##symbol] = { name, meaning, number, exit },
#include "proto/api.def"
};

const struct api_method_info *api_method_info(enum api_method method)
{
	ASSERT((int)method >= 0 && method < API_METHOD_MAX);
	return &methods[method];
}

const struct api_error_info *api_error_info(enum api_error error)
{
	ASSERT((int)error >= 0 && error < API_ERROR_MAX);
	return &errors[error];
}

const struct api_object_info *api_object_info(int object)
{
	ASSERT(object >= 0 && object < API_OBJECT_MAX);
	return &objects[object];
}

int api_object_count(void)
{
	return API_OBJECT_MAX;
}

int api_find_method(const char *name)
{
	for (int i = 0; i < API_METHOD_MAX; i++)
		if (strcmp(methods[i].name, name) == 0)
			return i;
	return -1;
}

int api_find_error(int number)
{
	for (int i = 0; i < API_ERROR_MAX; i++)
		if (errors[i].number == number)
			return i;
	return -1;
}

const char *api_type_text(const struct api_field_info *field, char *text, size_t size)
{
	static const char *const names[] = {
		[API_STRING] = "string",           [API_INTEGER] = "integer", [API_NUMBER] = "number",
		[API_BOOLEAN] = "boolean",         [API_OBJECT] = "",         [API_ANY] = "any value",
		[API_STRINGS] = "list of strings", [API_LIST] = "list of ",
	};

	ASSERT((size_t)field->type < ARRAY_SIZE(names));
	snprintf(text, size, "%s%s", names[field->type], field->of >= 0 ? api_object_info(field->of)->name : "");
	return text;
}

const char api_state_choices[] =
#define STATE(symbol, name, kind, meaning) name "|"
#include "core/task.def"
	;

#define IF_UNFINISHED_WAITING(name) name "|"
#define IF_UNFINISHED_ACTIVE(name) name "|"
#define IF_UNFINISHED_FINAL(name) ""
#define IF_FINAL_WAITING(name) ""
#define IF_FINAL_ACTIVE(name) ""
#define IF_FINAL_FINAL(name) name "|"

const char api_unfinished_choices[] =
#define STATE(symbol, name, kind, meaning) IF_UNFINISHED_##kind(name)
#include "core/task.def"
	;

const char api_final_choices[] =
#define STATE(symbol, name, kind, meaning) IF_FINAL_##kind(name)
#include "core/task.def"
	;

const char api_priority_choices[] =
#define PRIORITY(symbol, name, ageing) name "|"
#include "core/words.def"
	;
