/* test_buf.c - the growing buffer: always a string, any bytes, memory handed over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

static void test_adds_and_stays_a_string(void **state UNUSED)
{
	struct buf buf = BUF_INIT;

	buf_add_text(&buf, "one");
	buf_add_byte(&buf, ' ');
	buf_add_format(&buf, "%d-%s", 2, "three");
	assert_string_equal(buf.bytes, "one 2-three");
	assert_int_equal(buf.length, 11);
	buf_done(&buf);
	assert_null(buf.bytes);
}

static void test_any_bytes(void **state UNUSED)
{
	struct buf buf = BUF_INIT;

	buf_add(&buf, "a\0b", 3);
	buf_add(&buf, NULL, 0);
	assert_int_equal(buf.length, 3);
	assert_memory_equal(buf.bytes, "a\0b", 4);
	buf_done(&buf);
}

static void test_grows_byte_by_byte(void **state UNUSED)
{
	struct buf buf = BUF_INIT;

	for (unsigned i = 0; i < 100000; i++)
		buf_add_byte(&buf, (char)('a' + i % 26));
	assert_int_equal(buf.length, 100000);
	for (unsigned i = 0; i < 100000; i++)
		assert_int_equal(buf.bytes[i], 'a' + i % 26);
	assert_true(buf.capacity < 300000);
	buf_done(&buf);
}

static void test_drop_and_clear(void **state UNUSED)
{
	struct buf buf = BUF_INIT;

	buf_clear(&buf);
	buf_drop(&buf, 0);
	buf_add_text(&buf, "abcdef");
	buf_drop(&buf, 2);
	assert_string_equal(buf.bytes, "cdef");
	buf_drop(&buf, 4);
	assert_string_equal(buf.bytes, "");
	buf_add_text(&buf, "x");
	buf_clear(&buf);
	assert_int_equal(buf.length, 0);
	assert_string_equal(buf.bytes, "");
	buf_done(&buf);
}

static void test_reserve(void **state UNUSED)
{
	struct buf buf = BUF_INIT;
	char *room = buf_reserve(&buf, 1000);

	memset(room, 'z', 1000);
	buf.length += 1000;
	assert_true(buf.capacity > 1000);
	buf_add_byte(&buf, '!');
	assert_int_equal(strlen(buf.bytes), 1001);
	buf_done(&buf);
}

static void test_take(void **state UNUSED)
{
	struct buf buf = BUF_INIT;
	char *text = buf_take(&buf);

	assert_string_equal(text, "");
	free(text);
	buf_add_text(&buf, "mine");
	text = buf_take(&buf);
	assert_string_equal(text, "mine");
	assert_null(buf.bytes);
	assert_int_equal(buf.length, 0);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_adds_and_stays_a_string),
		cmocka_unit_test(test_any_bytes),
		cmocka_unit_test(test_grows_byte_by_byte),
		cmocka_unit_test(test_drop_and_clear),
		cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_take),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
