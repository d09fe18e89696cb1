/* test_record.c - records: written and read back, and refused when they would lead elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "git/record.h"

#define HASH "0123456789abcdef0123456789abcdef01234567"

static struct record sample(void)
{
	return (struct record){
		.verb = RECORD_REMOVE,
		.task = UINT64_C(9007199254740993),
		.attempt = 3,
		.owner = (char *)"aa-1",
		.directory = (char *)"fix",
		.branch = (char *)"parallel/fix",
		.commit = (char *)HASH,
		.admin = (char *)"fix1",
		.trash = (char *)"fix-abc",
		.is_again = true,
		.is_asked = true,
		.doomed = (char *)HASH,
		.result = { .branch = (char *)"parallel/fix",
		            .commit = (char *)HASH,
		            .salvage = (char *)"refs/drover/salvage/9-3",
		            .note = (char *)"a \"note\"\nof two lines",
		            .changed_files = 4,
		            .insertions = 5,
		            .deletions = 6,
		            .is_removed = true },
	};
}

static void test_written_and_read_back(void **state UNUSED)
{
	const struct record written = sample();
	struct record read = { 0 };
	struct buf text = BUF_INIT;

	record_format(&written, &text);
	assert_int_equal(record_parse(&text, &read, NULL), 0);
	assert_int_equal(read.verb, RECORD_REMOVE);
	assert_true(read.task == written.task);
	assert_int_equal(read.attempt, 3);
	assert_string_equal(read.owner, "aa-1");
	assert_string_equal(read.directory, "fix");
	assert_string_equal(read.branch, "parallel/fix");
	assert_string_equal(read.commit, HASH);
	assert_string_equal(read.admin, "fix1");
	assert_string_equal(read.trash, "fix-abc");
	assert_true(read.is_again);
	assert_true(read.is_asked);
	assert_string_equal(read.doomed, HASH);
	assert_false(read.is_new_branch);
	assert_null(read.result.path);
	assert_string_equal(read.result.salvage, "refs/drover/salvage/9-3");
	assert_string_equal(read.result.note, "a \"note\"\nof two lines");
	assert_int_equal(read.result.changed_files, 4);
	assert_int_equal(read.result.insertions, 5);
	assert_int_equal(read.result.deletions, 6);
	assert_true(read.result.is_removed);
	assert_false(read.result.is_missing);
	record_done(&read);
	buf_done(&text);
}

static void refuse(const struct record *record)
{
	struct record read = { .task = 77 };
	struct err err = ERR_INIT;
	struct buf text = BUF_INIT;

	record_format(record, &text);
	assert_int_equal(record_parse(&text, &read, &err), -EBADMSG);
	assert_int_equal(read.task, 77);
	assert_true(err.text[0] != '\0');
	buf_done(&text);
}

static void test_names_that_lead_elsewhere(void **state UNUSED)
{
	static const char *const bad[] = { "..", ".", ".trash", "a/b", "/etc", "" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct record record = sample();

		record.directory = (char *)bad[i];
		refuse(&record);
		record = sample();
		record.admin = (char *)bad[i];
		refuse(&record);
		record = sample();
		record.trash = (char *)bad[i];
		refuse(&record);
		record = sample();
		record.branch = (char *)bad[i];
		refuse(&record);
		record = sample();
		record.commit = (char *)bad[i];
		refuse(&record);
	}
}

static void test_what_must_be_there(void **state UNUSED)
{
	struct record record = sample();

	record.trash = NULL;
	refuse(&record);
	record.verb = RECORD_PREPARE;
	record.directory = NULL;
	refuse(&record);
	record = sample();
	record.task = 0;
	refuse(&record);
	record = sample();
	record.attempt = 0;
	refuse(&record);
}

static void test_text_that_is_no_record(void **state UNUSED)
{
	static const char *const bad[] = {
		"", "null", "[]", "{", "{}", "{\"verb\":\"remove\"}", "{\"verb\":1}", "{\"task\":1,\"task\":2}"
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct buf text = BUF_INIT;
		struct record read = { 0 };

		buf_add_text(&text, bad[i]);
		assert_int_equal(record_parse(&text, &read, NULL), -EBADMSG);
		buf_done(&text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_written_and_read_back),
		cmocka_unit_test(test_names_that_lead_elsewhere),
		cmocka_unit_test(test_what_must_be_there),
		cmocka_unit_test(test_text_that_is_no_record),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
