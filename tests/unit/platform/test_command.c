/* test_command.c - running a child: what it gets, what is kept of it, and how it is ended. */
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
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "platform/clock.h"
#include "platform/command.h"

#define SHELL(script) ((const char *const[]){ "sh", "-c", script, NULL })

static const char *const environment[] = { "PATH=/usr/bin:/bin", "A=1", NULL };

static struct command make(const char *const *argv)
{
	return (struct command){ .argv = argv,
	                         .environment = environment,
	                         .output_limit = 1 << 20,
	                         .timeout_ns = 30 * NS_PER_SEC,
	                         .directory = -1,
	                         .kept_fd = -1 };
}

static void test_output_errors_and_status(void **state UNUSED)
{
	struct command command = make(SHELL("echo out; echo bad >&2; exit 3"));
	struct command_result result = { 0 };

	assert_int_equal(command_run(&command, &result, NULL), 0);
	assert_string_equal(result.output.bytes, "out\n");
	assert_string_equal(result.errors.bytes, "bad\n");
	assert_int_equal(WEXITSTATUS(result.status), 3);
	command_result_done(&result);
}

static void test_no_output_is_an_empty_string(void **state UNUSED)
{
	struct command command = make((const char *const[]){ "true", NULL });
	struct command_result result = { 0 };

	for (int i = 0; i < 20; i++) {
		assert_int_equal(command_run(&command, &result, NULL), 0);
		assert_int_equal(result.output.length, 0);
		assert_true(!result.output.bytes || result.output.bytes[0] == '\0');
		command_result_done(&result);
	}
}

static void test_the_environment_is_exact(void **state UNUSED)
{
	struct command command = make((const char *const[]){ "env", NULL });
	struct command_result result = { 0 };

	setenv("DROVER_TEST_LEAK", "1", 1);
	assert_int_equal(command_run(&command, &result, NULL), 0);
	assert_string_equal(result.output.bytes, "PATH=/usr/bin:/bin\nA=1\n");
	command_result_done(&result);
	unsetenv("DROVER_TEST_LEAK");
}

static void test_descriptors_and_directory(void **state UNUSED)
{
	CLEANUP_FD UNUSED int leaked = open("/dev/zero", O_RDONLY); /* without O_CLOEXEC, on purpose */
	CLEANUP_FD int kept = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	CLEANUP_FD int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct command command = make(SHELL("pwd; readlink /proc/self/fd/0 /proc/self/fd/3; for f in 4 5 6 7 8 9 20; do "
	                                    "test -e /proc/self/fd/$f && echo $f; done; :"));
	struct command_result result = { 0 };

	command.directory = root;
	command.kept_fd = kept;
	assert_int_equal(command_run(&command, &result, NULL), 0);
	assert_string_equal(result.output.bytes, "/\n/dev/null\n/etc/passwd\n");
	command_result_done(&result);
}

static void test_signals_are_as_at_the_start(void **state UNUSED)
{
	struct command command = make(SHELL("grep -E 'Sig(Blk|Ign)' /proc/self/status"));
	struct command_result result = { 0 };
	unsigned long long is_blocked = 1;
	unsigned long long is_ignored = 1;
	sigset_t blocked;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(command_run(&command, &result, NULL), 0);
	assert_int_equal(sscanf(result.output.bytes, "SigBlk: %llx SigIgn: %llx", &is_blocked, &is_ignored), 2);
	assert_true(is_blocked == 0);
	assert_true((is_ignored & 0x7fffffff) == 0); /* 32 and 33 are the C library's own, which it does ignore */
	command_result_done(&result);
	sigprocmask(SIG_UNBLOCK, &blocked, NULL);
}

/* More than a pipe holds, in both directions at once. */
static void test_much_input_and_output(void **state UNUSED)
{
	struct command command = make((const char *const[]){ "cat", NULL });
	struct command_result result = { 0 };
	size_t length = 900000;
	char *input = xcalloc(1, length);

	for (size_t i = 0; i < length; i++)
		input[i] = (char)(i * 7);
	command.input = input;
	command.input_length = length;
	assert_int_equal(command_run(&command, &result, NULL), 0);
	assert_int_equal(result.output.length, length);
	assert_memory_equal(result.output.bytes, input, length);
	command_result_done(&result);
	free(input);
}

static void test_input_that_is_not_read(void **state UNUSED)
{
	struct command command = make((const char *const[]){ "true", NULL });
	struct command_result result = { 0 };
	char *input = xcalloc(1, 1000000);

	signal(SIGPIPE, SIG_IGN);
	command.input = input;
	command.input_length = 1000000;
	assert_int_equal(command_run(&command, &result, NULL), 0);
	assert_int_equal(result.status, 0);
	command_result_done(&result);
	free(input);
}

static void test_limits(void **state UNUSED)
{
	struct command command = make(SHELL("head -c 100000 /dev/zero"));
	struct command_result result = { 0 };
	struct err err = ERR_INIT;

	command.output_limit = 99999;
	assert_int_equal(command_run(&command, &result, &err), -EFBIG);
	assert_null(result.output.bytes);
	command.output_limit = 100000;
	assert_int_equal(command_run(&command, &result, &err), 0);
	assert_int_equal(result.output.length, 100000);
	command_result_done(&result);
	command.argv = SHELL("head -c 100000 /dev/zero >&2; echo done");
	assert_int_equal(command_run(&command, &result, &err), 0);
	assert_int_equal(result.errors.length, COMMAND_ERRORS_MAX);
	assert_string_equal(result.output.bytes, "done\n");
	command_result_done(&result);
}

/* The grandchild is ended as well: nobody has the pipe open any more. */
static void test_the_time_limit(void **state UNUSED)
{
	struct command command = make(SHELL("sleep 100 & sleep 100"));
	struct command_result result = { 0 };
	struct err err = ERR_INIT;
	uint64_t before_ns = clock_monotonic_ns();
	int ends[2];
	char byte;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	command.kept_fd = ends[1];
	command.timeout_ns = 50 * NS_PER_MS;
	assert_int_equal(command_run(&command, &result, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.text, "'sh'"));
	fd_close(&ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 0);
	fd_close(&ends[0]);
	assert_true(clock_monotonic_ns() - before_ns < 20 * NS_PER_SEC);
}

/* What it leaves in the background is not waited for, though it holds the pipe open. */
static void test_a_grandchild_that_stays(void **state UNUSED)
{
	struct command command = make(SHELL("sleep 100 & echo $!"));
	struct command_result result = { 0 };
	uint64_t before_ns = clock_monotonic_ns();

	assert_int_equal(command_run(&command, &result, NULL), 0);
	assert_true(clock_monotonic_ns() - before_ns < 20 * NS_PER_SEC);
	assert_int_equal(kill((pid_t)strtol(result.output.bytes, NULL, 10), SIGKILL), 0);
	command_result_done(&result);
}

static void test_what_cannot_be_started(void **state UNUSED)
{
	struct command command = make((const char *const[]){ "/no/such/program", NULL });
	struct command_result result = { 0 };
	struct err err = ERR_INIT;

	assert_int_equal(command_run(&command, &result, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/no/such/program"));
	command.argv = (const char *const[]){ "/etc/passwd", NULL };
	assert_int_equal(command_run(&command, &result, &err), -EACCES);
	assert_null(result.output.bytes);
}

static void test_death_by_signal(void **state UNUSED)
{
	struct command command = make(SHELL("kill -9 $$"));
	struct command_result result = { 0 };

	assert_int_equal(command_run(&command, &result, NULL), 0);
	assert_true(WIFSIGNALED(result.status));
	assert_int_equal(WTERMSIG(result.status), SIGKILL);
	command_result_done(&result);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_output_errors_and_status),
		cmocka_unit_test(test_no_output_is_an_empty_string),
		cmocka_unit_test(test_the_environment_is_exact),
		cmocka_unit_test(test_descriptors_and_directory),
		cmocka_unit_test(test_signals_are_as_at_the_start),
		cmocka_unit_test(test_much_input_and_output),
		cmocka_unit_test(test_input_that_is_not_read),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_the_time_limit),
		cmocka_unit_test(test_a_grandchild_that_stays),
		cmocka_unit_test(test_what_cannot_be_started),
		cmocka_unit_test(test_death_by_signal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
