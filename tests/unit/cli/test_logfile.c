/* Logs: growth, holes, last lines. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fd.h"
#include "cli/logfile.h"

struct place {
	char path[64];
	int fd; /* for writing */
};

static int set_up(void **state)
{
	struct place *place = xcalloc(1, sizeof(*place));

	snprintf(place->path, sizeof(place->path), "/tmp/drover-log-XXXXXX");
	place->fd = mkostemp(place->path, O_CLOEXEC);
	assert_true(place->fd >= 0);
	*state = place;
	return 0;
}

static int tear_down(void **state)
{
	struct place *place = *state;

	fd_close(&place->fd);
	unlink(place->path);
	free(place);
	return 0;
}

/* All there is now; missing bytes as "<N>". */
static void read_all(struct logfile *file, struct buf *buf)
{
	char bytes[LOGFILE_PIECE_MAX];
	uint64_t dropped;
	ssize_t length;

	buf_clear(buf);
	do {
		length = logfile_read(file, bytes, &dropped);
		assert_true(length >= 0);
		if (dropped > 0)
			buf_add_format(buf, "<%llu>", (unsigned long long)dropped);
		buf_add(buf, bytes, (size_t)length);
	} while (length > 0 || dropped > 0);
}

static void test_growth(void **state)
{
	struct place *place = *state;
	CLEANUP(logfile_close) struct logfile file = LOGFILE_INIT;
	CLEANUP_BUF struct buf buf = BUF_INIT;

	assert_int_equal(logfile_open(place->path, &file), 0);
	read_all(&file, &buf);
	assert_int_equal(buf.length, 0);
	assert_int_equal(fd_write_all(place->fd, "one\n", 4), 0);
	read_all(&file, &buf);
	assert_string_equal(buf.bytes, "one\n");
	assert_int_equal(fd_write_all(place->fd, "two\n", 4), 0);
	read_all(&file, &buf);
	assert_string_equal(buf.bytes, "two\n");
}

/* Head, hole, tail: as the shim leaves a long output. False when this file system knows no holes. */
static bool write_with_hole(int fd, off_t head, off_t tail)
{
	CLEANUP_FREE char *block = xcalloc(1, (size_t)head);

	memset(block, 'h', (size_t)head);
	assert_int_equal(pwrite(fd, block, (size_t)head, 0), head);
	assert_int_equal(pwrite(fd, "tail\nend\n", 9, tail), 9);
	return lseek(fd, head, SEEK_DATA) == tail;
}

static void test_hole(void **state)
{
	struct place *place = *state;
	CLEANUP(logfile_close) struct logfile file = LOGFILE_INIT;
	CLEANUP_BUF struct buf buf = BUF_INIT;

	if (!write_with_hole(place->fd, 8192, 1 << 20))
		skip();
	assert_int_equal(logfile_open(place->path, &file), 0);
	read_all(&file, &buf);
	assert_int_equal(buf.bytes[8191], 'h');
	assert_string_equal(buf.bytes + 8192, "<1040384>tail\nend\n");
}

/* Bytes that are dropped while they are read: punched out between two reads. */
static void test_hole_that_grows(void **state)
{
	struct place *place = *state;
	CLEANUP(logfile_close) struct logfile file = LOGFILE_INIT;
	CLEANUP_FREE char *block = xcalloc(1, 1 << 20);
	CLEANUP_BUF struct buf buf = BUF_INIT;
	char bytes[LOGFILE_PIECE_MAX];
	uint64_t dropped;

	memset(block, 'x', 1 << 20);
	assert_int_equal(fd_write_all(place->fd, block, 1 << 20), 0);
	assert_int_equal(logfile_open(place->path, &file), 0);
	assert_int_equal(logfile_read(&file, bytes, &dropped), LOGFILE_PIECE_MAX);
	if (fallocate(place->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 32768, 262144) < 0)
		skip();
	read_all(&file, &buf);
	assert_int_equal(strncmp(buf.bytes, "<229376>x", 9), 0);
	assert_int_equal(buf.length, 8 + (1 << 20) - 32768 - 262144);
}

static void check_lines(struct place *place, uint64_t lines, const char *expected)
{
	CLEANUP(logfile_close) struct logfile file = LOGFILE_INIT;
	CLEANUP_BUF struct buf buf = BUF_INIT;

	assert_int_equal(logfile_open(place->path, &file), 0);
	assert_int_equal(logfile_seek_lines(&file, lines), 0);
	read_all(&file, &buf);
	assert_string_equal(buf.bytes, expected);
}

static void test_last_lines(void **state)
{
	struct place *place = *state;

	assert_int_equal(fd_write_all(place->fd, "one\ntwo\nthree\n", 14), 0);
	check_lines(place, 1, "three\n");
	check_lines(place, 2, "two\nthree\n");
	check_lines(place, 9, "one\ntwo\nthree\n");
	assert_int_equal(fd_write_all(place->fd, "open", 4), 0);
	check_lines(place, 1, "open");
	check_lines(place, 2, "three\nopen");
}

static void test_last_lines_stop_at_a_hole(void **state)
{
	struct place *place = *state;

	if (!write_with_hole(place->fd, 8192, 1 << 20))
		skip();
	check_lines(place, 1, "end\n");
	check_lines(place, 100, "tail\nend\n");
}

static void test_what_is_no_log(void **state)
{
	struct place *place = *state;
	struct logfile file = LOGFILE_INIT;
	char link[96];

	assert_int_equal(logfile_open("/nowhere/log", &file), -ENOENT);
	assert_int_equal(logfile_open("/dev/null", &file), -EINVAL);
	snprintf(link, sizeof(link), "%s.link", place->path);
	assert_int_equal(symlink(place->path, link), 0);
	assert_int_equal(logfile_open(link, &file), -ELOOP);
	assert_int_equal(unlink(link), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_growth, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_hole, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_hole_that_grows, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_last_lines, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_last_lines_stop_at_a_hole, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_no_log, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
