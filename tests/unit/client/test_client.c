/* Calls, pipelines, events, and what happens when the daemon goes away in between. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/client.h"
#include "fake_daemon.h"

static int open_client(const struct fake *fake, struct client **client, struct client_error *error)
{
	struct client_options options = { .name = "test", .state_dir = fake->state_dir };

	return client_open(&options, client, error);
}

static void script_calls(struct fake_side *side)
{
	json_t *request;

	fake_accept(side);
	fake_answer(side, fake_expect(side, "status"), "{\"slots\": 3}");
	request = fake_expect(side, "task.show");
	if (strcmp(json_string_value(json_object_get(json_object_get(request, "params"), "task")), "nobody") != 0)
		_exit(2);
	fake_refuse(side, request,
	            "{\"code\": -32010, \"message\": \"there is no task 'nobody'\", \"data\": {\"name\": \"not-found\","
	            " \"hint\": \"'drover ls' lists them\"}}");
}

static void test_calls(void **state)
{
	struct fake fake;
	struct client *client;
	struct client_error error = { 0 };
	json_t *result;

	(void)state;
	fake_init(&fake);
	fake_start(&fake, script_calls);
	assert_int_equal(open_client(&fake, &client, &error), 0);
	assert_string_equal(json_string_value(json_object_get(client_hello(client), "version")), "9.9");
	assert_false(client_has_started_daemon(client));
	result = client_call(client, API_STATUS, NULL, &error);
	assert_int_equal(json_integer_value(json_object_get(result, "slots")), 3);
	json_decref(result);
	assert_null(client_call(client, API_TASK_SHOW, json_pack("{s:s}", "task", "nobody"), &error));
	assert_int_equal(error.code, API_ERROR_NOT_FOUND);
	assert_int_equal(error.exit_status, 2);
	assert_string_equal(error.text, "there is no task 'nobody'");
	assert_string_equal(error.hint, "'drover ls' lists them");
	client_close(client);
	fake_end(&fake);
}

static void script_pipeline(struct fake_side *side)
{
	json_t *first, *second;

	fake_accept(side);
	first = fake_expect(side, "status");
	second = fake_expect(side, "daemon.status");
	fake_event(side, 4, "a");
	fake_answer(side, second, "{\"pid\": 2}");
	fake_event(side, 5, "b");
	fake_answer(side, first, "{\"slots\": 1}");
}

static void test_pipeline(void **state)
{
	struct fake fake;
	struct client *client;
	struct client_error error = { 0 };
	uint64_t first, second;
	json_t *result, *event = NULL;

	(void)state;
	fake_init(&fake);
	fake_start(&fake, script_pipeline);
	assert_int_equal(open_client(&fake, &client, &error), 0);
	assert_int_equal(client_send(client, API_STATUS, "{}", 2, &first, &error), 0);
	assert_int_equal(client_send(client, API_DAEMON_STATUS, "{}", 2, &second, &error), 0);
	result = client_receive(client, first, &error);
	assert_int_equal(json_integer_value(json_object_get(result, "slots")), 1);
	json_decref(result);
	result = client_receive(client, second, &error);
	assert_int_equal(json_integer_value(json_object_get(result, "pid")), 2);
	json_decref(result);
	for (const char *kind = "a"; *kind <= 'b'; kind = *kind == 'a' ? "b" : "c") {
		assert_int_equal(client_take_event(client, &event, &error), 1);
		assert_string_equal(json_string_value(json_object_get(event, "kind")), kind);
		json_decref(event);
	}
	client_close(client);
	fake_end(&fake);
}

static void script_other_protocol(struct fake_side *side)
{
	side->connection = accept(side->listener, NULL, NULL);
	side->input = fdopen(dup(side->connection), "r");
	fake_refuse(side, fake_expect(side, "hello"), "{\"code\": -32001, \"message\": \"protocol 1 here, 2 there\"}");
}

static void test_another_protocol(void **state)
{
	struct fake fake;
	struct client *client;
	struct client_error error = { 0 };

	(void)state;
	fake_init(&fake);
	fake_start(&fake, script_other_protocol);
	assert_true(open_client(&fake, &client, &error) < 0);
	assert_int_equal(error.code, API_ERROR_PROTOCOL);
	assert_int_equal(error.exit_status, 3);
	assert_non_null(strstr(error.hint, "drover daemon restart"));
	fake_end(&fake);
}

/* The daemon ends after reading a request; the next one answers it. */
static void script_restart(struct fake_side *side)
{
	fake_accept(side);
	json_decref(fake_expect(side, "task.list"));
	fake_accept(side);
	fake_answer(side, fake_expect(side, "task.list"), "{\"tasks\": []}");
	json_decref(fake_expect(side, "task.retry"));
	fake_hang_up(side);
}

static void test_reads_are_repeated_and_retries_are_not(void **state)
{
	struct fake fake;
	struct client *client;
	struct client_error error = { 0 };
	json_t *result;

	(void)state;
	fake_init(&fake);
	fake_start(&fake, script_restart);
	assert_int_equal(open_client(&fake, &client, &error), 0);
	result = client_call(client, API_TASK_LIST, NULL, &error);
	assert_true(json_is_object(result));
	json_decref(result);
	assert_null(client_call(client, API_TASK_RETRY, json_pack("{s:[s]}", "tasks", "1"), &error));
	assert_int_equal(error.code, -1);
	assert_int_equal(error.exit_status, 3);
	assert_non_null(strstr(error.text, "closed the connection"));
	client_close(client);
	fake_end(&fake);
}

static void script_events(struct fake_side *side)
{
	json_t *request;
	char lines[512];

	fake_accept(side);
	request = fake_expect(side, "events.subscribe");
	/* In one write: the client reads the first events together with the answer, and must take them for this log's. */
	snprintf(lines, sizeof(lines),
	         "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"result\":{\"seq\": 10, \"is_gap\": false}}\n"
	         "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"seq\":11,\"at\":\"?\",\"kind\":\"a\"}}\n"
	         "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"seq\":12,\"at\":\"?\",\"kind\":\"a\"}}",
	         (long long)json_integer_value(json_object_get(request, "id")));
	json_decref(request);
	fake_say(side, lines);
	fake_accept(side);
	request = fake_expect(side, "events.subscribe");
	if (json_integer_value(json_object_get(json_object_get(request, "params"), "after_seq")) != 12 ||
	    !json_is_true(json_object_get(json_object_get(request, "params"), "is_final_only")))
		_exit(2);
	fake_answer(side, request, "{\"seq\": 20, \"is_gap\": true}");
	fake_event(side, 21, "a");
}

/* The next event's number; 0 at the end of the connection. */
static json_int_t next_seq(struct client *client)
{
	struct client_error error = { 0 };

	for (;;) {
		struct pollfd wait = { .fd = client_fd(client), .events = POLLIN };
		json_t *event = NULL;
		int code = client_take_event(client, &event, &error);
		json_int_t seq = json_integer_value(json_object_get(event, "seq"));

		json_decref(event);
		if (code != 0)
			return code > 0 ? seq : 0;
		assert_int_equal(poll(&wait, 1, 10000), 1);
	}
}

static void test_events_go_on_from_the_latest_seen(void **state)
{
	struct fake fake;
	struct client *client;
	struct client_error error = { 0 };
	json_t *result;
	bool is_gap = false;

	(void)state;
	fake_init(&fake);
	fake_start(&fake, script_events);
	assert_int_equal(open_client(&fake, &client, &error), 0);
	result = client_subscribe(client, json_pack("{s:b}", "is_final_only", 1), &error);
	assert_int_equal(json_integer_value(json_object_get(result, "seq")), 10);
	json_decref(result);
	assert_int_equal(next_seq(client), 11);
	assert_int_equal(next_seq(client), 12);
	assert_int_equal(next_seq(client), 0);
	assert_int_equal(client_resume_wait(client, &is_gap, &error), 0);
	assert_true(is_gap);
	assert_int_equal(next_seq(client), 21);
	client_close(client);
	fake_end(&fake);
}

static void script_rubbish(struct fake_side *side)
{
	fake_accept(side);
	json_decref(fake_expect(side, "status"));
	fake_say(side, "this is no JSON");
	fake_accept(side);
	json_decref(fake_expect(side, "status"));
	fake_say(side, "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32004,\"message\":\"64 are connected\"}}");
}

static void test_what_is_no_answer(void **state)
{
	struct fake fake;
	struct client *client;
	struct client_error error = { 0 };
	uint64_t id;

	(void)state;
	fake_init(&fake);
	fake_start(&fake, script_rubbish);
	assert_int_equal(open_client(&fake, &client, &error), 0);
	assert_int_equal(client_send(client, API_STATUS, "{}", 2, &id, &error), 0);
	assert_null(client_receive(client, id, &error));
	assert_non_null(strstr(error.text, "is no message"));
	client_close(client);
	assert_int_equal(open_client(&fake, &client, &error), 0);
	assert_int_equal(client_send(client, API_STATUS, "{}", 2, &id, &error), 0);
	assert_null(client_receive(client, id, &error));
	assert_int_equal(error.code, API_ERROR_TOO_MANY_CLIENTS);
	assert_string_equal(error.text, "64 are connected");
	client_close(client);
	fake_end(&fake);
}

static void script_quiet(struct fake_side *side)
{
	fake_accept(side);
	if (getc(side->input) != EOF)
		_exit(2);
}

static void test_too_large_a_message_is_not_sent(void **state)
{
	struct fake fake;
	struct client *client;
	struct client_error error = { 0 };
	char *text = malloc(LIMIT_MESSAGE);
	uint64_t id;

	(void)state;
	memset(text, ' ', LIMIT_MESSAGE);
	fake_init(&fake);
	fake_start(&fake, script_quiet);
	assert_int_equal(open_client(&fake, &client, &error), 0);
	assert_int_equal(client_send(client, API_STATUS, text, LIMIT_MESSAGE, &id, &error), -EMSGSIZE);
	assert_int_equal(error.code, API_ERROR_TOO_LARGE);
	client_close(client);
	fake_end(&fake);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_pipeline),
		cmocka_unit_test(test_another_protocol),
		cmocka_unit_test(test_reads_are_repeated_and_retries_are_not),
		cmocka_unit_test(test_events_go_on_from_the_latest_seen),
		cmocka_unit_test(test_what_is_no_answer),
		cmocka_unit_test(test_too_large_a_message_is_not_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
