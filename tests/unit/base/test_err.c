/* test_err.c - errors as data: sentences, wrapping, cutting, nothing where nobody listens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/err.h"

static void test_set_appends_the_errno(void **state UNUSED)
{
	struct err err = ERR_INIT;

	assert_int_equal(err_set(&err, -ENOENT, "open '%s'", "x"), -ENOENT);
	assert_int_equal(err.code, -ENOENT);
	assert_string_equal(err.text, "open 'x': No such file or directory");
}

static void test_say_stands_alone(void **state UNUSED)
{
	struct err err = ERR_INIT;

	assert_int_equal(err_say(&err, -EINVAL, "%d is odd", 3), -EINVAL);
	assert_string_equal(err.text, "3 is odd");
}

static void test_wrap_keeps_the_code(void **state UNUSED)
{
	struct err err = ERR_INIT;

	err_say(&err, -EIO, "disk");
	assert_int_equal(err_wrap(&err, "task %d", 7), -EIO);
	assert_string_equal(err.text, "task 7: disk");
	err_wrap(&err, "batch");
	assert_string_equal(err.text, "batch: task 7: disk");
}

static void test_long_texts_are_cut(void **state UNUSED)
{
	struct err err = ERR_INIT;
	char long_text[2 * ERR_TEXT_MAX];

	memset(long_text, 'a', sizeof(long_text));
	long_text[sizeof(long_text) - 1] = '\0';
	err_set(&err, -EIO, "%s", long_text);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	err_wrap(&err, "%s", long_text);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
}

static void test_without_a_listener(void **state UNUSED)
{
	assert_int_equal(err_set(NULL, -ENOENT, "x"), -ENOENT);
	assert_int_equal(err_say(NULL, -EINVAL, "x"), -EINVAL);
	assert_int_equal(err_wrap(NULL, "x"), -EIO);
	err_ignore(NULL, "nobody listens");
}

static void test_ignore_forgets(void **state UNUSED)
{
	struct err err = ERR_INIT;

	err_say(&err, -EIO, "x");
	err_ignore(&err, "for the test");
	assert_int_equal(err.code, 0);
	assert_string_equal(err.text, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_appends_the_errno),
		cmocka_unit_test(test_say_stands_alone),
		cmocka_unit_test(test_wrap_keeps_the_code),
		cmocka_unit_test(test_long_texts_are_cut),
		cmocka_unit_test(test_without_a_listener),
		cmocka_unit_test(test_ignore_forgets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
