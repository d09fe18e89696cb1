/* test_git_text.c - what git prints is taken apart: filter drivers, identity, the listing of a worktree, error words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/fd.h"
#include "git/run.h"
#include "git/stage.h"
#include "git/worktree.h"

static void test_filter_drivers_and_identity(void **state UNUSED)
{
	static const char text[] =
		"filter.lfs.clean\ngit lfs %f\0filter.lfs.required\ntrue\0filter.a=b.smudge\nx\0filter.a.b.process\0"
		"filter..clean\ny\0filter.none\nz\0user.name\nAda\0user.email\n";
	struct git git = { .directory = -1, .kept_fd = -1 };
	struct buf output = BUF_INIT;

	buf_add(&output, text, sizeof(text));
	assert_int_equal(git_parse_config(&git, &output), 0);
	assert_int_equal(git.filters_count, 4);
	assert_string_equal(git.filters[0].name, "lfs");
	assert_string_equal(git.filters[1].name, "a=b");
	assert_string_equal(git.filters[2].name, "a.b");
	assert_string_equal(git.filters[3].name, "");
	assert_true(git_has_clean_filter(&git, "lfs"));
	assert_false(git_has_clean_filter(&git, "a=b"));
	assert_false(git_has_clean_filter(&git, "a.b"));
	assert_true(git_has_clean_filter(&git, ""));
	assert_false(git_has_clean_filter(&git, "none"));
	assert_true(git_has_clean_filter(&git, NULL));
	assert_true(git.has_name);
	assert_false(git.has_email);
	git_done(&git);
	buf_done(&output);
}

static void test_too_many_filter_drivers(void **state UNUSED)
{
	struct git git = { .directory = -1, .kept_fd = -1 };
	struct buf output = BUF_INIT;

	for (int i = 0; i < 1001; i++) {
		buf_add_format(&output, "filter.f%d.clean\nx", i);
		buf_add_byte(&output, '\0');
	}
	assert_int_equal(git_parse_config(&git, &output), -E2BIG);
	git_done(&git);
	buf_done(&output);
}

#define HASH "0123456789abcdef0123456789abcdef01234567"

static void test_the_listing_of_a_worktree(void **state UNUSED)
{
	static const char text[] = "? new\0? sub/new\nline\0H 100644 " HASH " 0\tsame\0C 100644 " HASH
				   " 0\tchanged\0M 100644 " HASH " 1\tboth\0H 160000 " HASH " 0\tmodule";
	CLEANUP_FD int directory = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stage_listing listing = { 0 };
	struct buf output = BUF_INIT;

	buf_add(&output, text, sizeof(text));
	assert_int_equal(stage_parse(&output, directory, &listing), 0);
	assert_int_equal(listing.changed.length, strlen("changed") + 1 + strlen("both") + 1);
	assert_memory_equal(listing.changed.bytes, "changed\0both", listing.changed.length);
	assert_int_equal(listing.untracked.length, strlen("new") + 1 + strlen("sub/new\nline") + 1);
	assert_true(listing.has_conflicts);
	assert_string_equal(listing.note.bytes, "'both' has conflicts in it that are not resolved");
	stage_listing_done(&listing);
	buf_done(&output);
}

static void check_note(const char *entry, const char *says)
{
	CLEANUP_FD int directory = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stage_listing listing = { 0 };
	struct buf output = BUF_INIT;

	buf_add(&output, entry, strlen(entry) + 1);
	assert_int_equal(stage_parse(&output, directory, &listing), 0);
	assert_true(listing.note.length > 0);
	assert_non_null(strstr(listing.note.bytes, says));
	assert_int_equal(listing.untracked.length, 0);
	stage_listing_done(&listing);
	buf_done(&output);
}

static void test_what_keeps_a_worktree(void **state UNUSED)
{
	check_note("? inner/", "'inner' in it is a repository");
	check_note("? in\x1bner/", "'in\\x1bner'");
	check_note("h 100644 " HASH " 0\thidden", "assume-unchanged");
	check_note("M 100644 " HASH " 3\tboth", "conflicts");
	check_note("S 100644 " HASH " 0\tstat", "skip-worktree"); /* /proc/self/stat is there */
}

static void test_a_listing_that_is_none(void **state UNUSED)
{
	static const char *const bad[] = { "?", "? ", "xx", "H 100644 path", "H \tpath", "H 100644 " HASH " 0\t" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct stage_listing listing = { 0 };
		struct buf output = BUF_INIT;

		buf_add(&output, bad[i], strlen(bad[i]) + 1);
		assert_int_equal(stage_parse(&output, -1, &listing), -EBADMSG);
		buf_done(&output);
	}
}

static void check_failure(const char *said, int code, const char *words)
{
	struct command_result result = { .status = 128 << 8 };
	struct git_call call = { .arguments = GIT_ARGUMENTS("read-tree", "x") };
	struct err err = ERR_INIT;

	buf_add_text(&result.errors, said);
	assert_int_equal(git_failure(&call, &result, &err), code);
	assert_string_equal(err.text, words);
	command_result_done(&result);
}

static void test_words_of_a_failure(void **state UNUSED)
{
	check_failure("warning: w\nfatal: bad \x1b[2J\nhint: h\n", -EIO, "git read-tree failed: bad \\x1b[2J");
	check_failure("usage\nmore\n", -EIO, "git read-tree failed: more");
	check_failure("", -EIO, "git read-tree failed: it gave no reason");
	check_failure("error: unable to write: No space left on device\n", -ENOSPC,
	              "git read-tree failed: unable to write: No space left on device");
	check_failure("fatal: detected dubious ownership in repository at '/x'\n", -EPERM,
	              "git read-tree failed: detected dubious ownership in repository at '/x'");
}

static void test_error_words(void **state UNUSED)
{
	assert_string_equal(worktree_error_word(-ENOENT), "not-a-repository");
	assert_string_equal(worktree_error_word(-ESTALE), "worktree-missing");
	assert_string_equal(worktree_error_word(-ETIMEDOUT), "repository-busy");
	assert_string_equal(worktree_error_word(-EIO), "git-failed");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_filter_drivers_and_identity),
		cmocka_unit_test(test_too_many_filter_drivers),
		cmocka_unit_test(test_the_listing_of_a_worktree),
		cmocka_unit_test(test_what_keeps_a_worktree),
		cmocka_unit_test(test_a_listing_that_is_none),
		cmocka_unit_test(test_words_of_a_failure),
		cmocka_unit_test(test_error_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
