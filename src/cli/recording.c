#include "cli/recording.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "cli/logfile.h"

enum { FOLDER_KEPT = 200 }; /* bytes of a name that is too long; the task's number makes it one of its own */

void recording_add_folder(struct buf *path, const char *value)
{
	if (*value == '\0' || strcmp(value, ".") == 0 || strcmp(value, "..") == 0)
		buf_add_byte(path, '\\');
	for (; *value; value++) {
		if (*value == '/')
			buf_add_text(path, "\\_");
		else if (*value == '\\')
			buf_add_text(path, "\\\\");
		else
			buf_add_byte(path, *value);
	}
}

static void add_value_folder(struct buf *path, const char *value, uint64_t number)
{
	CLEANUP_BUF struct buf folder = BUF_INIT;

	recording_add_folder(&folder, value);
	if (folder.length <= NAME_MAX)
		buf_add(path, folder.bytes, folder.length);
	else
		buf_add_format(path, "%.*s\\%llu", FOLDER_KEPT, folder.bytes, (unsigned long long)number);
}

/* "1/VALUE/2/VALUE", or what a task of a file is known by. */
static void add_task_path(const struct submit_result *batch, uint64_t index, const json_t *event, struct buf *path)
{
	const char *name = json_string_value(json_object_get(event, "name"));
	CLEANUP(source_values_done) struct source_values list = { 0 };
	uint64_t number = submit_number(batch, index);
	struct template_values values;

	if (batch->is_file || batch->input.sources.count == 0) {
		if (name)
			buf_add_format(path, "/%s", name);
		else
			buf_add_format(path, "/%llu", (unsigned long long)(batch->first + index));
		return;
	}
	values = input_values(&batch->input, number - 1, &list);
	for (size_t i = 0; i < values.count; i++) {
		buf_add_format(path, "/%zu/", i + 1);
		add_value_folder(path, values.texts[i], number);
	}
	if (values.count == 0)
		buf_add_format(path, "/%llu", (unsigned long long)number);
}

/* Makes each folder of the path after the first `start` bytes. */
static int make_folders(char *path, size_t start)
{
	for (char *slash = strchr(path + start + 1, '/');; slash = strchr(slash + 1, '/')) {
		int code;

		if (slash)
			*slash = '\0';
		code = mkdir(path, 0777) < 0 && errno != EEXIST ? -errno : 0;
		if (!slash || code < 0)
			return code;
		*slash = '/';
	}
}

/* A copy of a log, or an empty file when there is none. What was dropped is said in it. */
static int copy_log(const char *folder, const char *name, const char *log_path)
{
	CLEANUP_FREE char *path = xasprintf("%s/%s", folder, name);
	CLEANUP(logfile_close) struct logfile file = LOGFILE_INIT;
	CLEANUP_FREE char *piece = xcalloc(1, LOGFILE_PIECE_MAX);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
	int code = fd < 0 ? -errno : 0;

	if (code < 0 || !log_path || logfile_open(log_path, &file) == -ENOENT)
		return code;
	for (;;) {
		uint64_t dropped = 0;
		ssize_t length = logfile_read(&file, piece, &dropped);

		if (length < 0 || (length == 0 && dropped == 0))
			return (int)length;
		if (dropped > 0 && dprintf(fd, "\n[drover: %llu bytes were not kept]\n", (unsigned long long)dropped) < 0)
			return -errno;
		code = fd_write_all(fd, piece, (size_t)length);
		if (code < 0)
			return code;
	}
}

static int save_number(const char *folder, uint64_t number)
{
	CLEANUP_FREE char *path = xasprintf("%s/seq", folder);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);

	return fd < 0 || dprintf(fd, "%llu", (unsigned long long)number) < 0 ? -errno : 0;
}

static int save_results(const struct submit_result *batch, uint64_t index, const json_t *event, const char *log_path)
{
	CLEANUP_FREE char *error_path = log_path ? xasprintf("%s.err", log_path) : NULL;
	CLEANUP_BUF struct buf path = BUF_INIT;
	int code;

	buf_add_text(&path, batch->results);
	add_task_path(batch, index, event, &path);
	code = make_folders(path.bytes, strlen(batch->results));
	if (code == 0)
		code = copy_log(path.bytes, "stdout", log_path);
	if (code == 0)
		code = copy_log(path.bytes, "stderr", error_path);
	if (code == 0)
		code = save_number(path.bytes, submit_number(batch, index));
	return code;
}

static void tell_failure(struct cli *cli, struct submit_result *batch, const char *option, int code)
{
	if (!batch->has_record_failed)
		cli_tell(cli, "%s: not everything could be written: %s", option, strerror(-code));
	batch->has_record_failed = true;
}

void recording_add(struct cli *cli, struct submit_result *batch, uint64_t index, const json_t *event, const char *log_path)
{
	int code;

	if (batch->joblog.fd >= 0) {
		CLEANUP_BUF struct buf command = BUF_INIT;

		submit_add_command_text(batch, index, &command);
		code = joblog_add(&batch->joblog, submit_number(batch, index), event, command.bytes);
		if (code < 0)
			tell_failure(cli, batch, "--joblog", code);
	}
	if (!batch->results)
		return;
	code = save_results(batch, index, event, log_path);
	if (code < 0)
		tell_failure(cli, batch, "--results", code);
}
