/* The public C face. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drover.h"
#include "fake_daemon.h"

static void script(struct fake_side *side)
{
	fake_accept(side);
	fake_answer(side, fake_expect(side, "status"), "{\"slots\":3}");
	fake_refuse(side, fake_expect(side, "task.show"),
	            "{\"code\":-32010,\"message\":\"there is no task\",\"data\":{\"hint\":\"look\"}}");
	fake_answer(side, fake_expect(side, "events.subscribe"), "{\"seq\":4,\"is_gap\":false}");
	fake_event(side, 5, "task.running");
	/* A new daemon that no longer has what came in between. */
	fake_accept(side);
	fake_answer(side, fake_expect(side, "events.subscribe"), "{\"seq\":90,\"is_gap\":true}");
	fake_event(side, 91, "task.failed");
	getc(side->input);
}

static void check_event(struct drover *drover, const char *expected)
{
	char error[DROVER_ERROR_MAX] = "";
	char *event = NULL;

	assert_int_equal(drover_next_event(drover, 10000, &event, error), DROVER_EVENT);
	assert_non_null(strstr(event, expected));
	free(event);
}

static void test_calls_and_events(void **state)
{
	char error[DROVER_ERROR_MAX] = "";
	struct drover *drover;
	struct fake fake;
	char *event = NULL;
	char *text;

	(void)state;
	fake_init(&fake);
	fake_start(&fake, script);
	drover = drover_connect(fake.state_dir, 0, error);
	assert_non_null(drover);
	text = drover_call(drover, "status", NULL, error);
	assert_non_null(strstr(text, "\"slots\":3"));
	assert_int_equal(drover_error_number(drover), 0);
	free(text);
	assert_null(drover_call(drover, "task.show", "{\"task\": \"1\"}", error));
	assert_string_equal(error, "there is no task (look)");
	assert_int_equal(drover_error_number(drover), -32010);
	assert_null(drover_call(drover, "no.such", "{}", NULL));
	assert_int_equal(drover_error_number(drover), -32601);
	assert_null(drover_call(drover, "status", "{", error));
	assert_int_equal(drover_error_number(drover), -32700);
	text = drover_call(drover, "events.subscribe", "{}", error);
	assert_non_null(text);
	free(text);
	check_event(drover, "task.running");
	check_event(drover, "\"gap\"");
	check_event(drover, "task.failed");
	assert_int_equal(drover_next_event(drover, 0, &event, error), DROVER_TIMEOUT);
	drover_close(drover);
	fake_end(&fake);
}

static void test_nobody_there(void **state)
{
	char error[DROVER_ERROR_MAX] = "";

	(void)state;
	assert_null(drover_connect("/nowhere/state", 0, error));
	assert_non_null(strstr(error, "/nowhere/state"));
	assert_null(drover_connect("/nowhere/state", 0, NULL));
	drover_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls_and_events),
		cmocka_unit_test(test_nobody_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
