/*
 * units.h - times in nanoseconds, sizes in bytes, and their written forms.
 */
#pragma once

#include "base/err.h"

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_SEC UINT64_C(1000000000)
#define NS_PER_MIN (60 * NS_PER_SEC)
#define NS_PER_HOUR (60 * NS_PER_MIN)
#define NS_PER_DAY (24 * NS_PER_HOUR)
#define NEVER_NS UINT64_MAX

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

enum { UNITS_TEXT_MAX = 40 };

/*
 * "90s" "1.5h" "2d12h" "250ms" → *ret_ns. A number without a unit is refused with a sentence, since seconds and
 * milliseconds are both usual. Returns 0, -EINVAL or -ERANGE.
 */
int units_parse_duration(const char *text, uint64_t *ret_ns, struct err *err);

/* "2G" "512M" "1.5GiB" "100MB" "4096" → bytes; K M G T are powers of 1024, with or without B or iB. 0, -EINVAL, -ERANGE. */
int units_parse_size(const char *text, uint64_t *ret_bytes, struct err *err);

/* "3.2s" "4m10s" "2h05m" "3d04h" into `text`; returns `text`. */
const char *units_format_duration(uint64_t ns, char text[UNITS_TEXT_MAX]);

/* "512 B" "1.4 GiB" into `text`; returns `text`. */
const char *units_format_size(uint64_t bytes, char text[UNITS_TEXT_MAX]);

/* Milliseconds of Unix time → "2026-01-31T12:00:00.123Z" into `text`; returns `text`. */
const char *units_format_time(int64_t unix_ms, char text[UNITS_TEXT_MAX]);

/* The same back: what units_format_time() wrote → milliseconds of Unix time. 0 or -EINVAL. */
int units_parse_time(const char *text, int64_t *ret_unix_ms);
