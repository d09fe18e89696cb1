/* test_str.c - text from outside: UTF-8, nearest words, what a terminal may see, names, numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"

static void test_utf8(void **state UNUSED)
{
	static const char *const good[] = {
		"", "abc", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf",
		"\xed\x9f\xbf",
	};
	static const char *const bad[] = {
		"\x80", "\xc3", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x80\x80\x80",
		"\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xe2\x82", "\xe2\x28\xa1",
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(str_is_utf8(good[i], strlen(good[i])));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(str_is_utf8(bad[i], strlen(bad[i])));
	assert_true(str_is_utf8("a\0b", 3));
}

static void test_nearest(void **state UNUSED)
{
	static const char *const words[] = { "cancel", "status", "retry", "wait" };
	char long_word[100];

	assert_string_equal(str_nearest("cancle", words, 4), "cancel"); /* neighbours swapped count once */
	assert_string_equal(str_nearest("statsu", words, 4), "status");
	assert_string_equal(str_nearest("wiat", words, 4), "wait");
	assert_string_equal(str_nearest("retry", words, 4), "retry");
	assert_null(str_nearest("completely", words, 4));
	assert_null(str_nearest("retry", words, 0));
	memset(long_word, 'a', sizeof(long_word));
	long_word[99] = '\0';
	assert_null(str_nearest(long_word, words, 4));
}

static void check_visible(const char *text, size_t length, const char *wanted)
{
	struct buf buf = BUF_INIT;

	str_add_visible(&buf, text, length);
	assert_string_equal(buf.bytes, wanted);
	buf_done(&buf);
}

static void test_visible(void **state UNUSED)
{
	check_visible("plain \xc3\xa4", 8, "plain \xc3\xa4");
	check_visible("\x1b[2J", 4, "\\x1b[2J");
	check_visible("a\0b\n\x7f", 5, "a\\x00b\\x0a\\x7f");
	check_visible("\xff\xc3", 2, "\\xff\\xc3");
	check_visible("\xc2\x9b", 2, "\\xc2\\x9b"); /* CSI as one C1 character */
	check_visible("a\xe2\x80\xae" "b", 5, "a\\xe2\\x80\\xaeb"); /* right-to-left override */
	check_visible("\xe2\x81\xa6", 3, "\\xe2\\x81\\xa6");
	check_visible("\xe2\x80\xa8", 3, "\\xe2\\x80\\xa8"); /* line separator */
	check_visible("\xf3\xa0\x81\x81", 4, "\\xf3\\xa0\\x81\\x81"); /* an invisible tag */
	check_visible("\xe2\x80\x99\xf0\x9f\x98\x80", 7, "\xe2\x80\x99\xf0\x9f\x98\x80");
}

static void test_blank_hostile(void **state UNUSED)
{
	char text[] = "a\x1b[2J\xe2\x80\xae\xc3\xa4\xc2\x9b\xff\xe2";

	str_blank_hostile(text, strlen(text));
	assert_string_equal(text, "a?[2J???\xc3\xa4????");
}

static void test_task_names(void **state UNUSED)
{
	static const char *const good[] = { "a", "A-b_c.9", "1a", "_", "shard-007" };
	static const char *const bad[] = { "", "1", "0123", "-rf", ".hidden", "a b", "a/b", "a\n", "\xc3\xa4", "a:b", ".." };
	char name[66];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(str_is_task_name(good[i]));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(str_is_task_name(bad[i]));
	memset(name, 'a', sizeof(name));
	name[64] = '\0';
	assert_true(str_is_task_name(name));
	name[64] = 'a';
	name[65] = '\0';
	assert_false(str_is_task_name(name));
}

static void test_numbers(void **state UNUSED)
{
	uint64_t value = 42;

	assert_int_equal(str_parse_u64("0", 0, &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(str_parse_u64("18446744073709551615", UINT64_MAX, &value), 0);
	assert_true(value == UINT64_MAX);
	value = 42;
	assert_int_equal(str_parse_u64("18446744073709551616", UINT64_MAX, &value), -ERANGE);
	assert_int_equal(str_parse_u64("101", 100, &value), -ERANGE);
	assert_int_equal(str_parse_u64("1", 0, &value), -ERANGE);
	assert_int_equal(str_parse_u64("", 100, &value), -EINVAL);
	assert_int_equal(str_parse_u64("-1", 100, &value), -EINVAL);
	assert_int_equal(str_parse_u64("+1", 100, &value), -EINVAL);
	assert_int_equal(str_parse_u64(" 1", 100, &value), -EINVAL);
	assert_int_equal(str_parse_u64("1 ", 100, &value), -EINVAL);
	assert_int_equal(str_parse_u64("0x1", 100, &value), -EINVAL);
	assert_int_equal(value, 42);
	assert_int_equal(str_parse_u64("00100", 100, &value), 0);
	assert_int_equal(value, 100);
}

static void test_trim_utf8(void **state UNUSED)
{
	static const struct {
		const char *text;
		const char *expected;
	} rows[] = {
		{ "", "" },
		{ "abc", "abc" },
		{ "ab\xe2\x82\xac", "ab\xe2\x82\xac" }, /* whole */
		{ "ab\xe2\x82", "ab" },
		{ "ab\xe2", "ab" },
		{ "\xf0\x9f\x98", "" },
		{ "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80" },
		{ "a\xc3", "a" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[16];

		snprintf(text, sizeof(text), "%s", rows[i].text);
		str_trim_utf8(text);
		assert_string_equal(text, rows[i].expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trim_utf8),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_nearest),
		cmocka_unit_test(test_visible),
		cmocka_unit_test(test_blank_hostile),
		cmocka_unit_test(test_task_names),
		cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
