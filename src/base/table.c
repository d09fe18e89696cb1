#include "base/table.h"

#include "base/mix.h"

static uint32_t home_of(const struct table *table, uint64_t id)
{
	return (uint32_t)mix64(id) & (table->capacity - 1);
}

static uint32_t probe(const struct table *table, uint64_t id)
{
	uint32_t at = home_of(table, id);

	while (table->entries[at].id != 0 && table->entries[at].id != id)
		at = (at + 1) & (table->capacity - 1);
	return at;
}

uint32_t table_find(const struct table *table, uint64_t id)
{
	const struct table_entry *entry;

	if (id == 0)
		return TABLE_ABSENT;
	entry = &table->entries[probe(table, id)];
	return entry->id == id ? entry->index : TABLE_ABSENT;
}

void table_add(struct table *table, uint64_t id, uint32_t index)
{
	uint32_t at = probe(table, id);

	ASSERT(id != 0);
	ASSERT(table->entries[at].id == 0);
	ASSERT(table->count < table->capacity / 2);
	table->entries[at] = (struct table_entry){ .id = id, .index = index };
	table->count++;
}

void table_remove(struct table *table, uint64_t id)
{
	uint32_t mask = table->capacity - 1;
	uint32_t hole = probe(table, id);
	uint32_t at = hole;

	ASSERT(table->entries[hole].id == id);
	for (;;) {
		uint32_t home;

		at = (at + 1) & mask;
		if (table->entries[at].id == 0)
			break;
		home = home_of(table, table->entries[at].id);
		if (((at - home) & mask) < ((at - hole) & mask))
			continue; /* it sits at or after its home, beyond the hole */
		table->entries[hole] = table->entries[at];
		hole = at;
	}
	table->entries[hole] = (struct table_entry){ 0 };
	table->count--;
}
