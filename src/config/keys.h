/*
 * keys.h - keys of settings as rows, and the conversion of their values to JSON.
 */
#pragma once

#include <jansson.h>

#include "config/tree.h"

enum config_key_type {
	CONFIG_KEY_ANY,             /* looked at elsewhere */
	CONFIG_KEY_TEXT,            /* any scalar but null → string */
	CONFIG_KEY_NAME,            /* a task name → string */
	CONFIG_KEY_TEXTS,           /* a scalar or a list of them → list of strings */
	CONFIG_KEY_RUN,             /* looked at elsewhere */
	CONFIG_KEY_WORD,            /* one of `words` → string */
	CONFIG_KEY_WORKTREE,        /* none, auto, checkout, true, false → string */
	CONFIG_KEY_BOOLEAN,         /* true or false → boolean */
	CONFIG_KEY_COUNT,           /* 0 … limit → integer */
	CONFIG_KEY_LIMIT,           /* 1 … limit → integer, auto → 0 */
	CONFIG_KEY_SECONDS,         /* duration with a unit, or 0 → number of seconds */
	CONFIG_KEY_SOURCE_DURATION, /* duration with a unit, or a bare number of milliseconds, null = 0 → integer nanoseconds
	                             */
	CONFIG_KEY_SIZE,            /* size with a unit → integer bytes */
	CONFIG_KEY_SETTINGS,        /* a map of scalars → list of NAME=VALUE */
};

enum config_key_flag {
	CONFIG_KEY_NO_DEFAULT = 1 << 0,   /* cannot stand under `defaults` */
	CONFIG_KEY_DEFAULT_ONLY = 1 << 1, /* can stand only there */
};

struct config_key {
	const char *name;
	enum config_key_type type;
	unsigned flags;
	const char *member; /* of the JSON object that is made */
	const char *words;  /* CONFIG_KEY_WORD: allowed ones, blanks between */
	uint64_t limit;     /* CONFIG_KEY_COUNT, CONFIG_KEY_LIMIT */
};

/* The row of a name, or NULL. */
const struct config_key *config_key_find(const struct config_key *keys, size_t count, const char *name);

/* "unknown key 'x'" with the nearest known one, at the key's place. Returns -EINVAL. */
int config_fail_unknown(const struct config_file *file, const struct config_node *key_node, const struct config_key *keys,
                        size_t count, struct err *err);

/* The value of an entry as JSON by its key's type; a new reference in *ret. 0 or -EINVAL. */
int config_convert(const struct config_file *file, const struct config_node *node, const struct config_key *key,
                   json_t **ret, struct err *err);

/* A scalar or a list of scalars as a list of strings; `name` stands in sentences. */
int config_convert_texts(const struct config_file *file, const struct config_node *node, const char *name, json_t **ret,
                         struct err *err);

/* `below` (borrowed) with the settings of `above` (stolen) replacing those of the same name; a new reference. */
json_t *config_merge_settings(const json_t *below, json_t *above);
