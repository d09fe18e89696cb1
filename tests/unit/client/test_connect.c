/* Finding the daemon, and starting one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "client/connect.h"
#include "fake_daemon.h"

static void test_lock_file(void **state)
{
	struct fake fake;
	struct connect_lock lock = { 0 };
	struct err err = ERR_INIT;

	(void)state;
	fake_init(&fake);
	assert_int_equal(connect_read_lock(fake.state_dir, &lock, &err), -ENOENT);
	fake_write(&fake, "daemon.lock", "", 0600);
	assert_int_equal(connect_read_lock(fake.state_dir, &lock, &err), -EINVAL);
	fake_write(&fake, "daemon.lock", "pid 12\nsocket relative\n", 0600);
	assert_int_equal(connect_read_lock(fake.state_dir, &lock, &err), -EINVAL);
	fake_write(&fake, "daemon.lock", "pid 12\nfuture thing\nsocket /run/with blank/d.sock\nversion 0.2\n", 0600);
	assert_int_equal(connect_read_lock(fake.state_dir, &lock, &err), 0);
	assert_int_equal(lock.pid, 12);
	assert_string_equal(lock.socket, "/run/with blank/d.sock");
	assert_string_equal(lock.version, "0.2");
	/* A line that is still being written does not count. */
	fake_write(&fake, "daemon.lock", "pid 12\nsocket /run/dae", 0600);
	assert_int_equal(connect_read_lock(fake.state_dir, &lock, &err), -EINVAL);
	fake_end(&fake);
}

static void test_absence(void **state)
{
	struct fake fake;
	struct err err = ERR_INIT;
	char text[256];
	int code;

	(void)state;
	fake_init(&fake);
	code = connect_daemon(fake.state_dir, &err);
	assert_true(code < 0 && connect_is_absence(code));
	snprintf(text, sizeof(text), "socket %s/daemon.sock\n", fake.state_dir);
	fake_write(&fake, "daemon.lock", text, 0600);
	code = connect_daemon(fake.state_dir, &err);
	assert_true(code == -ENOENT && connect_is_absence(code));
	fake_write(&fake, "daemon.sock", "", 0600);
	code = connect_daemon(fake.state_dir, &err);
	assert_true(code == -ECONNREFUSED && connect_is_absence(code));
	assert_false(connect_is_absence(-EPERM));
	fake_end(&fake);
}

/* A socket whose path is longer than an address can hold. */
static void test_long_path(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	CLEANUP_FD int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CLEANUP_FD int fd = -1;
	char directory[512], path[600];
	struct err err = ERR_INIT;
	struct fake fake;

	(void)state;
	fake_init(&fake);
	snprintf(directory, sizeof(directory), "%s/%0200d", fake.state_dir, 7);
	snprintf(path, sizeof(path), "%s/daemon.sock", directory);
	assert_int_equal(mkdir(directory, 0700), 0);
	assert_int_equal(chdir(directory), 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "daemon.sock");
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	fd = connect_socket(path, &err);
	if (fd < 0)
		fail_msg("%s", err.text);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(directory), 0);
	fake_end(&fake);
}

static void test_inside_a_task_none_is_started(void **state)
{
	struct fake fake;
	struct err err = ERR_INIT;
	bool was_started = true;

	(void)state;
	fake_init(&fake);
	assert_int_equal(setenv("PARALLEL_TASK_ID", "12", 1), 0);
	assert_int_equal(connect_start(fake.state_dir, &was_started, &err), -ESRCH);
	assert_int_equal(unsetenv("PARALLEL_TASK_ID"), 0);
	assert_false(was_started);
	assert_non_null(strstr(err.text, "PARALLEL_TASK_ID is 12"));
	fake_end(&fake);
}

/* Keepers that fail: scripts in the keeper's place. */
static void check_keeper(const char *script, const char *says)
{
	struct fake fake;
	struct err err = ERR_INIT;
	bool was_started;

	fake_init(&fake);
	fake_write(&fake, "drover-keeper", script, 0700);
	assert_int_equal(setenv("DROVER_LIBEXEC_DIR", fake.state_dir, 1), 0);
	assert_int_equal(connect_start(fake.state_dir, &was_started, &err), -ECHILD);
	if (!strstr(err.text, says))
		fail_msg("'%s' is not in: %s", says, err.text);
	assert_int_equal(unsetenv("DROVER_LIBEXEC_DIR"), 0);
	fake_end(&fake);
}

static void test_keepers_that_fail(void **state)
{
	(void)state;
	check_keeper("#!/bin/sh\necho \"drover: it cannot be $1 $3\" >&2\necho more >&2\nexit 1\n",
	             "could not be started: it cannot be --state --detach");
	check_keeper("#!/bin/sh\nexit 7\n", "its keeper ended with status 7");
	check_keeper("#!/bin/sh\nkill -KILL $$\n", "its keeper was ended by signal 9");
	/* It worked, and ended since its daemon could not: the reason is in the log. */
	check_keeper("#!/bin/sh\necho '2026-01-01T00:00:00Z error: the database is of a newer drover' >> \"$2/daemon.log\"\n"
	             "echo '2026-01-01T00:00:00Z info: the daemon exited with 2' >> \"$2/daemon.log\"\nexit 0\n",
	             "could not be started: the database is of a newer drover");
}

static void test_no_keeper_at_all(void **state)
{
	struct fake fake;
	struct err err = ERR_INIT;
	bool was_started;

	(void)state;
	fake_init(&fake);
	assert_int_equal(setenv("DROVER_LIBEXEC_DIR", fake.state_dir, 1), 0);
	assert_int_equal(connect_start(fake.state_dir, &was_started, &err), -ENOENT);
	assert_non_null(strstr(err.text, "drover-keeper"));
	assert_int_equal(unsetenv("DROVER_LIBEXEC_DIR"), 0);
	fake_end(&fake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lock_file),         cmocka_unit_test(test_absence),
		cmocka_unit_test(test_long_path),         cmocka_unit_test(test_inside_a_task_none_is_started),
		cmocka_unit_test(test_keepers_that_fail), cmocka_unit_test(test_no_keeper_at_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
