#include "cli/joblog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "base/units.h"
#include "cli/cli.h"

#define HEADER "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"

enum { BYTES_MAX = 1 << 30, BITS = 64 };

int joblog_open(const char *path, uint64_t kept_bytes, struct joblog *ret, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0666);
	int code = fd < 0 ? -errno : 0;
	struct stat status;

	if (code == 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && ftruncate(fd, (off_t)kept_bytes) < 0)
		code = -errno;
	if (code == 0 && kept_bytes == 0)
		code = fd_write_all(fd, HEADER, strlen(HEADER));
	if (code < 0)
		return err_set(err, code, "--joblog: cannot write '%s'", path);
	ret->fd = TAKE_FD(fd);
	return 0;
}

void joblog_close(struct joblog *log)
{
	fd_close(&log->fd);
}

struct outcome {
	int exit_value;
	int signal;
};

/* What the columns say of it; false when it never ran. -1 is GNU parallel's value for a job that it ended itself. */
static bool find_outcome(const json_t *event, struct outcome *ret)
{
	const char *state = json_string_value(json_object_get(event, "state"));
	const char *signal_name = json_string_value(json_object_get(event, "signal"));
	const char *start_error = json_string_value(json_object_get(event, "start_error"));
	const json_t *code = json_object_get(event, "exit_code");

	*ret = (struct outcome){ 0 };
	if (start_error)
		ret->exit_value = strcmp(start_error, "ENOENT") == 0 ? CLI_NO_PROGRAM : CLI_NOT_STARTED;
	else if (json_is_integer(code))
		ret->exit_value = (int)json_integer_value(code);
	else if (!signal_name)
		ret->exit_value = -1;
	if (signal_name)
		ret->signal = cli_signal_number(signal_name);
	if (strcmp(state, "timed_out") == 0 || strcmp(state, "cancelled") == 0)
		ret->exit_value = -1;
	return json_is_number(json_object_get(event, "duration_s"));
}

/* One line whatever is in the command. */
static void add_command(struct buf *line, const char *command)
{
	for (; *command; command++)
		buf_add_byte(line, *command == '\n' ? '\0' : *command);
}

int joblog_add(struct joblog *log, uint64_t number, const json_t *event, const char *command)
{
	double duration_s = json_number_value(json_object_get(event, "duration_s"));
	const char *at = json_string_value(json_object_get(event, "at"));
	CLEANUP_BUF struct buf line = BUF_INIT;
	struct outcome outcome;
	int64_t ended_ms = 0;

	if (!find_outcome(event, &outcome))
		return 0;
	if (at)
		units_parse_time(at, &ended_ms);
	buf_add_format(&line, "%llu\t:\t%.3f\t%10.3f\t0\t%lld\t%d\t%d\t", (unsigned long long)number,
	               (double)ended_ms / 1e3 - duration_s, duration_s,
	               (long long)json_integer_value(json_object_get(event, "output_bytes")), outcome.exit_value,
	               outcome.signal);
	add_command(&line, command);
	buf_add_byte(&line, '\n');
	return fd_write_all(log->fd, line.bytes, line.length);
}

static void mark(struct joblog_done *done, uint64_t number, bool is_done)
{
	size_t word = number / BITS;

	if (word >= done->word_count) {
		size_t count = MAX(done->word_count * 2, word + 1);

		done->words = xrealloc(done->words, count * sizeof(*done->words));
		memset(done->words + done->word_count, 0, (count - done->word_count) * sizeof(*done->words));
		done->word_count = count;
	}
	if (is_done)
		done->words[word] |= UINT64_C(1) << number % BITS;
	else
		done->words[word] &= ~(UINT64_C(1) << number % BITS);
}

enum column { COLUMN_NUMBER, COLUMN_EXIT_VALUE = 6, COLUMN_SIGNAL, COLUMN_COMMAND, COLUMN_MAX };

/* Cuts the line at its tabs. False when there are not as many columns. */
static bool split(char *line, char *columns[COLUMN_MAX])
{
	for (unsigned i = 0; i < COLUMN_MAX; i++) {
		char *tab = i + 1 < COLUMN_MAX ? strchr(line, '\t') : NULL;

		columns[i] = line;
		if (!tab)
			return i + 1 == COLUMN_MAX;
		*tab = '\0';
		line = tab + 1;
	}
	return true;
}

static int read_line(char *line, bool only_succeeded, struct joblog_done *done)
{
	char *columns[COLUMN_MAX];
	uint64_t number;
	bool has_succeeded;

	if (!split(line, columns) || str_parse_u64(columns[COLUMN_NUMBER], LIMIT_DRAFT_TASKS, &number) < 0 || number == 0)
		return -EINVAL;
	has_succeeded = strcmp(columns[COLUMN_EXIT_VALUE], "0") == 0 && strcmp(columns[COLUMN_SIGNAL], "0") == 0;
	mark(done, number, has_succeeded || !only_succeeded);
	return 0;
}

int joblog_read(const char *path, bool only_succeeded, struct joblog_done *ret, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	CLEANUP_BUF struct buf text = BUF_INIT;
	unsigned number = 0;
	int code;

	*ret = (struct joblog_done){ 0 };
	if (fd < 0 && errno == ENOENT)
		return 0;
	code = fd < 0 ? -errno : fd_read_all(fd, &text, BYTES_MAX);
	if (code < 0)
		return err_set(err, code, "--resume: cannot read '%s'", path);
	for (char *line = text.bytes, *end; line && line < text.bytes + text.length; line = end + 1) {
		end = memchr(line, '\n', (size_t)(text.bytes + text.length - line));
		if (!end)
			break; /* cut off by a crash: it counts as not there */
		*end = '\0';
		ret->bytes = (uint64_t)(end + 1 - text.bytes);
		number++;
		if (number > 1 && read_line(line, only_succeeded, ret) < 0)
			return err_say(err, -EINVAL, "--resume: line %u of '%s' is none of a job log: %.60s", number, path,
			               line);
	}
	return 0;
}

bool joblog_is_done(const struct joblog_done *done, uint64_t number)
{
	return number / BITS < done->word_count && (done->words[number / BITS] >> number % BITS & 1);
}

void joblog_done_free(struct joblog_done *done)
{
	free(done->words);
	*done = (struct joblog_done){ 0 };
}
