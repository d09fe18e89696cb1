/*
 * heap.h - a binary min-heap of 32-bit indices over memory of the caller.
 *
 * The heap holds indices of things that live elsewhere. A key and a position are kept for each index in two arrays of the
 * caller, so that an element can be moved or removed in O(log n) and nothing is allocated. Ties go to the lower index.
 */
#pragma once

#include "base/macros.h"

#define HEAP_ABSENT UINT32_MAX

struct heap {
	uint32_t *items;     /* capacity entries, the heap itself */
	uint32_t *positions; /* by index: place in items, HEAP_ABSENT when not in the heap; the caller sets all on creation
	                        of an index through heap_forget() */
	uint64_t *keys;      /* by index */
	uint32_t count;
	uint32_t capacity;
};

/* Marks `index` as not in the heap; needed once before an index is used, since the memory is never touched before use. */
void heap_forget(struct heap *heap, uint32_t index);

/* Adds `index`, or moves it when it is there, to `key`. */
void heap_put(struct heap *heap, uint32_t index, uint64_t key);

/* Takes `index` out; nothing happens when it is not in. */
void heap_remove(struct heap *heap, uint32_t index);

/* The index with the lowest key, HEAP_ABSENT when empty. */
uint32_t heap_first(const struct heap *heap);

/* True when `index` is in. */
bool heap_contains(const struct heap *heap, uint32_t index);
