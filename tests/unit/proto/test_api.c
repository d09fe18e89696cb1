/*
 * test_api.c - the definition's tables, the check of objects against it, and the reading of bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "proto/api.h"

/* A task, but for its last field. */
#define TASK "{\"id\":1,\"batch\":1,\"state\":\"held\",\"priority\":\"P1\",\"attempt\":0,"

static void assert_contains(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("'%s' does not contain '%s'", text, part);
}

/* Checks the JSON text as `object`; a NULL part means that it is right. */
static void expect_object(int object, const char *text, const char *part)
{
	struct err err = ERR_INIT;
	json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	int error;

	assert_non_null(value);
	error = api_check(object, value, &err);
	json_decref(value);
	if (!part && error)
		fail_msg("%s: %s", text, err.text);
	if (part) {
		assert_int_equal(error, -EINVAL);
		assert_contains(err.text, part);
	}
}

static void tables_hold_the_definition(void **state)
{
	const struct api_object_info *details = api_object_info(API_OBJECT_TASK_DETAILS);

	(void)state;
	assert_int_equal(api_object_count(), API_OBJECT_MAX);
	assert_int_equal(api_object_info(API_OBJECT_EMPTY)->field_count, 0);
	assert_string_equal(details->name, "task_details");
	assert_string_equal(details->fields[0].name, "task");
	assert_int_equal(details->fields[0].of, API_OBJECT_TASK);
	assert_true(details->fields[0].is_required);
	assert_string_equal(details->fields[details->field_count - 1].name, "salvage");
	assert_int_equal(details->fields[details->field_count - 1].of, API_OBJECT_NONE);
	for (int i = 0; i < API_OBJECT_MAX; i++)
		for (int j = 0; j < i; j++)
			assert_string_not_equal(api_object_info(i)->name, api_object_info(j)->name);
}

static void names_in_an_object_are_unique(void **state)
{
	(void)state;
	for (int i = 0; i < API_OBJECT_MAX; i++) {
		const struct api_object_info *object = api_object_info(i);

		for (unsigned j = 0; j < object->field_count; j++) {
			const struct api_field_info *field = &object->fields[j];
			bool is_nested = field->type == API_OBJECT || field->type == API_LIST;

			assert_int_equal(is_nested, field->of >= 0);
			for (unsigned k = 0; k < j; k++)
				assert_string_not_equal(field->name, object->fields[k].name);
		}
	}
}

static void methods_and_errors_are_found(void **state)
{
	(void)state;
	for (int i = 0; i < API_METHOD_MAX; i++)
		assert_int_equal(api_find_method(api_method_info((enum api_method)i)->name), i);
	for (int i = 0; i < API_ERROR_MAX; i++)
		assert_int_equal(api_find_error(api_error_info((enum api_error)i)->number), i);
	assert_int_equal(api_find_method("task.lst"), -1);
	assert_int_equal(api_find_error(0), -1);
	assert_true(api_method_info(API_TASK_CANCEL)->is_writing);
	assert_false(api_method_info(API_TASK_LIST)->is_writing);
	assert_int_equal(api_method_info(API_TASK_WHY)->result, API_OBJECT_TASK_DETAILS);
}

static void right_objects_pass(void **state)
{
	(void)state;
	expect_object(API_OBJECT_EMPTY, "{}", NULL);
	expect_object(API_OBJECT_HELLO_PARAMS, "{\"protocol\": 1}", NULL);
	expect_object(API_OBJECT_HELLO_PARAMS, "{\"client\": null, \"protocol\": -5}", NULL);
	expect_object(API_OBJECT_TASK_SPEC, "{\"command\": [], \"timeout_s\": 3, \"retries\": 2, \"is_held\": false}", NULL);
	expect_object(API_OBJECT_TASK_SPEC, "{\"timeout_s\": 0.5, \"environment\": [\"A=1\", \"\"]}", NULL);
	expect_object(API_OBJECT_BATCH_ADD_PARAMS, "{\"draft\": 1, \"tasks\": []}", NULL);
	expect_object(API_OBJECT_BATCH_ADD_PARAMS, "{\"draft\": 1, \"tasks\": [{}, {\"shell\": \"true\"}]}", NULL);
	expect_object(API_OBJECT_STATUS,
		      "{\"slots\":1,\"running\":0,\"queued\":0,\"suspended\":0,\"states\":{\"x\":[1]},\"batches\":0,"
		      "\"is_paused\":false,\"problems\":[]}",
		      NULL);
}

static void wrong_objects_are_named(void **state)
{
	(void)state;
	expect_object(API_OBJECT_HELLO_PARAMS, "[]", "hello_params must be an object, found a list");
	expect_object(API_OBJECT_HELLO_PARAMS, "{}", "'protocol' is missing (integer: protocol number of the client)");
	expect_object(API_OBJECT_HELLO_PARAMS, "{\"protocol\": null}", "'protocol' is missing");
	expect_object(API_OBJECT_HELLO_PARAMS, "{\"protocol\": \"1\"}", "must be of type integer, found a string");
	expect_object(API_OBJECT_HELLO_PARAMS, "{\"protocol\": 1.0}", "found a fractional number");
	expect_object(API_OBJECT_HELLO_PARAMS, "{\"protocol\": true}", "found a boolean");
	expect_object(API_OBJECT_HELLO_PARAMS, "{\"protocol\": 1, \"cleint\": \"\"}", "did you mean 'client'?");
	expect_object(API_OBJECT_HELLO_PARAMS, "{\"protocol\": 1, \"zzzzzz\": 1}", "known are protocol, client");
	expect_object(API_OBJECT_EMPTY, "{\"a\": null}", "'a' is not known: no fields are taken here");
	expect_object(API_OBJECT_TASK_SPEC, "{\"is_held\": 1}", "'is_held' must be of type boolean, found an integer");
	expect_object(API_OBJECT_TASK_SPEC, "{\"command\": \"ls\"}", "must be of type list of strings, found a string");
	expect_object(API_OBJECT_TASK_SPEC, "{\"command\": [\"ls\", 3]}", "'command[1]' must be a string, found an integer");
	expect_object(API_OBJECT_HELLO_PARAMS, "{\"protocol\": 1, \"a\\u001bb\": 1}", "'a\\x1bb' is no field");
}

static void nested_objects_have_paths(void **state)
{
	(void)state;
	expect_object(API_OBJECT_BATCH_ADD_PARAMS, "{\"draft\": 1, \"tasks\": [{}, {\"retrys\": 1}]}",
		      "'tasks[1].retrys' is no field of task_spec; did you mean 'retries'?");
	expect_object(API_OBJECT_BATCH_ADD_PARAMS, "{\"draft\": 1, \"tasks\": [{}, {}, {\"shell\": 1}]}",
		      "'tasks[2].shell' must");
	expect_object(API_OBJECT_BATCH_ADD_PARAMS, "{\"draft\": 1, \"tasks\": [{}, 7]}",
		      "'tasks[1]' must be an object (task_spec), found an integer");
	expect_object(API_OBJECT_BATCH_ADD_PARAMS, "{\"draft\": 1, \"tasks\": [null]}", "'tasks[0]' must be an object");
	expect_object(API_OBJECT_BATCH_ADD_PARAMS, "{\"draft\": 1, \"tasks\": {}}",
		      "'tasks' must be of type list of task_spec");
	expect_object(API_OBJECT_TASK_DETAILS,
		      "{\"task\":" TASK "\"created_at\":\"\"},"
		      "\"wait\":{\"reason\":\"slots\",\"text\":1},\"spec\":{},\"cwd\":\"/\",\"after\":[],\"conditions\":[]}",
		      "'wait.text' must be of type string");
	expect_object(API_OBJECT_TASK_DETAILS,
		      "{\"task\":" TASK "\"created_at\":\"\"},"
		      "\"spec\":{},\"cwd\":\"/\",\"after\":[{\"id\":1,\"is_any\":true},{\"id\":2}],\"conditions\":[]}",
		      "'after[1].is_any' is missing");
	expect_object(API_OBJECT_TASK_DETAILS,
		      "{\"task\":" TASK "\"label\":\"\"},"
		      "\"spec\":{},\"cwd\":\"/\",\"after\":[],\"conditions\":[]}",
		      "'task.created_at' is missing");
}

static void nul_bytes_are_refused(void **state)
{
	(void)state;
	expect_object(API_OBJECT_TASK_SPEC, "{\"shell\": \"a\\u0000b\"}", "'shell' holds a NUL byte");
	expect_object(API_OBJECT_TASK_SPEC, "{\"command\": [\"a\", \"\\u0000\"]}", "'command[1]' holds a NUL byte");
}

/* Parses; a NULL part means that it is right. */
static void expect_parse(const char *bytes, size_t length, const char *part)
{
	struct err err = ERR_INIT;
	json_t *value = api_parse(bytes, length, &err);

	if (!part && !value)
		fail_msg("%s", err.text);
	if (part) {
		assert_null(value);
		assert_true(err.code == -EBADMSG || err.code == -EMSGSIZE);
		assert_contains(err.text, part);
	}
	json_decref(value);
}

static void expect_parse_text(const char *text, const char *part)
{
	expect_parse(text, strlen(text), part);
}

static void bad_bytes_are_refused(void **state)
{
	(void)state;
	expect_parse_text("{\"a\": [1, 2.5, \"\\u00e9\", null, true]}", NULL);
	expect_parse_text("[]", NULL);
	expect_parse_text(" {} \r", NULL);
	expect_parse_text("", "no JSON");
	expect_parse_text("7", "no JSON");
	expect_parse_text("\"x\"", "no JSON");
	expect_parse_text("{\"a\": 1", "no JSON");
	expect_parse_text("{} {}", "no JSON");
	expect_parse_text("{}x", "no JSON");
	expect_parse_text("{\"a\": 1, \"a\": 2}", "duplicate");
	expect_parse_text("{\"a\": {\"b\": 1, \"c\": 1, \"b\": 1}}", "duplicate");
	expect_parse_text("{\"a\": \"\\u0000\"}", "no JSON");
	expect_parse_text("{\"a\\u0000\": 1}", "no JSON");
	expect_parse("{\"a\": \"\0\"}", 10, "no JSON");
	expect_parse("{}\0", 3, "no JSON");
	expect_parse_text("{\"a\": \"\xff\"}", "UTF-8");
	expect_parse_text("{\"a\": \"\xed\xa0\x80\"}", "UTF-8");
	expect_parse_text("{\"a\": \"\\ud800\"}", "no JSON");
	expect_parse_text("{\"a\": 99999999999999999999}", "no JSON");
	expect_parse_text("{\"a\": 1e999}", "no JSON");
	expect_parse_text("{\"a\": 0x1}", "no JSON");
	expect_parse_text("{\"a\": NaN}", "no JSON");
	expect_parse_text("\"\\", "no JSON");
}

static char *repeat(const char *open, const char *middle, const char *close, unsigned count)
{
	struct buf text = BUF_INIT;

	for (unsigned i = 0; i < count; i++)
		buf_add_text(&text, open);
	buf_add_text(&text, middle);
	for (unsigned i = 0; i < count; i++)
		buf_add_text(&text, close);
	return buf_take(&text);
}

static void depth_has_an_edge(void **state)
{
	char *most CLEANUP_FREE = repeat("[", "", "]", LIMIT_JSON_DEPTH);
	char *over CLEANUP_FREE = repeat("[", "", "]", LIMIT_JSON_DEPTH + 1);
	char *objects CLEANUP_FREE = repeat("{\"a\":", "1", "}", LIMIT_JSON_DEPTH);
	char *objects_over CLEANUP_FREE = repeat("{\"a\":", "1", "}", LIMIT_JSON_DEPTH + 1);
	char *open CLEANUP_FREE = repeat("[", "", "", 1000000);
	char *text CLEANUP_FREE = repeat("[\"", "[[[[[[[[\\\"[[[[[[[[[[[[[[[[", "\"]", 1);

	(void)state;
	expect_parse_text(most, NULL);
	expect_parse_text(over, "nested more than 64 deep");
	expect_parse_text(objects, NULL);
	expect_parse_text(objects_over, "nested more than 64 deep");
	expect_parse_text(open, "nested more than 64 deep");
	expect_parse_text(text, NULL);
	expect_parse_text("]]]]]][", "no JSON");
}

static void brackets_in_strings_do_not_count(void **state)
{
	char *brackets CLEANUP_FREE = repeat("[", "", "", LIMIT_JSON_DEPTH * 2);
	char *text CLEANUP_FREE = xasprintf("{\"a\\\"%s\": \"\\\\\", \"b\": \"%s\"}", brackets, brackets);

	(void)state;
	expect_parse_text(text, NULL);
}

static void size_has_an_edge(void **state)
{
	char *most = xcalloc(1, LIMIT_MESSAGE + 1);

	(void)state;
	memset(most, ' ', LIMIT_MESSAGE + 1);
	memcpy(most, "{}", 2);
	expect_parse(most, LIMIT_MESSAGE, NULL);
	expect_parse(most, LIMIT_MESSAGE + 1, "at most 1048576 are taken");
	free(most);
}

static void containers_have_an_edge(void **state)
{
	struct buf text CLEANUP_BUF = BUF_INIT;

	(void)state;
	buf_add_byte(&text, '[');
	for (int i = 2; i < API_CONTAINERS_MAX; i++)
		buf_add_text(&text, "{},");
	buf_add_text(&text, "{}]");
	expect_parse(text.bytes, text.length, NULL);
	text.length--;
	buf_add_text(&text, ",[]]");
	expect_parse(text.bytes, text.length, "131073 objects and lists");
}

static void schema_and_document_name_everything(void **state)
{
	json_t *schema = api_schema();
	char *text CLEANUP_FREE = api_markdown();

	(void)state;
	assert_int_equal(json_object_size(json_object_get(schema, "methods")), API_METHOD_MAX);
	assert_int_equal(json_object_size(json_object_get(schema, "errors")), API_ERROR_MAX);
	for (int i = 0; i < API_OBJECT_MAX; i++) {
		json_t *object = json_object_get(json_object_get(schema, "$defs"), api_object_info(i)->name);

		assert_int_equal(json_object_size(json_object_get(object, "properties")), api_object_info(i)->field_count);
		for (unsigned j = 0; j < api_object_info(i)->field_count; j++)
			assert_contains(text, api_object_info(i)->fields[j].name);
	}
	for (int i = 0; i < API_METHOD_MAX; i++)
		assert_contains(text, api_method_info((enum api_method)i)->name);
	for (int i = 0; i < API_ERROR_MAX; i++)
		assert_contains(text, api_error_info((enum api_error)i)->name);
	assert_contains(text, "`timed_out` | final");
	assert_contains(text, "`named-lock`");
	assert_contains(text, "`shim-lost`");
	json_decref(schema);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_hold_the_definition),
		cmocka_unit_test(names_in_an_object_are_unique),
		cmocka_unit_test(methods_and_errors_are_found),
		cmocka_unit_test(right_objects_pass),
		cmocka_unit_test(wrong_objects_are_named),
		cmocka_unit_test(nested_objects_have_paths),
		cmocka_unit_test(nul_bytes_are_refused),
		cmocka_unit_test(bad_bytes_are_refused),
		cmocka_unit_test(depth_has_an_edge),
		cmocka_unit_test(brackets_in_strings_do_not_count),
		cmocka_unit_test(size_has_an_edge),
		cmocka_unit_test(containers_have_an_edge),
		cmocka_unit_test(schema_and_document_name_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
