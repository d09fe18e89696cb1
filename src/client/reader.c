/*
 * reader.c - where the state directory cannot be written no daemon can work, but what was remembered can be shown: the
 * daemon's program in its reading form serves this one client, and ends after it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/paths.h"
#include "base/str.h"
#include "client/connect.h"

enum { TELL_WAIT_MS = 10000, WORDS_MAX = 600 };

bool connect_wants_reader(const char *state_dir)
{
	struct stat status;

	return stat(state_dir, &status) == 0 && S_ISDIR(status.st_mode) &&
	       faccessat(AT_FDCWD, state_dir, W_OK, AT_EACCESS) < 0 && (errno == EROFS || errno == EACCES);
}

/* Standard output and error go to one pipe: either the path of the socket comes, or why there is none. */
static int spawn(const char *state_dir, int output, struct err *err)
{
	char program[PATHS_MAX], directory[PATHS_MAX];
	char state_option[] = "--state", reader_option[] = "--reader", level_option[] = "--log-level", level[] = "error";
	char *argv[] = { program, state_option, directory, reader_option, level_option, level, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	pid_t pid;
	int code = paths_program("drover-daemon", program, err);

	if (code < 0)
		return code;
	snprintf(directory, sizeof(directory), "%s", state_dir);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
	code = -posix_spawn(&pid, program, &actions, &attributes, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	return code < 0 ? err_set(err, code, "cannot start '%s'", program) : 0;
}

/* The first line that it writes. False when none came in time. */
static bool read_line(int fd, char *line, size_t size)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	size_t length = 0;

	while (length + 1 < size && poll(&wait, 1, TELL_WAIT_MS) > 0) {
		ssize_t got = read(fd, line + length, 1);

		if (got <= 0 || line[length] == '\n')
			break;
		length++;
	}
	line[length] = '\0';
	return length > 0;
}

int connect_reader(const char *state_dir, struct err *err)
{
	CLEANUP_BUF struct buf words = BUF_INIT;
	CLEANUP_FD int ours = -1;
	CLEANUP_FD int theirs = -1;
	static const char mark[] = " error: ";
	char line[PATHS_MAX];
	const char *why;
	int ends[2];
	int code;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(err, -errno, "cannot make a pipe");
	ours = ends[0];
	theirs = ends[1];
	code = spawn(state_dir, theirs, err);
	if (code < 0)
		return code;
	fd_close(&theirs);
	if (!read_line(ours, line, sizeof(line)))
		return err_say(err, -ETIMEDOUT, "the state directory %s cannot be written, and what reads it did not start",
		               state_dir);
	if (line[0] == '/')
		return connect_socket(line, err);
	why = strstr(line, mark); /* behind the date */
	why = why ? why + strlen(mark) : line;
	str_add_visible(&words, why, MIN(strlen(why), (size_t)WORDS_MAX));
	return err_say(err, -EROFS, "the state directory %s cannot be written, nor read: %s", state_dir, words.bytes);
}
