/* The parser of options. */
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
#include "base/units.h"
#include "cli/options.h"

struct values {
	bool is_quiet;
	bool is_long;
	const char *name;
	const char *strategy;
	struct option_list list;
	struct option_list names;
	struct option_number count;
	struct option_number time;
};

#define PLACE(field) .offset = offsetof(struct values, field)

static const struct option_row rows[] = {
	{ 'q', "quiet", NULL, OPTION_FLAG, PLACE(is_quiet), .meaning = "be quiet" },
	{ 'l', "long", NULL, OPTION_FLAG, PLACE(is_long), .meaning = "much" },
	{ 'n', "name", "NAME", OPTION_TEXT, PLACE(name), .meaning = "a name" },
	{ 'w', "worktree", "HOW", OPTION_TEXT, PLACE(strategy), .meaning = "where", .fallback = "auto",
	  .choices = "none|auto|checkout" },
	{ 'e', "env", "K=V", OPTION_LIST, PLACE(list), .meaning = "a setting" },
	{ 0, "after", "TASK", OPTION_NAMES, PLACE(names), .meaning = "tasks" },
	{ 0, "state", "STATE", OPTION_NAMES, PLACE(names), .meaning = "states", .choices = "held|queued|" },
	{ 'c', "count", "N", OPTION_COUNT, PLACE(count), .meaning = "how many", .limit = 10 },
	{ 0, "time", "TIME", OPTION_DURATION, PLACE(time), .meaning = "how long" },
};

struct parsed {
	struct values values;
	struct option_rest rest;
	bool is_help;
	int code;
	struct err err;
	char *text; /* argv's memory */
	char *argv[32];
	struct option_set set;
};

/* Parses a command line whose words have single blanks between. */
static void parse(struct parsed *parsed, const char *line, bool stops_at_first)
{
	int argc = 0;

	*parsed = (struct parsed){ .text = xstrdup(line) };
	parsed->set = (struct option_set){ .rows = rows, .count = ARRAY_SIZE(rows), .stops_at_first = stops_at_first };
	for (char *at = parsed->text; *at != '\0';) {
		char *blank = strchr(at, ' ');

		parsed->argv[argc++] = at;
		if (!blank)
			break;
		*blank = '\0';
		at = blank + 1;
	}
	parsed->code = options_parse(&parsed->set, argc, parsed->argv, &parsed->values, &parsed->rest, &parsed->is_help,
	                             &parsed->err);
}

static void done(struct parsed *parsed)
{
	options_done(&parsed->set, &parsed->values);
	free(parsed->rest.texts);
	free(parsed->text);
}

static void test_forms(void **state)
{
	struct parsed parsed;

	(void)state;
	parse(&parsed, "-ql -n one --name=two -eA=1 --env B=2 --after a,b, --after c --count 3 --time 1m30s rest -- -q",
	      false);
	if (parsed.code < 0)
		fail_msg("%s", parsed.err.text);
	assert_true(parsed.values.is_quiet && parsed.values.is_long);
	assert_string_equal(parsed.values.name, "two");
	assert_int_equal(parsed.values.list.count, 2);
	assert_string_equal(parsed.values.list.texts[0], "A=1");
	assert_int_equal(parsed.values.names.count, 3);
	assert_string_equal(parsed.values.names.texts[2], "c");
	assert_int_equal(parsed.values.count.value, 3);
	assert_int_equal(parsed.values.time.value, 90 * NS_PER_SEC);
	assert_int_equal(parsed.rest.count, 2);
	assert_string_equal(parsed.rest.texts[1], "-q");
	done(&parsed);
}

static void test_fallback_needs_an_equals_sign(void **state)
{
	struct parsed parsed;

	(void)state;
	parse(&parsed, "-w x", false);
	assert_string_equal(parsed.values.strategy, "auto");
	assert_int_equal(parsed.rest.count, 1);
	done(&parsed);
	parse(&parsed, "--worktree checkout", false);
	assert_string_equal(parsed.values.strategy, "auto");
	done(&parsed);
	parse(&parsed, "--worktree=checkout", false);
	assert_string_equal(parsed.values.strategy, "checkout");
	assert_int_equal(parsed.rest.count, 0);
	done(&parsed);
	parse(&parsed, "-wnone", false);
	assert_string_equal(parsed.values.strategy, "none");
	done(&parsed);
	parse(&parsed, "-qw=checkout", false);
	assert_string_equal(parsed.values.strategy, "checkout");
	done(&parsed);
	parse(&parsed, "-wq", false); /* a bundle */
	assert_string_equal(parsed.values.strategy, "auto");
	assert_true(parsed.values.is_quiet);
	done(&parsed);
}

static void test_somebody_elses_options(void **state)
{
	struct parsed parsed;

	(void)state;
	parse(&parsed, "-q make -n --frob ::: -l", true);
	assert_int_equal(parsed.code, 0);
	assert_int_equal(parsed.rest.count, 5);
	assert_string_equal(parsed.rest.texts[1], "-n");
	assert_false(parsed.values.is_long);
	done(&parsed);
	parse(&parsed, "make -q", false);
	assert_true(parsed.values.is_quiet);
	assert_int_equal(parsed.rest.count, 1);
	done(&parsed);
	parse(&parsed, "-", false);
	assert_int_equal(parsed.rest.count, 1);
	done(&parsed);
}

static const struct fault {
	const char *line;
	const char *says;
} faults[] = {
	{ "--quite", "unknown option --quite; did you mean --quiet?" },
	{ "--zzzzzzz", "unknown option --zzzzzzz" },
	{ "-qz", "unknown option -z" },
	{ "--quiet=yes", "--quiet takes no value" },
	{ "--name", "--name needs a value" },
	{ "-n", "-n needs a value: -n NAME" },
	{ "--count 11", "--count: '11' is not a number from 0 to 10" },
	{ "--count -1", "'-1'" },
	{ "--time 30", "has no unit" },
	{ "--worktree=no", "--worktree: 'no' is not none, auto or checkout" },
	{ "-w=", "--worktree: '' is not none, auto or checkout" },
	{ "--state held,x", "--state: 'x' is not held or queued" },
	{ "--time x", "'x' is no duration" },
};

static void test_faults(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		struct parsed parsed;

		parse(&parsed, faults[i].line, false);
		if (parsed.code != -EINVAL || !strstr(parsed.err.text, faults[i].says))
			fail_msg("%s: %s", faults[i].line, parsed.err.text);
		done(&parsed);
	}
}

static void test_help(void **state)
{
	static const char *const lines[] = { "--help", "-h", "-qh", "x --help --bogus" };
	CLEANUP_BUF struct buf buf = BUF_INIT;
	struct option_set set = { .rows = rows, .count = ARRAY_SIZE(rows) };
	struct parsed parsed;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		parse(&parsed, lines[i], false);
		assert_true(parsed.code == 0 && parsed.is_help);
		done(&parsed);
	}
	options_add_help(&set, &buf);
	assert_non_null(strstr(buf.bytes, "  -w, --worktree[=HOW]        where\n"));
	assert_non_null(strstr(buf.bytes, "      --after=TASK            tasks\n"));
	assert_non_null(strstr(buf.bytes, "  -h, --help                  this text\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_fallback_needs_an_equals_sign),
		cmocka_unit_test(test_somebody_elses_options),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_help),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
