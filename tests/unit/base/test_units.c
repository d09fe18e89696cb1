/* test_units.c - durations, sizes and times, written and read; each refusal with its sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/units.h"

struct row {
	const char *text;
	int error;
	uint64_t value;
};

static const struct row durations[] = {
	{ "90s", 0, 90 * NS_PER_SEC },
	{ "1.5h", 0, 90 * NS_PER_MIN },
	{ "2d12h", 0, 60 * NS_PER_HOUR },
	{ "250ms", 0, 250 * NS_PER_MS },
	{ "1h30m", 0, 90 * NS_PER_MIN },
	{ "0s", 0, 0 },
	{ ".5s", 0, 500 * NS_PER_MS },
	{ "3MIN", 0, 3 * NS_PER_MIN },
	{ "1w", 0, 7 * NS_PER_DAY },
	{ "7us", 0, 7000 },
	{ "7ns", 0, 7 },
	{ "", -EINVAL, 0 },
	{ "10", -EINVAL, 0 },
	{ "s", -EINVAL, 0 },
	{ "-5s", -EINVAL, 0 },
	{ "+5s", -EINVAL, 0 },
	{ "1h 30m", 0, 90 * NS_PER_MIN },
	{ "5 s", 0, 5 * NS_PER_SEC },
	{ " 5s", -EINVAL, 0 },
	{ "1h 5", -EINVAL, 0 },
	{ "nans", -EINVAL, 0 },
	{ "infs", -EINVAL, 0 },
	{ "0x10s", -EINVAL, 0 },
	{ "5parsec", -EINVAL, 0 },
	{ "1h5", -EINVAL, 0 },
	{ "300y", -EINVAL, 0 },
	{ "999999d", -ERANGE, 0 },
};

static void test_parse_duration(void **state UNUSED)
{
	for (size_t i = 0; i < ARRAY_SIZE(durations); i++) {
		struct err err = ERR_INIT;
		uint64_t value = 42;

		assert_int_equal(units_parse_duration(durations[i].text, &value, &err), durations[i].error);
		assert_int_equal(value, durations[i].error ? 42 : durations[i].value);
		assert_int_equal(err.code, durations[i].error);
		if (durations[i].error)
			assert_non_null(strstr(err.text, durations[i].text));
	}
}

static const struct row sizes[] = {
	{ "2G", 0, 2 * GIB },
	{ "512M", 0, 512 * MIB },
	{ "1.5GiB", 0, GIB + GIB / 2 },
	{ "100MB", 0, 100 * MIB },
	{ "4096", 0, 4096 },
	{ "4096B", 0, 4096 },
	{ "1k", 0, KIB },
	{ "1 K", 0, KIB },
	{ "0", 0, 0 },
	{ "3T", 0, 3072 * GIB },
	{ "", -EINVAL, 0 },
	{ "G", -EINVAL, 0 },
	{ "-1", -EINVAL, 0 },
	{ "1X", -EINVAL, 0 },
	{ "1iB", -EINVAL, 0 },
	{ "1GG", -EINVAL, 0 },
	{ "nan", -EINVAL, 0 },
	{ "99999999T", -ERANGE, 0 },
};

static void test_parse_size(void **state UNUSED)
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct err err = ERR_INIT;
		uint64_t value = 42;

		if (units_parse_size(sizes[i].text, &value, &err) != sizes[i].error)
			fail_msg("'%s' gives %d", sizes[i].text, err.code);
		assert_int_equal(value, sizes[i].error ? 42 : sizes[i].value);
		assert_int_equal(err.code, sizes[i].error);
	}
}

static void test_format_duration(void **state UNUSED)
{
	char text[UNITS_TEXT_MAX];

	assert_string_equal(units_format_duration(0, text), "0.0s");
	assert_string_equal(units_format_duration(3200 * NS_PER_MS, text), "3.2s");
	assert_string_equal(units_format_duration(10 * NS_PER_SEC, text), "10s");
	assert_string_equal(units_format_duration(59 * NS_PER_SEC, text), "59s");
	assert_string_equal(units_format_duration(250 * NS_PER_SEC, text), "4m10s");
	assert_string_equal(units_format_duration(125 * NS_PER_MIN, text), "2h05m");
	assert_string_equal(units_format_duration(76 * NS_PER_HOUR, text), "3d04h");
	units_format_duration(UINT64_MAX, text);
	assert_true(strlen(text) < UNITS_TEXT_MAX);
}

static void test_format_size(void **state UNUSED)
{
	char text[UNITS_TEXT_MAX];

	assert_string_equal(units_format_size(0, text), "0 B");
	assert_string_equal(units_format_size(1023, text), "1023 B");
	assert_string_equal(units_format_size(1024, text), "1.0 KiB");
	assert_string_equal(units_format_size(MIB - 1, text), "1.0 MiB"); /* never "1024.0 KiB" */
	assert_string_equal(units_format_size(GIB * 14 / 10, text), "1.4 GiB");
	assert_string_equal(units_format_size(UINT64_MAX, text), "16.0 EiB");
}

static void test_format_time(void **state UNUSED)
{
	char text[UNITS_TEXT_MAX];

	assert_string_equal(units_format_time(0, text), "1970-01-01T00:00:00.000Z");
	assert_string_equal(units_format_time(INT64_C(1769860800123), text), "2026-01-31T12:00:00.123Z");
	assert_string_equal(units_format_time(-1, text), "1969-12-31T23:59:59.999Z");
}

static void test_times_come_back(void **state)
{
	static const int64_t times_ms[] = { 0, 1, 999, 1000, 951782400123, 1795255882635, 4102444799999 };
	static const char *const faults[] = { "", "2026-01-31", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.12Z",
		                              "2026-01-31T12:00:00.123", "2026-01-31T12:00:00.123Zx" };
	char text[UNITS_TEXT_MAX];
	int64_t found_ms;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(times_ms); i++) {
		assert_int_equal(units_parse_time(units_format_time(times_ms[i], text), &found_ms), 0);
		assert_int_equal(found_ms, times_ms[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
		assert_int_equal(units_parse_time(faults[i], &found_ms), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_times_come_back),
		cmocka_unit_test(test_parse_duration),
		cmocka_unit_test(test_parse_size),
		cmocka_unit_test(test_format_duration),
		cmocka_unit_test(test_format_size),
		cmocka_unit_test(test_format_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
