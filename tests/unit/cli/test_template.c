/* Placeholders and quoting, row by row. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "cli/template.h"

static const char *const one[] = { "d/a b.tar.gz" };
static const char *const two[] = { "x.c", "dir/y.h" };

static const struct row {
	const char *text;
	const char *const *values;
	unsigned count;
	bool is_quoted;
	const char *expected;
} rows[] = {
	{ "{}", one, 1, false, "d/a b.tar.gz" },
	{ "{}", one, 1, true, "'d/a b.tar.gz'" },
	{ "<{}>", one, 1, false, "<d/a b.tar.gz>" },
	{ "{.}", one, 1, false, "d/a b.tar" },
	{ "{/}", one, 1, false, "a b.tar.gz" },
	{ "{//}", one, 1, false, "d" },
	{ "{/.}", one, 1, false, "a b.tar" },
	{ "{#}", one, 1, false, "7" },
	{ "{#}{#}-{}", one, 1, true, "77-'d/a b.tar.gz'" },
	{ "{1.} {2/} {2//}", two, 2, false, "x y.h dir" },
	{ "{}", two, 2, false, "x.c dir/y.h" },
	{ "{/}", two, 2, true, "x.c y.h" },
	{ "{//}", two, 1, false, "." },
	/* no placeholders */
	{ "plain", one, 1, false, "plain" },
	{ "{", one, 1, false, "{" },
	{ "}{", one, 1, false, "}{" },
	{ "{ }", one, 1, false, "{ }" },
	{ "{x}", one, 1, false, "{x}" },
	{ "{0}", one, 1, false, "{0}" },
	{ "{1#}", one, 1, false, "{1#}" },
	{ "${HOME}", one, 1, false, "${HOME}" },
	{ "{{}}", one, 1, false, "{d/a b.tar.gz}" },
	{ "", one, 1, false, "" },
};

static void test_expansion(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct template_values values = { .texts = rows[i].values, .count = rows[i].count, .number = 7 };
		CLEANUP_BUF struct buf buf = BUF_INIT;

		template_expand(&buf, rows[i].text, &values, rows[i].is_quoted);
		if (strcmp(buf.bytes, rows[i].expected) != 0)
			fail_msg("%s became %s, not %s", rows[i].text, buf.bytes, rows[i].expected);
	}
}

static const struct value {
	const char *value;
	const char *quoted;
	const char *no_extension;
	const char *directory;
} values[] = {
	{ "plain-1.0_x", "plain-1.0_x", "plain-1", "." },
	{ "", "''", "", "." },
	{ "a b", "'a b'", "a b", "." },
	{ "it's", "'it'\\''s'", "it's", "." },
	{ "$(x)", "'$(x)'", "$(x)", "." },
	{ "a\nb", "'a\nb'", "a\nb", "." },
	{ "~", "'~'", "~", "." },
	{ "#x", "'#x'", "#x", "." },
	{ "ä", "'ä'", "ä", "." },
	{ "/", "/", "/", "/" },
	{ "/x", "/x", "/x", "/" },
	{ "a.d/b", "a.d/b", "a.d/b", "a.d" },
	{ "a/.hidden", "a/.hidden", "a/", "a" },
	{ "trailing/", "trailing/", "trailing/", "." },
	{ "a//b", "a//b", "a//b", "a" },
	{ "//", "//", "//", "/" },
};

static void test_values(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		struct template_values one_value = { .texts = &values[i].value, .count = 1, .number = 1 };
		CLEANUP_BUF struct buf buf = BUF_INIT;

		template_add_quoted(&buf, values[i].value);
		assert_string_equal(buf.bytes, values[i].quoted);
		buf_clear(&buf);
		template_expand(&buf, "{.}", &one_value, false);
		assert_string_equal(buf.bytes, values[i].no_extension);
		buf_clear(&buf);
		template_expand(&buf, "{//}", &one_value, false);
		assert_string_equal(buf.bytes, values[i].directory);
	}
}

static void test_which_texts_have_placeholders(void **state)
{
	(void)state;
	assert_true(template_has_placeholder("{}"));
	assert_true(template_has_placeholder("a{#}"));
	assert_true(template_has_placeholder("{3/.}"));
	assert_true(template_has_placeholder("{x} {.}"));
	assert_false(template_has_placeholder("{x}"));
	assert_false(template_has_placeholder(""));
	assert_false(template_has_placeholder("{1"));
}

static void test_refusals(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(template_check("{1} {2.}", 2, &err), 0);
	assert_int_equal(template_check("{3}", 2, &err), -EINVAL);
	assert_non_null(strstr(err.text, "{3} stands for a value of source 3, but there are 2"));
	assert_int_equal(template_check("{-3}", 2, &err), -EINVAL);
	assert_int_equal(template_check("{99999}", SIZE_MAX, &err), 0);
	assert_true(template_has_slot("x{%}"));
	assert_false(template_has_slot("{#} {1%}"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_expansion),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_which_texts_have_placeholders),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
