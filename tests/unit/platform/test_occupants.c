/* test_occupants.c - who works in a directory, what is mounted there, how much it holds. */
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

#include "base/buf.h"
#include "base/fd.h"
#include "platform/fs.h"
#include "platform/occupants.h"

struct place {
	char path[64];
	int fd;
};

static int set_up(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	snprintf(place->path, sizeof(place->path), "/tmp/drover-occupants-XXXXXX");
	if (!mkdtemp(place->path))
		return -1;
	place->fd = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = place;
	return place->fd < 0;
}

static int tear_down(void **state)
{
	struct place *place = *state;
	struct err err = ERR_INIT;
	int error;

	fd_close(&place->fd);
	place->fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	error = fs_remove_tree(place->fd, place->path + strlen("/tmp/"), &err);
	fd_close(&place->fd);
	free(place);
	return error;
}

static void make_directory(struct place *place, const char *name)
{
	assert_int_equal(mkdirat(place->fd, name, 0755), 0);
}

/* ---- processes ---- */

/* A process that goes to `directory` and waits for its standard input to end: its pid; *ret_input ends it. */
static pid_t start_occupant(int directory, int *ret_input)
{
	int input[2];
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe2(input, O_CLOEXEC), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		if (fchdir(directory) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		fd_close(&input[1]);
		_exit(read(input[0], &byte, 1) != 0);
	}
	assert_true(pid > 0);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	fd_close(&input[0]);
	fd_close(&ready[0]);
	fd_close(&ready[1]);
	*ret_input = input[1];
	return pid;
}

static void test_a_process_below_is_found(void **state)
{
	struct place *place = *state;
	struct occupant occupant = { 0 };
	CLEANUP_FD int deep = -1;
	int input;
	int status;
	pid_t pid;

	make_directory(place, "a");
	make_directory(place, "a/b");
	make_directory(place, "other");
	deep = openat(place->fd, "a/b", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(occupants_find_process("/proc", place->fd, &occupant), 0);
	pid = start_occupant(deep, &input);
	assert_int_equal(occupants_find_process("/proc", place->fd, &occupant), 1);
	assert_int_equal(occupant.pid, pid);
	assert_string_equal(occupant.command, "test_occupants");
	/* It is where it is, whatever the directories are called by now; and it is not beside that. */
	assert_int_equal(renameat(place->fd, "a", place->fd, "moved"), 0);
	assert_int_equal(occupants_find_process("/proc", deep, &occupant), 1);
	fd_close(&deep);
	deep = openat(place->fd, "other", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(occupants_find_process("/proc", deep, &occupant), 0);
	fd_close(&input);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(occupants_find_process("/proc", place->fd, &occupant), 0);
}

/* /proc is a parameter: names in it that are no pids, and pids without links, are passed over. */
static void test_an_odd_proc(void **state)
{
	struct place *place = *state;
	struct occupant occupant = { 0 };
	char path[96];

	make_directory(place, "proc");
	make_directory(place, "proc/12");
	make_directory(place, "proc/12x");
	make_directory(place, "proc/99999999999999999999");
	make_directory(place, "proc/self");
	make_directory(place, "in");
	assert_int_equal(symlinkat("../../in", place->fd, "proc/12x/cwd"), 0);
	assert_int_equal(symlinkat("../../in", place->fd, "proc/self/cwd"), 0);
	assert_int_equal(symlinkat("../../in", place->fd, "proc/99999999999999999999/cwd"), 0);
	snprintf(path, sizeof(path), "%s/proc", place->path);
	assert_int_equal(occupants_find_process(path, place->fd, &occupant), 0);
	assert_int_equal(symlinkat("../../in", place->fd, "proc/12/cwd"), 0);
	assert_int_equal(occupants_find_process(path, place->fd, &occupant), 1);
	assert_int_equal(occupant.pid, 12);
	assert_string_equal(occupant.command, "");
	snprintf(path, sizeof(path), "%s/none", place->path);
	assert_int_equal(occupants_find_process(path, place->fd, &occupant), -ENOENT);
}

/* ---- mounts ---- */

#define LINE(point) "36 35 98:0 /root " point " rw,noatime master:1 - ext3 /dev/root rw\n"

static void test_mounts_are_found(void **state)
{
	static const struct {
		const char *text;
		const char *path;
		const char *point; /* NULL = none */
	} rows[] = {
		{ LINE("/") LINE("/proc") LINE("/place/a"), "/place/a", "/place/a" },
		{ LINE("/") LINE("/place/a/b/c"), "/place/a", "/place/a/b/c" },
		{ LINE("/") LINE("/place/ab") LINE("/place"), "/place/a", NULL },
		{ LINE("/place/with\\040blank\\134\\011x"), "/place/with blank\\\tx", "/place/with blank\\\tx" },
		{ LINE("/place/with\\040blank/in"), "/place/with blank", "/place/with blank/in" },
		{ LINE("/place/a\\04"), "/place/a", NULL },
		{ "", "/place", NULL },
		{ "36 35 98:0 /root", "/place", NULL },
		{ "\n\n36 35 98:0 /root /place", "/place", "/place" },
		{ "garbage", "/place", NULL },
	};
	CLEANUP_BUF struct buf point = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		bool is_found = occupants_parse_mounts(rows[i].text, strlen(rows[i].text), rows[i].path, &point);

		assert_int_equal(is_found, rows[i].point != NULL);
		if (is_found)
			assert_string_equal(point.bytes, rows[i].point);
	}
	assert_int_equal(occupants_find_mount("/proc", "/proc", &point), 1);
	assert_string_equal(point.bytes, "/proc");
	assert_int_equal(occupants_find_mount("/nowhere", "/proc", &point), -ENOENT);
}

/* ---- size ---- */

static void make_file(struct place *place, const char *name, size_t length)
{
	CLEANUP_FD int fd = openat(place->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	char *bytes = calloc(1, length);

	memset(bytes, 'x', length);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, bytes, length), 0);
	assert_int_equal(fsync(fd), 0);
	free(bytes);
}

static void test_a_tree_is_measured(void **state)
{
	struct place *place = *state;
	uint64_t empty, full, linked, deep;

	assert_int_equal(occupants_measure(place->fd, &empty), 0);
	make_directory(place, "a");
	make_directory(place, "a/b");
	make_file(place, "a/b/one", 1 << 20);
	assert_int_equal(occupants_measure(place->fd, &full), 0);
	assert_in_range(full - empty, 1 << 20, (1 << 20) + 65536);
	/* Two links of one file are one file; what a link leads to is elsewhere. */
	assert_int_equal(linkat(place->fd, "a/b/one", place->fd, "two", 0), 0);
	assert_int_equal(symlinkat("/usr", place->fd, "usr"), 0);
	assert_int_equal(symlinkat("..", place->fd, "a/up"), 0);
	assert_int_equal(occupants_measure(place->fd, &linked), 0);
	assert_in_range(linked, full, full + 8192);
	for (int i = 0; i < 50; i++) {
		char name[32];

		snprintf(name, sizeof(name), "a/b/d%d", i);
		make_directory(place, name);
	}
	make_file(place, "a/b/d49/x", 1 << 20);
	assert_int_equal(occupants_measure(place->fd, &deep), 0);
	assert_true(deep >= linked + (1 << 20));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_process_below_is_found, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_an_odd_proc, set_up, tear_down),
		cmocka_unit_test(test_mounts_are_found),
		cmocka_unit_test_setup_teardown(test_a_tree_is_measured, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
