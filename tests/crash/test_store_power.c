/*
 * test_store_power.c - the machine loses power: what was not synced is lost, in part or whole, in any order.
 *
 * The writes of a script are recorded. For many moments in it a directory is made as a disk might show it: everything up to
 * each file's last sync, and of what came after it a random selection, some of it torn at a sector. What was acknowledged
 * before that moment must be there. Blobs are no part of this.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "crash_script.h"
#include "fault_vfs.h"

enum { STEPS = 12, CUTS = 250, SECTOR = 512, FILES = 2 };

static struct fault_vfs fault;

static const char *const suffixes[FILES] = { ".db", ".db-wal" };

static void mark(void *context, uint64_t seq)
{
	(void)context;
	fault_vfs_mark(&fault, seq);
}

/* Entry at *at of the record; moves on. False at the end. */
static bool next_entry(const struct buf *record, size_t *at, struct fault_entry *ret, const char **ret_bytes)
{
	if (*at == record->length)
		return false;
	memcpy(ret, record->bytes + *at, sizeof(*ret));
	*ret_bytes = record->bytes + *at + sizeof(*ret);
	*at += sizeof(*ret) + ret->size;
	return true;
}

static size_t count_entries(const struct buf *record)
{
	struct fault_entry entry;
	const char *bytes;
	size_t at = 0, count = 0;

	while (next_entry(record, &at, &entry, &bytes))
		count++;
	return count;
}

/* Number of the entry behind the last sync of a file before entry `cut`. */
static size_t find_last_sync(const struct buf *record, const char *suffix, size_t cut)
{
	struct fault_entry entry;
	const char *bytes;
	size_t at = 0, last = 0;

	for (size_t i = 0; i < cut && next_entry(record, &at, &entry, &bytes); i++)
		if (entry.kind == FAULT_ENTRY_SYNC && strcmp(entry.suffix, suffix) == 0)
			last = i + 1;
	return last;
}

/* Does to `fd` what the entry says; `is_sure` false: only perhaps, and perhaps only some sectors of it. */
static void redo(int fd, const struct fault_entry *entry, const char *bytes, bool is_sure, struct random *random)
{
	uint64_t size = entry->size;

	if (!is_sure && random_chance(random, 500))
		return;
	if (!is_sure && size > SECTOR && random_chance(random, 300))
		size = SECTOR * (1 + random_below(random, size / SECTOR));
	size = MIN(size, (uint64_t)entry->size);
	if (entry->kind == FAULT_ENTRY_WRITE)
		assert_int_equal(pwrite(fd, bytes, size, (off_t)entry->offset), size);
	else if (entry->kind == FAULT_ENTRY_TRUNCATE || entry->kind == FAULT_ENTRY_REMOVE)
		assert_int_equal(ftruncate(fd, (off_t)entry->offset), 0);
}

/* Makes one file as the disk might show it after a cut before entry `cut`. */
static void rebuild(const char *directory, int which, const struct buf *record, size_t cut, struct random *random)
{
	CLEANUP_FREE char *path = xasprintf("%s/drover%s", directory, suffixes[which]);
	CLEANUP_FD int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	size_t synced = find_last_sync(record, suffixes[which], cut);
	struct fault_entry entry;
	const char *bytes;
	size_t at = 0;

	assert_true(fd >= 0);
	for (size_t i = 0; i < cut && next_entry(record, &at, &entry, &bytes); i++)
		if (strcmp(entry.suffix, suffixes[which]) == 0)
			redo(fd, &entry, bytes, i < synced, random);
}

/* What was acknowledged before entry `cut`, and what was handed over by then at most. */
static void find_marks(const struct buf *record, size_t cut, uint64_t *ret_acknowledged, uint64_t *ret_attempted)
{
	struct fault_entry entry;
	const char *bytes;
	size_t at = 0;

	*ret_acknowledged = 0;
	for (size_t i = 0; next_entry(record, &at, &entry, &bytes); i++) {
		if (entry.kind != FAULT_ENTRY_MARK)
			continue;
		*ret_attempted = entry.offset;
		if (i >= cut)
			return;
		*ret_acknowledged = entry.offset;
	}
}

static void test_power_cut(void **state)
{
	char *directory = model_make_directory();
	struct random random = { .state = 12 };
	struct buf record = BUF_INIT;
	size_t count;
	unsigned more = 0;

	(void)state;
	fault.is_recording = true;
	assert_int_equal(script_run(directory, STEPS, mark, NULL).error, 0);
	fault.is_recording = false;
	record = fault.record;
	fault.record = BUF_INIT;
	model_remove_directory(directory);
	count = count_entries(&record);
	assert_true(count > 100);
	for (unsigned i = 0; i < CUTS; i++) {
		size_t cut = i < count ? random_below(&random, count + 1) : count;
		uint64_t acknowledged = 0, attempted = 0;
		char why[512];
		int steps;

		directory = model_make_directory();
		for (int which = 0; which < FILES; which++)
			rebuild(directory, which, &record, cut, &random);
		find_marks(&record, cut, &acknowledged, &attempted);
		steps = script_judge(directory, acknowledged, attempted, why);
		if (steps < 0)
			fail_msg("cut %u before call %zu of %zu: %s", i, cut, count, why);
		more += steps > script_steps_at(acknowledged);
		model_remove_directory(directory);
	}
	print_message("%d cuts among %zu calls; %u times a step survived that was not acknowledged\n", CUTS, count, more);
	buf_done(&record);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_power_cut),
	};

	fault_vfs_install(&fault);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
