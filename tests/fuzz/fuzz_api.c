/*
 * fuzz_api.c - bytes through api_parse() and the check against every object of the definition.
 *
 * Checked: what parses is no deeper than it may be; each refusal has a sentence; the check says the same twice.
 */
#include <string.h>

#include "fuzz.h"
#include "proto/api.h"

enum { STACK_MAX = LIMIT_JSON_DEPTH + 2 };

/* Depth along the first children: enough to see a limit that does not hold. */
static unsigned depth_of(json_t *value)
{
	unsigned depth = 0;

	while (value && depth < STACK_MAX && (json_is_object(value) || json_is_array(value))) {
		depth++;
		value = json_is_array(value) ? json_array_get(value, 0) : json_object_iter_value(json_object_iter(value));
	}
	return depth;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	json_t *value = api_parse((const char *)data, size, &err);

	if (!value) {
		ASSERT(err.code < 0 && strlen(err.text) > 0);
		return 0;
	}
	ASSERT(depth_of(value) <= LIMIT_JSON_DEPTH);
	for (int i = 0; i < api_object_count(); i++) {
		struct err first = ERR_INIT, second = ERR_INIT;
		int error = api_check(i, value, &first);

		ASSERT(error == api_check(i, value, &second));
		ASSERT(strcmp(first.text, second.text) == 0);
		ASSERT((error < 0) == (strlen(first.text) > 0));
	}
	json_decref(value);
	return 0;
}
