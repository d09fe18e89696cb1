/*
 * test_server_events.c - the unix socket: who gets which events, and what they cost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "server_fixture.h"

enum { SMALL = 128 };

static unsigned sendmsg_calls;
ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);

/* The server's writes are counted; everything else in here uses send(). */
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	sendmsg_calls++;
	return __real_sendmsg(fd, message, flags);
}

static json_t *make_event(uint64_t seq, size_t cause_length)
{
	char *cause = xcalloc(1, cause_length + 1);
	json_t *event;

	memset(cause, 'c', cause_length);
	event = json_pack("{s:I, s:s, s:s, s:i, s:s}", "seq", (json_int_t)seq, "at", "1970-01-01T00:00:00Z", "kind",
			  "task.queued", "task", 1, "cause", cause);
	free(cause);
	return event;
}

static void publish(struct fixture *fixture, uint64_t seq, uint64_t batch, bool is_final)
{
	json_t *event = make_event(seq, SMALL);

	server_publish(fixture->server, event, batch, is_final);
	json_decref(event);
}

/* Subscribes; the test's handler takes the batch from after_seq. */
static struct peer peer_subscribed(struct fixture *fixture, int batch, bool is_final_only)
{
	struct peer peer = peer_greeted(fixture);
	char line[256];

	snprintf(line, sizeof(line),
		 "{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"events.subscribe\","
		 "\"params\":{\"after_seq\":%d,\"is_final_only\":%s}}",
		 batch, is_final_only ? "true" : "false");
	peer_send(fixture, &peer, line);
	expect_result(fixture, &peer, 4);
	return peer;
}

static void expect_event(struct fixture *fixture, struct peer *peer, uint64_t seq)
{
	json_t *value = peer_receive(fixture, peer);

	assert_non_null(value);
	assert_string_equal(json_string_value(json_object_get(value, "method")), "event");
	assert_null(json_object_get(value, "id"));
	assert_int_equal(json_integer_value(json_object_get(json_object_get(value, "params"), "seq")), seq);
	json_decref(value);
}

static void filters_choose_events(void **state)
{
	struct fixture *fixture = *state;
	struct peer all = peer_subscribed(fixture, 0, false);
	struct peer batch = peer_subscribed(fixture, 7, false);
	struct peer ends = peer_subscribed(fixture, 0, true);
	struct peer none = peer_greeted(fixture);

	publish(fixture, 1, 7, false);
	publish(fixture, 2, 8, false);
	publish(fixture, 3, 8, true);
	publish(fixture, 4, 7, true);
	for (uint64_t i = 1; i <= 4; i++)
		expect_event(fixture, &all, i);
	expect_event(fixture, &batch, 1);
	expect_event(fixture, &batch, 4);
	expect_event(fixture, &ends, 3);
	expect_event(fixture, &ends, 4);
	expect_alive(fixture, &none);
	peer_close(&all);
	wait_for_count(fixture, 3);
	assert_true(server_has_subscriber(fixture->server, 7, false));
	assert_false(server_has_subscriber(fixture->server, 8, false));
	assert_true(server_has_subscriber(fixture->server, 8, true));
	assert_false(server_has_subscriber(NULL, 7, true));
	peer_close(&batch);
	peer_close(&ends);
	peer_close(&none);
}

static void events_of_one_turn_are_one_write(void **state)
{
	struct fixture *fixture = *state;
	struct peer peer = peer_subscribed(fixture, 0, false);
	unsigned before = sendmsg_calls;

	for (uint64_t i = 1; i <= 200; i++)
		publish(fixture, i, 1, false);
	assert_int_equal(sendmsg_calls, before);
	turn(fixture);
	assert_int_equal(sendmsg_calls, before + 1);
	for (uint64_t i = 1; i <= 200; i++)
		expect_event(fixture, &peer, i);
	peer_close(&peer);
}

static void subscriber_that_never_reads_is_ended(void **state)
{
	struct fixture *fixture = *state;
	struct peer slow = peer_subscribed(fixture, 0, false);
	struct peer quick = peer_subscribed(fixture, 0, false);
	uint64_t published = 0, seen = 0;
	json_t *value;

	while (fixture->disconnects == 0 && server_has_subscriber(fixture->server, 1, false) && published < 50000) {
		publish(fixture, ++published, 1, false);
		turn(fixture);
		expect_event(fixture, &quick, published);
	}
	assert_true(published * SMALL > LIMIT_CLIENT_QUEUE / 2);
	while ((value = peer_receive(fixture, &slow)) && json_object_get(value, "method")) {
		seen++;
		assert_int_equal(json_integer_value(json_object_get(json_object_get(value, "params"), "seq")), seen);
		json_decref(value);
		if (seen == published)
			break;
	}
	/* All 50,000 went to the quick one; the slow one got what fits, in order, then the reason, then the end. */
	assert_non_null(value);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(value, "error"), "code")),
			 api_error_info(API_ERROR_TOO_SLOW)->number);
	json_decref(value);
	assert_true(seen < published);
	expect_end(fixture, &slow);
	expect_alive(fixture, &quick);
	peer_close(&slow);
	peer_close(&quick);
}

static void long_event_goes_without_its_text(void **state)
{
	struct fixture *fixture = *state;
	struct peer peer = peer_subscribed(fixture, 0, false);
	json_t *event = make_event(1, LIMIT_MESSAGE);

	server_publish(fixture->server, event, 1, false);
	json_decref(event);
	expect_event(fixture, &peer, 1);
	expect_alive(fixture, &peer);
	peer_close(&peer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(filters_choose_events),
		TEST(events_of_one_turn_are_one_write),
		TEST(subscriber_that_never_reads_is_ended),
		TEST(long_event_goes_without_its_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
