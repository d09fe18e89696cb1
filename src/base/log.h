/*
 * log.h - lines for the daemon's log and for --verbose, on standard error. Libraries return errors; only the edge logs.
 */
#pragma once

#include "base/macros.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG, LOG_LEVEL_MAX };

/* Lines above `level` are dropped. `with_time` puts the RFC 3339 UTC time before each line. */
void log_init(enum log_level level, bool with_time);

/* One line. Control characters in it are replaced, so that foreign text cannot fake a line. */
void log_line(enum log_level level, const char *format, ...) PRINTF_LIKE(2, 3);

/* "error" "warning" "info" "debug" → level; −1 when unknown. */
int log_parse_level(const char *name);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
