/* test_process.c - telling processes apart, and signals that reach the right ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "platform/clock.h"
#include "platform/process.h"

enum { LIMIT_MS = 20000 };

static void test_stat_with_a_hostile_name(void **state UNUSED)
{
	static const char text[] = "77 (a) R (b\n) S 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 4242 31 32 33 34";
	struct process_stat stat;

	assert_int_equal(process_parse_stat(text, sizeof(text) - 1, &stat), 0);
	assert_int_equal(stat.state, 'S');
	assert_int_equal(stat.parent, 12);
	assert_int_equal(stat.session, 14);
	assert_int_equal(stat.start_ticks, 4242);
}

static void test_stat_cut_short(void **state UNUSED)
{
	static const char text[] = "77 (name) S 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31";
	struct process_stat stat;

	for (size_t length = 0; length < 60; length++)
		assert_int_equal(process_parse_stat(text, length, &stat), -EINVAL);
	assert_int_equal(process_parse_stat(")", 1, &stat), -EINVAL);
}

static void test_own_stat(void **state UNUSED)
{
	struct process_stat stat;

	assert_int_equal(process_read_stat(getpid(), &stat), 0);
	assert_int_equal(stat.parent, getppid());
	assert_int_equal(stat.session, getsid(0));
	assert_int_equal(stat.state, 'R');
	assert_int_equal(process_read_stat(0x3ffffff, &stat), -ESRCH);
}

/* A child that waits for a signal; one that cannot outlive us. */
static pid_t start_child(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

static void test_start_time_without_looking(void **state UNUSED)
{
	unsigned known = 0;

	for (int i = 0; i < 50; i++) {
		uint64_t before = clock_boottime_ns();
		pid_t pid = fork();
		uint64_t ticks = process_start_ticks_between(before, clock_boottime_ns());
		struct process_stat stat;

		if (pid == 0)
			_exit(0);
		assert_int_equal(process_read_stat(pid, &stat), 0); /* a zombie has one too */
		if (ticks != 0)
			assert_int_equal(ticks, stat.start_ticks);
		known += ticks != 0;
		assert_int_equal(waitpid(pid, NULL, 0), pid);
	}
	assert_true(known > 0);
	assert_int_equal(process_start_ticks_between(9999999, 10000000), 0);
	assert_int_equal(process_start_ticks_between(10000000, 19999999), 1);
}

static void test_identity(void **state UNUSED)
{
	pid_t pid = start_child();
	struct process_stat stat;
	struct pollfd item = { .events = POLLIN };
	int fd;

	assert_int_equal(process_read_stat(pid, &stat), 0);
	assert_int_equal(process_open_started(pid, stat.start_ticks + 1), -ESRCH);
	fd = process_open_started(pid, stat.start_ticks);
	assert_true(fd >= 0);
	assert_false(process_has_ended(fd));
	assert_int_equal(process_signal(fd, SIGTERM), 0);
	item.fd = fd;
	assert_int_equal(poll(&item, 1, LIMIT_MS), 1);
	assert_true(process_has_ended(fd));
	assert_int_equal(process_open_started(pid, stat.start_ticks), -ESRCH); /* a zombie */
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(process_signal(fd, SIGTERM), -ESRCH);
	assert_int_equal(process_signal_group(fd, pid, SIGTERM), -ESRCH);
	assert_int_equal(process_open(pid), -ESRCH);
	fd_close(&fd);
}

static void test_signal_to_a_group(void **state UNUSED)
{
	int ready[2];
	int status;
	char byte;
	pid_t pid;
	CLEANUP_FD int fd = -1;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		setsid();
		start_child(); /* holds the pipe too */
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	fd_close(&ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	fd = process_open(pid);
	assert_int_equal(process_signal_group(fd, pid, SIGTERM), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WTERMSIG(status), SIGTERM);
	assert_int_equal(read(ready[0], &byte, 1), 0); /* the other one has ended as well */
	fd_close(&ready[0]);
}

/* A child with a child in a session of its own; both hold the pipe. The other end of it. */
static int start_tree(pid_t *ret_pid)
{
	int ready[2];
	char bytes[2];

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	*ret_pid = fork();
	if (*ret_pid == 0) {
		pid_t grandchild = fork();

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (grandchild == 0)
			setsid();
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	fd_close(&ready[1]);
	for (int i = 0; i < 2; i++)
		assert_int_equal(read(ready[0], bytes, 1), 1);
	return ready[0];
}

static void test_signal_to_a_tree(void **state UNUSED)
{
	struct process_table *table = calloc(1, sizeof(*table));
	pid_t pid;
	CLEANUP_FD int end = start_tree(&pid);
	pid_t bystander = start_child();
	int status;
	char byte;

	assert_int_equal(process_signal_tree(table, pid, 0, 0), 1); /* only the descendant */
	assert_int_equal(process_signal_tree(table, pid, 0, SIGKILL), 1);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(read(end, &byte, 1), 0);
	assert_int_equal(process_signal_tree(table, pid, 0, SIGKILL), 0);
	assert_int_equal(waitpid(bystander, &status, WNOHANG), 0);
	assert_int_equal(kill(bystander, SIGKILL), 0);
	assert_int_equal(waitpid(bystander, &status, 0), bystander);
	free(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stat_with_a_hostile_name), cmocka_unit_test(test_stat_cut_short),
		cmocka_unit_test(test_own_stat),                 cmocka_unit_test(test_start_time_without_looking),
		cmocka_unit_test(test_identity),                 cmocka_unit_test(test_signal_to_a_group),
		cmocka_unit_test(test_signal_to_a_tree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
