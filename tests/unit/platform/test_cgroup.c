/* test_cgroup.c - finding the mount in texts of all sorts; groups on this kernel, where they can be made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "platform/cgroup.h"
#include "platform/spawn.h"

enum { LIMIT_MS = 20000 };

struct fixture {
	char path[64];
	struct cgroup_place place; /* of this machine; mount "" = none */
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	*state = fixture;
	snprintf(fixture->path, sizeof(fixture->path), "/tmp/drover-cgroup-XXXXXX");
	if (cgroup_find("/proc/self", &fixture->place) < 0)
		fixture->place.mount[0] = '\0';
	return mkdtemp(fixture->path) ? 0 : -1;
}

static void name_file(const struct fixture *fixture, const char *name, char path[96])
{
	snprintf(path, 96, "%s/%s", fixture->path, name);
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	char path[96];

	name_file(fixture, "cgroup", path);
	unlink(path);
	name_file(fixture, "mountinfo", path);
	unlink(path);
	rmdir(fixture->path);
	free(fixture);
	return 0;
}

static void make_file(const struct fixture *fixture, const char *name, const char *text)
{
	char path[96];
	CLEANUP_FD int fd = -1;

	name_file(fixture, name, path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

static void test_texts_without_a_mount(void **state)
{
	struct fixture *fixture = *state;
	struct cgroup_place place;

	assert_int_equal(cgroup_find(fixture->path, &place), -ENOENT); /* no files */
	make_file(fixture, "cgroup", "4:memory:/x\n0::/own\n");
	make_file(fixture, "mountinfo", "");
	assert_int_equal(cgroup_find(fixture->path, &place), -ENOENT);
	make_file(fixture, "mountinfo", "31 2 0:28 / /tmp rw - tmpfs t rw\n41 31 0:38 / /sys/x rw - cgroup c rw\n");
	assert_int_equal(cgroup_find(fixture->path, &place), -ENOENT);
	make_file(fixture, "mountinfo", "41 31 0:38 / /tmp rw,relatime - cgroup2 cgroup2 rw\n"); /* a lie: statfs says so */
	assert_int_equal(cgroup_find(fixture->path, &place), -ENOENT);
	make_file(fixture, "mountinfo", "41 - cgroup2 \n - cgroup2 x y z\n\n");
	assert_int_equal(cgroup_find(fixture->path, &place), -ENOENT);
}

static void require_mount(const struct fixture *fixture)
{
	if (fixture->place.mount[0] == '\0') {
		print_message("skipped: no cgroup2 file system is mounted\n");
		skip();
	}
}

static void test_own_group_below_the_mount(void **state)
{
	struct fixture *fixture = *state;
	struct cgroup_place place;
	char text[2 * CGROUP_PATH_MAX];

	require_mount(fixture);
	snprintf(text, sizeof(text), "30 1 0:1 / / rw - ext4 x rw\n41 31 0:38 / %s rw,relatime shared:4 - cgroup2 c rw\n",
	         fixture->place.mount);
	make_file(fixture, "mountinfo", text);
	make_file(fixture, "cgroup", "4:memory:/else\n0::/user.slice/a b\n");
	assert_int_equal(cgroup_find(fixture->path, &place), 0);
	assert_string_equal(place.mount, fixture->place.mount);
	assert_string_equal(place.own, "/user.slice/a b");

	/* A container that sees only its part: the mount's root is cut off; what lies outside is not reached. */
	snprintf(text, sizeof(text), "41 31 0:38 /docker/77 %s rw - cgroup2 cgroup2 rw\n", fixture->place.mount);
	make_file(fixture, "mountinfo", text);
	make_file(fixture, "cgroup", "0::/docker/77/sub\n");
	assert_int_equal(cgroup_find(fixture->path, &place), 0);
	assert_string_equal(place.own, "/sub");
	make_file(fixture, "cgroup", "0::/docker/77\n");
	assert_int_equal(cgroup_find(fixture->path, &place), 0);
	assert_string_equal(place.own, "/");
	make_file(fixture, "cgroup", "0::/docker/778\n");
	assert_int_equal(cgroup_find(fixture->path, &place), -ENOENT);
}

/* A base of our own; −1 with a skip when this user may not make one. */
static int make_base(const struct fixture *fixture, char parent[2 * CGROUP_PATH_MAX], char name[CGROUP_NAME_MAX])
{
	struct err err = ERR_INIT;
	int fd = -1;

	require_mount(fixture);
	snprintf(parent, 2 * CGROUP_PATH_MAX, "%s%s", fixture->place.mount, fixture->place.own);
	snprintf(name, CGROUP_NAME_MAX, "drover-test-%d", (int)getpid());
	if (cgroup_make(parent, name, &fd, &err) < 0) {
		print_message("skipped: %s\n", err.text);
		skip();
	}
	return fd;
}

static void remove_base(int *base, const char *parent, const char *name)
{
	CLEANUP_FD int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	cgroup_leave(base, name);
	assert_int_equal(*base, -1);
	assert_int_equal(faccessat(fd, name, F_OK, 0), -1);
}

static pid_t start_member(const struct cgroup *cgroup, const char *program, const char *argument)
{
	char *words[] = { NULL, (char *)(uintptr_t)program, (char *)(uintptr_t)argument, NULL };
	char *none[] = { NULL };
	struct spawn spawn = { .argv = words + 1, .envp = none, .fds = (int[]){ 0, 1, 2 }, .fd_count = 3,
		               .cgroup_fd = cgroup->dir };
	struct spawner spawner;
	struct spawned spawned;

	assert_int_equal(spawn_init(&spawner), 0);
	assert_int_equal(spawn_process(&spawner, &spawn, &spawned), 0);
	return spawned.pid;
}

static void wait_until_populated(const struct cgroup *cgroup, int wanted)
{
	struct pollfd item = { .fd = cgroup->events, .events = POLLPRI };

	while (cgroup_is_populated(cgroup) != wanted)
		assert_int_equal(poll(&item, 1, LIMIT_MS), 1);
}

static void test_members(void **state)
{
	char parent[2 * CGROUP_PATH_MAX], name[CGROUP_NAME_MAX];
	int base = make_base(*state, parent, name);
	struct cgroup cgroup = CGROUP_NONE;
	int status;
	pid_t pid;

	assert_int_equal(cgroup_open(base, "slot-0", &cgroup), 0);
	assert_int_equal(cgroup_is_populated(&cgroup), 0);
	assert_int_equal(cgroup_count(&cgroup), 0);
	pid = start_member(&cgroup, "/bin/sleep", "1000");
	assert_int_equal(cgroup_is_populated(&cgroup), 1);
	assert_int_equal(cgroup_count(&cgroup), 1);
	assert_int_equal(cgroup_signal(&cgroup, SIGTERM), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WTERMSIG(status), SIGTERM);
	wait_until_populated(&cgroup, 0);
	pid = start_member(&cgroup, "/bin/true", NULL); /* it may be used again */
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	cgroup_close(&cgroup);
	remove_base(&base, parent, name);
}

static void test_kill_of_a_frozen_group(void **state)
{
	char parent[2 * CGROUP_PATH_MAX], name[CGROUP_NAME_MAX];
	int base = make_base(*state, parent, name);
	struct cgroup cgroup = CGROUP_NONE;
	int status;
	pid_t pid;

	assert_int_equal(cgroup_open(base, "slot-0", &cgroup), 0);
	pid = start_member(&cgroup, "/bin/sleep", "1000");
	assert_int_equal(cgroup_freeze(&cgroup, true), 0);
	assert_int_equal(cgroup_kill(&cgroup), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WTERMSIG(status), SIGKILL);
	wait_until_populated(&cgroup, 0);
	cgroup_close(&cgroup);
	remove_base(&base, parent, name);
}

static void test_group_in_use_is_not_removed(void **state)
{
	char parent[2 * CGROUP_PATH_MAX], name[CGROUP_NAME_MAX];
	int base = make_base(*state, parent, name);
	struct cgroup used = CGROUP_NONE, unused = CGROUP_NONE;
	int status;
	pid_t pid;

	assert_int_equal(cgroup_open(base, "used", &used), 0);
	assert_int_equal(cgroup_open(base, "unused", &unused), 0);
	pid = start_member(&used, "/bin/sleep", "1000");
	cgroup_remove_children(base);
	assert_int_equal(faccessat(base, "unused", F_OK, 0), -1);
	assert_int_equal(faccessat(base, "used", F_OK, 0), 0);
	assert_true(cgroup_is_populated(&unused) < 0); /* gone under our hands: told, not taken for empty */
	cgroup_kill(&used);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	wait_until_populated(&used, 0);
	cgroup_close(&used);
	cgroup_close(&unused);
	remove_base(&base, parent, name);
}

static void test_last_holder_removes_the_base(void **state)
{
	char parent[2 * CGROUP_PATH_MAX], name[CGROUP_NAME_MAX];
	int first = make_base(*state, parent, name);
	int copy = fcntl(first, F_DUPFD_CLOEXEC, 0); /* as a shim has it */
	struct cgroup cgroup = CGROUP_NONE;
	struct err err = ERR_INIT;
	int second = -1;

	assert_int_equal(cgroup_open(first, "slot-0", &cgroup), 0);
	cgroup_close(&cgroup);
	assert_int_equal(cgroup_make(parent, name, &second, &err), 0);
	cgroup_leave(&first, name);
	cgroup_leave(&second, name);
	assert_int_equal(faccessat(copy, "slot-0", F_OK, 0), 0);
	cgroup_leave(&copy, name);
	first = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(faccessat(first, name, F_OK, 0), -1);
	fd_close(&first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_texts_without_a_mount, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_own_group_below_the_mount, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_members, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_kill_of_a_frozen_group, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_group_in_use_is_not_removed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_last_holder_removes_the_base, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
