/* test_payload.c - orders taken apart, whole and broken; the environment of blob and settings. */
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
#include <unistd.h>

#include "base/fd.h"
#include "keeper/payload.h"

struct bench {
	struct payload payload;
	struct environment environment;
	char path[64];
	int dir;
	char order[256];
};

static int set_up(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	*state = bench;
	snprintf(bench->path, sizeof(bench->path), "/tmp/drover-payload-XXXXXX");
	if (!mkdtemp(bench->path))
		return -1;
	bench->dir = open(bench->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return 0;
}

static int tear_down(void **state)
{
	struct bench *bench = *state;

	unlinkat(bench->dir, "blob", 0);
	fd_close(&bench->dir);
	rmdir(bench->path);
	free(bench);
	return 0;
}

static const char whole[] = "/dir\0logs/1\0env/1\0input\0prog\0arg\0\0K=1\0L=2";

static int parse(struct bench *bench, uint32_t argc, uint32_t settings, char *bytes, size_t length)
{
	const struct wire_start start = { .argc = argc, .environment_count = settings };

	return payload_parse(&bench->payload, &start, bytes, length);
}

static void test_whole_order(void **state)
{
	struct bench *bench = *state;
	char bytes[sizeof(whole)];

	memcpy(bytes, whole, sizeof(whole));
	assert_int_equal(parse(bench, 3, 2, bytes, sizeof(bytes)), 0);
	assert_string_equal(bench->payload.directory, "/dir");
	assert_string_equal(bench->payload.log, "logs/1");
	assert_string_equal(bench->payload.blob, "env/1");
	assert_string_equal(bench->payload.input, "input");
	assert_string_equal(bench->payload.argv[0], "prog");
	assert_string_equal(bench->payload.argv[1], "arg");
	assert_string_equal(bench->payload.argv[2], "");
	assert_null(bench->payload.argv[3]);
	bench->payload.argv[-1] = bytes; /* the starter's place */
	payload_build_environment(&bench->payload, &bench->environment);
	assert_string_equal(bench->payload.envp[0], "K=1");
	assert_string_equal(bench->payload.envp[1], "L=2");
	assert_null(bench->payload.envp[2]);
}

static void test_every_cut_is_noticed(void **state)
{
	struct bench *bench = *state;

	for (size_t length = 0; length < sizeof(whole); length++) {
		char *bytes = malloc(length + 1); /* so that a look beyond is caught */

		memcpy(bytes, whole, length);
		assert_int_equal(parse(bench, 3, 2, bytes, length), -EINVAL);
		free(bytes);
	}
}

static void test_orders_that_are_none(void **state)
{
	struct bench *bench = *state;
	char bytes[sizeof(whole)];
	char relative[] = "dir\0logs/1\0\0\0prog";
	char logless[] = "/dir\0\0\0\0prog";

	memcpy(bytes, whole, sizeof(whole));
	assert_int_equal(parse(bench, 0, 5, bytes, sizeof(bytes)), -EINVAL);
	assert_int_equal(parse(bench, 3, 1, bytes, sizeof(bytes)), -EINVAL); /* something is left over */
	assert_int_equal(parse(bench, 3, 3, bytes, sizeof(bytes)), -EINVAL);
	assert_int_equal(parse(bench, UINT32_MAX, 2, bytes, sizeof(bytes)), -E2BIG);
	assert_int_equal(parse(bench, 3, UINT32_MAX, bytes, sizeof(bytes)), -E2BIG);
	assert_int_equal(parse(bench, 1, 0, relative, sizeof(relative)), -EINVAL);
	assert_int_equal(parse(bench, 1, 0, logless, sizeof(logless)), -EINVAL);
}

static void make_blob(const struct bench *bench, const char *bytes, size_t length)
{
	CLEANUP_FD int fd = openat(bench->dir, "blob", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, bytes, length), 0);
}

static void expect_environment(struct bench *bench, const char *settings, const char *expected)
{
	char head[] = "/\0log\0\0\0p";
	char *bytes = bench->order;
	char joined[256] = "";
	size_t length = sizeof(head);
	uint32_t count = 0;

	memcpy(bytes, head, sizeof(head));
	for (const char *at = settings; *at; at += strlen(at) + 1, count++) {
		memcpy(bytes + length, at, strlen(at) + 1);
		length += strlen(at) + 1;
	}
	assert_int_equal(parse(bench, 1, count, bytes, length), 0);
	payload_build_environment(&bench->payload, &bench->environment);
	for (char **setting = bench->payload.envp; *setting; setting++) {
		strncat(joined, *setting, sizeof(joined) - strlen(joined) - 1);
		strncat(joined, " ", sizeof(joined) - strlen(joined) - 1);
	}
	assert_string_equal(joined, expected);
}

static void test_environment(void **state)
{
	struct bench *bench = *state;
	static const char blob[] = "A=1\0B=2\0\0AB=3\0ODD\0LAST=4"; /* the last NUL is not in the file */

	make_blob(bench, blob, sizeof(blob) - 1);
	assert_int_equal(environment_load(&bench->environment, bench->dir, "blob"), 0);
	expect_environment(bench, "", "A=1 B=2 AB=3 ODD LAST=4 ");
	expect_environment(bench, "B=x\0A=\0\0", "AB=3 ODD LAST=4 B=x A= ");
	expect_environment(bench, "B=x\0B=y\0ODD=1\0\0", "A=1 AB=3 LAST=4 B=y ODD=1 ");
	make_blob(bench, "other", 5);
	assert_int_equal(environment_load(&bench->environment, bench->dir, "blob"), 0); /* kept: a blob does not change */
	expect_environment(bench, "", "A=1 B=2 AB=3 ODD LAST=4 ");
	assert_int_equal(environment_load(&bench->environment, bench->dir, ""), 0);
	expect_environment(bench, "", "");
	assert_int_equal(environment_load(&bench->environment, bench->dir, "blob"), 0);
	expect_environment(bench, "", "other ");
	assert_int_equal(environment_load(&bench->environment, bench->dir, "none"), -ENOENT);
	expect_environment(bench, "", "");
}

static void test_blob_over_the_limit(void **state)
{
	struct bench *bench = *state;
	char *bytes = calloc(1, LIMIT_ENVIRONMENT + 1);

	memset(bytes, 'x', LIMIT_ENVIRONMENT + 1);
	make_blob(bench, bytes, LIMIT_ENVIRONMENT);
	assert_int_equal(environment_load(&bench->environment, bench->dir, "blob"), 0);
	assert_int_equal(bench->environment.count, 1);
	assert_int_equal(environment_load(&bench->environment, bench->dir, ""), 0);
	make_blob(bench, bytes, LIMIT_ENVIRONMENT + 1);
	assert_int_equal(environment_load(&bench->environment, bench->dir, "blob"), -E2BIG);
	free(bytes);
}

static void test_search_path(void **state)
{
	struct bench *bench = *state;

	expect_environment(bench, "PATHS=/x\0PATH=/y:/z\0\0", "PATHS=/x PATH=/y:/z ");
	assert_string_equal(payload_search_path(&bench->payload), "/y:/z");
	expect_environment(bench, "", "");
	assert_non_null(strstr(payload_search_path(&bench->payload), "/bin"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_whole_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_every_cut_is_noticed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_orders_that_are_none, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_environment, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_blob_over_the_limit, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_search_path, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
