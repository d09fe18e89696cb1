#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"

static const char *const level_names[LOG_LEVEL_MAX] = { "error", "warning", "info", "debug" };

/* The two settings of main(); everything else passes its context. */
static enum log_level log_level = LOG_WARNING;
static bool log_with_time;

void log_init(enum log_level level, bool with_time)
{
	log_level = level;
	log_with_time = with_time;
}

int log_parse_level(const char *name)
{
	for (int level = 0; level < LOG_LEVEL_MAX; level++)
		if (strcmp(level_names[level], name) == 0)
			return level;
	return -1;
}

static size_t format_head(char *line, size_t size, enum log_level level)
{
	char when[32] = "";

	if (log_with_time) {
		time_t seconds = time(NULL); /* display only */
		struct tm parts;

		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ ", gmtime_r(&seconds, &parts));
	}
	return (size_t)snprintf(line, size, "%s%s: ", when, log_with_time ? level_names[level] : "drover");
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[2048];
	size_t length;
	va_list args;
	int saved = errno;

	if (level > log_level)
		return;
	length = format_head(line, sizeof(line), level);
	va_start(args, format);
	vsnprintf(line + length, sizeof(line) - length - 1, format, args);
	va_end(args);
	length = strlen(line);
	str_blank_hostile(line, length);
	line[length++] = '\n';
	if (fd_write_all(STDERR_FILENO, line, length) < 0)
		errno = saved; /* nowhere left to say it */
	errno = saved;
}
