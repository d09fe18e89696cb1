#include "client/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"

enum { LOCK_FILE_MAX = 8192, CONNECT_WAIT_S = 10 };

/* One line "key value" of the lock file. Unknown keys are of later versions. */
static void parse_lock_line(const char *line, struct connect_lock *lock)
{
	uint64_t pid;

	if (strncmp(line, "pid ", 4) == 0 && str_parse_u64(line + 4, INT32_MAX, &pid) == 0)
		lock->pid = (pid_t)pid;
	else if (strncmp(line, "socket ", 7) == 0)
		snprintf(lock->socket, sizeof(lock->socket), "%s", line + 7);
	else if (strncmp(line, "version ", 8) == 0)
		snprintf(lock->version, sizeof(lock->version), "%s", line + 8);
}

int connect_read_lock(const char *state_dir, struct connect_lock *ret, struct err *err)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct connect_lock lock = { 0 };
	char path[PATHS_MAX + 32];
	CLEANUP_FD int fd = -1;
	int code;

	snprintf(path, sizeof(path), "%s/%s", state_dir, PATHS_DAEMON_LOCK);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return err_set(err, -errno, "cannot open '%s'", path);
	code = fd_read_all(fd, &text, LOCK_FILE_MAX);
	if (code < 0)
		return err_set(err, code, "cannot read '%s'", path);
	for (char *line = text.bytes, *end; line && (end = strchr(line, '\n')) != NULL; line = end + 1) {
		*end = '\0';
		parse_lock_line(line, &lock);
	}
	if (lock.socket[0] != '/')
		return err_say(err, -EINVAL, "'%s' names no socket", path);
	*ret = lock;
	return 0;
}

/* Path of `path` that fits into a socket address: directly, or by a descriptor of its directory. */
static int shorten_path(const char *path, char *ret, size_t size, int *ret_directory)
{
	const char *slash = strrchr(path, '/');
	char directory[PATHS_MAX];

	if (strlen(path) < size) {
		memcpy(ret, path, strlen(path) + 1);
		return 0;
	}
	if (!slash || slash == path)
		return -ENAMETOOLONG;
	snprintf(directory, sizeof(directory), "%.*s", (int)(slash - path), path);
	*ret_directory = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*ret_directory < 0)
		return -errno;
	if ((size_t)snprintf(ret, size, "/proc/self/fd/%d/%s", *ret_directory, slash + 1) >= size)
		return -ENAMETOOLONG;
	return 0;
}

/* A full listen queue answers EAGAIN on a non-blocking socket, so connecting blocks; the daemon accepts soon or is gone. */
static int connect_fd(int fd, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	CLEANUP_FD int directory = -1;
	struct ucred peer = { 0 };
	socklen_t length = sizeof(peer);
	int code = shorten_path(path, address.sun_path, sizeof(address.sun_path), &directory);

	if (code < 0)
		return code;
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		if (errno != EINTR)
			return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return -errno;
	return peer.uid == geteuid() ? 0 : -EPERM;
}

int connect_socket(const char *path, struct err *err)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval patience = { .tv_sec = CONNECT_WAIT_S };
	int code;

	if (fd < 0)
		return err_set(err, -errno, "cannot make a socket");
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
		return err_set(err, -errno, "cannot set up a socket");
	code = connect_fd(fd, path);
	if (code == -EPERM)
		return err_say(err, code, "the socket '%s' belongs to another user: nothing is sent to it", path);
	if (code < 0)
		return err_set(err, code, "cannot connect to '%s'", path);
	code = fd_set_nonblocking(fd, true);
	if (code < 0)
		return err_set(err, code, "cannot set up a socket");
	return TAKE_FD(fd);
}

int connect_daemon(const char *state_dir, struct err *err)
{
	struct connect_lock lock;
	int code = connect_read_lock(state_dir, &lock, err);

	return code < 0 ? code : connect_socket(lock.socket, err);
}

bool connect_is_absence(int code)
{
	return code == -ENOENT || code == -ENOTDIR || code == -ECONNREFUSED || code == -EINVAL;
}
