#include "keeper/wire.h"

#include "platform/socketpass.h"

int wire_send(int socket, const void *message, size_t length, const int *fds, size_t fd_count)
{
	return socketpass_send(socket, message, length, fds, fd_count);
}

ssize_t wire_receive(int socket, void *buffer, size_t size, int *ret_fds, size_t fd_max)
{
	return socketpass_receive(socket, buffer, size, ret_fds, fd_max);
}
