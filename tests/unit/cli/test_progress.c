/* Lines of progress, counts, the closing table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/buf.h"
#include "base/units.h"
#include "cli/events.h"
#include "cli/progress.h"
#include "core/task.h"

static const struct row {
	const char *event;
	const char *title;
	const char *expected;
} rows[] = {
	{ "{'task': 12, 'state': 'running', 'attempt': 1}", "lint", "#12 lint started\n" },
	{ "{'task': 12, 'state': 'running', 'attempt': 3}", "lint", "#12 lint started (attempt 3)\n" },
	{ "{'task': 12, 'state': 'running', 'attempt': 1}", "", "#12 started\n" },
	{ "{'task': 12, 'state': 'succeeded', 'cause': 'exit 0', 'duration_s': 3.21}", "lint", "#12 lint succeeded 3.2s\n" },
	{ "{'task': 12, 'state': 'failed', 'cause': 'exit 3', 'duration_s': 61}", "", "#12 failed 1m01s: exit 3\n" },
	{ "{'task': 12, 'state': 'skipped', 'cause': 'skipped: #11 failed', 'duration_s': null}", "x",
	  "#12 x skipped: #11 failed\n" },
	{ "{'task': 12, 'state': 'cancelled', 'cause': 'cancelled by user', 'duration_s': 1}", "",
	  "#12 cancelled 1.0s by user\n" },
	{ "{'task': 12, 'state': 'lost'}", "", "#12 lost\n" },
	{ "{'task': 12, 'state': 'queued'}", "", "" },
	{ "{'task': 12, 'state': 'stopping'}", "", "" },
	{ "{'task': 1, 'state': 'failed', 'cause': 'a\\u001b[2Jb'}", "t\033i", "#1 t\\x1bi failed: a\\x1b[2Jb\n" },
};

/* JSON with single quotes, for readable rows. */
static json_t *parse(const char *text)
{
	CLEANUP_BUF struct buf buf = BUF_INIT;
	json_t *value;

	for (; *text; text++)
		buf_add_byte(&buf, *text == '\'' ? '"' : *text);
	value = json_loads(buf.bytes, 0, NULL);
	assert_non_null(value);
	return value;
}

static void test_lines(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		json_t *event = parse(rows[i].event);
		CLEANUP_BUF struct buf buf = BUF_INIT;

		progress_format(&buf, event, rows[i].title, false);
		assert_string_equal(buf.bytes ? buf.bytes : "", rows[i].expected);
		json_decref(event);
	}
}

static void test_colours_only_when_wanted(void **state)
{
	json_t *event = parse("{'task': 1, 'state': 'failed'}");
	CLEANUP_BUF struct buf buf = BUF_INIT;

	(void)state;
	progress_format(&buf, event, "", true);
	assert_string_equal(buf.bytes, "#1 \033[31mfailed\033[0m\n");
	json_decref(event);
}

/* The list of final states here is the core's. */
static void test_final_states_are_the_cores(void **state)
{
	struct tally tally = { 0 };
	unsigned finals = 0;

	(void)state;
#define STATE(symbol, name, kind, meaning)                                                                                  \
	assert_int_equal(events_is_final(name), TASK_KIND_##kind == TASK_KIND_FINAL);                                       \
	finals += tally_add(&tally, name);
#include "core/task.def"
	assert_int_equal(finals, 6);
	assert_int_equal(tally_ended(&tally), 6);
}

static void test_summary(void **state)
{
	struct tally tally = { .total = 12, .succeeded = 9, .failed = 1, .timed_out = 1 };
	CLEANUP_BUF struct buf buf = BUF_INIT;
	json_t *value = tally_json(&tally, 7, 1234567890);
	json_t *expected = parse("{'batch': 7, 'tasks': 12, 'succeeded': 9, 'failed': 1, 'cancelled': 0, 'timed_out': 1,"
	                         " 'lost': 0, 'skipped': 0, 'duration_s': 1.235}");

	(void)state;
	tally_format(&tally, 4200 * NS_PER_MS, &buf);
	assert_string_equal(buf.bytes, "12 tasks: 9 succeeded, 1 failed, 1 timed out, 1 not finished in 4.2s");
	assert_true(json_equal(value, expected));
	json_decref(value);
	json_decref(expected);
}

static void test_table(void **state)
{
	json_t *finals[] = {
		parse("{'task': 3, 'name': 'lint', 'state': 'succeeded', 'duration_s': 3.2, 'peak_memory_bytes': 1048576,"
		      " 'changed_files': 2, 'branch': 'parallel/lint'}"),
		NULL,
		parse("{'task': 5, 'name': null, 'state': 'skipped', 'duration_s': null, 'changed_files': null}"),
	};
	CLEANUP_BUF struct buf buf = BUF_INIT;

	(void)state;
	results_add_table(&buf, finals, 3, 0, false);
	assert_string_equal(buf.bytes, "TASK  STATE      TIME  PEAK MEMORY  CHANGED FILES  BRANCH\n"
	                               "lint  succeeded  3.2s      1.0 MiB              2  parallel/lint\n"
	                               "#5    skipped       -            -              -  -\n");
	json_decref(finals[0]);
	json_decref(finals[2]);
}

static void test_modes(void **state)
{
	(void)state;
	assert_int_equal(progress_parse_mode("bar"), PROGRESS_BAR);
	assert_int_equal(progress_parse_mode("plain"), PROGRESS_PLAIN);
	assert_int_equal(progress_parse_mode("json"), PROGRESS_JSON);
	assert_int_equal(progress_parse_mode("none"), PROGRESS_NONE);
	assert_int_equal(progress_parse_mode("failures"), -1);
	assert_int_equal(progress_parse_mode(""), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_colours_only_when_wanted),
		cmocka_unit_test(test_final_states_are_the_cores),
		cmocka_unit_test(test_summary),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_modes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
