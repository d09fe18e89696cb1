/*
 * fuzz_slots.c - bytes as a slot file, read as a starting daemon reads it: opened, each record read, its end turned into an
 * event, what is to be done about it looked up.
 *
 * The first byte chooses: the rest is the file, or the rest is records, to which right checksums are made. Checked: a
 * refusal has a sentence; a record that is read has a known state; a damaged one is never read as an empty one.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/fd.h"
#include "core/recover.h"
#include "daemon/attempts.h"
#include "fuzz.h"
#include "fuzz_folder.h"
#include "keeper/record.h"

enum { SLOTS = 4 };

static void look_at_record(const struct slot_record *record)
{
	struct core_event event;
	bool has_end = attempts_read_end(record, &event);

	ASSERT(record->state < RECORD_STATE_MAX);
	ASSERT(!has_end || (event.kind == CORE_INPUT && event.task == record->task && event.attempt == record->attempt));
	ASSERT(!has_end || event.input != INPUT_EXITED || (event.exit_code >= 0) != (event.exit_signal > 0));
	ASSERT(strlen(record_stage_name(record->start_stage)) > 0);
	for (unsigned bits = 0; bits < 64; bits++) {
		struct recover_facts facts = {
			.has_task = bits & 1,
			.is_rebooted = bits & 2,
			.is_same_boot = bits & 4,
			.is_lock_held = bits & 8,
			.is_populated = bits & 16,
			.has_record = record->state != RECORD_FREE,
			.is_armed = record->state == RECORD_ARMED,
			.has_end = has_end,
			.state = TASK_RUNNING,
			.phase = bits & 32 ? PHASE_PROCESS : PHASE_START,
		};
		enum recover_action action = recover_classify(&facts);

		ASSERT(action < RECOVER_ACTION_MAX);
		/* Nothing is begun beside a living shim. */
		ASSERT(!facts.is_lock_held || action == RECOVER_ADOPT || action == RECOVER_KILL_STRAYS);
	}
}

static void look_at_file(int fd)
{
	char path[RECORD_CGROUP_BASE_MAX];
	uint64_t seq;
	uint32_t base;

	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		struct slot_record record;
		int code = record_read(fd, slot, &record);

		ASSERT(code == 0 || code == -EILSEQ);
		if (code == 0)
			look_at_record(&record);
	}
	for (uint32_t i = 0; i <= RECORD_CGROUP_BASES; i++) {
		ASSERT(record_cgroup_base(fd, i, path) == 0);
		ASSERT(strlen(path) < sizeof(path));
	}
	ASSERT(record_read_committed(fd, &seq) == 0);
	if (record_enter_cgroup_base(fd, SLOTS, "/below/user.slice", &base) == 0)
		ASSERT(base >= 1 && base <= RECORD_CGROUP_BASES);
}

/* As the bytes of the file. */
static void run_file(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	CLEANUP_FD int fd = -1;
	int code;

	fuzz_folder_write("slots", data, size);
	code = record_open(fuzz_folder_fd(), "slots", SLOTS, &fd, &err);
	ASSERT((code < 0) == (strlen(err.text) > 0));
	if (code == 0)
		look_at_file(fd);
}

/* As records with right checksums, in a file that is right. */
static void run_records(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	CLEANUP_FD int fd = -1;

	ASSERT(record_open(fuzz_folder_fd(), "good", SLOTS, &fd, &err) == 0);
	for (uint32_t slot = 0; slot < SLOTS && size > 0; slot++) {
		struct slot_record record = { 0 };
		size_t length = MIN(size, sizeof(record));

		memcpy(&record, data, length);
		record.state %= RECORD_STATE_MAX;
		ASSERT(record_write(fd, slot, &record) == 0);
		data += length;
		size -= length;
	}
	look_at_file(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] & 1)
		run_records(data + 1, size - 1);
	else
		run_file(data + 1, size - 1);
	return 0;
}
