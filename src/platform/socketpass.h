/*
 * socketpass.h - messages with descriptors over unix sockets that keep message boundaries.
 *
 * Never blocks and never raises SIGPIPE. What is received is close-on-exec.
 */
#pragma once

#include <sys/types.h>

#include "base/macros.h"

enum { SOCKETPASS_FDS_MAX = 4 };

/*
 * Makes a connected pair of SOCK_SEQPACKET sockets, close-on-exec. 0 or -errno.
 */
int socketpass_pair(int ret_pair[2]);

/*
 * Sends one message with `fd_count` descriptors (the caller keeps its own). 0, -EAGAIN when the peer does not read,
 * -EMSGSIZE when it is too large for the socket, or -errno.
 */
int socketpass_send(int socket, const void *message, size_t length, const int *fds, size_t fd_count);

/*
 * Receives one message. Descriptors beyond `fd_max` are closed, missing ones are −1.
 * Returns its length, 0 at end of file, -EAGAIN when there is none, -EMSGSIZE when it did not fit (it is gone), or -errno.
 */
ssize_t socketpass_receive(int socket, void *buffer, size_t size, int *ret_fds, size_t fd_max);

/* The same, but the message stays in the queue: the next reader gets it again. The descriptors are further duplicates. */
ssize_t socketpass_peek(int socket, void *buffer, size_t size, int *ret_fds, size_t fd_max);
