#include "base/table.h"

#include "base/mix.h"

enum { RUN = 256 }; /* entries side by side for neighbouring ids: a page of memory */

#define STEP (RUN + 1u)                   /* odd, so that the steps come past every entry */
#define STEP_INVERSE UINT32_C(0xff00ff01) /* times STEP is 1, modulo any power of two up to 2^32 */

_Static_assert((STEP_INVERSE * STEP & UINT32_MAX) == 1, "a place and its entry map to each other");

/*
 * Probing is linear over places; consecutive places are STEP entries apart. So an id whose entry is taken goes to the next
 * run, and not past all the neighbours that fill its own.
 */
static struct table_entry *entry_at(const struct table *table, uint32_t place)
{
	return &table->entries[(place * STEP) & (table->capacity - 1)];
}

static uint32_t home_of(const struct table *table, uint64_t id)
{
	uint32_t entry = (uint32_t)mix64(id / RUN) * RUN + (uint32_t)(id % RUN);

	return (entry * STEP_INVERSE) & (table->capacity - 1);
}

static uint32_t probe(const struct table *table, uint64_t id)
{
	uint32_t at = home_of(table, id);

	while (entry_at(table, at)->id != 0 && entry_at(table, at)->id != id)
		at = (at + 1) & (table->capacity - 1);
	return at;
}

uint32_t table_find(const struct table *table, uint64_t id)
{
	const struct table_entry *entry;

	if (id == 0)
		return TABLE_ABSENT;
	entry = entry_at(table, probe(table, id));
	return entry->id == id ? entry->index : TABLE_ABSENT;
}

void table_add(struct table *table, uint64_t id, uint32_t index)
{
	struct table_entry *entry = entry_at(table, probe(table, id));

	ASSERT(id != 0);
	ASSERT(entry->id == 0);
	ASSERT(table->count < table->capacity / 2);
	*entry = (struct table_entry){ .id = id, .index = index };
	table->count++;
}

void table_remove(struct table *table, uint64_t id)
{
	uint32_t mask = table->capacity - 1;
	uint32_t hole = probe(table, id);
	uint32_t at = hole;

	ASSERT(entry_at(table, hole)->id == id);
	for (;;) {
		uint32_t home;

		at = (at + 1) & mask;
		if (entry_at(table, at)->id == 0)
			break;
		home = home_of(table, entry_at(table, at)->id);
		if (((at - home) & mask) < ((at - hole) & mask))
			continue; /* it sits at or after its home, beyond the hole */
		*entry_at(table, hole) = *entry_at(table, at);
		hole = at;
	}
	*entry_at(table, hole) = (struct table_entry){ 0 };
	table->count--;
}
