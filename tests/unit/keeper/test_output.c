/*
 * test_output.c - a stream into a log: whatever happens, the log has the stream's bytes at their own offsets, except in
 * one gap, which is where the counters say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mix.h"
#include "base/units.h"
#include "keeper/output.h"

struct bench {
	struct output output;
	int write_end;
	char path[64];
	int dir;
	uint64_t written; /* into the pipe */
};

static int set_up(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	*state = bench;
	snprintf(bench->path, sizeof(bench->path), "/tmp/drover-output-XXXXXX");
	if (!mkdtemp(bench->path))
		return -1;
	bench->dir = open(bench->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bench->output = OUTPUT_NONE;
	bench->output.head_bytes = 256 * KIB;
	bench->output.tail_bytes = 512 * KIB;
	return output_open(&bench->output, bench->dir, "a/b/log", ".x", &bench->write_end);
}

static int tear_down(void **state)
{
	struct bench *bench = *state;

	output_close(&bench->output);
	fd_close(&bench->write_end);
	unlinkat(bench->dir, "a/b/log.x", 0);
	unlinkat(bench->dir, "a/b", AT_REMOVEDIR);
	unlinkat(bench->dir, "a", AT_REMOVEDIR);
	fd_close(&bench->dir);
	rmdir(bench->path);
	free(bench);
	return 0;
}

/* What stands at an offset of the stream. Never 0, which is what a hole reads as. */
static unsigned char byte_at(uint64_t offset)
{
	return (unsigned char)(mix64(offset / 8) >> (offset % 8 * 8)) | 1;
}

static void write_some(struct bench *bench, size_t length)
{
	unsigned char bytes[4096];

	while (length > 0) {
		size_t now = MIN(length, sizeof(bytes));

		for (size_t i = 0; i < now; i++)
			bytes[i] = byte_at(bench->written + i);
		assert_int_equal(fd_write_all(bench->write_end, bytes, now), 0);
		bench->written += now;
		length -= now;
	}
}

/* Moves it in portions that the pipe holds. */
static void stream(struct bench *bench, uint64_t length)
{
	while (length > 0) {
		size_t now = MIN(length, (uint64_t)60000);

		write_some(bench, now);
		assert_int_equal(output_move_rest(&bench->output), OUTPUT_EMPTY);
		length -= now;
	}
	assert_int_equal(bench->output.bytes, bench->written);
}

/* The invariant at the head of this file. */
static void check_log(struct bench *bench)
{
	const struct output *output = &bench->output;
	CLEANUP_FD int fd = openat(bench->dir, "a/b/log.x", O_RDONLY | O_CLOEXEC);
	unsigned char bytes[4096];
	uint64_t at = 0;
	ssize_t got;

	assert_true(output->gap_at + output->dropped <= output->bytes);
	while ((got = pread(fd, bytes, sizeof(bytes), (off_t)at)) > 0) {
		for (ssize_t i = 0; i < got; i++, at++) {
			bool is_in_gap = at >= output->gap_at && at - output->gap_at < output->dropped;

			if (!is_in_gap && bytes[i] != byte_at(at))
				fail_msg("offset %llu is wrong", (unsigned long long)at);
		}
	}
	assert_int_equal(got, 0);
	assert_true(at == output->bytes || (at <= output->bytes && output->gap_at + output->dropped == output->bytes));
}

static void test_small(void **state)
{
	struct bench *bench = *state;

	assert_int_equal(output_move(&bench->output, 1), OUTPUT_EMPTY);
	write_some(bench, 10);
	assert_int_equal(output_move(&bench->output, 1), OUTPUT_MORE); /* it is for the loop to ask again */
	assert_int_equal(output_move(&bench->output, 1), OUTPUT_EMPTY);
	write_some(bench, 5);
	fd_close(&bench->write_end);
	assert_int_equal(output_move_rest(&bench->output), OUTPUT_END);
	assert_int_equal(bench->output.bytes, 15);
	assert_int_equal(bench->output.dropped, 0);
	assert_int_equal(bench->output.pipe, -1);
	check_log(bench);
}

static void test_cap(void **state)
{
	struct bench *bench = *state;
	struct stat status;

	stream(bench, 768 * KIB + OUTPUT_STEP - 4096);
	assert_int_equal(bench->output.dropped, 0); /* a step is not yet full */
	check_log(bench);
	for (int i = 0; i < 8; i++) {
		stream(bench, MIB + 12345);
		check_log(bench);
	}
	assert_int_equal(bench->output.gap_at, 256 * KIB);
	assert_true(bench->output.bytes - bench->output.dropped >= 768 * KIB);
	assert_true(bench->output.bytes - bench->output.dropped <= 768 * KIB + 2 * MIB);
	assert_int_equal(fstat(bench->output.log, &status), 0);
	assert_true((uint64_t)status.st_blocks * 512 <= 3 * MIB);
}

static void test_no_tail_and_no_head(void **state)
{
	struct bench *bench = *state;

	bench->output.head_bytes = bench->output.tail_bytes = 0;
	stream(bench, 3 * MIB);
	check_log(bench);
	assert_int_equal(bench->output.gap_at, 0);
	assert_true(bench->output.dropped >= 2 * MIB);
}

static void test_cap_without_punching(void **state)
{
	struct bench *bench = *state;

	bench->output.cannot_punch = true;
	stream(bench, 3 * MIB);
	check_log(bench);
	assert_true(bench->output.gap_at >= 768 * KIB && bench->output.gap_at < 768 * KIB + 65536);
	assert_int_equal(bench->output.gap_at + bench->output.dropped, bench->output.bytes);
}

static void test_without_splice(void **state)
{
	struct bench *bench = *state;

	bench->output.cannot_splice = true;
	stream(bench, 3 * MIB);
	check_log(bench);
	assert_true(bench->output.dropped > 0);
	fd_close(&bench->write_end);
	assert_int_equal(output_move_rest(&bench->output), OUTPUT_END);
}

/* As if `length` bytes of the stream came and could not be stored. */
static void lose(struct bench *bench, uint64_t length)
{
	output_drop(&bench->output, length);
	bench->written += length;
}

static void test_losses_stay_one_gap(void **state)
{
	struct bench *bench = *state;

	stream(bench, 1000);
	lose(bench, 500);
	lose(bench, 500);
	assert_int_equal(bench->output.gap_at, 1000);
	assert_int_equal(bench->output.dropped, 1000);
	stream(bench, 3000);
	check_log(bench);
	assert_int_equal(bench->output.dropped, 1000);
	lose(bench, 10); /* what was stored in between goes as well */
	assert_int_equal(bench->output.gap_at, 1000);
	assert_int_equal(bench->output.dropped, 4010);
	stream(bench, 5 * MIB);
	check_log(bench);
	assert_int_equal(bench->output.gap_at, 1000);
}

static void test_loss_beyond_the_head_then_the_cap(void **state)
{
	struct bench *bench = *state;

	stream(bench, 500 * KIB);
	lose(bench, 100);
	assert_int_equal(bench->output.gap_at, 500 * KIB);
	stream(bench, 5 * MIB);
	check_log(bench);
	assert_int_equal(bench->output.gap_at, 256 * KIB);
}

static void test_losses_anywhere(void **state)
{
	struct bench *bench = *state;
	struct random random = { .state = 42 };

	for (int i = 0; i < 200; i++) {
		stream(bench, random_below(&random, 200 * KIB));
		if (random_chance(&random, 200))
			lose(bench, 1 + random_below(&random, 5000));
		if (i % 20 == 0)
			check_log(bench);
	}
	check_log(bench);
}

static void test_news(void **state)
{
	struct bench *bench = *state;

	assert_false(output_has_news(&bench->output));
	lose(bench, 1);
	assert_true(output_has_news(&bench->output));
	assert_false(output_has_news(&bench->output));
	lose(bench, OUTPUT_STEP - 1);
	assert_false(output_has_news(&bench->output));
	lose(bench, 1);
	assert_true(output_has_news(&bench->output));
	assert_false(output_has_news(&bench->output));
}

static void test_writer_that_does_not_stop(void **state)
{
	struct bench *bench = *state;

	write_some(bench, 65536);
	assert_int_equal(output_move_rest(&bench->output), OUTPUT_MORE); /* a pipe full, and no further look */
	assert_int_equal(bench->output.bytes, 65536);
}

static void test_name_that_is_taken(void **state)
{
	struct bench *bench = *state;
	struct output other = OUTPUT_NONE;
	int end = -1;

	assert_int_equal(output_open(&other, bench->dir, "a/b/log.x", "", &end), 0); /* empty still */
	output_close(&other);
	fd_close(&end);
	stream(bench, 1);
	assert_int_equal(output_open(&other, bench->dir, "a/b/log.x", "", &end), -EEXIST);
	assert_int_equal(output_open(&other, bench->dir, "a/b/log.x/c", "", &end), -ENOTDIR);
	assert_int_equal(symlinkat("/tmp/drover-none", bench->dir, "link"), 0);
	assert_int_equal(output_open(&other, bench->dir, "link", "", &end), -ELOOP);
	assert_int_equal(unlinkat(bench->dir, "link", 0), 0);
	assert_int_equal(end, -1);
	assert_int_equal(other.log, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_small, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cap, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_tail_and_no_head, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cap_without_punching, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_without_splice, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_losses_stay_one_gap, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_loss_beyond_the_head_then_the_cap, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_losses_anywhere, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_news, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_writer_that_does_not_stop, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_name_that_is_taken, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
