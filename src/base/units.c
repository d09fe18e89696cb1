#include "base/units.h"


#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/str.h"

struct unit {
	const char *name;
	double factor;
};

static const struct unit duration_units[] = {
	{ "ms", 1e6 },   { "s", 1e9 },     { "sec", 1e9 }, { "m", 60e9 }, { "min", 60e9 },
	{ "h", 3600e9 }, { "d", 86400e9 }, { "us", 1e3 },  { "ns", 1.0 }, { "w", 7 * 86400e9 },
};

static const struct unit size_units[] = {
	{ "", 1 }, { "B", 1 }, { "K", 1024.0 }, { "M", 1048576.0 }, { "G", 1073741824.0 }, { "T", 1099511627776.0 },
};

/* A plain decimal number: strtod alone would also take "nan", "inf" and hexadecimal. */
static int parse_number(const char **at, double *ret)
{
	const char *start = *at;
	char *end;

	if (!isdigit((unsigned char)*start) && *start != '.')
		return -EINVAL;
	if (start[0] == '0' && (start[1] == 'x' || start[1] == 'X'))
		return -EINVAL;
	*ret = strtod(start, &end);
	if (end == start || !isfinite(*ret))
		return -EINVAL;
	*at = end;
	return 0;
}

static const struct unit *find_unit(const struct unit *units, size_t count, const char *name, size_t length)
{
	for (size_t i = 0; i < count; i++)
		if (strlen(units[i].name) == length && strncasecmp(units[i].name, name, length) == 0)
			return &units[i];
	return NULL;
}

/* What is meant by the 30 of 1h30. */
static const char *unit_below(const struct unit *unit)
{
	if (unit->factor >= 86400e9)
		return "h";
	if (unit->factor >= 3600e9)
		return "m";
	return unit->factor >= 60e9 ? "s" : "ms";
}

int units_parse_duration(const char *text, uint64_t *ret_ns, struct err *err)
{
	const struct unit *unit = NULL;
	const char *at = text;
	double total = 0;

	if (*at == '\0')
		return err_say(err, -EINVAL, "'' is no duration: write one like 30s, 5m or 1h30m");
	while (*at != '\0') {
		size_t length;
		double number;

		if (parse_number(&at, &number) < 0)
			return err_say(err, -EINVAL, "'%s' is no duration: write one like 30s, 5m or 1h30m", text);
		at += strspn(at, " ");
		length = strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
		if (length == 0 && *at == '\0' && unit)
			return err_say(err, -EINVAL, "the duration '%s' ends in a number without a unit: write %s%s", text,
			               text, unit_below(unit));
		if (length == 0)
			return err_say(err, -EINVAL, "the duration '%s' has no unit: write %ss or %sms", text, text, text);
		unit = find_unit(duration_units, ARRAY_SIZE(duration_units), at, length);
		if (!unit)
			return err_say(err, -EINVAL, "'%s' is no duration: units are ms, s, m, h, d and w", text);
		total += number * unit->factor;
		at += length;
		at += strspn(at, " ");
	}
	if (total >= 9.2e18)
		return err_say(err, -ERANGE, "the duration '%s' is too long: 290 years at most", text);
	*ret_ns = (uint64_t)total;
	return 0;
}

int units_parse_size(const char *text, uint64_t *ret_bytes, struct err *err)
{
	const struct unit *unit;
	const char *at = text;
	double number;
	size_t length;

	if (parse_number(&at, &number) < 0)
		return err_say(err, -EINVAL, "'%s' is no size: write one like 512M or 2G", text);
	while (*at == ' ')
		at++;
	length = strlen(at);
	if (length == 3 && strcasecmp(at + 1, "iB") == 0)
		length = 1;
	else if (length == 2 && (at[1] == 'B' || at[1] == 'b'))
		length = 1;
	unit = find_unit(size_units, ARRAY_SIZE(size_units), at, length);
	if (!unit)
		return err_say(err, -EINVAL, "'%s' is no size: units are K, M, G and T", text);
	if (number * unit->factor >= 9.2e18)
		return err_say(err, -ERANGE, "the size '%s' is too large", text);
	*ret_bytes = (uint64_t)(number * unit->factor);
	return 0;
}

const char *units_format_duration(uint64_t ns, char text[UNITS_TEXT_MAX])
{
	uint64_t seconds = ns / NS_PER_SEC;

	if (ns < 100 * NS_PER_SEC / 10)
		snprintf(text, UNITS_TEXT_MAX, "%.1fs", (double)ns / 1e9);
	else if (seconds < 60)
		snprintf(text, UNITS_TEXT_MAX, "%us", (unsigned)seconds);
	else if (seconds < 3600)
		snprintf(text, UNITS_TEXT_MAX, "%um%02us", (unsigned)(seconds / 60), (unsigned)(seconds % 60));
	else if (seconds < 86400)
		snprintf(text, UNITS_TEXT_MAX, "%uh%02um", (unsigned)(seconds / 3600), (unsigned)(seconds / 60 % 60));
	else
		snprintf(text, UNITS_TEXT_MAX, "%ud%02uh", (unsigned)(seconds / 86400), (unsigned)(seconds / 3600 % 24));
	return text;
}

const char *units_format_size(uint64_t bytes, char text[UNITS_TEXT_MAX])
{
	static const char *const names[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	size_t unit = 0;

	if (bytes < 1024) {
		snprintf(text, UNITS_TEXT_MAX, "%u B", (unsigned)bytes);
		return text;
	}
	value /= 1024;
	while (value >= 1023.95 && unit + 1 < ARRAY_SIZE(names)) {
		value /= 1024;
		unit++;
	}
	snprintf(text, UNITS_TEXT_MAX, "%.1f %s", value, names[unit]);
	return text;
}

const char *units_format_time(int64_t unix_ms, char text[UNITS_TEXT_MAX])
{
	int64_t milliseconds = ((unix_ms % 1000) + 1000) % 1000;
	time_t seconds = (time_t)((unix_ms - milliseconds) / 1000);
	struct tm parts;
	size_t length;

	gmtime_r(&seconds, &parts);
	length = strftime(text, UNITS_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &parts);
	snprintf(text + length, UNITS_TEXT_MAX - length, ".%03dZ", (int)milliseconds);
	return text;
}

int units_parse_time(const char *text, int64_t *ret_unix_ms)
{
	struct tm parts = { 0 };
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &parts);
	uint64_t milliseconds;
	char digits[4];

	if (!rest || strlen(rest) != strlen(".000Z") || rest[0] != '.' || rest[4] != 'Z')
		return -EINVAL;
	memcpy(digits, rest + 1, 3);
	digits[3] = '\0';
	if (str_parse_u64(digits, 999, &milliseconds) < 0)
		return -EINVAL;
	*ret_unix_ms = (int64_t)timegm(&parts) * 1000 + (int64_t)milliseconds;
	return 0;
}
