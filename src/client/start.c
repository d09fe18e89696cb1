#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/units.h"
#include "client/connect.h"
#include "client/stopwatch.h"

enum {
	START_WAIT_S = 10,
	PAUSE_MAX_MS = 50,
	WORDS_MAX = 600,
	LOG_READ_MAX = 64 << 10,
	REAP_TRIES = 20,
	REAP_PAUSE_MS = 5,
	KEEPER_IS_LOCKED = 3, /* exit status of one that found another at work: keeper/wire.h WIRE_EXIT_LOCKED */
};

struct start {
	const char *state_dir;
	pid_t pid; /* of the keeper's first process, which ends when the keeper works; 0 = none */
	int error_fd;
	off_t log_offset;  /* where the daemon's log ended before */
	bool has_worked;   /* a keeper of ours said that it works */
	uint64_t again_ns; /* not before this another try: the keeper may have met one that was about to end */
};

static int open_below(const char *state_dir, const char *name)
{
	char path[PATHS_MAX + 32];

	snprintf(path, sizeof(path), "%s/%s", state_dir, name);
	return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

/* True when a keeper is at work: it holds a lock as long as it lives. Looking does not take the lock. */
static bool has_keeper(const char *state_dir)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	CLEANUP_FD int fd = open_below(state_dir, PATHS_KEEPER_LOCK);

	return fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* One line of foreign text, as far as it fits. */
static void copy_words(char words[WORDS_MAX], const char *line, size_t length)
{
	CLEANUP_BUF struct buf shown = BUF_INIT;

	if (length > 8 && strncmp(line, "drover: ", 8) == 0) {
		line += 8;
		length -= 8;
	}
	str_add_visible(&shown, line, MIN(length, (size_t)WORDS_MAX));
	snprintf(words, WORDS_MAX, "%s", shown.bytes ? shown.bytes : "");
}

/* What the keeper's first process wrote: its first line. Not to the end: one that lives on may hold the other end. */
static void read_standard_error(int fd, char words[WORDS_MAX])
{
	CLEANUP_BUF struct buf text = BUF_INIT;

	if (fd < 0 || fd_set_nonblocking(fd, true) < 0 || (fd_read_all(fd, &text, LOG_READ_MAX) < 0 && text.length == 0))
		return;
	copy_words(words, text.bytes, strcspn(text.bytes, "\n"));
}

/* The latest error in the daemon's log since this try began. */
static void read_log(const struct start *start, char words[WORDS_MAX])
{
	static const char mark[] = " error: ";
	CLEANUP_FD int fd = open_below(start->state_dir, PATHS_DAEMON_LOG);
	CLEANUP_BUF struct buf text = BUF_INIT;

	if (fd < 0 || lseek(fd, start->log_offset, SEEK_SET) < 0)
		return;
	if (fd_read_all(fd, &text, LOG_READ_MAX) < 0 && text.length == 0)
		return;
	for (char *at = text.bytes; (at = strstr(at, mark)) != NULL; at += strlen(mark))
		copy_words(words, at + strlen(mark), strcspn(at + strlen(mark), "\n"));
}

static off_t log_size(const char *state_dir)
{
	CLEANUP_FD int fd = open_below(state_dir, PATHS_DAEMON_LOG);
	struct stat status;

	return fd >= 0 && fstat(fd, &status) == 0 ? status.st_size : 0;
}

static int spawn(struct start *start, char *const argv[], int error_fd)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int code;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, error_fd, STDERR_FILENO);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	code = -posix_spawn(&start->pid, argv[0], &actions, &attributes, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	if (code < 0)
		start->pid = 0;
	return code;
}

static int spawn_keeper(struct start *start, struct err *err)
{
	char program[PATHS_MAX];
	char directory[PATHS_MAX];
	char state_option[] = "--state", detach_option[] = "--detach";
	char *argv[] = { program, state_option, directory, detach_option, NULL };
	CLEANUP_FD int ours = -1;
	CLEANUP_FD int theirs = -1;
	int ends[2];
	int code = paths_program("drover-keeper", program, err);

	if (code < 0)
		return code;
	snprintf(directory, sizeof(directory), "%s", start->state_dir);
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(err, -errno, "cannot make a pipe");
	ours = ends[0];
	theirs = ends[1];
	start->has_worked = false;
	start->log_offset = log_size(start->state_dir);
	code = spawn(start, argv, theirs);
	if (code < 0)
		return err_set(err, code, "cannot start '%s'", program);
	fd_close(&start->error_fd);
	start->error_fd = TAKE_FD(ours);
	return 0;
}

/* Looks whether the keeper's first process has ended, and how. 0, or -ECHILD with what it said. */
static int check_spawned(struct start *start, struct err *err)
{
	char words[WORDS_MAX] = "";
	int status = 0;

	if (start->pid == 0 || waitpid(start->pid, &status, WNOHANG) == 0)
		return 0;
	start->pid = 0;
	start->has_worked = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	if (start->has_worked || (WIFEXITED(status) && WEXITSTATUS(status) == KEEPER_IS_LOCKED))
		return 0;
	read_standard_error(start->error_fd, words);
	if (words[0] != '\0')
		return err_say(err, -ECHILD, "the daemon could not be started: %s", words);
	if (WIFSIGNALED(status))
		return err_say(err, -ECHILD, "the daemon could not be started: its keeper was ended by signal %d",
		               WTERMSIG(status));
	return err_say(err, -ECHILD, "the daemon could not be started: its keeper ended with status %d",
	               WEXITSTATUS(status));
}

/*
 * Nobody answers: starts a keeper unless one is at work. One that worked and is gone again leaves the reason in the log;
 * without one it was told to end meanwhile, and another is started. 0 or -errno.
 */
static int push(struct start *start, uint64_t now_ns, struct err *err)
{
	char words[WORDS_MAX] = "";
	int code = check_spawned(start, err);

	if (code < 0 || start->pid != 0 || has_keeper(start->state_dir))
		return code;
	if (start->has_worked) {
		read_log(start, words);
		start->has_worked = false;
	}
	if (words[0] != '\0')
		return err_say(err, -ECHILD, "the daemon could not be started: %s", words);
	if (now_ns < start->again_ns)
		return 0;
	start->again_ns = now_ns + NS_PER_SEC;
	return spawn_keeper(start, err);
}

/* Tries until the deadline, with pauses from 1 ms on. A descriptor or -errno. */
static int wait_for_socket(struct start *start, struct err *err)
{
	CLEANUP(stopwatch_done) struct stopwatch watch = STOPWATCH_INIT;
	char words[WORDS_MAX] = "";
	int pause_ms = 1;

	if (stopwatch_start(&watch) < 0)
		return err_say(err, -EMFILE, "cannot make a timer: too many open files");
	for (;;) {
		struct err why = ERR_INIT;
		int fd = connect_daemon(start->state_dir, &why);
		int code;

		if (fd >= 0)
			return fd;
		if (!connect_is_absence(fd))
			return err_say(err, fd, "%s", why.text);
		code = push(start, stopwatch_ns(&watch), err);
		if (code < 0)
			return code;
		if (stopwatch_ns(&watch) > START_WAIT_S * NS_PER_SEC)
			break;
		stopwatch_sleep_ms(pause_ms);
		pause_ms = MIN(pause_ms * 2, PAUSE_MAX_MS);
	}
	read_log(start, words);
	return err_say(err, -ETIMEDOUT, "the daemon was started but did not answer within %d s%s%s", START_WAIT_S,
	               words[0] ? "; its log says: " : "", words);
}

int connect_start(const char *state_dir, bool *ret_was_started, struct err *err)
{
	struct start start = { .state_dir = state_dir, .error_fd = -1 };
	const char *task = getenv("PARALLEL_TASK_ID");
	struct err why = ERR_INIT;
	int fd = connect_daemon(state_dir, &why);

	*ret_was_started = false;
	if (fd >= 0)
		return fd;
	if (!connect_is_absence(fd))
		return err_say(err, fd, "%s", why.text);
	if (task && *task)
		return err_say(
			err, -ESRCH,
			"no daemon answers for '%.200s', and inside a task (PARALLEL_TASK_ID is %.20s) none is started",
			state_dir, task);
	if (connect_wants_reader(state_dir))
		return connect_reader(state_dir, err);
	fd = wait_for_socket(&start, err);
	fd_close(&start.error_fd);
	for (int tries = 0; start.pid != 0 && tries < REAP_TRIES && waitpid(start.pid, NULL, WNOHANG) == 0; tries++)
		stopwatch_sleep_ms(REAP_PAUSE_MS);
	*ret_was_started = fd >= 0;
	return fd;
}
