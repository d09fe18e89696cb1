/* Batch files: what they become, and that each fault is named at its line and column. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "config/batch.h"

static int convert(const char *text, const char *name, struct batch_file *ret, struct err *err)
{
	CLEANUP(config_file_cleanup) struct config_file *file = NULL;
	int code = config_file_parse(name, text, strlen(text), &file, err);

	return code < 0 ? code : batch_file_convert(file, ret, err);
}

static void check_task(const struct batch_file *batch, size_t index, const char *expected)
{
	json_t *wanted = json_loads(expected, 0, NULL);

	assert_non_null(wanted);
	if (!json_equal(json_array_get(batch->tasks, index), wanted))
		fail_msg("task %zu is %s, not %s", index, json_dumps(json_array_get(batch->tasks, index), JSON_COMPACT),
		         expected);
	json_decref(wanted);
}

static void test_everything_a_task_can_say(void **state)
{
	static const char text[] =
		"name: nightly\n"
		"limit: 3\n"
		"defaults: {worktree: true, base: main, timeout: 5m, env: {A: 1, B: two}}\n"
		"tasks:\n"
		"  - {id: lint, run: make lint, priority: P0, retries: 2, retryDelay: 1s500ms, grace: 0}\n"
		"  - name: sum\n"
		"    run: [echo, 3, 'x y']\n"
		"    after: lint\n"
		"    afterAny: [17, other/task]\n"
		"    env: {A: 2}\n"
		"    cwd: below\n"
		"    worktree: none\n"
		"    idempotent: true\n"
		"    leaveRunning: false\n"
		"    splitOutput: true\n"
		"    stdin: in.txt\n"
		"    label: it's\n"
		"    hold: true\n";
	struct batch_file batch;
	struct err err = ERR_INIT;

	(void)state;
	if (convert(text, "b.yaml", &batch, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(batch.name, "nightly");
	assert_int_equal(batch.limit, 3);
	assert_string_equal(batch.worktree, "auto");
	assert_string_equal(batch.base, "main");
	assert_int_equal(json_array_size(batch.tasks), 2);
	check_task(
		&batch, 0,
		"{\"environment\": [\"A=1\", \"B=two\"], \"timeout_s\": 300.0, \"name\": \"lint\", \"shell\": \"make lint\","
		" \"priority\": \"P0\", \"retries\": 2, \"retry_delay_s\": 1.5, \"grace_s\": 0.0}");
	check_task(&batch, 1,
	           "{\"environment\": [\"B=two\", \"A=2\"], \"timeout_s\": 300.0, \"name\": \"sum\", \"command\": "
	           "[\"echo\", \"3\","
	           " \"x y\"], \"after\": [\"lint\"], \"after_any\": [\"17\", \"other/task\"], \"cwd\": \"below\","
	           " \"worktree\": \"none\", \"is_idempotent\": true, \"leave_running\": false, \"split_output\": true,"
	           " \"stdin\": \"in.txt\", \"label\": \"it's\", \"is_held\": true}");
	batch_file_done(&batch);
}

static void test_json_is_read_too(void **state)
{
	static const char text[] = "{\n\t\"tasks\": [\n\t\t{\"run\": [\"echo\", \"a\\u0041\\n\"], \"hold\": true}\n\t]\n}\n";
	struct batch_file batch;
	struct err err = ERR_INIT;

	(void)state;
	for (int i = 0; i < 2; i++) {
		if (convert(text, i == 0 ? "b.json" : "b.yaml", &batch, &err) < 0)
			fail_msg("%s", err.text);
		check_task(&batch, 0, "{\"command\": [\"echo\", \"aA\\n\"], \"is_held\": true}");
		batch_file_done(&batch);
	}
}

static void test_aliases_share(void **state)
{
	static const char text[] = "defaults: {env: &e {A: x}}\ntasks:\n  - {run: &r [a, b], env: *e}\n  - {run: *r}\n";
	struct batch_file batch;
	struct err err = ERR_INIT;

	(void)state;
	if (convert(text, "b.yaml", &batch, &err) < 0)
		fail_msg("%s", err.text);
	check_task(&batch, 1, "{\"environment\": [\"A=x\"], \"command\": [\"a\", \"b\"]}");
	batch_file_done(&batch);
}

static const struct fault {
	const char *text;
	const char *place; /* line:column */
	const char *says;
} faults[] = {
	/* not YAML */
	{ "tasks:\n  - run: [a\n    b: c\n", "4:1", "without a closing bracket" },
	{ "tasks:\n\t- run: x\n", "2:1", "tab" },
	{ "tasks:\n  - run: \"x\n", "2:11", "without closing quote" },
	{ "}", "1:1", "closing brace" },
	{ "tasks:\n - run: x\n---\ntasks: []\n", "3:1", "second document" },
	{ "", "1:1", "empty" },
	{ "tasks:\n  - run: *x\n", "2:10", "no anchor &x" },
	{ "a: &a [*a]\n", "1:8", "inside what it stands for" },
	{ "? [a]\n: b\n", "1:3", "a key must be text" },
	/* shape */
	{ "[1]\n", "1:1", "not a list" },
	{ "name: x\n", "1:1", "'tasks'" },
	{ "tasks: x\n", "1:8", "tasks: give a list, not text" },
	{ "tasks: []\n", "1:8", "the list is empty" },
	{ "tasks: [1]\n", "1:9", "a task is a map" },
	{ "tasks:\n  - {name: a}\n", "2:5", "no 'run'" },
	{ "tasks:\n  - run:\n", "2:5", "nothing to run" },
	{ "tasks:\n  - run: []\n", "2:10", "names no program" },
	{ "tasks:\n  - run: {a: b}\n", "2:10", "not a map" },
	{ "defaults: 3\ntasks: [{run: x}]\n", "1:11", "defaults: give a map" },
	/* keys */
	{ "task:\n  - run: x\n", "1:1", "unknown key 'task'; did you mean 'tasks'?" },
	{ "tasks:\n  - run: x\n    timeuot: 3s\n", "3:5", "did you mean 'timeout'?" },
	{ "tasks:\n  - {run: x, <<: {a: b}}\n", "2:14", "merge keys" },
	{ "tasks:\n  - run: x\n    run: y\n", "3:5", "'run' is given twice" },
	{ "defaults: {name: x}\ntasks: [{run: x}]\n", "1:12", "not to the defaults" },
	{ "tasks: [{run: x, base: y}]\n", "1:18", "one for the whole batch" },
	{ "tasks: [{run: x, id: a, name: b}]\n", "1:25", "mean the same" },
	/* values */
	{ "limit: 0\ntasks: [{run: x}]\n", "1:8", "limit: '0' is not a number from 1 to 4096, or auto" },
	{ "name: a/b\ntasks: [{run: x}]\n", "1:7", "'a/b' is not a name" },
	{ "tasks: [{run: x, name: 12}]\n", "1:24", "'12' is not a name" },
	{ "tasks:\n  - run: x\n    timeout: 30\n", "3:14", "has no unit: write 30s or 30ms" },
	{ "tasks:\n  - run: x\n    timeout: soon\n", "3:14", "'soon' is no duration" },
	{ "tasks: [{run: x, retries: 1001}]\n", "1:27", "not a number from 0 to 1000" },
	{ "tasks: [{run: x, priority: P3}]\n", "1:28", "not one of P0 P1 P2" },
	{ "tasks: [{run: x, hold: yes}]\n", "1:24", "'yes' is not true or false" },
	{ "tasks: [{run: x, worktree: sometimes}]\n", "1:28", "not one of none auto checkout" },
	{ "tasks: [{run: x, env: [a]}]\n", "1:23", "give a map of NAME: VALUE" },
	{ "tasks: [{run: x, env: {a=b: c}}]\n", "1:24", "no name of a variable" },
	{ "tasks: [{run: [a, ~]}]\n", "1:19", "give text, not nothing" },
	{ "tasks: [{run: x, after: [a, [b]]}]\n", "1:29", "give text, not a list" },
	/* names and dependencies */
	{ "tasks:\n  - {name: a, run: x}\n  - {id: a, run: x}\n", "3:10", "'a' is given twice; the first is in line 2" },
	{ "tasks:\n  - {name: lint, run: x}\n  - {name: b, run: x, after: lnit}\n", "3:30", "did you mean 'lint'?" },
	{ "tasks:\n  - {name: b, run: x, afterAny: [zzzz]}\n", "2:34", "no task of this file is named 'zzzz'" },
	{ "tasks:\n  - {name: a, run: x, after: a}\n", "2:30", "in a circle: a -> a" },
	{ "tasks:\n  - {name: a, run: x, after: c}\n  - {name: b, run: x, after: a}\n  - {name: c, run: x, afterAny: [b]}\n",
	  "3:30", "in a circle: a -> c -> b -> a" },
};

static void test_faults_are_named_at_their_place(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		CLEANUP_FREE char *head = xasprintf("b.yaml:%s: ", faults[i].place);
		struct batch_file batch = { 0 };
		struct err err = ERR_INIT;

		if (convert(faults[i].text, "b.yaml", &batch, &err) >= 0)
			fail_msg("was taken: %s", faults[i].text);
		if (strncmp(err.text, head, strlen(head)) != 0 || !strstr(err.text, faults[i].says))
			fail_msg("for\n%s\nexpected %s…%s…, got\n%s", faults[i].text, head, faults[i].says, err.text);
	}
}

static void test_the_line_is_shown_with_a_caret(void **state)
{
	struct batch_file batch;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(convert("tasks:\n  - run: x\n    hodl: true\n", "b.yaml", &batch, &err), -EINVAL);
	assert_non_null(strstr(err.text, "\n        hodl: true\n        ^"));
}

static void test_a_long_line_is_shown_around_the_place(void **state)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct batch_file batch;
	struct err err = ERR_INIT;

	(void)state;
	buf_add_text(&text, "tasks: [{run: x, label: '");
	for (int i = 0; i < 5000; i++)
		buf_add_text(&text, "ä");
	buf_add_text(&text, "', hodl: true}]\n");
	assert_int_equal(convert(text.bytes, "b.yaml", &batch, &err), -EINVAL);
	assert_non_null(strstr(err.text, "b.yaml:1:5029: "));
	assert_non_null(strstr(err.text, "hodl: true}]\n"));
	assert_true(strlen(err.text) < ERR_TEXT_MAX - 1);
	assert_int_equal(err.text[strlen(err.text) - 1], '^');
}

static void test_alias_bomb(void **state)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct batch_file batch;
	struct err err = ERR_INIT;

	(void)state;
	buf_add_text(&text, "a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
	for (int i = 1; i < 30; i++) {
		buf_add_format(&text, "a%d: &a%d [", i, i);
		for (int j = 0; j < 9; j++)
			buf_add_format(&text, "%s*a%d", j > 0 ? "," : "", i - 1);
		buf_add_text(&text, "]\n");
	}
	assert_int_equal(convert(text.bytes, "b.yaml", &batch, &err), -EFBIG);
	assert_non_null(strstr(err.text, "aliases"));
	assert_non_null(strstr(err.text, "b.yaml:8:"));
}

static void test_nesting_is_bounded(void **state)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct batch_file batch;
	struct err err = ERR_INIT;

	(void)state;
	for (int i = 0; i < 5000; i++)
		buf_add_byte(&text, '[');
	assert_int_equal(convert(text.bytes, "b.yaml", &batch, &err), -EFBIG);
	assert_non_null(strstr(err.text, "b.yaml:1:33: nested deeper"));
}

static void test_bytes_that_are_no_text(void **state)
{
	struct config_file *file;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(config_file_parse("b.yaml", "a: b\nc: \xff\n", 10, &file, &err), -EINVAL);
	assert_non_null(strstr(err.text, "b.yaml:2:1:"));
	assert_int_equal(config_file_parse("b.yaml", "a: b\0c\n", 7, &file, &err), -EINVAL);
	assert_non_null(strstr(err.text, "b.yaml:1:1:"));
	/* A NUL written as an escape. */
	assert_int_equal(config_file_parse("b.yaml", "a: \"x\\0y\"\n", 10, &file, &err), -EINVAL);
	assert_non_null(strstr(err.text, "b.yaml:1:4:"));
}

static void test_files_that_are_none(void **state)
{
	struct batch_file batch;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(batch_file_read("/dev/zero", &batch, &err), -EINVAL);
	assert_int_equal(batch_file_read("/", &batch, &err), -EINVAL);
	assert_int_equal(batch_file_read("/nowhere/batch.yaml", &batch, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nowhere/batch.yaml"));
}

static void test_a_long_chain_is_no_circle(void **state)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct batch_file batch;
	struct err err = ERR_INIT;

	(void)state;
	buf_add_text(&text, "tasks:\n");
	for (int i = 0; i < 5000; i++)
		buf_add_format(&text, "- {name: t%d, run: x, after: [t%d]}\n", i, i + 1);
	buf_add_text(&text, "- {name: t5000, run: x}\n");
	if (convert(text.bytes, "b.yaml", &batch, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(json_array_size(batch.tasks), 5001);
	batch_file_done(&batch);
	buf_drop(&text, 0);
	/* Closed to a circle, its path is cut. */
	text.length -= strlen("- {name: t5000, run: x}\n");
	buf_add_text(&text, "- {name: t5000, run: x, after: t0}\n");
	assert_int_equal(convert(text.bytes, "b.yaml", &batch, &err), -EINVAL);
	assert_non_null(strstr(err.text, "in a circle: t0 -> t1 -> "));
	assert_non_null(strstr(err.text, "b.yaml:5002:32: "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything_a_task_can_say),
		cmocka_unit_test(test_json_is_read_too),
		cmocka_unit_test(test_aliases_share),
		cmocka_unit_test(test_faults_are_named_at_their_place),
		cmocka_unit_test(test_the_line_is_shown_with_a_caret),
		cmocka_unit_test(test_a_long_line_is_shown_around_the_place),
		cmocka_unit_test(test_alias_bomb),
		cmocka_unit_test(test_nesting_is_bounded),
		cmocka_unit_test(test_bytes_that_are_no_text),
		cmocka_unit_test(test_files_that_are_none),
		cmocka_unit_test(test_a_long_chain_is_no_circle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
