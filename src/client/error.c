/*
 * error.c - struct client_error: why a call failed, and whether another try may fare better.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "client/client.h"

int client_fail(struct client_error *error, const struct err *cause)
{
	*error = (struct client_error){ .code = -1, .exit_status = 3, .cause = *cause };
	snprintf(error->text, sizeof(error->text), "%s", cause->text);
	return cause->code;
}

bool client_is_lost(const struct client_error *error)
{
	return error->code < 0 && error->cause.code != -ETIMEDOUT && error->cause.code != -EBADMSG;
}

int client_refuse(struct client_error *error, enum api_error code, const char *format, ...)
{
	va_list args;

	*error = (struct client_error){ .code = (int)code, .exit_status = api_error_info(code)->exit_status };
	va_start(args, format);
	vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	return -EINVAL;
}
