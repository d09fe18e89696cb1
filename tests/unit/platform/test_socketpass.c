/* test_socketpass.c - messages with descriptors: whole or not at all, and no descriptor lost or left open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "platform/socketpass.h"

struct pair {
	int ends[2];
	int descriptors; /* open at the start of the test */
};

static int count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static int set_up(void **state)
{
	struct pair *pair = calloc(1, sizeof(*pair));

	*state = pair;
	if (socketpass_pair(pair->ends) < 0)
		return -1;
	pair->descriptors = count_descriptors();
	return 0;
}

static int tear_down(void **state)
{
	struct pair *pair = *state;

	fd_close(&pair->ends[0]);
	fd_close(&pair->ends[1]);
	free(pair);
	return 0;
}

static void test_boundaries_are_kept(void **state)
{
	struct pair *pair = *state;
	char bytes[16];

	assert_int_equal(socketpass_receive(pair->ends[1], bytes, sizeof(bytes), NULL, 0), -EAGAIN);
	assert_int_equal(socketpass_send(pair->ends[0], "one", 3, NULL, 0), 0);
	assert_int_equal(socketpass_send(pair->ends[0], "three", 5, NULL, 0), 0);
	assert_int_equal(socketpass_receive(pair->ends[1], bytes, sizeof(bytes), NULL, 0), 3);
	assert_memory_equal(bytes, "one", 3);
	assert_int_equal(socketpass_receive(pair->ends[1], bytes, 4, NULL, 0), -EMSGSIZE);
	fd_close(&pair->ends[0]);
	assert_int_equal(socketpass_receive(pair->ends[1], bytes, sizeof(bytes), NULL, 0), 0);
	assert_int_equal(socketpass_send(pair->ends[1], "x", 1, NULL, 0), -EPIPE); /* and no SIGPIPE */
}

static void test_descriptors(void **state)
{
	struct pair *pair = *state;
	const int sent[4] = { STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, STDIN_FILENO };
	int got[4];
	char byte;

	assert_int_equal(socketpass_send(pair->ends[0], "a", 1, sent, 2), 0);
	assert_int_equal(socketpass_receive(pair->ends[1], &byte, 1, got, 4), 1);
	assert_true(got[0] > STDERR_FILENO && got[1] > STDERR_FILENO);
	assert_int_equal(got[2], -1);
	assert_int_equal(got[3], -1);
	assert_int_equal(fcntl(got[0], F_GETFD), FD_CLOEXEC);
	fd_close(&got[0]);
	fd_close(&got[1]);
	assert_int_equal(count_descriptors(), pair->descriptors);
}

static void test_too_many_descriptors_are_closed(void **state)
{
	struct pair *pair = *state;
	const int sent[4] = { STDIN_FILENO, STDIN_FILENO, STDIN_FILENO, STDIN_FILENO };
	char bytes[8];
	int got[1];

	for (size_t room = 0; room <= 1; room++) {
		assert_int_equal(socketpass_send(pair->ends[0], "ab", 2, sent, 4), 0);
		assert_int_equal(socketpass_receive(pair->ends[1], bytes, sizeof(bytes), got, room), 2);
		if (room == 1)
			fd_close(&got[0]);
		assert_int_equal(count_descriptors(), pair->descriptors);
	}
	assert_int_equal(socketpass_send(pair->ends[0], "ab", 2, sent, 4), 0);
	assert_int_equal(socketpass_receive(pair->ends[1], bytes, 1, got, 1), -EMSGSIZE);
	assert_int_equal(got[0], -1);
	assert_int_equal(count_descriptors(), pair->descriptors);
}

static void test_peek_leaves_the_message(void **state)
{
	struct pair *pair = *state;
	char bytes[8];
	int got[1];

	assert_int_equal(socketpass_send(pair->ends[0], "abc", 3, (int[]){ STDIN_FILENO }, 1), 0);
	fd_close(&pair->ends[0]); /* it outlives its sender */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(socketpass_peek(pair->ends[1], bytes, sizeof(bytes), got, 1), 3);
		assert_true(got[0] >= 0);
		fd_close(&got[0]);
	}
	assert_int_equal(socketpass_receive(pair->ends[1], bytes, sizeof(bytes), got, 1), 3);
	assert_true(got[0] >= 0);
	fd_close(&got[0]);
	assert_int_equal(socketpass_peek(pair->ends[1], bytes, sizeof(bytes), got, 1), 0);
}

static void test_full_socket_does_not_block(void **state)
{
	struct pair *pair = *state;
	static const char block[4096];
	int sent = 0;
	int r;

	while ((r = socketpass_send(pair->ends[0], block, sizeof(block), NULL, 0)) == 0)
		assert_true(++sent < 100000);
	assert_int_equal(r, -EAGAIN);
	assert_true(sent > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_boundaries_are_kept, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_descriptors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_too_many_descriptors_are_closed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_peek_leaves_the_message, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_full_socket_does_not_block, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
