/*
 * tree.h - a YAML or JSON file as one tree whose nodes know their line and column, and errors that point at them.
 *
 * Knows nothing of what the keys mean. Aliases are shared, never copied: what a file expands to is counted while it is read,
 * so a small file cannot become a large tree (or one without an end).
 */
#pragma once

#include "base/err.h"

enum config_kind { CONFIG_SCALAR, CONFIG_LIST, CONFIG_MAP };

struct config_node {
	enum config_kind kind;
	bool is_plain;                   /* a scalar without quotes: may mean a number, a truth value or null */
	unsigned line;                   /* from 1 */
	unsigned column;                 /* from 1, in characters */
	unsigned count;                  /* entries of a list or map */
	uint64_t weight;                 /* nodes below and including this one, aliases expanded */
	const char *text;                /* of a scalar, NUL-terminated and without NUL inside */
	const struct config_node *key;   /* in a map: the entry's key, a scalar */
	const struct config_node *first; /* first entry of a list or map */
	const struct config_node *next;  /* next entry of the one this is in */
};

struct config_file; /* a read file: name, text and tree */

enum {
	CONFIG_NODES_MAX = 1 << 23, /* nodes of a file, aliases expanded */
	CONFIG_DEPTH_MAX = 32,
	CONFIG_KEYS_MAX = 1024, /* of one map: looking them up is linear */
	CONFIG_ANCHORS_MAX = 1024,
};

/*
 * Reads bytes as YAML (as JSON when `name` ends in ".json"). `name` stands in messages. Errors have the form
 * "NAME:LINE:COLUMN: sentence", the offending line and a caret. 0, -EINVAL, or -EFBIG.
 */
int config_file_parse(const char *name, const char *bytes, size_t length, struct config_file **ret, struct err *err);

/*
 * Opens and reads a regular file or pipe of at most `limit` bytes; the path "-" is standard input. 0, -ENOENT when there is
 * none, or another -errno.
 */
int config_file_read(const char *path, size_t limit, struct config_file **ret, struct err *err);

/* Frees the file and its nodes; NULL is fine. */
void config_file_free(struct config_file *file);

/* For CLEANUP(). */
void config_file_cleanup(struct config_file **file);

/* The root, NULL when the file is empty. */
const struct config_node *config_file_root(const struct config_file *file);

/* Fills *err with the formatted sentence at the node's place (NULL: the file's beginning), and returns `code`. */
int config_fail(const struct config_file *file, const struct config_node *at, int code, struct err *err, const char *format,
                ...) PRINTF_LIKE(5, 6);

/* The value of a key in a map, or NULL. */
const struct config_node *config_node_find(const struct config_node *map, const char *key);

/* True for null, ~ and nothing at all, unquoted. */
bool config_node_is_null(const struct config_node *node);

/* "a list", "a map", "text", "nothing": for sentences. */
const char *config_node_describe(const struct config_node *node);
