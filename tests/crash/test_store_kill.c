/*
 * test_store_kill.c - the process is killed at each of the store's writes, with half of it written, and at moments of
 * nobody's choosing. FAULTS rows 1, 20.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "crash_script.h"
#include "fault_vfs.h"

enum { STEPS = 6, MANY_STEPS = 400, RANDOM_KILLS = 25 };

static struct fault_vfs fault;

static void tell(void *context, uint64_t seq)
{
	int *fd = context;

	if (write(*fd, &seq, sizeof(seq)) != (ssize_t)sizeof(seq))
		_exit(2);
}

/* Starts a child that runs the script and tells each acknowledged sequence number over a pipe. */
static pid_t start_child(const char *directory, uint32_t steps, uint64_t kill_at, int *ret_fd)
{
	int pipes[2];
	pid_t child;

	assert_int_equal(pipe(pipes), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		fd_close(&pipes[0]);
		fault_vfs_arm(&fault, kill_at > 0 ? FAULT_KILL : FAULT_NONE, kill_at);
		script_run(directory, steps, tell, &pipes[1]);
		_exit(0);
	}
	fd_close(&pipes[1]);
	*ret_fd = pipes[0];
	return child;
}

/* Reads at most `most` numbers from the child; the last one, 0 for none. */
static uint64_t read_acknowledged(int fd, uint32_t most)
{
	uint64_t seq, last = 0;

	for (uint32_t i = 0; i < most && read(fd, &seq, sizeof(seq)) == (ssize_t)sizeof(seq); i++)
		last = seq;
	return last;
}

/* Waits for the child; true when it was killed. */
static bool wait_child(pid_t child)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFSIGNALED(status))
		assert_int_equal(WTERMSIG(status), SIGKILL);
	else
		assert_int_equal(WEXITSTATUS(status), 0);
	return WIFSIGNALED(status);
}

/* Sequence number at the end of the step behind `seq`. */
static uint64_t next_step_seq(uint64_t seq)
{
	struct model *model = model_at(SCRIPT_SEED, seq);
	uint64_t next;

	model_step(model, NULL);
	next = model->facts.last_seq;
	free(model);
	return next;
}

static void judge(const char *directory, uint64_t acknowledged, uint64_t at)
{
	char why[512];

	if (script_judge(directory, acknowledged, next_step_seq(acknowledged), why) < 0)
		fail_msg("kill %llu: %s", (unsigned long long)at, why);
}

static void test_killed_at_every_write(void **state)
{
	bool was_killed = true;
	uint64_t at;

	(void)state;
	for (at = 1; was_killed; at++) {
		char *directory = model_make_directory();
		CLEANUP_FD int fd = -1;
		pid_t child = start_child(directory, STEPS, at, &fd);
		uint64_t acknowledged = read_acknowledged(fd, UINT32_MAX);

		was_killed = wait_child(child);
		judge(directory, acknowledged, at);
		model_remove_directory(directory);
	}
	print_message("%llu kill points\n", (unsigned long long)at - 2);
	assert_true(at > 50);
}

/* Killed again while it recovers from the kill before, until it gets through. */
static void test_killed_during_recovery(void **state)
{
	char *directory = model_make_directory();
	CLEANUP_FD int fd = -1;
	pid_t child = start_child(directory, STEPS, 60, &fd);
	uint64_t acknowledged = read_acknowledged(fd, UINT32_MAX);
	char why[512];

	(void)state;
	assert_true(wait_child(child));
	for (uint64_t at = 1; at <= 10; at++) {
		child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			fault_vfs_arm(&fault, FAULT_KILL, at);
			script_judge(directory, acknowledged, next_step_seq(acknowledged), why);
			_exit(0);
		}
		wait_child(child);
	}
	judge(directory, acknowledged, 60);
	model_remove_directory(directory);
}

static void test_killed_at_random(void **state)
{
	struct random random = { .state = 99 };

	(void)state;
	for (uint64_t i = 0; i < RANDOM_KILLS; i++) {
		char *directory = model_make_directory();
		CLEANUP_FD int fd = -1;
		pid_t child = start_child(directory, MANY_STEPS, 0, &fd);
		uint64_t acknowledged = read_acknowledged(fd, (uint32_t)random_below(&random, 120) + 1);
		uint64_t last;

		assert_int_equal(kill(child, SIGKILL), 0);
		assert_true(wait_child(child));
		last = read_acknowledged(fd, UINT32_MAX); /* told between our last look and the kill */
		judge(directory, MAX(acknowledged, last), i);
		model_remove_directory(directory);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed_at_every_write),
		cmocka_unit_test(test_killed_during_recovery),
		cmocka_unit_test(test_killed_at_random),
	};

	fault_vfs_install(&fault);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
