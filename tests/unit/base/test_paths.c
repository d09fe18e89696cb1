/* test_paths.c - where files are, by the environment; each test sets all the variables that count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/paths.h"

static int clear_environment(void **state UNUSED)
{
	static const char *const names[] = { "HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR",
		"DROVER_STATE_DIR",
					     "DROVER_LIBEXEC_DIR" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unsetenv(names[i]);
	return 0;
}

static void test_state_dir(void **state UNUSED)
{
	struct err err = ERR_INIT;
	char path[PATHS_MAX];

	assert_int_equal(paths_state_dir(path, &err), -ENOENT);
	assert_non_null(strstr(err.text, "HOME"));
	setenv("HOME", "/h", 1);
	assert_int_equal(paths_state_dir(path, &err), 0);
	assert_string_equal(path, "/h/.local/state/drover");
	setenv("XDG_STATE_HOME", "relative", 1); /* to be ignored */
	assert_int_equal(paths_state_dir(path, &err), 0);
	assert_string_equal(path, "/h/.local/state/drover");
	setenv("XDG_STATE_HOME", "/x", 1);
	assert_int_equal(paths_state_dir(path, &err), 0);
	assert_string_equal(path, "/x/drover");
	setenv("DROVER_STATE_DIR", "/chosen", 1);
	assert_int_equal(paths_state_dir(path, &err), 0);
	assert_string_equal(path, "/chosen");
	setenv("DROVER_STATE_DIR", "chosen", 1);
	assert_int_equal(paths_state_dir(path, &err), -EINVAL);
}

static void test_too_long(void **state UNUSED)
{
	char name[PATHS_MAX + 10];
	struct err err = ERR_INIT;
	char path[PATHS_MAX];

	memset(name, 'a', sizeof(name));
	name[0] = '/';
	name[sizeof(name) - 1] = '\0';
	setenv("DROVER_STATE_DIR", name, 1);
	assert_int_equal(paths_state_dir(path, &err), -ENAMETOOLONG);
	unsetenv("DROVER_STATE_DIR");
	setenv("HOME", name, 1);
	assert_int_equal(paths_state_dir(path, &err), -ENAMETOOLONG);
	assert_int_equal(paths_config(path, &err), -ENAMETOOLONG);
}

static void test_socket(void **state UNUSED)
{
	char directory[] = "/tmp/test_paths.XXXXXX";
	char wanted[PATHS_MAX];
	struct err err = ERR_INIT;
	char path[PATHS_MAX];

	assert_non_null(mkdtemp(directory));
	assert_int_equal(paths_socket("/state", path, &err), 0);
	assert_string_equal(path, "/state/run/daemon.sock");
	setenv("XDG_RUNTIME_DIR", directory, 1);
	assert_int_equal(paths_socket("/state", path, &err), 0);
	snprintf(wanted, sizeof(wanted), "%s/drover/daemon.sock", directory);
	assert_string_equal(path, wanted);
	assert_int_equal(chmod(directory, 0777), 0); /* others may have been there first */
	assert_int_equal(paths_socket("/state", path, &err), 0);
	assert_string_equal(path, "/state/run/daemon.sock");
	assert_int_equal(chmod(directory, 0700), 0);
	setenv("DROVER_STATE_DIR", "/state", 1); /* a state of its own, a socket of its own */
	assert_int_equal(paths_socket("/state", path, &err), 0);
	assert_string_equal(path, "/state/run/daemon.sock");
	unsetenv("DROVER_STATE_DIR");
	assert_int_equal(rmdir(directory), 0);
	assert_int_equal(paths_socket("/state", path, &err), 0); /* it is gone */
	assert_string_equal(path, "/state/run/daemon.sock");
}

static void test_config(void **state UNUSED)
{
	struct err err = ERR_INIT;
	char path[PATHS_MAX];

	setenv("HOME", "/h", 1);
	assert_int_equal(paths_config(path, &err), 0);
	assert_string_equal(path, "/h/.config/drover/config.yaml");
	setenv("XDG_CONFIG_HOME", "/c", 1);
	assert_int_equal(paths_config(path, &err), 0);
	assert_string_equal(path, "/c/drover/config.yaml");
}

static void test_program(void **state UNUSED)
{
	struct err err = ERR_INIT;
	char path[PATHS_MAX];

	assert_int_equal(paths_program("test_paths", path, &err), 0); /* beside this executable */
	assert_int_equal(access(path, X_OK), 0);
	assert_int_equal(paths_program("no-such-program", path, &err), -ENOENT);
	assert_non_null(strstr(err.text, "no-such-program"));
	setenv("DROVER_LIBEXEC_DIR", "/elsewhere", 1);
	assert_int_equal(paths_program("drover-keeper", path, &err), 0);
	assert_string_equal(path, "/elsewhere/drover-keeper");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_state_dir, clear_environment),
		cmocka_unit_test_setup(test_too_long, clear_environment),
		cmocka_unit_test_setup(test_socket, clear_environment),
		cmocka_unit_test_setup(test_config,
			clear_environment),
		cmocka_unit_test_setup(test_program, clear_environment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
