/* Batches on their way: chunks below the limit, once only whatever happens to the connection. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "client/submission.h"
#include "fake_daemon.h"

enum { TASKS = 40000 };

/* Takes one submission; returns the request to commit it. Ends the process when something is missing or out of order. */
static json_t *take(struct fake_side *side)
{
	json_int_t draft = 7, seen = 0, settings = 0;
	json_t *request, *params;

	request = fake_expect(side, "batch.open");
	if (!json_object_get(json_object_get(request, "params"), "cwd"))
		_exit(2);
	fake_answer(side, request, "{\"draft\": 7}");
	for (int i = 0; i < 2; i++) {
		request = fake_expect(side, "batch.environment");
		params = json_object_get(request, "params");
		settings += (json_int_t)json_array_size(json_object_get(params, "environment"));
		if (json_is_true(json_object_get(params, "is_latin1")) != (i == 1))
			_exit(3);
		if (i == 1 &&
		    strcmp(json_string_value(json_array_get(json_object_get(params, "environment"), 0)), "L=\xc3\xbf") != 0)
			_exit(4);
		fake_answer(side, request, "{}");
	}
	if (settings != 4)
		_exit(5);
	while (seen < TASKS) {
		json_t *tasks;

		request = fake_expect(side, "batch.add");
		params = json_object_get(request, "params");
		tasks = json_object_get(params, "tasks");
		if (json_integer_value(json_object_get(params, "draft")) != draft || json_array_size(tasks) == 0 ||
		    json_integer_value(json_object_get(json_array_get(tasks, 0), "n")) != seen)
			_exit(6);
		seen += (json_int_t)json_array_size(tasks);
		fake_answer(side, request, "{\"count\": 1}");
	}
	return fake_expect(side, "batch.commit");
}

static struct submission *make(void)
{
	static const char *const settings[] = { "A=1", "GIT_DIR=/x", "GITHUB=2", "L=\xff", "noequals", "U=\xc3\xa4", NULL };
	struct err err = ERR_INIT;
	struct submission *submission = submission_new(json_pack("{s:s}", "cwd", "/"), &err);

	assert_non_null(submission);
	submission_add_environment(submission, settings);
	for (int i = 0; i < TASKS; i++) {
		char spec[128];
		struct client_error error = { 0 };

		snprintf(spec, sizeof(spec), "{\"n\":%d,\"command\":[\"echo\",\"some words to make it a bit longer\"]}", i);
		assert_int_equal(submission_add_task(submission, spec, strlen(spec), &error), 0);
	}
	assert_int_equal(submission_count(submission), TASKS);
	return submission;
}

static const char *key_of(const json_t *request)
{
	return json_string_value(json_object_get(json_object_get(request, "params"), "key"));
}

/* The first connection ends between commit and its answer: all comes again, with the same key. */
static void script_lost_answer(struct fake_side *side)
{
	json_t *first, *second;

	fake_accept(side);
	first = take(side);
	fake_accept(side);
	second = take(side);
	if (strlen(key_of(first)) != 32 || strcmp(key_of(first), key_of(second)) != 0)
		_exit(7);
	json_decref(first);
	fake_answer(side, second, "{\"batch\": 1, \"first\": 1, \"count\": 40000, \"seq\": 0}");
}

static void test_a_lost_answer(void **state)
{
	struct fake fake;
	struct submission *submission = make();
	struct client_options options = { .name = "test", .state_dir = fake.state_dir };
	struct client *client;
	struct client_error error = { 0 };
	json_t *answer;

	(void)state;
	fake_init(&fake);
	fake_start(&fake, script_lost_answer);
	assert_int_equal(client_open(&options, &client, &error), 0);
	answer = submission_send(submission, client, &error);
	if (!answer)
		fail_msg("%s", error.text);
	assert_int_equal(json_integer_value(json_object_get(answer, "count")), TASKS);
	json_decref(answer);
	submission_free(submission);
	client_close(client);
	fake_end(&fake);
}

static void script_refusal(struct fake_side *side)
{
	fake_accept(side);
	fake_answer(side, fake_expect(side, "batch.open"), "{\"draft\": 1}");
	fake_refuse(side, fake_expect(side, "batch.add"), "{\"code\": -32014, \"message\": \"the queue is full\"}");
}

static void test_a_refusal_is_final(void **state)
{
	struct fake fake;
	struct client_options options = { .name = "test", .state_dir = fake.state_dir };
	struct client *client;
	struct client_error error = { 0 };
	struct err err = ERR_INIT;
	struct submission *submission = submission_new(json_pack("{s:s}", "cwd", "/"), &err);

	(void)state;
	assert_int_equal(submission_add_task(submission, "{}", 2, &error), 0);
	fake_init(&fake);
	fake_start(&fake, script_refusal);
	assert_int_equal(client_open(&options, &client, &error), 0);
	assert_null(submission_send(submission, client, &error));
	assert_int_equal(error.code, API_ERROR_QUEUE_FULL);
	assert_int_equal(error.exit_status, 75);
	submission_free(submission);
	client_close(client);
	fake_end(&fake);
}

static void test_a_task_that_fits_no_message(void **state)
{
	struct client_error error = { 0 };
	struct err err = ERR_INIT;
	struct submission *submission = submission_new(json_object(), &err);
	char *text = xcalloc(1, LIMIT_MESSAGE + 1);

	(void)state;
	memset(text, 'x', LIMIT_MESSAGE);
	assert_int_equal(submission_add_task(submission, text, LIMIT_MESSAGE, &error), -EMSGSIZE);
	assert_int_equal(error.code, API_ERROR_TOO_LARGE);
	assert_int_equal(submission_count(submission), 0);
	submission_free(submission);
	free(text);
}

static const struct row {
	const char *text;
	bool is_latin1;
	const char *expected;
} rows[] = {
	{ "plain", false, "\"plain\"" },
	{ "a\"b\\c", false, "\"a\\\"b\\\\c\"" },
	{ "\n\t\x7f\x01", false, "\"\\u000a\\u0009\\u007f\\u0001\"" },
	{ "ä", false, "\"ä\"" },
	{ "\xff\xc3", true, "\"\\u00ff\\u00c3\"" },
	{ "", false, "\"\"" },
};

static void test_strings(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEANUP_BUF struct buf buf = BUF_INIT;
		json_t *value;

		submission_add_string(&buf, rows[i].text, rows[i].is_latin1);
		assert_string_equal(buf.bytes, rows[i].expected);
		value = json_loads(buf.bytes, JSON_DECODE_ANY, NULL);
		assert_non_null(value);
		json_decref(value);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_lost_answer),
		cmocka_unit_test(test_a_refusal_is_final),
		cmocka_unit_test(test_a_task_that_fits_no_message),
		cmocka_unit_test(test_strings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
