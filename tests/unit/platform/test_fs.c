/* test_fs.c - opening, writing and removing beneath a directory, with links and odd trees in the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "platform/fs.h"

struct place {
	char path[64];
	int fd;
};

static int set_up(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	snprintf(place->path, sizeof(place->path), "/tmp/drover-fs-XXXXXX");
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
	int error = 0;

	fd_close(&place->fd);
	place->fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	error = fs_remove_tree(place->fd, place->path + strlen("/tmp/"), &err);
	fd_close(&place->fd);
	free(place);
	return error;
}

static void make_file(int dirfd, const char *name, const char *text)
{
	CLEANUP_FD int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

static bool is_there(int dirfd, const char *name)
{
	return faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void assert_says(int dirfd, const char *name, const char *text)
{
	struct buf content = BUF_INIT;

	assert_int_equal(fs_read_file(dirfd, name, &content, 1000), 0);
	assert_string_equal(content.bytes, text);
	buf_done(&content);
}

static void test_open_stays_beneath(void **state)
{
	const struct place *place = *state;
	int fd;

	mkdirat(place->fd, "in", 0755);
	make_file(place->fd, "in/file", "f");
	assert_int_equal(symlinkat("in", place->fd, "link"), 0);
	assert_int_equal(symlinkat("/etc/passwd", place->fd, "out"), 0);
	assert_int_equal(fs_open_beneath(place->fd, "out", O_RDONLY, 0), -ELOOP);
	assert_int_equal(fs_open_beneath(place->fd, "link/file", O_RDONLY, 0), -ELOOP);
	assert_int_equal(fs_open_beneath(place->fd, "../../etc/passwd", O_RDONLY, 0), -EXDEV);
	assert_int_equal(fs_open_beneath(place->fd, "/etc/passwd", O_RDONLY, 0), -EXDEV);
	assert_int_equal(fs_open_beneath(place->fd, "none", O_RDONLY, 0), -ENOENT);
	fd = fs_open_beneath(place->fd, "in/file", O_RDONLY, 0);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	fd_close(&fd);
}

static void test_make_directory(void **state)
{
	const struct place *place = *state;
	int fd = fs_make_directory(place->fd, "new", 0700);

	assert_true(fd >= 0);
	fd_close(&fd);
	fd = fs_make_directory(place->fd, "new", 0700);
	assert_true(fd >= 0);
	fd_close(&fd);
	make_file(place->fd, "file", "");
	assert_int_equal(symlinkat("new", place->fd, "link"), 0);
	assert_int_equal(fs_make_directory(place->fd, "file", 0700), -ENOTDIR);
	fd = fs_make_directory(place->fd, "link", 0700);
	assert_true(fd == -ELOOP || fd == -ENOTDIR);
}

static void test_read_file(void **state)
{
	const struct place *place = *state;
	struct buf content = BUF_INIT;

	make_file(place->fd, "file", "12345");
	assert_int_equal(fs_read_file(place->fd, "file", &content, 5), 0);
	assert_int_equal(fs_read_file(place->fd, "file", &content, 5), 0);
	assert_string_equal(content.bytes, "1234512345");
	assert_int_equal(fs_read_file(place->fd, "file", &content, 4), -EFBIG);
	assert_int_equal(mkfifoat(place->fd, "fifo", 0600), 0);
	assert_int_equal(fs_read_file(place->fd, "fifo", &content, 5), -EINVAL);
	assert_int_equal(fs_read_file(place->fd, "none", &content, 5), -ENOENT);
	buf_done(&content);
}

static void test_write_atomic(void **state)
{
	const struct place *place = *state;
	struct stat st;

	make_file(place->fd, "target", "t");
	assert_int_equal(fs_write_atomic(place->fd, "file", "one", 3, 0640), 0);
	assert_says(place->fd, "file", "one");
	make_file(place->fd, "file.new", "left by a killed writer");
	assert_int_equal(fs_write_atomic(place->fd, "file", "two", 3, 0640), 0);
	assert_says(place->fd, "file", "two");
	assert_int_equal(symlinkat("target", place->fd, "file.new"), 0);
	assert_int_equal(fs_write_atomic(place->fd, "file", "three", 5, 0640), 0);
	assert_says(place->fd, "file", "three");
	assert_says(place->fd, "target", "t");
	assert_false(is_there(place->fd, "file.new"));
	assert_int_equal(fstatat(place->fd, "file", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
}

static void test_write_atomic_fails_whole(void **state)
{
	const struct place *place = *state;
	char name[300];

	assert_int_equal(mkdirat(place->fd, "file", 0755), 0);
	assert_int_equal(fs_write_atomic(place->fd, "file", "x", 1, 0644), -EISDIR);
	assert_false(is_there(place->fd, "file.new"));
	memset(name, 'x', sizeof(name));
	name[252] = '\0';
	assert_int_equal(fs_write_atomic(place->fd, name, "x", 1, 0644), -ENAMETOOLONG);
}

static void test_remove_simple_things(void **state)
{
	const struct place *place = *state;

	assert_int_equal(fs_remove_tree(place->fd, "none", NULL), 0);
	make_file(place->fd, "file", "");
	assert_int_equal(fs_remove_tree(place->fd, "file", NULL), 0);
	make_file(place->fd, "kept", "");
	assert_int_equal(mkdirat(place->fd, "keptdir", 0755), 0);
	make_file(place->fd, "keptdir/x", "");
	assert_int_equal(symlinkat("keptdir", place->fd, "link"), 0);
	assert_int_equal(fs_remove_tree(place->fd, "link", NULL), 0);
	assert_false(is_there(place->fd, "link"));
	assert_true(is_there(place->fd, "keptdir/x"));
}

static void test_remove_a_tree_with_links_out_of_it(void **state)
{
	const struct place *place = *state;

	mkdirat(place->fd, "outside", 0755);
	make_file(place->fd, "outside/precious", "p");
	mkdirat(place->fd, "tree", 0755);
	mkdirat(place->fd, "tree/a", 0755);
	mkdirat(place->fd, "tree/a/b", 0755);
	make_file(place->fd, "tree/a/b/file", "");
	assert_int_equal(symlinkat("../../outside", place->fd, "tree/a/link"), 0);
	assert_int_equal(symlinkat("../outside", place->fd, "tree/link"), 0);
	mkfifoat(place->fd, "tree/a/fifo", 0600);
	assert_int_equal(fs_remove_tree(place->fd, "tree", NULL), 0);
	assert_false(is_there(place->fd, "tree"));
	assert_true(is_there(place->fd, "outside/precious"));
}

/* Deeper than any path can be, and far deeper than there are descriptors. */
static void test_remove_a_deep_tree(void **state)
{
	const struct place *place = *state;
	int at = fcntl(place->fd, F_DUPFD_CLOEXEC, 0);

	for (int i = 0; i < 3000; i++) {
		int next;

		assert_int_equal(mkdirat(at, "deep", 0755), 0);
		next = openat(at, "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		if (i % 100 == 0)
			make_file(next, "file", "");
		fd_close(&at);
		at = next;
	}
	fd_close(&at);
	assert_int_equal(fs_remove_tree(place->fd, "deep", NULL), 0);
	assert_false(is_there(place->fd, "deep"));
}

static void test_remove_a_wide_tree(void **state)
{
	const struct place *place = *state;

	assert_int_equal(mkdirat(place->fd, "wide", 0755), 0);
	for (int i = 0; i < 600; i++) {
		char name[40];

		snprintf(name, sizeof(name), "wide/%d", i);
		if (i % 3 != 0) {
			make_file(place->fd, name, "");
			continue;
		}
		assert_int_equal(mkdirat(place->fd, name, 0755), 0);
		snprintf(name, sizeof(name), "wide/%d/inner", i);
		assert_int_equal(mkdirat(place->fd, name, 0755), 0);
		snprintf(name, sizeof(name), "wide/%d/inner/file", i);
		make_file(place->fd, name, "");
	}
	assert_int_equal(fs_remove_tree(place->fd, "wide", NULL), 0);
	assert_false(is_there(place->fd, "wide"));
}

/* In a child without privileges, for whom modes count. Exit status 0 = it went as it should. */
static void in_child(const struct place *place, int (*check)(const struct place *place))
{
	pid_t pid = fork();
	int status = 0;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(check(place));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

static int remove_without_permissions(const struct place *place)
{
	if (geteuid() == 0 && (fchown(place->fd, 65534, 65534) < 0 || setgid(65534) < 0 || setuid(65534) < 0))
		return 77;
	if (mkdirat(place->fd, "tree", 0700) < 0 || mkdirat(place->fd, "tree/a", 0700) < 0 ||
	    mkdirat(place->fd, "tree/a/b", 0700) < 0 || mkdirat(place->fd, "tree/a/b/c", 0700) < 0)
		return 1;
	make_file(place->fd, "tree/a/b/c/file", "");
	if (fchmodat(place->fd, "tree/a/b/c", 0500, 0) < 0 || fchmodat(place->fd, "tree/a/b", 0, 0) < 0 ||
	    fchmodat(place->fd, "tree/a", 0500, 0) < 0 || fchmodat(place->fd, "tree", 0, 0) < 0)
		return 2;
	if (fs_remove_tree(place->fd, "tree", NULL) < 0)
		return 3;
	return is_there(place->fd, "tree") ? 4 : 0;
}

static void test_remove_directories_without_permissions(void **state)
{
	in_child(*state, remove_without_permissions);
}

static int remove_with_mount(const struct place *place)
{
	char path[128];
	struct err err = ERR_INIT;
	int error;

	mkdirat(place->fd, "other", 0755);
	make_file(place->fd, "other/precious", "p");
	mkdirat(place->fd, "tree", 0755);
	mkdirat(place->fd, "tree/a", 0755);
	mkdirat(place->fd, "tree/a/mount", 0755);
	make_file(place->fd, "tree/a/file", "");
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return 77;
	snprintf(path, sizeof(path), "%s/tree/a/mount", place->path);
	if (chdir(place->path) < 0 || mount("other", path, NULL, MS_BIND, NULL) < 0)
		return 77;
	error = fs_remove_tree(place->fd, "tree", &err);
	if (error != -EXDEV || !strstr(err.text, "mount point"))
		return 1;
	if (!is_there(place->fd, "other/precious") || is_there(place->fd, "tree/a/file"))
		return 2;
	return is_there(place->fd, "tree") ? 0 : 3;
}

/* A bind mount has the same device number, so that alone would not show it. */
static void test_remove_does_not_enter_mounts(void **state)
{
	in_child(*state, remove_with_mount);
}

/* Two at the same tree: both succeed, and it is gone. */
static void test_remove_beside_another(void **state)
{
	const struct place *place = *state;
	int status = 0;
	pid_t pid;

	mkdirat(place->fd, "tree", 0755);
	for (int i = 0; i < 200; i++) {
		char name[40];

		snprintf(name, sizeof(name), "tree/%d", i);
		assert_int_equal(mkdirat(place->fd, name, 0755), 0);
		snprintf(name, sizeof(name), "tree/%d/in", i);
		assert_int_equal(mkdirat(place->fd, name, 0755), 0);
		snprintf(name, sizeof(name), "tree/%d/in/x", i);
		make_file(place->fd, name, "");
	}
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(fs_remove_tree(place->fd, "tree", NULL) < 0);
	assert_int_equal(fs_remove_tree(place->fd, "tree", NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_false(is_there(place->fd, "tree"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_open_stays_beneath, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_make_directory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_read_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_write_atomic, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_write_atomic_fails_whole, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_remove_simple_things, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_remove_a_tree_with_links_out_of_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_remove_a_deep_tree, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_remove_a_wide_tree, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_remove_directories_without_permissions, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_remove_does_not_enter_mounts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_remove_beside_another, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
