/* test_crc32c.c - the checksum against published values (RFC 3720 B.4) and against a bit-by-bit computation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/crc32c.h"
#include "base/mix.h"

static void test_published_values(void **state UNUSED)
{
	unsigned char bytes[32];

	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(0, "", 0), 0);
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(crc32c(0, bytes, 32), 0x8a9136aa);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(crc32c(0, bytes, 32), 0x62a8ab43);
	for (unsigned i = 0; i < 32; i++)
		bytes[i] = (unsigned char)i;
	assert_int_equal(crc32c(0, bytes, 32), 0x46dd794e);
}

static uint32_t bit_by_bit(const unsigned char *bytes, size_t length)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < length; i++) {
		crc ^= bytes[i];
		for (unsigned bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

static void test_against_the_definition(void **state UNUSED)
{
	unsigned char bytes[308];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)mix64(i);
	for (size_t length = 0; length <= 300; length++) {
		const unsigned char *from = bytes + length % 8; /* at every alignment */

		assert_int_equal(crc32c(0, from, length), bit_by_bit(from, length));
		assert_int_equal(crc32c_by_table(0, from, length), bit_by_bit(from, length));
	}
}

static void test_in_parts(void **state UNUSED)
{
	for (size_t cut = 0; cut <= 9; cut++)
		assert_int_equal(crc32c(crc32c(0, "123456789", cut), &"123456789"[cut], 9 - cut), 0xe3069283);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_published_values),
		cmocka_unit_test(test_against_the_definition),
		cmocka_unit_test(test_in_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
