/*
 * command.c - see command.h.
 */
#include "platform/command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "platform/clock.h"

enum { LOWEST_SOURCE_FD = 16, READ_AT_ONCE = 65536 };

struct child {
	pid_t pid;
	int pidfd;
	int input; /* our ends; −1 when closed */
	int output;
	int errors;
	size_t written;
};

/* Descriptors of the child, all above those it will have them as, so that one dup2 does not overwrite another's source. */
struct child_ends {
	int input;
	int output;
	int errors;
	int kept;
};

static void child_ends_done(struct child_ends *ends)
{
	fd_close(&ends->input);
	fd_close(&ends->output);
	fd_close(&ends->errors);
	fd_close(&ends->kept);
}

static int raise_fd(int *fd)
{
	int high = fcntl(*fd, F_DUPFD_CLOEXEC, LOWEST_SOURCE_FD);

	if (high < 0)
		return -errno;
	fd_close(fd);
	*fd = high;
	return 0;
}

/* A pipe: *ret_ours does not block, *ret_childs does. `is_input`: the child reads. */
static int make_pipe(bool is_input, int *ret_ours, int *ret_childs)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	*ret_ours = ends[is_input ? 1 : 0];
	*ret_childs = ends[is_input ? 0 : 1];
	if (fd_set_nonblocking(*ret_ours, true) < 0)
		return -EIO;
	return raise_fd(ret_childs);
}

static int make_ends(const struct command *command, struct child *child, struct child_ends *ends)
{
	int error = make_pipe(false, &child->output, &ends->output);

	if (error == 0)
		error = make_pipe(false, &child->errors, &ends->errors);
	if (error == 0 && command->input)
		error = make_pipe(true, &child->input, &ends->input);
	if (error == 0 && !command->input) {
		ends->input = open("/dev/null", O_RDONLY | O_CLOEXEC);
		error = ends->input < 0 ? -errno : raise_fd(&ends->input);
	}
	if (error == 0 && command->kept_fd >= 0) {
		ends->kept = fcntl(command->kept_fd, F_DUPFD_CLOEXEC, LOWEST_SOURCE_FD);
		error = ends->kept < 0 ? -errno : 0;
	}
	return error;
}

/* Errors of the add functions are lack of memory only; then the spawn would go wrong, so they are collected. */
static int set_actions(posix_spawn_file_actions_t *actions, const struct command *command, const struct child_ends *ends)
{
	int error = posix_spawn_file_actions_adddup2(actions, ends->input, STDIN_FILENO);

	error |= posix_spawn_file_actions_adddup2(actions, ends->output, STDOUT_FILENO);
	error |= posix_spawn_file_actions_adddup2(actions, ends->errors, STDERR_FILENO);
	if (command->directory >= 0)
		error |= posix_spawn_file_actions_addfchdir_np(actions, command->directory);
	if (ends->kept >= 0)
		error |= posix_spawn_file_actions_adddup2(actions, ends->kept, COMMAND_KEPT_FD);
	error |= posix_spawn_file_actions_addclosefrom_np(actions, ends->kept >= 0 ? COMMAND_KEPT_FD + 1 : COMMAND_KEPT_FD);
	return error ? -ENOMEM : 0;
}

static int spawn(const struct command *command, const struct child_ends *ends, pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;
	sigset_t all;
	int error;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setpgroup(&attributes, 0);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	error = set_actions(&actions, command, ends);
	if (error == 0)
		error = -posix_spawnp(ret_pid, command->argv[0], &actions, &attributes, (char *const *)command->argv,
		                      (char *const *)command->environment);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

/* Writes what the pipe takes; closes it when all is written or nobody reads any more. */
static void feed(struct child *child, const struct command *command)
{
	while (child->written < command->input_length) {
		const char *at = (const char *)command->input + child->written;
		ssize_t written = write(child->input, at, command->input_length - child->written);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0 && errno == EAGAIN)
			return;
		if (written < 0)
			break; /* EPIPE: it does not want it; its exit status tells whether that was wrong */
		child->written += (size_t)written;
	}
	fd_close(&child->input);
}

/* Reads what is there, keeping at most `limit` bytes in all; closes at the end of file. -EFBIG when there is more. */
static int drain(int *fd, struct buf *buf, size_t limit)
{
	for (;;) {
		char *room = buf_reserve(buf, READ_AT_ONCE);
		ssize_t got = read(*fd, room, READ_AT_ONCE);

		*room = got > 0 ? *room : '\0'; /* reserved memory is not yet a string */
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return 0;
		if (got <= 0) {
			fd_close(fd);
			return 0;
		}
		if ((size_t)got > limit - buf->length) {
			buf->length = limit;
			buf->bytes[limit] = '\0';
			return -EFBIG;
		}
		buf->length += (size_t)got;
		buf->bytes[buf->length] = '\0';
	}
}

/* One round: waits for something to do and does it. *ret_ended: the child has ended. */
static int serve(struct child *child, const struct command *command, struct command_result *result, int timeout_ms,
                 bool *ret_ended)
{
	struct pollfd polled[] = {
		{ .fd = child->input, .events = POLLOUT },
		{ .fd = child->output, .events = POLLIN },
		{ .fd = child->errors, .events = POLLIN },
		{ .fd = child->pidfd, .events = POLLIN },
	};
	int count = poll(polled, ARRAY_SIZE(polled), timeout_ms);

	if (count < 0)
		return errno == EINTR ? 0 : -errno;
	if (count == 0)
		return -ETIMEDOUT;
	if (polled[0].revents)
		feed(child, command);
	if (polled[2].revents)
		(void)drain(&child->errors, &result->errors, COMMAND_ERRORS_MAX); /* beyond the limit it is dropped */
	*ret_ended = polled[3].revents != 0;
	return polled[1].revents ? drain(&child->output, &result->output, command->output_limit) : 0;
}

/* Until the child has ended and what it printed is read; a descriptor that a grandchild holds open is not waited for. */
static int serve_to_end(struct child *child, const struct command *command, struct command_result *result)
{
	uint64_t deadline_ns = clock_monotonic_ns() + command->timeout_ns;

	for (;;) {
		uint64_t now_ns = clock_monotonic_ns();
		bool has_ended = false;
		int error;

		if (now_ns >= deadline_ns)
			return -ETIMEDOUT;
		error = serve(child, command, result, (int)MIN((deadline_ns - now_ns) / NS_PER_MS + 1, UINT64_C(1000000)),
		              &has_ended);
		if (error < 0 && (error != -ETIMEDOUT || clock_monotonic_ns() >= deadline_ns))
			return error;
		if (!has_ended)
			continue;
		if (child->errors >= 0)
			(void)drain(&child->errors, &result->errors, COMMAND_ERRORS_MAX);
		return child->output >= 0 ? drain(&child->output, &result->output, command->output_limit) : 0;
	}
}

static int reap(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0)
		ASSERT(errno == EINTR);
	return status;
}

static int attend(struct child *child, const struct command *command, struct command_result *result)
{
	int error;

	child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
	error = child->pidfd < 0 ? -errno : serve_to_end(child, command, result);
	if (error < 0)
		(void)kill(-child->pid, SIGKILL); /* not reaped yet, so the number is still this child's */
	result->status = reap(child->pid);
	return error;
}

int command_run(const struct command *command, struct command_result *ret, struct err *err)
{
	struct child child = { .pidfd = -1, .input = -1, .output = -1, .errors = -1 };
	struct child_ends ends = { -1, -1, -1, -1 };
	struct command_result result = { 0 };
	int error;

	ASSERT(command->argv && command->argv[0] && command->environment);
	error = make_ends(command, &child, &ends);
	if (error == 0)
		error = spawn(command, &ends, &child.pid);
	child_ends_done(&ends);
	if (error < 0)
		err_set(err, error, "cannot start '%s'", command->argv[0]);
	else
		error = attend(&child, command, &result);
	fd_close(&child.pidfd);
	fd_close(&child.input);
	fd_close(&child.output);
	fd_close(&child.errors);
	if (error == 0) {
		*ret = result;
		return 0;
	}
	if (error == -ETIMEDOUT)
		err_say(err, error, "'%s' did not end within %llu s and was killed", command->argv[0],
		        (unsigned long long)(command->timeout_ns / NS_PER_SEC));
	else if (error == -EFBIG)
		err_say(err, error, "'%s' printed more than %zu bytes and was killed", command->argv[0],
		        command->output_limit);
	else if (child.pid > 0)
		err_set(err, error, "'%s' could not be watched and was killed", command->argv[0]);
	command_result_done(&result);
	return error;
}

void command_result_done(struct command_result *result)
{
	buf_done(&result->output);
	buf_done(&result->errors);
}
