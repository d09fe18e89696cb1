#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/buf.h"

void fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd); /* tidy: the one place */
	*fd = -1;
	errno = saved;
}

int fd_write_all(int fd, const void *bytes, size_t length)
{
	const char *at = bytes;

	while (length > 0) {
		ssize_t written = write(fd, at, length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -errno;
		at += written;
		length -= (size_t)written;
	}
	return 0;
}

int fd_read_all(int fd, struct buf *buf, size_t limit)
{
	for (;;) {
		size_t room = limit - buf->length;
		char *at = buf_reserve(buf, MIN(room + 1, (size_t)65536));
		ssize_t got = read(fd, at, MIN(room + 1, (size_t)65536));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if ((size_t)got > room)
			return -EFBIG;
		buf->length += (size_t)got;
		buf->bytes[buf->length] = '\0';
		if (got == 0)
			return 0;
	}
}

int fd_set_nonblocking(int fd, bool nonblocking)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	flags = nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}
