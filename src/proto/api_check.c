/*
 * api_check.c - does a JSON object keep to its definition? Says where not, in words a user can act on.
 *
 * Checks types and names only; ranges and meanings are the handlers'. Walks nested objects with a stack of its own, so that
 * what came from outside cannot use up the machine's. Only the fields that are there cost time, plus the required ones.
 */
#include "proto/api.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"

/* One object on the way from the root to where the check stands. */
struct level {
	const struct api_object_info *object;
	json_t *value;
	uint64_t nested;  /* fields of type OBJECT and LIST that are there and not yet walked */
	unsigned field;   /* the one that is being walked */
	size_t next_item; /* of it */
};

struct walk {
	struct level levels[LIMIT_JSON_DEPTH];
	unsigned depth;
	bool takes_unknown; /* fields are passed over */
	struct err *err;
};

static int check_level(struct walk *walk);
static bool walk_down(struct walk *walk);

static int check(struct walk *walk, int object, const json_t *value)
{
	/* jansson's getters do not take const, and change nothing. */
	walk->levels[0] = (struct level){ .object = api_object_info(object), .value = (json_t *)value };
	do {
		int error = check_level(walk);

		if (error)
			return error;
	} while (walk_down(walk));
	return 0;
}

int api_check(int object, const json_t *value, struct err *err)
{
	struct walk walk = { .depth = 1, .err = err };

	return check(&walk, object, value);
}

int api_check_received(int object, const json_t *value, struct err *err)
{
	struct walk walk = { .depth = 1, .takes_unknown = true, .err = err };

	return check(&walk, object, value);
}

static const char *kind_of(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "a list";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_REAL:
		return "a fractional number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		return "null";
	}
	NEVER("jansson knows no other types");
}

static bool is_clean(const json_t *string)
{
	return strlen(json_string_value(string)) == json_string_length(string);
}

/* "tasks[3]." - where the deepest level is, in front of a field's name. */
static void add_path(const struct walk *walk, struct buf *path)
{
	for (unsigned i = 0; i + 1 < walk->depth; i++) {
		const struct level *level = &walk->levels[i];
		const struct api_field_info *field = &level->object->fields[level->field];

		buf_add_text(path, field->name);
		if (field->type == API_LIST)
			buf_add_format(path, "[%zu]", level->next_item - 1);
		buf_add_byte(path, '.');
	}
}

/* Fails with "'path.name' <sentence>". */
static int fail(const struct walk *walk, const char *name, const char *format, ...) PRINTF_LIKE(3, 4);
static int fail(const struct walk *walk, const char *name, const char *format, ...)
{
	struct buf path CLEANUP_BUF = BUF_INIT;
	char sentence[ERR_TEXT_MAX];
	va_list args;

	add_path(walk, &path);
	str_add_visible(&path, name, strnlen(name, LIMIT_NAME * 2));
	va_start(args, format);
	vsnprintf(sentence, sizeof(sentence), format, args);
	va_end(args);
	return err_say(walk->err, -EINVAL, "'%s' %s", path.bytes, sentence);
}

static int fail_type(const struct walk *walk, const char *name, const struct api_field_info *field, const json_t *value)
{
	char type[128];

	return fail(walk, name, "must be of type %s, found %s (%s)", api_type_text(field, type, sizeof(type)),
	            kind_of(value), field->meaning);
}

static int fail_unknown(const struct walk *walk, const char *name)
{
	const struct api_object_info *object = walk->levels[walk->depth - 1].object;
	const char *names[API_FIELDS_MAX];
	struct buf list CLEANUP_BUF = BUF_INIT;
	const char *nearest;

	for (unsigned i = 0; i < object->field_count; i++) {
		names[i] = object->fields[i].name;
		buf_add_format(&list, "%s%s", i ? ", " : "", names[i]);
	}
	nearest = str_nearest(name, names, object->field_count);
	if (nearest)
		return fail(walk, name, "is no field of %s; did you mean '%s'?", object->name, nearest);
	if (object->field_count == 0)
		return fail(walk, name, "is not known: no fields are taken here");
	return fail(walk, name, "is no field of %s; known are %s", object->name, list.bytes);
}

static int check_strings(const struct walk *walk, const struct api_field_info *field, json_t *list)
{
	size_t index;
	json_t *item;

	json_array_foreach (list, index, item) {
		char name[128];

		if (json_is_string(item) && is_clean(item))
			continue;
		snprintf(name, sizeof(name), "%s[%zu]", field->name, index);
		if (!json_is_string(item))
			return fail(walk, name, "must be a string, found %s", kind_of(item));
		return fail(walk, name, "holds a NUL byte, which no text here may");
	}
	return 0;
}

static bool has_type(const struct api_field_info *field, const json_t *value)
{
	switch (field->type) {
	case API_STRING:
		return json_is_string(value);
	case API_INTEGER:
		return json_is_integer(value);
	case API_NUMBER:
		return json_is_number(value);
	case API_BOOLEAN:
		return json_is_boolean(value);
	case API_STRINGS:
	case API_LIST:
		return json_is_array(value);
	case API_OBJECT:
		return json_is_object(value);
	case API_ANY:
		return true;
	}
	NEVER("a field has one of these types");
}

static int check_field(const struct walk *walk, const struct api_field_info *field, json_t *value)
{
	if (!has_type(field, value))
		return fail_type(walk, field->name, field, value);
	if (field->type == API_STRING && !is_clean(value))
		return fail(walk, field->name, "holds a NUL byte, which no text here may");
	if (field->type == API_STRINGS)
		return check_strings(walk, field, value);
	return 0;
}

static int find_field(const struct api_object_info *object, const char *name)
{
	for (unsigned i = 0; i < object->field_count; i++)
		if (strcmp(object->fields[i].name, name) == 0)
			return (int)i;
	return -1;
}

static int check_required(const struct walk *walk, const struct api_object_info *object, uint64_t seen)
{
	char type[128];

	for (unsigned i = 0; i < object->field_count; i++) {
		const struct api_field_info *field = &object->fields[i];

		if (field->is_required && !(seen & (UINT64_C(1) << i)))
			return fail(walk, field->name, "is missing (%s: %s)", api_type_text(field, type, sizeof(type)),
			            field->meaning);
	}
	return 0;
}

/* Where an object is wanted and something else stands: names the item, or the whole. */
static int fail_no_object(struct walk *walk, const struct api_object_info *object, const json_t *value)
{
	struct level *above;
	char name[128];

	if (walk->depth == 1)
		return err_say(walk->err, -EINVAL, "%s must be an object, found %s", object->name,
		               value ? kind_of(value) : "nothing");
	above = &walk->levels[--walk->depth - 1];
	snprintf(name, sizeof(name), "%s[%zu]", above->object->fields[above->field].name, above->next_item - 1);
	return fail(walk, name, "must be an object (%s), found %s", object->name, kind_of(value));
}

/* Checks the deepest level's own fields and notes those that hold objects. */
static int check_level(struct walk *walk)
{
	struct level *level = &walk->levels[walk->depth - 1];
	uint64_t seen = 0;
	const char *name;
	json_t *value;

	if (!json_is_object(level->value))
		return fail_no_object(walk, level->object, level->value);
	json_object_foreach (level->value, name, value) {
		int index = find_field(level->object, name);
		int error;

		if (index < 0 && walk->takes_unknown)
			continue;
		if (index < 0)
			return fail_unknown(walk, name);
		if (json_is_null(value))
			continue;
		error = check_field(walk, &level->object->fields[index], value);
		if (error)
			return error;
		seen |= UINT64_C(1) << index;
		if (level->object->fields[index].of >= 0)
			level->nested |= UINT64_C(1) << index;
	}
	return check_required(walk, level->object, seen);
}

/* The next object of the field the level stands at, or NULL when it has no more. */
static json_t *next_child(struct level *level)
{
	const struct api_field_info *field = &level->object->fields[level->field];
	json_t *value = json_object_get(level->value, field->name);
	size_t item = level->next_item++;

	if (field->type == API_LIST)
		return json_array_get(value, item);
	return item == 0 ? value : NULL;
}

/* Moves on to the next object to be checked; false when there is none. */
static bool walk_down(struct walk *walk)
{
	while (walk->depth > 0) {
		struct level *level = &walk->levels[walk->depth - 1];
		json_t *child;

		if (level->nested == 0) {
			walk->depth--;
			continue;
		}
		if (level->next_item == 0)
			level->field = (unsigned)__builtin_ctzll(level->nested);
		child = next_child(level);
		if (!child) {
			level->nested &= ~(UINT64_C(1) << level->field);
			level->next_item = 0;
			continue;
		}
		ASSERT(walk->depth < ARRAY_SIZE(walk->levels));
		walk->levels[walk->depth++] =
			(struct level){ .object = api_object_info(level->object->fields[level->field].of), .value = child };
		return true;
	}
	return false;
}
