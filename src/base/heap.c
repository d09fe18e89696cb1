#include "base/heap.h"

static bool is_before(const struct heap *heap, uint32_t a, uint32_t b)
{
	if (heap->keys[a] != heap->keys[b])
		return heap->keys[a] < heap->keys[b];
	return a < b;
}

static void place(struct heap *heap, uint32_t position, uint32_t index)
{
	heap->items[position] = index;
	heap->positions[index] = position;
}

static void sift_up(struct heap *heap, uint32_t position, uint32_t index)
{
	while (position > 0) {
		uint32_t parent = (position - 1) / 2;

		if (!is_before(heap, index, heap->items[parent]))
			break;
		place(heap, position, heap->items[parent]);
		position = parent;
	}
	place(heap, position, index);
}

static void sift_down(struct heap *heap, uint32_t position, uint32_t index)
{
	for (;;) {
		uint32_t child = 2 * position + 1;

		if (child >= heap->count)
			break;
		if (child + 1 < heap->count && is_before(heap, heap->items[child + 1], heap->items[child]))
			child++;
		if (!is_before(heap, heap->items[child], index))
			break;
		place(heap, position, heap->items[child]);
		position = child;
	}
	place(heap, position, index);
}

void heap_forget(struct heap *heap, uint32_t index)
{
	ASSERT(index < heap->capacity);
	heap->positions[index] = HEAP_ABSENT;
}

void heap_put(struct heap *heap, uint32_t index, uint64_t key)
{
	ASSERT(index < heap->capacity);
	if (heap->positions[index] != HEAP_ABSENT)
		heap_remove(heap, index);
	ASSERT(heap->count < heap->capacity);
	heap->keys[index] = key;
	sift_up(heap, heap->count++, index);
}

void heap_remove(struct heap *heap, uint32_t index)
{
	uint32_t position = heap->positions[index];
	uint32_t last;

	if (position == HEAP_ABSENT)
		return;
	ASSERT(position < heap->count && heap->items[position] == index);
	heap->positions[index] = HEAP_ABSENT;
	last = heap->items[--heap->count];
	if (last == index)
		return;
	if (position > 0 && is_before(heap, last, heap->items[(position - 1) / 2]))
		sift_up(heap, position, last);
	else
		sift_down(heap, position, last);
}

uint32_t heap_first(const struct heap *heap)
{
	return heap->count > 0 ? heap->items[0] : HEAP_ABSENT;
}

bool heap_contains(const struct heap *heap, uint32_t index)
{
	return heap->positions[index] != HEAP_ABSENT;
}
