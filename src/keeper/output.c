#include "keeper/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

enum { NAME_SIZE = 512, BLOCK = 4096, MOVE_MAX = 1 << 20, COPY_MAX = 65536 };

static int make_directories(int state_fd, const char *name)
{
	char path[NAME_SIZE];

	for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
		snprintf(path, sizeof(path), "%.*s", (int)(slash - name), name);
		if (mkdirat(state_fd, path, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

static int open_empty(int state_fd, const char *name)
{
	CLEANUP_FD int fd = openat(state_fd, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat status;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &status) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode) || status.st_size != 0 || status.st_nlink != 1 || status.st_uid != geteuid())
		return -EEXIST;
	return TAKE_FD(fd);
}

static int open_log(int state_fd, const char *name)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC; /* O_APPEND would forbid splice */
	int fd = openat(state_fd, name, flags, 0600);
	int r;

	if (fd < 0 && errno == ENOENT) {
		r = make_directories(state_fd, name);
		if (r < 0)
			return r;
		fd = openat(state_fd, name, flags, 0600);
	}
	if (fd < 0 && errno == EEXIST)
		return open_empty(state_fd, name);
	return fd < 0 ? -errno : fd;
}

int output_open(struct output *output, int state_fd, const char *name, const char *suffix, int *ret_write)
{
	CLEANUP_FD int log = -1;
	char path[NAME_SIZE];
	int ends[2];
	int length = snprintf(path, sizeof(path), "%s%s", name, suffix);

	if (length < 0 || (size_t)length >= sizeof(path))
		return -ENAMETOOLONG;
	log = open_log(state_fd, path);
	if (log < 0)
		return log;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	output->log = TAKE_FD(log);
	output->pipe = ends[0];
	*ret_write = ends[1];
	return 0;
}

static uint64_t gap_end(const struct output *output)
{
	return output->gap_at + output->dropped;
}

/* Frees [start, end) of the log. False when the file system cannot; the bytes then merely stay. */
static bool punch(struct output *output, uint64_t start, uint64_t end)
{
	if (output->cannot_punch)
		return false;
	if (fallocate(output->log, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)start, (off_t)(end - start)) == 0)
		return true;
	output->cannot_punch = true;
	return false;
}

void output_apply_cap(struct output *output)
{
	uint64_t head = output->head_bytes;
	uint64_t start = output->dropped == 0 ? head : gap_end(output);
	uint64_t end;

	if (output->bytes <= head + output->tail_bytes)
		return;
	end = (output->bytes - output->tail_bytes) / BLOCK * BLOCK;
	if (end < MAX(start, head) + OUTPUT_STEP || !punch(output, start, end))
		return;
	if (output->dropped == 0) {
		output->gap_at = head;
	} else if (output->gap_at > head) { /* a gap beyond the head grows down to it, to stay one gap */
		punch(output, head, output->gap_at);
		output->gap_at = head;
	}
	output->dropped = end - output->gap_at;
}

void output_drop(struct output *output, uint64_t length)
{
	if (output->dropped == 0) {
		output->gap_at = output->bytes;
	} else if (gap_end(output) < output->bytes) {
		/* Stored since the last gap: given up, which also makes room. */
		punch(output, gap_end(output), output->bytes);
		output->dropped = output->bytes - output->gap_at;
	}
	output->bytes += length;
	output->dropped += length;
}

/* Without punching the log ends at the cap. */
static bool is_full(const struct output *output)
{
	return output->cannot_punch && output->bytes >= output->head_bytes + output->tail_bytes;
}

/* read(2) has no flag against waiting, as splice(2) has; only the rare ways need it. */
static ssize_t read_pipe(struct output *output, char *bytes, size_t size)
{
	ssize_t got;

	if (!output->is_nonblocking)
		fd_set_nonblocking(output->pipe, true);
	output->is_nonblocking = true;
	got = read(output->pipe, bytes, size);
	return got < 0 ? -errno : got;
}

/* Makes room in the pipe by throwing away. Bytes, 0 at the end, or -errno. */
static ssize_t discard(struct output *output)
{
	char bytes[COPY_MAX];
	ssize_t got = read_pipe(output, bytes, sizeof(bytes));

	if (got > 0)
		output_drop(output, (uint64_t)got);
	return got;
}

/* For file systems that do not take a splice. */
static ssize_t copy(struct output *output)
{
	char bytes[COPY_MAX];
	ssize_t got = read_pipe(output, bytes, sizeof(bytes));
	ssize_t stored;

	if (got <= 0)
		return got;
	stored = MAX(pwrite(output->log, bytes, (size_t)got, (off_t)output->bytes), (ssize_t)0);
	output->bytes += (uint64_t)stored;
	if (stored < got)
		output_drop(output, (uint64_t)(got - stored));
	return got;
}

static ssize_t move(struct output *output)
{
	off64_t offset = (off64_t)output->bytes;
	ssize_t moved = splice(output->pipe, NULL, output->log, &offset, MOVE_MAX, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

	if (moved < 0)
		return -errno;
	output->bytes += (uint64_t)moved;
	return moved;
}

static ssize_t move_some(struct output *output)
{
	ssize_t r = -EINVAL;

	if (is_full(output))
		return discard(output);
	if (!output->cannot_splice)
		r = move(output);
	if (r == -EINVAL) {
		output->cannot_splice = true;
		return copy(output);
	}
	if (r < 0 && r != -EAGAIN && r != -EINTR)
		return discard(output); /* ENOSPC, EDQUOT, EFBIG, EIO: the task goes on */
	return r;
}

enum output_state output_move(struct output *output, uint64_t limit)
{
	uint64_t stop = output->bytes + MIN(limit, UINT64_MAX - output->bytes);

	while (output->pipe >= 0) {
		ssize_t r = move_some(output);

		if (r == -EINTR)
			continue;
		if (r == -EAGAIN)
			return OUTPUT_EMPTY;
		if (r <= 0) {
			fd_close(&output->pipe);
			break;
		}
		output_apply_cap(output);
		if (output->bytes >= stop)
			return OUTPUT_MORE;
	}
	return OUTPUT_END;
}

enum output_state output_move_rest(struct output *output)
{
	int size = output->pipe >= 0 ? fcntl(output->pipe, F_GETPIPE_SZ) : 0;

	return output_move(output, size > 0 ? (uint64_t)size : MOVE_MAX);
}

bool output_has_news(struct output *output)
{
	if (output->dropped < output->noted_dropped + OUTPUT_STEP && (output->noted_dropped != 0 || output->dropped == 0))
		return false;
	output->noted_dropped = output->dropped;
	return true;
}

void output_close(struct output *output)
{
	if (output->log >= 0 && output->dropped > 0 && gap_end(output) == output->bytes &&
	    ftruncate(output->log, (off_t)output->bytes) < 0)
		output->cannot_punch = true; /* the log is shorter than the stream: readers cope */
	fd_close(&output->pipe);
	fd_close(&output->log);
}
