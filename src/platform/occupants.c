#include "platform/occupants.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "platform/fs.h"

enum {
	DEPTH_MAX = 4096, /* of a working directory; PATH_MAX allows no more */
	MOUNTINFO_MAX = 16 << 20,
	BLOCK_BYTES = 512, /* of st_blocks */
};

/* ---- processes ---- */

static bool is_same_directory(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* True when the directory is `top` or below it: goes up by "..", which no path, link or mount can mislead. Takes fd over. */
static bool is_below(int fd, const struct stat *top)
{
	struct stat here;
	bool is_found = false;

	for (int depth = 0; fd >= 0 && depth < DEPTH_MAX && fstat(fd, &here) == 0; depth++) {
		struct stat above;
		int parent;

		is_found = is_same_directory(&here, top);
		if (is_found)
			break;
		parent = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		fd_close(&fd);
		fd = parent;
		if (fd < 0 || fstat(fd, &above) < 0 || is_same_directory(&above, &here))
			break;
	}
	fd_close(&fd);
	return is_found;
}

static bool is_process_below(int proc, const char *pid, const struct stat *top)
{
	static const char *const links[] = { "cwd", "root" };
	char path[48];

	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		snprintf(path, sizeof(path), "%.20s/%s", pid, links[i]);
		if (is_below(openat(proc, path, O_PATH | O_DIRECTORY | O_CLOEXEC), top))
			return true;
	}
	return false;
}

static void read_command(int proc, const char *pid, struct occupant *ret)
{
	char path[48];
	CLEANUP_FD int fd = -1;
	ssize_t length;

	snprintf(path, sizeof(path), "%.20s/comm", pid);
	fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	length = fd < 0 ? 0 : read(fd, ret->command, sizeof(ret->command) - 1);
	ret->command[MAX(length, 0)] = '\0';
	ret->command[strcspn(ret->command, "\n")] = '\0';
}

int occupants_find_process(const char *proc, int directory, struct occupant *ret)
{
	DIR *listing = opendir(proc);
	const struct dirent *entry;
	struct stat top;
	int found = 0;

	if (!listing)
		return -errno;
	if (fstat(directory, &top) < 0)
		found = -errno;
	while (found == 0 && (entry = readdir(listing))) {
		size_t digits = strspn(entry->d_name, "0123456789");
		struct occupant occupant = { 0 };

		if (digits == 0 || digits > 9 || entry->d_name[digits] != '\0')
			continue;
		if (!is_process_below(dirfd(listing), entry->d_name, &top))
			continue;
		for (size_t i = 0; i < digits; i++)
			occupant.pid = occupant.pid * 10 + (entry->d_name[i] - '0');
		read_command(dirfd(listing), entry->d_name, &occupant);
		*ret = occupant;
		found = 1;
	}
	closedir(listing);
	return found;
}

/* ---- mounts ---- */

static bool is_octal(char byte)
{
	return byte >= '0' && byte <= '7';
}

/* A mount point as mountinfo writes it: blanks, tabs, line breaks and backslashes as \ooo. */
static void add_unescaped(struct buf *buf, const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if (text[i] == '\\' && i + 3 < length && is_octal(text[i + 1]) && is_octal(text[i + 2]) &&
		    is_octal(text[i + 3])) {
			buf_add_byte(buf, (char)((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 | (text[i + 3] - '0')));
			i += 3;
		} else {
			buf_add_byte(buf, text[i]);
		}
	}
}

/* The fifth of the fields between blanks; its length, 0 when there is none. */
static size_t find_mount_point(const char *line, size_t length, const char **ret)
{
	const char *end = line + length;
	const char *at = line;

	for (int field = 1; field < 5; field++) {
		at = memchr(at, ' ', (size_t)(end - at));
		if (!at)
			return 0;
		at++;
	}
	*ret = at;
	for (length = 0; at + length < end && at[length] != ' ';)
		length++;
	return length;
}

bool occupants_parse_mounts(const char *text, size_t length, const char *path, struct buf *ret_point)
{
	size_t path_length = strlen(path);
	const char *end = text + length;

	for (const char *line = text, *next; line < end; line = next) {
		const char *stop = memchr(line, '\n', (size_t)(end - line));
		const char *point = NULL;
		size_t point_length;

		stop = stop ? stop : end;
		next = stop < end ? stop + 1 : end;
		point_length = find_mount_point(line, (size_t)(stop - line), &point);
		buf_clear(ret_point);
		add_unescaped(ret_point, point, point_length);
		if (ret_point->length >= path_length && memcmp(ret_point->bytes, path, path_length) == 0 &&
		    (ret_point->bytes[path_length] == '/' || ret_point->bytes[path_length] == '\0'))
			return true;
	}
	buf_clear(ret_point);
	return false;
}

int occupants_find_mount(const char *proc, const char *path, struct buf *ret_point)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	char name[256];
	CLEANUP_FD int fd = -1;
	int error;

	snprintf(name, sizeof(name), "%s/self/mountinfo", proc);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	error = fd_read_all(fd, &text, MOUNTINFO_MAX);
	if (error < 0)
		return error;
	return text.length > 0 && occupants_parse_mounts(text.bytes, text.length, path, ret_point);
}

/* ---- size ---- */

/* The directories still to be looked at: NUL-ended paths one behind another, the last one is next. */
static void push(struct buf *stack, const char *parent, const char *name)
{
	if (*parent) {
		buf_add_text(stack, parent);
		buf_add_byte(stack, '/');
	}
	buf_add(stack, name, strlen(name) + 1);
}

static void pop(struct buf *stack, struct buf *ret)
{
	size_t start = stack->length - 1;

	while (start > 0 && stack->bytes[start - 1] != '\0')
		start--;
	buf_clear(ret);
	buf_add_text(ret, stack->bytes + start);
	stack->length = start;
}

/* What a file takes. Some file systems choose the blocks later and tell of none until then: its length is near enough. */
static uint64_t count_bytes(const struct stat *st)
{
	return st->st_blocks > 0 ? (uint64_t)st->st_blocks * BLOCK_BYTES : (uint64_t)st->st_size;
}

/* Adds what the directory `path` holds, and its directories to the stack. */
static int measure_directory(int top, const char *path, struct buf *stack, uint64_t *bytes)
{
	int fd = fs_open_directory_same_mount(top, *path ? path : ".");
	DIR *listing = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!listing) {
		fd_close(&fd);
		return fd == -ENOENT || fd == -EXDEV ? 0 : fd < 0 ? fd : -errno; /* gone, or on another mount */
	}
	while ((entry = readdir(listing))) {
		struct stat st;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    fstatat(dirfd(listing), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISDIR(st.st_mode)) {
			*bytes += count_bytes(&st);
			push(stack, path, entry->d_name);
		} else {
			*bytes += count_bytes(&st) / MAX(st.st_nlink, (nlink_t)1);
		}
	}
	closedir(listing);
	return 0;
}

int occupants_measure(int directory, uint64_t *ret_bytes)
{
	CLEANUP_BUF struct buf stack = BUF_INIT;
	CLEANUP_BUF struct buf path = BUF_INIT;
	uint64_t bytes = 0;
	int error = measure_directory(directory, "", &stack, &bytes);

	while (stack.length > 0) {
		int problem;

		pop(&stack, &path);
		problem = measure_directory(directory, path.bytes, &stack, &bytes);
		if (error == 0)
			error = problem;
	}
	*ret_bytes = bytes;
	return error;
}
