/* test_holder.c - who may hold a lock file, told from a made-up /proc. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "platform/fs.h"
#include "platform/holder.h"

static const char *const directories[] = { "/repo/.git", "/repo", NULL };

struct place {
	char path[64];
	int dir;
	struct stat lock;
};

static void write_text(const struct place *place, const char *name, const char *text)
{
	int fd = openat(place->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
	fd_close(&fd);
}

/* A process 7 in the made-up /proc. */
static void make_process(const struct place *place, const char *name, const char *directory, const char *arguments)
{
	assert_int_equal(mkdirat(place->dir, "7", 0700), 0);
	assert_int_equal(mkdirat(place->dir, "7/fd", 0700), 0);
	write_text(place, "7/comm", name);
	write_text(place, "7/cmdline", arguments);
	write_text(place, "7/environ", "");
	assert_int_equal(symlinkat(directory, place->dir, "7/cwd"), 0);
}

static int set_up(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	snprintf(place->path, sizeof(place->path), "/tmp/drover-holder-XXXXXX");
	if (!mkdtemp(place->path))
		return -1;
	place->dir = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	write_text(place, "lock", "");
	write_text(place, "self", "no process");
	*state = place;
	return fstatat(place->dir, "lock", &place->lock, 0);
}

static int tear_down(void **state)
{
	struct place *place = *state;
	CLEANUP_FD int parent = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int error = fs_remove_tree(parent, strrchr(place->path, '/') + 1, NULL);

	fd_close(&place->dir);
	free(place);
	return error;
}

static void test_nobody(void **state)
{
	const struct place *place = *state;

	assert_int_equal(holder_find(place->path, &place->lock, directories), 0);
	make_process(place, "vim\n", "/repo", "vim");
	assert_int_equal(holder_find(place->path, &place->lock, directories), 0);
}

static void test_a_git_elsewhere(void **state)
{
	const struct place *place = *state;

	make_process(place, "git\n", "/repository", "git status");
	assert_int_equal(holder_find(place->path, &place->lock, directories), 0);
}

static void test_a_git_in_the_repository(void **state)
{
	const struct place *place = *state;

	make_process(place, "git\n", "/repo/src", "git commit");
	assert_int_equal(holder_find(place->path, &place->lock, directories), 7);
}

static void test_a_git_that_names_the_repository(void **state)
{
	const struct place *place = *state;

	make_process(place, "git-remote-http\n", "/", "git --git-dir=/repo/.git gc");
	assert_int_equal(holder_find(place->path, &place->lock, directories), 7);
	write_text(place, "7/cmdline", "git gc");
	assert_int_equal(holder_find(place->path, &place->lock, directories), 0);
	write_text(place, "7/environ", "GIT_DIR=/repo/.git");
	assert_int_equal(holder_find(place->path, &place->lock, directories), 7);
}

static void test_who_has_it_open(void **state)
{
	const struct place *place = *state;
	char target[80];

	make_process(place, "java\n", "/", "java");
	snprintf(target, sizeof(target), "%s/self", place->path);
	assert_int_equal(symlinkat(target, place->dir, "7/fd/3"), 0);
	assert_int_equal(holder_find(place->path, &place->lock, directories), 0);
	snprintf(target, sizeof(target), "%s/lock", place->path);
	assert_int_equal(symlinkat(target, place->dir, "7/fd/4"), 0);
	assert_int_equal(holder_find(place->path, &place->lock, directories), 7);
}

static void test_no_proc(void **state)
{
	const struct place *place = *state;

	assert_int_equal(holder_find("/nowhere", &place->lock, directories), -1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(nobody),
		TEST(a_git_elsewhere),
		TEST(a_git_in_the_repository),
		TEST(a_git_that_names_the_repository),
		TEST(who_has_it_open),
		TEST(no_proc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
