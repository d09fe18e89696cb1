/*
 * keys.h - the answers to idempotency keys in memory: a hash table that grows.
 */
#pragma once

#include "base/macros.h"

struct keys_entry {
	struct keys_entry *next;
	int64_t at_ms;
	uint64_t hash;
	char *answer; /* behind the key, in the same allocation */
	char key[];
};

/* Zero-initialised is empty. */
struct keys {
	struct keys_entry **buckets;
	size_t bucket_count; /* 0 or a power of two */
	size_t count;
	int64_t oldest_ms; /* no entry is older; may be too low, which costs one look at all */
};

/* Frees everything. */
void keys_done(struct keys *keys);

/* Adds an answer; a key that is there already keeps what it has and false is returned. */
bool keys_add(struct keys *keys, const char *key, int64_t at_ms, const char *answer);

/* The entry of a key or NULL. */
const struct keys_entry *keys_find(const struct keys *keys, const char *key);

/* Removes a key if it is there. */
void keys_remove(struct keys *keys, const char *key);

/* Removes all entries older than `before_ms`, calling `on_removed` with each key before it is gone. */
void keys_remove_older(struct keys *keys, int64_t before_ms, void (*on_removed)(void *context, const char *key),
                       void *context);
