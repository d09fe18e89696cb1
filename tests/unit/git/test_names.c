/* test_names.c - which branch and directory: the order of choices, what counts as taken, what git would refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "git/names.h"

static void check(const char *name, unsigned index, const char *expected)
{
	struct names_source source = { .name = name, .task = 7, .attempt = 2 };
	char got[NAMES_MAX];

	names_format(&source, index, got);
	assert_string_equal(got, expected);
}

static void test_the_order_of_choices(void **state UNUSED)
{
	check("fix", 0, "fix");
	check("fix", 1, "fix-7");
	check("fix", 2, "fix-7-2");
	check("fix", 3, "fix-7-2-2");
	check("fix", 4, "fix-7-2-3");
	check(NULL, 0, "7");
	check(NULL, 1, "7-2");
	check(NULL, 2, "7-2-2");
	check(NULL, 3, "7-2-3");
}

static void test_names_that_git_refuses_count_as_none(void **state UNUSED)
{
	static const char *const refused[] = { "a..b", "a.lock", "a.", ".a",   "-a",       "",
	                                       "a/b",  "a b",    "12", "@{u}", "\xc3\xa9", "a\n" };

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		check(refused[i], 0, "7");
}

static void test_the_longest_name_fits(void **state UNUSED)
{
	char name[65];
	struct names_source source = { .name = name, .task = UINT64_MAX, .attempt = UINT32_MAX };
	char got[NAMES_MAX];

	memset(name, 'x', 64);
	name[64] = '\0';
	names_format(&source, NAMES_CANDIDATES - 1, got);
	assert_int_equal(strlen(got), 64 + 1 + 20 + 1 + 10 + 1 + 2);
	assert_string_equal(got + strlen(got) - 3, "-62");
}

static void take(struct names_taken *taken, const char *name)
{
	names_taken_add(taken, name, strlen(name));
}

static void test_what_is_taken(void **state UNUSED)
{
	struct names_taken taken = { 0 };

	assert_false(names_is_taken(&taken, "fix"));
	take(&taken, "Fix");
	take(&taken, "dir/leaf");
	take(&taken, "file");
	assert_true(names_is_taken(&taken, "fix"));
	assert_true(names_is_taken(&taken, "FIX"));
	assert_true(names_is_taken(&taken, "dir"));
	assert_true(names_is_taken(&taken, "file/inside"));
	assert_false(names_is_taken(&taken, "fixe"));
	assert_false(names_is_taken(&taken, "fi"));
	assert_false(names_is_taken(&taken, "dir2"));
	names_taken_done(&taken);
}

static void test_chooses_the_first_that_is_free(void **state UNUSED)
{
	struct names_source source = { .name = "fix", .task = 7, .attempt = 1 };
	struct names_taken taken = { 0 };
	char got[NAMES_MAX];

	for (unsigned i = 0; i < NAMES_CANDIDATES; i++) {
		char expected[NAMES_MAX];

		names_format(&source, i, expected);
		assert_true(names_choose(&source, &taken, got));
		assert_string_equal(got, expected);
		take(&taken, got);
	}
	memcpy(got, "same", 5);
	assert_false(names_choose(&source, &taken, got));
	assert_string_equal(got, "same");
	names_taken_done(&taken);
}

static void test_branches_and_hashes_from_outside(void **state UNUSED)
{
	static const char *const bad[] = { "main",         "parallel/",     "parallel",     "parallel/..",
	                                   "parallel/.x",  "parallel/-x",   "parallel/a/b", "parallel/a b",
	                                   "parallel/a\n", "parallel/a..b", "xparallel/a" };

	assert_true(names_is_branch("parallel/fix-7_a.b"));
	assert_false(names_is_branch(NULL));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(names_is_branch(bad[i]));
	assert_true(names_is_hash("0123456789abcdef0123456789abcdef01234567"));
	assert_true(names_is_hash("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"));
	assert_false(names_is_hash("0123456789ABCDEF0123456789abcdef01234567"));
	assert_false(names_is_hash("0123456789abcdef0123456789abcdef0123456"));
	assert_false(names_is_hash("HEAD"));
	assert_false(names_is_hash(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_order_of_choices),
		cmocka_unit_test(test_names_that_git_refuses_count_as_none),
		cmocka_unit_test(test_the_longest_name_fits),
		cmocka_unit_test(test_what_is_taken),
		cmocka_unit_test(test_chooses_the_first_that_is_free),
		cmocka_unit_test(test_branches_and_hashes_from_outside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
