#include "cli/logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

int logfile_open(const char *path, struct logfile *ret)
{
	/* Without O_NONBLOCK a pipe planted in its place would hold us. */
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat status;

	if (fd < 0 || fstat(fd, &status) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode))
		return -EINVAL;
	*ret = (struct logfile){ .fd = TAKE_FD(fd) };
	return 0;
}

void logfile_close(struct logfile *file)
{
	fd_close(&file->fd);
}

/* Skips a hole that begins at the place reached, be it up to the end: a full disk took nothing more. Returns its length. */
static uint64_t skip_hole(struct logfile *file)
{
	off_t data = lseek(file->fd, file->position, SEEK_DATA);
	struct stat status;
	uint64_t length;

	if (data < 0 && errno == ENXIO && fstat(file->fd, &status) == 0)
		data = status.st_size;
	if (data <= file->position)
		return 0;
	length = (uint64_t)(data - file->position);
	file->position = data;
	return length;
}

ssize_t logfile_read(struct logfile *file, char bytes[LOGFILE_PIECE_MAX], uint64_t *ret_dropped)
{
	ssize_t length;
	off_t hole;

	*ret_dropped = skip_hole(file);
	length = pread(file->fd, bytes, LOGFILE_PIECE_MAX, file->position);
	if (length < 0)
		return errno == EINTR ? 0 : -errno;
	if (length == 0)
		return 0;
	/* The end of the file counts as a hole; one that was made meanwhile ends the piece before it. */
	hole = lseek(file->fd, file->position, SEEK_HOLE);
	if (hole >= file->position)
		length = MIN(length, (ssize_t)(hole - file->position));
	if (length == 0) {
		/* All of it was dropped while we read. Nothing behind the hole yet: it is the end for now. */
		*ret_dropped += skip_hole(file);
		return 0;
	}
	file->position += length;
	return length;
}

/* Where the data that reaches up to `end` begins, looking from `start` on; `end` when there is a hole right before it. */
static off_t data_before(int fd, off_t start, off_t end)
{
	while (start < end) {
		off_t data = lseek(fd, start, SEEK_DATA);
		off_t hole = data < 0 ? end : lseek(fd, data, SEEK_HOLE);

		if (data < 0 || data >= end)
			return end;
		if (hole < 0 || hole >= end)
			return data;
		start = hole;
	}
	return end;
}

/* Goes back over line ends in the bytes before `at`. True when `*lines` have been found; then *at is behind the last one. */
static bool step_back(const char *bytes, ssize_t length, bool is_last, uint64_t *lines, off_t *at)
{
	for (ssize_t i = length; i-- > 0; is_last = false) {
		/* The line end at the very end closes the last line. */
		if (bytes[i] != '\n' || is_last || --*lines > 0)
			continue;
		*at = *at - length + i + 1;
		return true;
	}
	*at -= length;
	return false;
}

int logfile_seek_lines(struct logfile *file, uint64_t lines)
{
	char bytes[4096];
	struct stat status;
	off_t at;
	bool is_last = true;
	bool is_found = false;

	if (fstat(file->fd, &status) < 0)
		return -errno;
	for (at = status.st_size; at > 0 && !is_found; is_last = false) {
		off_t start = data_before(file->fd, MAX(at - (off_t)sizeof(bytes), (off_t)0), at);
		ssize_t length;

		if (start == at)
			break; /* what was before is dropped */
		length = pread(file->fd, bytes, (size_t)(at - start), start);
		if (length < 0)
			return -errno;
		if (length != at - start)
			break; /* cut off meanwhile */
		is_found = step_back(bytes, length, is_last, &lines, &at);
	}
	file->position = at;
	return 0;
}

int logfile_seek_end(struct logfile *file)
{
	struct stat status;

	if (fstat(file->fd, &status) < 0)
		return -errno;
	file->position = status.st_size;
	return 0;
}
