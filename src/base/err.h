/*
 * err.h - errors as data: a negative errno and a sentence, in memory of the caller.
 *
 * A failing function returns -errno and fills *err; a succeeding one leaves it alone. No heap is used, so errors work when
 * memory is short. Functions here accept a NULL err, for callers that need only the code.
 */
#pragma once

#include "base/macros.h"

enum { ERR_TEXT_MAX = 1024 };

struct err {
	int code; /* negative errno, 0 = no error */
	char text[ERR_TEXT_MAX];
};

#define ERR_INIT ((struct err){ 0 })

/*
 * Fills *err with `code` (a negative errno) and the formatted sentence followed by ": " and the errno's own words.
 * Returns `code`, so that `return err_set(...)` reads well.
 */
int err_set(struct err *err, int code, const char *format, ...) PRINTF_LIKE(3, 4);

/* As err_set, but the sentence stands alone: for errors that no errno describes. */
int err_say(struct err *err, int code, const char *format, ...) PRINTF_LIKE(3, 4);

/* Puts "what: " before the sentence that is there. Returns err->code, or `-EIO` when err is NULL. */
int err_wrap(struct err *err, const char *format, ...) PRINTF_LIKE(2, 3);

/* Forgets an error on purpose; `why` documents the reason at the call. */
void err_ignore(struct err *err, const char *why);
