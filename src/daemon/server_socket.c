/*
 * server_socket.c - the socket's file: a directory that only we can change, a name in it, and whether it is still ours.
 *
 * The address of a unix socket holds 108 bytes, a path 4096: so the name is reached through the directory's descriptor in
 * /proc/self/fd. The directory itself must not be a link. Links further up are followed, since homes and /run often are; the
 * directory must be ours and closed to others wherever they lead.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "daemon/server_internal.h"

enum { BACKLOG = 128 };

static int open_directory(const char *directory, int *ret_fd, struct err *err);
static int remove_stale(int directory_fd, const char *name, const char *path, struct err *err);
static int bind_name(int fd, int directory_fd, const char *name);
static int read_identity(int directory_fd, const char *name, struct socket_identity *ret);

int socket_listen(const char *path, int *ret_fd, struct socket_identity *ret_identity, struct err *err)
{
	const char *name = strrchr(path, '/');
	char *directory CLEANUP_FREE = NULL;
	int directory_fd CLEANUP_FD = -1;
	int fd CLEANUP_FD = -1;
	int error;

	if (path[0] != '/' || name == path || name[1] == '\0')
		return err_say(err, -EINVAL, "the socket's path must be absolute and in a directory of its own, found '%s'",
		               path);
	directory = xmemdup0(path, (size_t)(name - path));
	name++;
	error = open_directory(directory, &directory_fd, err);
	if (!error)
		error = remove_stale(directory_fd, name, path, err);
	if (error)
		return error;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, -errno, "cannot make a socket");
	error = bind_name(fd, directory_fd, name);
	if (error)
		return err_set(err, error, "cannot bind the socket '%s'", path);
	/* Nobody can connect before listen(), so the mode is right from the start. */
	if (fchmodat(directory_fd, name, 0600, 0) < 0 || listen(fd, BACKLOG) < 0)
		return err_set(err, -errno, "cannot listen on the socket '%s'", path);
	error = read_identity(directory_fd, name, ret_identity);
	if (error)
		return err_set(err, error, "cannot find the socket '%s' again", path);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int open_directory(const char *directory, int *ret_fd, struct err *err)
{
	int fd CLEANUP_FD = -1;
	struct stat status;

	if (mkdir(directory, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "cannot make the directory '%s' for the socket", directory);
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && (errno == ELOOP || errno == ENOTDIR))
		return err_say(err, -ENOTDIR, "'%s' must be a directory, and is a link or a file; remove it", directory);
	if (fd < 0 || fstat(fd, &status) < 0)
		return err_set(err, -errno, "cannot open the directory '%s' of the socket", directory);
	if (status.st_uid != geteuid())
		return err_say(err, -EPERM, "the directory '%s' of the socket belongs to user %u, not to you (%u)",
		               directory, status.st_uid, geteuid());
	if (status.st_mode & 022)
		return err_say(err, -EPERM, "others may write to the directory '%s' of the socket (mode %03o); chmod it 700",
		               directory, status.st_mode & 0777);
	if ((status.st_mode & 07777) != 0700 && fchmod(fd, 0700) < 0)
		return err_set(err, -errno, "cannot close the directory '%s' of the socket to others", directory);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* The caller holds the daemon's lock, so a socket of that name has no owner any more. Anything else is not ours. */
static int remove_stale(int directory_fd, const char *name, const char *path, struct err *err)
{
	struct stat status;

	if (fstatat(directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_set(err, -errno, "cannot look at '%s'", path);
	if (!S_ISSOCK(status.st_mode))
		return err_say(err, -EEXIST, "'%s' is where the socket must be, and is no socket; remove it", path);
	if (unlinkat(directory_fd, name, 0) < 0 && errno != ENOENT)
		return err_set(err, -errno, "cannot remove the stale socket '%s'", path);
	return 0;
}

static int bind_name(int fd, int directory_fd, const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int length = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", directory_fd, name);

	if (length < 0 || (size_t)length >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	return bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
}

static int read_identity(int directory_fd, const char *name, struct socket_identity *ret)
{
	struct stat status;

	if (fstatat(directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	*ret = (struct socket_identity){
		.device = status.st_dev,
		.inode = status.st_ino,
		.changed_s = status.st_ctim.tv_sec,
		.changed_ns = status.st_ctim.tv_nsec,
	};
	return 0;
}

/* By the whole path, not by the directory we opened: clients come that way, and the directory may be gone. */
bool socket_is_there(const char *path, const struct socket_identity *identity)
{
	struct socket_identity found = { 0 };

	if (read_identity(AT_FDCWD, path, &found))
		return false;
	return found.device == identity->device && found.inode == identity->inode &&
	       found.changed_s == identity->changed_s && found.changed_ns == identity->changed_ns;
}

bool socket_peer_is_us(int fd)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.uid == geteuid();
}
