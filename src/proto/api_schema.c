/*
 * api_schema.c - the definition as a JSON Schema (2020-12). Each object is one of $defs; "methods", "errors" and "words"
 * hold what a schema has no keyword for.
 */
#include "proto/api.h"

#include <stdio.h>

static json_t *make_object(const struct api_object_info *object);
static json_t *make_methods(void);
static json_t *make_errors(void);
static json_t *make_words(void);

json_t *api_schema(void)
{
	json_t *definitions = json_object();
	json_t *schema;

	for (int i = 0; i < api_object_count(); i++)
		json_object_set_new(definitions, api_object_info(i)->name, make_object(api_object_info(i)));
	schema = json_pack("{s:s, s:s, s:i, s:o, s:o, s:o, s:o}", "$schema", "https://json-schema.org/draft/2020-12/schema",
			   "title", "drover", "protocol", API_PROTOCOL, "methods", make_methods(), "errors", make_errors(),
			   "words", make_words(), "$defs", definitions);
	ASSERT(schema);
	return schema;
}

static json_t *make_reference(int object)
{
	return json_sprintf("#/$defs/%s", api_object_info(object)->name);
}

/* "type": T, or [T, "null"] where the field may be null. */
static void set_type(json_t *schema, const char *type, bool is_required)
{
	json_object_set_new(schema, "type", is_required ? json_string(type) : json_pack("[s, s]", type, "null"));
}

static json_t *make_field(const struct api_field_info *field)
{
	static const char *const types[] = {
		[API_STRING] = "string", [API_INTEGER] = "integer", [API_NUMBER] = "number", [API_BOOLEAN] = "boolean",
		[API_STRINGS] = "array", [API_OBJECT] = NULL,       [API_LIST] = "array",    [API_ANY] = NULL,
	};
	json_t *schema = json_pack("{s:s}", "description", field->meaning);

	if (types[field->type])
		set_type(schema, types[field->type], field->is_required);
	if (field->type == API_STRINGS)
		json_object_set_new(schema, "items", json_pack("{s:s}", "type", "string"));
	if (field->type == API_LIST)
		json_object_set_new(schema, "items", json_pack("{s:o}", "$ref", make_reference(field->of)));
	if (field->type == API_OBJECT && field->is_required)
		json_object_set_new(schema, "$ref", make_reference(field->of));
	if (field->type == API_OBJECT && !field->is_required)
		json_object_set_new(schema, "anyOf",
				    json_pack("[{s:o}, {s:s}]", "$ref", make_reference(field->of), "type", "null"));
	return schema;
}

static json_t *make_object(const struct api_object_info *object)
{
	json_t *properties = json_object();
	json_t *required = json_array();

	for (unsigned i = 0; i < object->field_count; i++) {
		const struct api_field_info *field = &object->fields[i];

		json_object_set_new(properties, field->name, make_field(field));
		if (field->is_required)
			json_array_append_new(required, json_string(field->name));
	}
	return json_pack("{s:s, s:s, s:o, s:o, s:b}", "type", "object", "description", object->meaning, "properties",
			 properties, "required", required, "additionalProperties", 0);
}

static json_t *make_methods(void)
{
	json_t *methods = json_object();

	for (int i = 0; i < API_METHOD_MAX; i++) {
		const struct api_method_info *method = api_method_info((enum api_method)i);

		json_object_set_new(methods, method->name,
				    json_pack("{s:s, s:b, s:{s:o}, s:{s:o}}", "description", method->meaning, "is_writing",
					      method->is_writing, "params", "$ref", make_reference(method->params), "result",
					      "$ref", make_reference(method->result)));
	}
	return methods;
}

static json_t *make_errors(void)
{
	json_t *errors = json_object();

	for (int i = 0; i < API_ERROR_MAX; i++) {
		const struct api_error_info *error = api_error_info((enum api_error)i);

		json_object_set_new(errors, error->name,
				    json_pack("{s:s, s:i, s:i}", "description", error->meaning, "code", error->number,
					      "exit_status", error->exit_status));
	}
	return errors;
}

static void add_word(json_t *words, const char *name, const char *meaning)
{
	json_object_set_new(words, name, json_string(meaning));
}

static json_t *make_words(void)
{
	json_t *states = json_object(), *reasons = json_object(), *causes = json_object(), *priorities = json_array();

#define STATE(symbol, name, kind, meaning) add_word(states, name, meaning);
#include "core/task.def"
#define REASON(symbol, name, meaning) add_word(reasons, name, meaning);
#include "core/words.def"
#define CAUSE(symbol, name, meaning) add_word(causes, name, meaning);
#include "core/words.def"
#define PRIORITY(symbol, name, ageing) json_array_append_new(priorities, json_string(name));
#include "core/words.def"
	return json_pack("{s:o, s:o, s:o, s:o}", "states", states, "wait_reasons", reasons, "causes", causes, "priorities",
			 priorities);
}
