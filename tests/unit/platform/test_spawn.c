/* test_spawn.c - programs started by both ways of cloning, and starts that fail, told apart. */
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "platform/spawn.h"

struct bench {
	struct spawner spawner;
	char path[64];
};

static int set_up_with(void **state, bool has_no_clone3)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	*state = bench;
	snprintf(bench->path, sizeof(bench->path), "/tmp/drover-spawn-XXXXXX");
	if (!mkdtemp(bench->path) || spawn_init(&bench->spawner) < 0)
		return -1;
	bench->spawner.has_no_clone3 = has_no_clone3;
	return 0;
}

static int set_up(void **state)
{
	return set_up_with(state, false);
}

static int set_up_old(void **state)
{
	return set_up_with(state, true);
}

static int tear_down(void **state)
{
	struct bench *bench = *state;
	char file[80];

	snprintf(file, sizeof(file), "%s/file", bench->path);
	unlink(file);
	rmdir(bench->path);
	free(bench);
	return 0;
}

static void make_file(const struct bench *bench, const char *text, mode_t mode)
{
	char file[80];
	CLEANUP_FD int fd = -1;

	snprintf(file, sizeof(file), "%s/file", bench->path);
	unlink(file);
	fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
	assert_int_equal(fchmod(fd, mode), 0);
}

static void reset(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Starts it with its output in *buf; the exit status as waitpid gives it. */
static int run(struct bench *bench, struct spawn *spawn, struct buf *output)
{
	struct spawned spawned;
	int ends[2];
	int status;
	int fds[3];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	fds[1] = fds[2] = ends[1];
	spawn->fds = fds;
	spawn->fd_count = 3;
	assert_int_equal(spawn_process(&bench->spawner, spawn, &spawned), 0);
	fd_close(&fds[0]);
	fd_close(&ends[1]);
	assert_int_equal(fd_read_all(ends[0], output, 1 << 20), 0);
	fd_close(&ends[0]);
	assert_int_equal(waitpid(spawned.pid, &status, 0), spawned.pid);
	return status;
}

#define WORDS(...) ((char *[]){ NULL, __VA_ARGS__, NULL } + 1)
#define WORD(text) ((char *)(uintptr_t)(text))

static void test_runs_a_program(void **state)
{
	struct bench *bench = *state;
	CLEANUP_BUF struct buf output = BUF_INIT;
	char *environment[] = { WORD("A=1"), NULL };
	struct spawn spawn = { .argv = WORDS(WORD("sh"), WORD("-c"), WORD("echo $A; pwd; umask; echo $0 >&2; exit 7")),
		               .envp = environment, .search_path = "/none:/bin", .directory = bench->path,
		               .cgroup_fd = -1, .has_umask = true, .umask = 0137 };
	char expected[128];
	int status = run(bench, &spawn, &output);

	assert_int_equal(WEXITSTATUS(status), 7);
	snprintf(expected, sizeof(expected), "1\n%s\n0137\nsh\n", bench->path);
	assert_string_equal(output.bytes, expected);
}

static void test_program_has_only_what_it_was_given(void **state)
{
	struct bench *bench = *state;
	CLEANUP_BUF struct buf output = BUF_INIT;
	CLEANUP_FD int stray = open("/dev/null", O_RDONLY); /* not close-on-exec */
	char *environment[] = { NULL };
	struct spawn spawn = { .argv = WORDS(WORD("/bin/sh"), WORD("-c"),
		                             WORD("for i in 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$i ] && echo $i; done;"
		                                  "grep SigBlk /proc/self/status; cut -d' ' -f1,6 /proc/$$/stat")),
		               .envp = environment, .cgroup_fd = -1 };
	sigset_t all;
	int pid, session;

	assert_true(stray >= 0);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	run(bench, &spawn, &output);
	reset();
	if (sscanf(output.bytes, "SigBlk: 0000000000000000 %d %d", &pid, &session) != 2)
		fail_msg("%s", output.bytes);
	assert_int_equal(pid, session);
}

static void test_descriptors_that_stand_in_each_others_way(void **state)
{
	struct bench *bench = *state;
	char *environment[] = { NULL };
	struct spawned spawned;
	int status;
	int ends[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct spawn spawn = { .argv = WORDS(WORD("/bin/sh"), WORD("-c"), WORD("echo one; echo four >&4")),
		               .envp = environment, .cgroup_fd = -1, .wants_pidfd = true };
	struct pollfd item = { .events = POLLIN };
	char bytes[16] = "";

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	spawn.fds = (int[]){ 1, ends[1], 0, null, ends[1] }; /* 0 and 1 exchanged */
	spawn.fd_count = 5;
	assert_int_equal(spawn_process(&bench->spawner, &spawn, &spawned), 0);
	item.fd = spawned.pidfd;
	assert_int_equal(poll(&item, 1, 20000), 1);
	fd_close(&spawned.pidfd);
	assert_int_equal(waitpid(spawned.pid, &status, 0), spawned.pid);
	assert_int_equal(read(ends[0], bytes, sizeof(bytes)), 9);
	assert_string_equal(bytes, "one\nfour\n");
	fd_close(&ends[0]);
	fd_close(&ends[1]);
	fd_close(&null);
}

static void expect_failure(struct bench *bench, struct spawn *spawn, enum spawn_stage stage, int error)
{
	struct spawned spawned;

	spawn->fds = (int[]){ 0, 1, 2 };
	spawn->fd_count = 3;
	assert_int_equal(spawn_process(&bench->spawner, spawn, &spawned), -error);
	assert_int_equal(spawned.stage, stage);
	assert_int_equal(spawned.error, error);
	assert_int_equal(spawned.pidfd, -1);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nothing is left */
	assert_int_equal(errno, ECHILD);
}

static void test_failures_are_told_apart(void **state)
{
	struct bench *bench = *state;
	char *environment[] = { NULL };
	char file[80];
	struct spawn spawn = { .argv = WORDS(WORD("/none")), .envp = environment, .cgroup_fd = -1, .wants_pidfd = true };

	snprintf(file, sizeof(file), "%s/file", bench->path);
	expect_failure(bench, &spawn, SPAWN_EXEC, ENOENT);
	spawn.argv = WORDS(file);
	make_file(bench, "x", 0600);
	expect_failure(bench, &spawn, SPAWN_EXEC, EACCES);
	make_file(bench, "#!/none/interpreter\n", 0700);
	expect_failure(bench, &spawn, SPAWN_INTERPRETER, ENOENT);
	make_file(bench, "#!/etc/passwd\n", 0700);
	expect_failure(bench, &spawn, SPAWN_INTERPRETER, EACCES);
	spawn.directory = "/none";
	expect_failure(bench, &spawn, SPAWN_DIRECTORY, ENOENT);
	spawn.directory = NULL;
	spawn.input = "/none";
	expect_failure(bench, &spawn, SPAWN_INPUT, ENOENT);
	spawn.input = NULL;
	spawn.argv = WORDS(WORD("none"));
	spawn.search_path = "/bin:/usr/bin";
	expect_failure(bench, &spawn, SPAWN_EXEC, ENOENT);
}

static void test_cgroup_that_is_none(void **state)
{
	struct bench *bench = *state;
	char *environment[] = { NULL };
	CLEANUP_FD int directory = open(bench->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct spawn spawn = { .argv = WORDS(WORD("/bin/true")), .envp = environment, .cgroup_fd = directory };
	struct spawned spawned;

	spawn.fds = (int[]){ 0, 1, 2 };
	spawn.fd_count = 3;
	assert_true(spawn_process(&bench->spawner, &spawn, &spawned) < 0);
	assert_int_equal(spawned.stage, bench->spawner.has_no_clone3 ? SPAWN_SETUP : SPAWN_CLONE);
}

static void test_text_without_format_goes_to_the_shell(void **state)
{
	struct bench *bench = *state;
	CLEANUP_BUF struct buf output = BUF_INIT;
	char *environment[] = { NULL };
	struct spawn spawn = { .argv = WORDS(WORD("file"), WORD("a b")), .envp = environment, .search_path = bench->path,
		               .cgroup_fd = -1 };
	char expected[128];

	make_file(bench, "echo $0 $1 $#\n", 0700);
	assert_int_equal(run(bench, &spawn, &output), 0);
	snprintf(expected, sizeof(expected), "%s/file a b 1\n", bench->path);
	assert_string_equal(output.bytes, expected);
}

#define BOTH(test)                                                                                                          \
	{ #test, test, set_up, tear_down, NULL }, { #test " (old clone)", test, set_up_old, tear_down, NULL }

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_runs_a_program),
		BOTH(test_program_has_only_what_it_was_given),
		BOTH(test_descriptors_that_stand_in_each_others_way),
		BOTH(test_failures_are_told_apart),
		BOTH(test_cgroup_that_is_none),
		BOTH(test_text_without_format_goes_to_the_shell),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
