#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"

NORETURN void assert_failed(const char *expression, const char *file, int line)
{
	char text[512];
	int length = snprintf(text, sizeof(text), "drover: assertion failed at %s:%d: %s\n", file, line, expression);

	if (length > 0 && write(STDERR_FILENO, text, MIN((size_t)length, sizeof(text) - 1)) < 0)
		abort();
	abort();
}

int err_set(struct err *err, int code, const char *format, ...)
{
	va_list args;
	size_t length;

	ASSERT(code < 0);
	if (!err)
		return code;
	err->code = code;
	va_start(args, format);
	vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	length = strlen(err->text);
	snprintf(err->text + length, sizeof(err->text) - length, ": %s", strerror(-code));
	str_trim_utf8(err->text);
	return code;
}

int err_say(struct err *err, int code, const char *format, ...)
{
	va_list args;

	ASSERT(code < 0);
	if (!err)
		return code;
	err->code = code;
	va_start(args, format);
	vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	str_trim_utf8(err->text);
	return code;
}

int err_wrap(struct err *err, const char *format, ...)
{
	char inner[ERR_TEXT_MAX];
	va_list args;
	size_t length;

	if (!err)
		return -EIO;
	ASSERT(err->code < 0);
	memcpy(inner, err->text, sizeof(inner));
	va_start(args, format);
	vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	length = strlen(err->text);
	snprintf(err->text + length, sizeof(err->text) - length, ": %s", inner);
	str_trim_utf8(err->text);
	return err->code;
}

void err_ignore(struct err *err, const char *why UNUSED)
{
	if (err)
		*err = ERR_INIT;
}
