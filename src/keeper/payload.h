/*
 * payload.h - what a START orders, in the form execve wants: argv and envp as pointers into the bytes received.
 *
 * No heap: the tables are part of the shim's context, untouched pages until used.
 */
#pragma once

#include "base/limits.h"
#include "keeper/wire.h"

enum {
	PAYLOAD_WORDS_MAX = 1 << 18,   /* more arguments than this exceed what execve takes, at 8 bytes for each pointer */
	PAYLOAD_SETTINGS_MAX = 1 << 16,
	PAYLOAD_NAME_MAX = 256,
};

/* The environment that the tasks of a batch have in common; kept while the same one is used. */
struct environment {
	char name[PAYLOAD_NAME_MAX]; /* "" = none is loaded */
	size_t count;
	char *settings[PAYLOAD_SETTINGS_MAX];
	char bytes[LIMIT_ENVIRONMENT + 1];
};

struct payload {
	const char *directory;
	const char *log;
	const char *blob;
	const char *input; /* NULL = /dev/null */
	char **argv;       /* NULL-terminated; argv[-1] is free for the starter */
	char *words[PAYLOAD_WORDS_MAX + 4];
	char *envp[2 * PAYLOAD_SETTINGS_MAX + 1];
	char **settings;   /* of the START, behind the words */
	uint32_t setting_count;
};

/*
 * Finds the strings in the payload of `start`. The bytes are borrowed and used until the program is started. 0, -E2BIG, or
 * -EINVAL when the message is not what wire.h says.
 */
int payload_parse(struct payload *payload, const struct wire_start *start, char *bytes, size_t length);

/* Loads the blob `name` below `state_fd` unless it is loaded. 0, -E2BIG or -errno. */
int environment_load(struct environment *environment, int state_fd, const char *name);

/* Fills payload->envp from the blob and the START's own settings, which win, the last of a name over the others. */
void payload_build_environment(struct payload *payload, const struct environment *environment);

/* The PATH in payload->envp, or the system's usual one. */
const char *payload_search_path(const struct payload *payload);
