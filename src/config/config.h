/*
 * config.h - settings: the user's file, and the repository's, which may only tighten them.
 *
 * Precedence (DESIGN 6.3): command line, environment, repository, user, default. The first two are the caller's. What the
 * repository says counts only where it is the tighter of the two. Each value remembers where it came from.
 */
#pragma once

#include <jansson.h>

#include "base/err.h"

/* The repository's file, in its top directory. */
#define CONFIG_REPOSITORY_FILE ".parallel.yaml"

enum { CONFIG_FILE_MAX = 256 << 10 }; /* bytes */

enum config_origin { CONFIG_FROM_DEFAULT, CONFIG_FROM_USER, CONFIG_FROM_REPOSITORY, CONFIG_ORIGIN_MAX };

struct config_value {
	uint64_t value;
	enum config_origin origin;
	unsigned line; /* in its file, 0 for a default */
};

/* Units are in the names; 0 means without bound for max_parallel, hard_max_concurrent and default_timeout_ns. */
struct drover_config {
#define SETTING(symbol, field, section, key, type, limit, initial, repository, meaning) struct config_value field;
#include "config/config.def"
	uint32_t planned; /* bit set of keys that were given and are not heeded yet, see config_planned_name() */
};

/* Fills in the defaults. */
void config_init(struct drover_config *config);

/*
 * Defaults and the user's file over them: `path`, or paths_config() when NULL. No file is no error. Errors point at
 * file:line:column; then *ret is untouched. 0 or -errno.
 */
int config_load_user(const char *path, struct drover_config *ret, struct err *err);

/*
 * The same, with the key `notify` in *ret_notify: program and arguments as a list of strings, a new reference, or NULL. Only
 * for whoever runs it, with the user's own rights: the daemon does not.
 */
int config_load_notify(const char *path, struct drover_config *ret, json_t **ret_notify, struct err *err);

/*
 * Tightens `config` by DIRECTORY/.parallel.yaml; no file is no error. A key that a repository may not set is an error. On
 * failure `config` is untouched. 0 or -errno.
 */
int config_load_repository(const char *directory, struct drover_config *config, struct err *err);

/* Name of the n-th bit of `planned` when whoever set the key should be told, NULL when not; n < CONFIG_PLANNED_MAX. */
enum { CONFIG_PLANNED_MAX = 32 };
const char *config_planned_name(unsigned n);

/* "default", "user", "repository". */
const char *config_origin_name(enum config_origin origin);
