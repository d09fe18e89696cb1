#include "platform/socketpass.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fd.h"

union control {
	struct cmsghdr head;
	char bytes[CMSG_SPACE(SOCKETPASS_FDS_MAX * sizeof(int))];
};

int socketpass_pair(int ret_pair[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_pair) < 0 ? -errno : 0;
}

int socketpass_send(int socket, const void *message, size_t length, const int *fds, size_t fd_count)
{
	struct iovec part = { .iov_base = (void *)(uintptr_t)message, .iov_len = length };
	struct msghdr head = { .msg_iov = &part, .msg_iovlen = 1 };
	union control control;

	ASSERT(fd_count <= SOCKETPASS_FDS_MAX);
	ASSERT(length > 0); /* an empty message could not be told from end of file */
	if (fd_count > 0) {
		memset(&control, 0, sizeof(control));
		head.msg_control = control.bytes;
		head.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(&control.head), fds, fd_count * sizeof(int));
	}
	while (sendmsg(socket, &head, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

/* Moves the descriptors of one control message to the caller, closing what is too many. Returns how many were kept. */
static size_t take_descriptors(struct cmsghdr *item, int *ret_fds, size_t fd_max, size_t have)
{
	size_t count;

	if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS)
		return have;
	count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	for (size_t i = 0; i < count; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(item) + i * sizeof(int), sizeof(int));
		if (have < fd_max)
			ret_fds[have++] = fd;
		else
			fd_close(&fd);
	}
	return have;
}

static ssize_t receive(int socket, void *buffer, size_t size, int *ret_fds, size_t fd_max, int flags)
{
	struct iovec part = { .iov_base = buffer, .iov_len = size };
	union control control;
	/* Without room for them the kernel closes descriptors by itself. */
	struct msghdr head = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = fd_max > 0 ? control.bytes : NULL,
	                       .msg_controllen = fd_max > 0 ? sizeof(control.bytes) : 0 };
	size_t have = 0;
	ssize_t got;

	for (size_t i = 0; i < fd_max; i++)
		ret_fds[i] = -1;
	do
		got = recvmsg(socket, &head, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | flags);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	for (struct cmsghdr *item = CMSG_FIRSTHDR(&head); item; item = CMSG_NXTHDR(&head, item))
		have = take_descriptors(item, ret_fds, fd_max, have);
	if (!(head.msg_flags & MSG_TRUNC))
		return got;
	for (size_t i = 0; i < have; i++)
		fd_close(&ret_fds[i]);
	return -EMSGSIZE;
}

ssize_t socketpass_receive(int socket, void *buffer, size_t size, int *ret_fds, size_t fd_max)
{
	return receive(socket, buffer, size, ret_fds, fd_max, 0);
}

ssize_t socketpass_peek(int socket, void *buffer, size_t size, int *ret_fds, size_t fd_max)
{
	return receive(socket, buffer, size, ret_fds, fd_max, MSG_PEEK);
}
