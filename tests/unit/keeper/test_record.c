/* test_record.c - the slot file: made whole, refused when damaged, locked by record, its table of groups. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "keeper/record.h"

enum { SLOTS = 300 };

struct place {
	char path[64];
	int dir;
	int fd;
};

static int set_up(void **state)
{
	struct place *place = calloc(1, sizeof(*place));
	struct err err = ERR_INIT;

	*state = place;
	snprintf(place->path, sizeof(place->path), "/tmp/drover-record-XXXXXX");
	if (!mkdtemp(place->path))
		return -1;
	place->dir = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return record_open(place->dir, "slots", SLOTS, &place->fd, &err);
}

static int tear_down(void **state)
{
	struct place *place = *state;
	int r;

	fd_close(&place->fd);
	unlinkat(place->dir, "slots", 0);
	fd_close(&place->dir);
	r = rmdir(place->path); /* nothing else was left in it */
	free(place);
	return r;
}

static int reopen(const struct place *place)
{
	struct err err = ERR_INIT;
	int fd = -1;

	assert_int_equal(record_open(place->dir, "slots", SLOTS, &fd, &err), 0);
	return fd;
}

static void test_new_file(void **state)
{
	struct place *place = *state;
	struct slot_record record;
	struct stat status;
	uint64_t seq = 1;

	assert_int_equal(fstat(place->fd, &status), 0);
	assert_int_equal(status.st_size, RECORD_HEADER_SIZE + SLOTS * RECORD_SIZE);
	assert_true(status.st_blocks * 512 >= status.st_size); /* the space is there */
	assert_int_equal(status.st_mode & 0777, 0600);
	assert_int_equal(fcntl(place->fd, F_GETFD), FD_CLOEXEC);
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		assert_int_equal(record_read(place->fd, slot, &record), 0);
		assert_int_equal(record.state, RECORD_FREE);
		assert_int_equal(record.task, 0);
	}
	assert_true(record_read(place->fd, SLOTS, &record) < 0);
	assert_int_equal(record_read_committed(place->fd, &seq), 0);
	assert_int_equal(seq, 0);
}

static void test_what_is_written_is_read(void **state)
{
	struct place *place = *state;
	struct slot_record record = { .state = RECORD_ENDED, .task = 7, .nonce = UINT64_MAX, .wait_status = 0x300 };
	struct slot_record got;
	CLEANUP_FD int other = -1;
	uint64_t seq;

	assert_int_equal(record_write(place->fd, 299, &record), 0);
	assert_int_equal(record_write_committed(place->fd, 1234567890123), 0);
	other = reopen(place); /* the number outside the checksum does not damage the header */
	assert_int_equal(record_read(other, 299, &got), 0);
	assert_memory_equal(&record, &got, sizeof(got));
	assert_int_equal(record_read(other, 298, &got), 0);
	assert_int_equal(got.state, RECORD_FREE);
	assert_int_equal(record_read_committed(other, &seq), 0);
	assert_int_equal(seq, 1234567890123);
}

static void test_damaged_record(void **state)
{
	struct place *place = *state;
	struct slot_record record = { .state = RECORD_STARTED, .task = 7 };
	struct slot_record got;
	char byte;

	assert_int_equal(record_write(place->fd, 5, &record), 0);
	for (off_t at = 0; at < RECORD_SIZE; at += 17) {
		const off_t place_of_byte = RECORD_HEADER_SIZE + 5 * RECORD_SIZE + at;

		assert_int_equal(pread(place->fd, &byte, 1, place_of_byte), 1);
		byte = (char)(byte ^ 4);
		assert_int_equal(pwrite(place->fd, &byte, 1, place_of_byte), 1);
		memset(&got, 0xff, sizeof(got));
		assert_int_equal(record_read(place->fd, 5, &got), -EILSEQ);
		assert_int_equal(got.task, 0);
		assert_int_equal(record_write(place->fd, 5, &record), 0);
	}
	memset(&got, 0, sizeof(got));
	assert_int_equal(pwrite(place->fd, &got, sizeof(got), RECORD_HEADER_SIZE + 5 * RECORD_SIZE), sizeof(got));
	assert_int_equal(record_read(place->fd, 5, &got), -EILSEQ); /* zeroes are damage too, not an empty record */
}

static void expect_refusal(struct place *place, int code, const char *words)
{
	struct err err = ERR_INIT;
	int fd = -1;

	assert_int_equal(record_open(place->dir, "slots", SLOTS, &fd, &err), code);
	assert_int_equal(fd, -1);
	assert_non_null(strstr(err.text, words));
	assert_non_null(strstr(err.text, "'slots'"));
}

static void test_files_that_are_refused(void **state)
{
	struct place *place = *state;
	struct slot_header header;
	struct err err = ERR_INIT;
	int fd = -1;

	assert_int_equal(record_open(place->dir, "slots", SLOTS + 1, &fd, &err), -EILSEQ);
	assert_int_equal(pread(place->fd, &header, sizeof(header), 0), sizeof(header));
	header.slots++;
	assert_int_equal(pwrite(place->fd, &header, sizeof(header), 0), sizeof(header));
	expect_refusal(place, -EILSEQ, "damaged");
	assert_int_equal(ftruncate(place->fd, 100), 0);
	expect_refusal(place, -EILSEQ, "cut short");
	assert_int_equal(unlinkat(place->dir, "slots", 0), 0);
	assert_int_equal(mkdirat(place->dir, "slots", 0700), 0);
	expect_refusal(place, -EISDIR, "open");
	assert_int_equal(unlinkat(place->dir, "slots", AT_REMOVEDIR), 0);
	assert_int_equal(symlinkat("/dev/null", place->dir, "slots"), 0);
	expect_refusal(place, -ELOOP, "open");
}

static void test_many_makers_at_once(void **state)
{
	struct place *place = *state;
	struct slot_record record;
	pid_t pids[8];
	int status;

	assert_int_equal(unlinkat(place->dir, "slots", 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			struct err err = ERR_INIT;
			int fd = -1;

			_exit(record_open(place->dir, "slots", SLOTS, &fd, &err) == 0 ? 0 : 1);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	fd_close(&place->fd);
	place->fd = reopen(place);
	assert_int_equal(record_read(place->fd, SLOTS - 1, &record), 0);
}

static void test_locks(void **state)
{
	struct place *place = *state;
	CLEANUP_FD int other = reopen(place);

	assert_int_equal(record_lock(place->fd, 3), 0);
	assert_int_equal(record_lock(other, 3), -EAGAIN);
	assert_true(record_is_locked(other, 3));
	assert_false(record_is_locked(place->fd, 3));
	assert_int_equal(record_lock(other, 2), 0);
	assert_int_equal(record_lock(other, 4), 0);
	record_unlock(place->fd, 3);
	assert_false(record_is_locked(other, 3));
}

static void test_reading_beside_a_writer(void **state)
{
	struct place *place = *state;
	struct slot_record record;
	pid_t writer = fork();

	if (writer == 0) {
		for (uint64_t i = 1;; i++) {
			struct slot_record mine = { .state = RECORD_STARTED, .task = i, .nonce = ~i };

			record_write(place->fd, 0, &mine);
		}
	}
	for (int i = 0; i < 2000; i++) {
		assert_int_equal(record_read(place->fd, 0, &record), 0);
		if (record.task != 0)
			assert_int_equal(record.nonce, ~record.task);
	}
	assert_int_equal(kill(writer, SIGKILL), 0);
	assert_int_equal(waitpid(writer, NULL, 0), writer);
}

static void test_cgroup_bases(void **state)
{
	struct place *place = *state;
	char path[RECORD_CGROUP_BASE_MAX];
	char long_path[RECORD_CGROUP_BASE_MAX + 1];
	struct slot_record record = { .state = RECORD_ENDED, .cgroup_base = 1 };
	uint32_t index;

	for (uint32_t i = 1; i <= RECORD_CGROUP_BASES; i++) {
		snprintf(path, sizeof(path), "/base-%u", i);
		assert_int_equal(record_enter_cgroup_base(place->fd, SLOTS, path, &index), 0);
		assert_int_equal(index, i);
		assert_int_equal(record_enter_cgroup_base(place->fd, SLOTS, path, &index), 0);
		assert_int_equal(index, i); /* known already */
	}
	assert_int_equal(record_cgroup_base(place->fd, 16, path), 0);
	assert_string_equal(path, "/base-16");
	assert_int_equal(record_cgroup_base(place->fd, 0, path), 0);
	assert_string_equal(path, "");
	assert_int_equal(record_cgroup_base(place->fd, 17, path), -EINVAL);
	assert_int_equal(record_write(place->fd, SLOTS - 1, &record), 0); /* place 1 is in use, place 2 is not */
	assert_int_equal(record_enter_cgroup_base(place->fd, SLOTS, "/new", &index), 0);
	assert_int_equal(index, 2);
	for (uint32_t i = 0; i < RECORD_CGROUP_BASES; i++) {
		record.cgroup_base = i + 1;
		assert_int_equal(record_write(place->fd, i, &record), 0);
	}
	assert_int_equal(record_enter_cgroup_base(place->fd, SLOTS, "/newer", &index), -ENOSPC);
	assert_int_equal(index, 0);
	memset(long_path, 'x', sizeof(long_path));
	long_path[RECORD_CGROUP_BASE_MAX] = '\0';
	assert_int_equal(record_enter_cgroup_base(place->fd, SLOTS, long_path, &index), -ENAMETOOLONG);
}

static void test_names(void **state UNUSED)
{
	char name[RECORD_CGROUP_NAME_MAX];

	record_cgroup_name(7, 0, name);
	assert_string_equal(name, "slot-7");
	record_cgroup_name(UINT32_MAX, UINT32_MAX, name);
	assert_string_equal(name, "slot-4294967295.4294967295");
	for (int stage = 0; stage < STAGE_MAX; stage++)
		assert_true(strlen(record_stage_name((enum start_stage)stage)) > 5);
	assert_non_null(record_stage_name(STAGE_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_new_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_written_is_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_damaged_record, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_files_that_are_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many_makers_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_locks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reading_beside_a_writer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cgroup_bases, set_up, tear_down),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
