/* Settings: the user's file, and that a repository can only tighten. */
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
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/limits.h"
#include "config/config.h"

struct place {
	char directory[64];
	char user[96];
	char repository[96];
};

static int set_up(void **state)
{
	struct place *place = xcalloc(1, sizeof(*place));

	snprintf(place->directory, sizeof(place->directory), "/tmp/drover-config-XXXXXX");
	assert_non_null(mkdtemp(place->directory));
	snprintf(place->user, sizeof(place->user), "%s/config.yaml", place->directory);
	snprintf(place->repository, sizeof(place->repository), "%s/.parallel.yaml", place->directory);
	*state = place;
	return 0;
}

static int tear_down(void **state)
{
	struct place *place = *state;

	unlink(place->user);
	unlink(place->repository);
	assert_int_equal(rmdir(place->directory), 0);
	free(place);
	return 0;
}

static void write_file(const char *path, const char *text)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

/* Loads what the place holds: the user's file, then the repository's. */
static void load(const struct place *place, struct drover_config *config)
{
	struct err err = ERR_INIT;

	if (config_load_user(place->user, config, &err) < 0 || config_load_repository(place->directory, config, &err) < 0)
		fail_msg("%s", err.text);
}

static void test_defaults_without_files(void **state)
{
	struct drover_config config;

	load(*state, &config);
	assert_int_equal(config.max_parallel.value, 0);
	assert_int_equal(config.hard_max_concurrent.value, 50);
	assert_int_equal(config.default_timeout_ns.value, 0);
	assert_int_equal(config.cleanup_on_complete.value, 1);
	assert_int_equal(config.cleanup_on_fail.value, 0);
	assert_int_equal(config.keep_tasks.value, 10000);
	assert_int_equal(config.keep_days.value, 30);
	assert_int_equal(config.log_head_bytes.value, MIB);
	assert_int_equal(config.log_tail_bytes.value, 16 * MIB);
	assert_int_equal(config.max_parallel.origin, CONFIG_FROM_DEFAULT);
	assert_string_equal(config_origin_name(CONFIG_FROM_REPOSITORY), "repository");
}

static void test_user_file(void **state)
{
	const struct place *place = *state;
	struct drover_config config;

	write_file(place->user,
	           "maxParallel: 6\nlimits: {hardMaxConcurrent: 100, defaultTimeout: 1h30m}\n"
	           "cleanupOnComplete: false\ncleanupOnFail: true\nkeep: {tasks: 5, days: 2}\nlog: {head: 64K, tail: 1M}\n");
	load(place, &config);
	assert_int_equal(config.max_parallel.value, 6);
	assert_int_equal(config.max_parallel.origin, CONFIG_FROM_USER);
	assert_int_equal(config.max_parallel.line, 1);
	assert_int_equal(config.hard_max_concurrent.value, 100);
	assert_int_equal(config.default_timeout_ns.value, 90 * NS_PER_MIN);
	assert_int_equal(config.cleanup_on_complete.value, 0);
	assert_int_equal(config.cleanup_on_fail.value, 1);
	assert_int_equal(config.keep_tasks.value, 5);
	assert_int_equal(config.keep_days.value, 2);
	assert_int_equal(config.log_head_bytes.value, 64 * KIB);
	assert_int_equal(config.log_tail_bytes.value, MIB);
}

static void test_bare_numbers_of_source_keys_are_milliseconds(void **state)
{
	const struct place *place = *state;
	struct drover_config config;

	write_file(place->user, "limits: {defaultTimeout: 3600000}\n");
	load(place, &config);
	assert_int_equal(config.default_timeout_ns.value, NS_PER_HOUR);
	write_file(place->user, "limits: {defaultTimeout: null}\n");
	load(place, &config);
	assert_int_equal(config.default_timeout_ns.value, 0);
}

static const struct tighten {
	const char *user;
	const char *repository;
	uint64_t value;
	enum config_origin origin;
	size_t offset;
} tightenings[] = {
#define ROW(user, repository, value, origin, field)                                                                         \
	{                                                                                                                   \
		user, repository, value, origin, offsetof(struct drover_config, field)                                      \
	}
	ROW("maxParallel: 4", "maxParallel: 2", 2, CONFIG_FROM_REPOSITORY, max_parallel),
	ROW("maxParallel: 4", "maxParallel: 8", 4, CONFIG_FROM_USER, max_parallel),
	ROW("maxParallel: 4", "maxParallel: auto", 4, CONFIG_FROM_USER, max_parallel),
	ROW("maxParallel: auto", "maxParallel: 8", 8, CONFIG_FROM_REPOSITORY, max_parallel),
	ROW("", "maxParallel: 8", 8, CONFIG_FROM_REPOSITORY, max_parallel),
	ROW("", "limits: {hardMaxConcurrent: 100}", 50, CONFIG_FROM_DEFAULT, hard_max_concurrent),
	ROW("", "limits: {hardMaxConcurrent: 10}", 10, CONFIG_FROM_REPOSITORY, hard_max_concurrent),
	ROW("", "limits: {defaultTimeout: 1h}", NS_PER_HOUR, CONFIG_FROM_REPOSITORY, default_timeout_ns),
	ROW("limits: {defaultTimeout: 1m}", "limits: {defaultTimeout: 1h}", NS_PER_MIN, CONFIG_FROM_USER,
	    default_timeout_ns),
	ROW("limits: {defaultTimeout: 1m}", "limits: {defaultTimeout: 0}", NS_PER_MIN, CONFIG_FROM_USER, default_timeout_ns),
	ROW("", "cleanupOnComplete: false", 0, CONFIG_FROM_REPOSITORY, cleanup_on_complete),
	ROW("cleanupOnComplete: false", "cleanupOnComplete: true", 0, CONFIG_FROM_USER, cleanup_on_complete),
	ROW("", "cleanupOnFail: true", 0, CONFIG_FROM_DEFAULT, cleanup_on_fail),
	ROW("", "log: {tail: 1G}", 16 * MIB, CONFIG_FROM_DEFAULT, log_tail_bytes),
	ROW("", "log: {tail: 1M}", MIB, CONFIG_FROM_REPOSITORY, log_tail_bytes),
};

static void test_a_repository_only_tightens(void **state)
{
	const struct place *place = *state;

	for (size_t i = 0; i < ARRAY_SIZE(tightenings); i++) {
		const struct tighten *row = &tightenings[i];
		const struct config_value *value;
		struct drover_config config;

		write_file(place->user, row->user);
		write_file(place->repository, row->repository);
		load(place, &config);
		value = (const struct config_value *)((const char *)&config + row->offset);
		if (value->value != row->value || value->origin != row->origin)
			fail_msg("user '%s', repository '%s': %llu from %s", row->user, row->repository,
			         (unsigned long long)value->value, config_origin_name(value->origin));
	}
}

static const struct fault {
	const char *text;
	const char *place;
	const char *says;
} faults[] = {
	{ "maxParalel: 3\n", ":1:1: ", "did you mean 'maxParallel'?" },
	{ "limits:\n  hardMax: 3\n", ":2:3: ", "hardMaxConcurrent" },
	{ "limit: {}\n", ":1:1: ", "did you mean 'limits'?" },
	{ "limits: 3\n", ":1:9: ", "give a map" },
	{ "maxParallel: many\n", ":1:14: ", "'many'" },
	{ "log: {head: 100}\n", ":1:13: ", "has no unit" },
	{ "limits: {defaultTimeout: x}\n", ":1:26: ", "no duration" },
	{ "cleanupOnFail: 1\n", ":1:16: ", "true or false" },
	{ "- a\n", ":1:1: ", "give a map" },
	{ "maxParallel: 3\nmaxParallel: 4\n", ":2:1: ", "given twice" },
};

static void test_faults_change_nothing(void **state)
{
	const struct place *place = *state;

	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		struct drover_config config;
		struct drover_config before;
		struct err err = ERR_INIT;

		config_init(&config);
		before = config;
		write_file(place->user, faults[i].text);
		write_file(place->repository, faults[i].text);
		assert_int_equal(config_load_user(place->user, &config, &err), -EINVAL);
		if (!strstr(err.text, faults[i].place) || !strstr(err.text, faults[i].says))
			fail_msg("for '%s': %s", faults[i].text, err.text);
		assert_int_equal(config_load_repository(place->directory, &config, &err), -EINVAL);
		assert_memory_equal(&config, &before, sizeof(config));
	}
}

static void test_a_repository_may_not_say_what_is_remembered(void **state)
{
	const struct place *place = *state;
	struct drover_config config;
	struct err err = ERR_INIT;

	config_init(&config);
	write_file(place->repository, "maxParallel: 2\nkeep: {days: 1}\n");
	assert_int_equal(config_load_repository(place->directory, &config, &err), -EINVAL);
	assert_non_null(strstr(err.text, ".parallel.yaml:2:8: 'days' is not for a repository"));
	assert_int_equal(config.max_parallel.value, 0);
}

/* Keys that nothing heeds yet: right values are taken and remembered as such, wrong ones are faults. */
static void test_planned_keys(void **state)
{
	const struct place *place = *state;
	struct drover_config config;
	struct err err = ERR_INIT;
	unsigned told = 0;

	config_init(&config);
	assert_int_equal(config.planned, 0);
	write_file(place->repository, "maxMemoryUsagePercent: 85\nmergeStrategy: squash\nverbose: true\n");
	assert_int_equal(config_load_repository(place->directory, &config, &err), 0);
	for (unsigned n = 0; n < CONFIG_PLANNED_MAX; n++)
		told += config.planned & 1u << n && config_planned_name(n);
	assert_int_equal(told, 2); /* nobody relies on verbose */
	write_file(place->repository, "maxMemoryUsagePercent: 101\n");
	assert_int_equal(config_load_repository(place->directory, &config, &err), -EINVAL);
	write_file(place->repository, "mergeStrategy: octopus\n");
	assert_int_equal(config_load_repository(place->directory, &config, &err), -EINVAL);
}

static void test_notify_is_the_users_alone(void **state)
{
	const struct place *place = *state;
	struct drover_config config;
	json_t *command = NULL;
	struct err err = ERR_INIT;

	write_file(place->user, "notify: [notify-send, 'a b']\nnotifyAfter: 5m\n");
	assert_int_equal(config_load_notify(place->user, &config, &command, &err), 0);
	assert_int_equal(json_array_size(command), 2);
	assert_string_equal(json_string_value(json_array_get(command, 1)), "a b");
	assert_true(config.notify_after_ns.value == 5 * NS_PER_MIN);
	json_decref(command);
	assert_int_equal(config_load_user(place->user, &config, &err), 0);
	write_file(place->user, "notify: notify-send done\n"); /* looks like a shell's */
	assert_int_equal(config_load_notify(place->user, &config, &command, &err), -EINVAL);
	write_file(place->repository, "notify: [true]\n");
	assert_int_equal(config_load_repository(place->directory, &config, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_defaults_without_files, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_user_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bare_numbers_of_source_keys_are_milliseconds, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_repository_only_tightens, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_faults_change_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_repository_may_not_say_what_is_remembered, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_planned_keys, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_notify_is_the_users_alone, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
