#include "store/keys.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/mix.h"

enum { KEYS_BUCKETS_MIN = 64 };

void keys_done(struct keys *keys)
{
	for (size_t i = 0; i < keys->bucket_count; i++) {
		while (keys->buckets[i]) {
			struct keys_entry *entry = keys->buckets[i];

			keys->buckets[i] = entry->next;
			free(entry);
		}
	}
	free(keys->buckets);
	*keys = (struct keys){ 0 };
}

static uint64_t hash_key(const char *key)
{
	uint64_t hash = 0;

	for (; *key; key++)
		hash = mix64(hash ^ (unsigned char)*key);
	return hash;
}

static void grow(struct keys *keys)
{
	size_t count = MAX(keys->bucket_count * 2, (size_t)KEYS_BUCKETS_MIN);
	struct keys_entry **buckets = xcalloc(count, sizeof(*buckets));

	for (size_t i = 0; i < keys->bucket_count; i++) {
		while (keys->buckets[i]) {
			struct keys_entry *entry = keys->buckets[i];
			struct keys_entry **bucket = &buckets[entry->hash & (count - 1)];

			keys->buckets[i] = entry->next;
			entry->next = *bucket;
			*bucket = entry;
		}
	}
	free(keys->buckets);
	keys->buckets = buckets;
	keys->bucket_count = count;
}

/* The link that points to the entry of `key`, or the NULL at the end of its chain. Needs buckets. */
static struct keys_entry **find_link(const struct keys *keys, const char *key, uint64_t hash)
{
	struct keys_entry **link = &keys->buckets[hash & (keys->bucket_count - 1)];

	while (*link && ((*link)->hash != hash || strcmp((*link)->key, key) != 0))
		link = &(*link)->next;
	return link;
}

bool keys_add(struct keys *keys, const char *key, int64_t at_ms, const char *answer)
{
	size_t key_size = strlen(key) + 1, answer_size = strlen(answer) + 1;
	uint64_t hash = hash_key(key);
	struct keys_entry *entry;
	struct keys_entry **link;

	if (keys->count >= keys->bucket_count)
		grow(keys);
	link = find_link(keys, key, hash);
	if (*link)
		return false;
	entry = xcalloc(1, sizeof(*entry) + key_size + answer_size);
	*entry = (struct keys_entry){ .at_ms = at_ms, .hash = hash };
	memcpy(entry->key, key, key_size);
	entry->answer = entry->key + key_size;
	memcpy(entry->answer, answer, answer_size);
	*link = entry;
	keys->oldest_ms = keys->count == 0 ? at_ms : MIN(keys->oldest_ms, at_ms);
	keys->count++;
	return true;
}

const struct keys_entry *keys_find(const struct keys *keys, const char *key)
{
	return keys->count > 0 ? *find_link(keys, key, hash_key(key)) : NULL;
}

static void unlink_entry(struct keys *keys, struct keys_entry **link)
{
	struct keys_entry *entry = *link;

	*link = entry->next;
	free(entry);
	keys->count--;
}

void keys_remove(struct keys *keys, const char *key)
{
	struct keys_entry **link;

	if (keys->count == 0)
		return;
	link = find_link(keys, key, hash_key(key));
	if (*link)
		unlink_entry(keys, link);
}

void keys_remove_older(struct keys *keys, int64_t before_ms, void (*on_removed)(void *context, const char *key),
                       void *context)
{
	int64_t oldest_ms = INT64_MAX;

	if (keys->count == 0 || keys->oldest_ms >= before_ms)
		return;
	for (size_t i = 0; i < keys->bucket_count; i++) {
		struct keys_entry **link = &keys->buckets[i];

		while (*link) {
			if ((*link)->at_ms < before_ms) {
				on_removed(context, (*link)->key);
				unlink_entry(keys, link);
			} else {
				oldest_ms = MIN(oldest_ms, (*link)->at_ms);
				link = &(*link)->next;
			}
		}
	}
	keys->oldest_ms = oldest_ms;
}
