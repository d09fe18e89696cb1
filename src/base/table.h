/*
 * table.h - a hash table from 64-bit ids (never 0) to 32-bit indices, over memory of the caller that reads as zero.
 *
 * Open addressing with linear probing and backward shift on removal: no tombstones, so it never needs rebuilding.
 * Ids are given out in order, so neighbours lie side by side: n of them touch about n / 256 pages of a table however large,
 * where a plain hash would touch n. Untouched parts of the memory stay untouched.
 */
#pragma once

#include "base/macros.h"

#define TABLE_ABSENT UINT32_MAX

struct table_entry {
	uint64_t id; /* 0 = free */
	uint32_t index;
	uint32_t unused;
};

struct table {
	struct table_entry *entries;
	uint32_t capacity; /* a power of two, at least twice the most ids held */
	uint32_t count;
};

/* The index kept for `id`, or TABLE_ABSENT. */
uint32_t table_find(const struct table *table, uint64_t id);

/* Adds an id that is not there yet. */
void table_add(struct table *table, uint64_t id, uint32_t index);

/* Removes an id that is there. */
void table_remove(struct table *table, uint64_t id);
