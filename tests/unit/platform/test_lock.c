/* test_lock.c - locks of open file descriptions: who holds one, who does not, and when it ends. */
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
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "platform/lock.h"

struct place {
	char path[64];
	int dir;
};

static int set_up(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	snprintf(place->path, sizeof(place->path), "/tmp/drover-lock-XXXXXX");
	if (!mkdtemp(place->path))
		return -1;
	place->dir = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = place;
	return 0;
}

static int tear_down(void **state)
{
	struct place *place = *state;

	unlinkat(place->dir, "file", 0);
	fd_close(&place->dir);
	rmdir(place->path);
	free(place);
	return 0;
}

static int open_file(const struct place *place)
{
	int fd = openat(place->dir, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static void test_ranges_conflict_only_where_they_meet(void **state)
{
	CLEANUP_FD int one = open_file(*state);
	CLEANUP_FD int two = open_file(*state);

	assert_int_equal(lock_take(one, 256, 256), 0);
	assert_int_equal(lock_take(one, 256, 256), 0); /* ours already */
	assert_int_equal(lock_take(two, 256, 256), -EAGAIN);
	assert_int_equal(lock_take(two, 511, 1), -EAGAIN);
	assert_int_equal(lock_take(two, 512, 256), 0);
	assert_true(lock_is_held(two, 256, 256));
	assert_false(lock_is_held(one, 256, 256)); /* no conflict with oneself */
	assert_false(lock_is_held(two, 0, 256));
	lock_release(one, 256, 256);
	assert_false(lock_is_held(two, 256, 256));
	assert_int_equal(lock_take(two, 256, 256), 0);
}

static void test_lock_ends_with_the_last_descriptor(void **state)
{
	int one = open_file(*state);
	int copy = fcntl(one, F_DUPFD_CLOEXEC, 0);
	CLEANUP_FD int two = open_file(*state);

	assert_int_equal(lock_take(one, 0, 1), 0);
	fd_close(&one);
	assert_true(lock_is_held(two, 0, 1));
	fd_close(&copy);
	assert_false(lock_is_held(two, 0, 1));
}

static void test_lock_ends_with_the_process(void **state)
{
	CLEANUP_FD int ours = open_file(*state);
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int theirs = open_file(*state);

		_exit(lock_take(theirs, 0, 0) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(lock_take(ours, 0, 0), 0);
}

static void test_file_names_its_holder(void **state)
{
	struct place *place = *state;
	struct err err = ERR_INIT;
	char pid[32];
	int held = -1;
	int other = -1;

	assert_int_equal(lock_file_take(place->dir, "file", &held, &err), 0);
	assert_int_equal(lock_file_take(place->dir, "file", &other, &err), -EAGAIN);
	assert_int_equal(other, -1);
	snprintf(pid, sizeof(pid), "pid %d", (int)getpid());
	assert_non_null(strstr(err.text, pid));
	assert_non_null(strstr(err.text, "'file'"));
	fd_close(&held);
	assert_int_equal(lock_file_take(place->dir, "file", &other, &err), 0);
	assert_int_equal(fcntl(other, F_GETFD), FD_CLOEXEC);
	fd_close(&other);
}

/* Whatever was there before, only the new words are read; and the block that held the old ones is never given back. */
static void test_words_are_replaced(void **state)
{
	static const char *const words[] = { "a\n", "something longer than that\n", "short\n", "" };
	struct place *place = *state;
	struct err err = ERR_INIT;
	char text[4096];
	int fd = -1;

	assert_int_equal(lock_file_take(place->dir, "file", &fd, &err), 0);
	memset(text, 'x', sizeof(text));
	assert_int_equal(lock_file_write(fd, text, sizeof(text)), 0);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		assert_int_equal(lock_file_write(fd, words[i], strlen(words[i])), 0);
		assert_int_equal(pread(fd, text, sizeof(text), 0), strlen(words[i]));
		assert_memory_equal(text, words[i], strlen(words[i]));
	}
	fd_close(&fd);
}

static void test_file_that_is_none(void **state)
{
	struct place *place = *state;
	struct err err = ERR_INIT;
	int fd = -1;

	assert_int_equal(symlinkat("/tmp", place->dir, "file"), 0);
	assert_int_equal(lock_file_take(place->dir, "file", &fd, &err), -ELOOP);
	unlinkat(place->dir, "file", 0);
	assert_int_equal(mkfifoat(place->dir, "file", 0600), 0);
	assert_int_equal(lock_file_take(place->dir, "file", &fd, &err), -EPERM);
	assert_int_equal(fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ranges_conflict_only_where_they_meet, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lock_ends_with_the_last_descriptor, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lock_ends_with_the_process, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_file_names_its_holder, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_words_are_replaced, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_file_that_is_none, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
