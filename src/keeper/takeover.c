/*
 * takeover.c - the rest of an attempt whose shim died: its output by what that shim handed over, its processes by the
 * record.
 *
 * We are not the parent of these processes, so how they end cannot be learnt; that they end can.
 */
#include "keeper/shim.h"

#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "platform/socketpass.h"

/* Where the log stands: by its size, since the counters are recorded now and then only. */
static uint64_t find_position(int log, uint64_t at_least)
{
	struct stat status;

	if (fstat(log, &status) < 0)
		return at_least;
	return MAX(at_least, (uint64_t)status.st_size);
}

static void take_outputs(struct shim *shim, const struct handover *message, int fds[HANDOVER_FDS])
{
	struct attempt *attempt = &shim->attempt;
	const struct slot_record *record = &attempt->record;
	int next = 0;

	attempt->output_count = HANDOVER_OUTPUTS;
	for (int i = 0; i < HANDOVER_OUTPUTS; i++) {
		struct output *output = &attempt->outputs[i];
		bool is_record_newer = record->output_dropped[i] > message->outputs[i].dropped;

		*output = OUTPUT_NONE;
		output->bytes = MAX(record->output_bytes[i], message->outputs[i].bytes);
		output->gap_at = is_record_newer ? record->output_gap_at[i] : message->outputs[i].gap_at;
		output->dropped = is_record_newer ? record->output_dropped[i] : message->outputs[i].dropped;
		output->noted_dropped = output->dropped;
		output->head_bytes = message->head_bytes;
		output->tail_bytes = message->tail_bytes;
		if (!message->outputs[i].is_open)
			continue;
		output->pipe = TAKE_FD(fds[next]);
		output->log = TAKE_FD(fds[next + 1]);
		output->bytes = find_position(output->log, output->bytes);
		next += 2;
	}
}

static void take_members(struct shim *shim)
{
	struct attempt *attempt = &shim->attempt;
	struct slot_record *record = &attempt->record;
	char name[RECORD_CGROUP_NAME_MAX];

	if (record->cgroup_base != 0 && record->cgroup_base == shim->cgroup_index) {
		record_cgroup_name(shim->slot, record->cgroup_serial, name);
		shim->cgroup_serial = record->cgroup_serial;
		if (cgroup_open(shim->cgroup_base, name, &shim->cgroup) == 0)
			attempt->members.cgroup = &shim->cgroup;
	}
	if (record->leader_pid == 0)
		return; /* died between clone and record: the cgroup knows, or the pipe's end */
	attempt->members.session = record->leader_pid;
	attempt->members.session_start = record->leader_start;
	attempt->members.leader_pidfd = process_open_started(record->leader_pid, record->leader_start);
	if (attempt->members.leader_pidfd >= 0) {
		attempt->members.leader = record->leader_pid;
	} else {
		attempt->members.leader_pidfd = -1;
		attempt->has_leader_ended = true;
	}
}

bool takeover_prepare(struct shim *shim, bool is_drain_only)
{
	struct attempt *attempt = &shim->attempt;
	struct handover message = { 0 };
	int fds[HANDOVER_FDS];
	ssize_t length = socketpass_peek(shim->handover_receive, &message, sizeof(message), fds, HANDOVER_FDS);

	*attempt = (struct attempt){
		.phase = ATTEMPT_RUNNING, .deadline_ns = NEVER_NS, .outputs = { OUTPUT_NONE, OUTPUT_NONE },
		.write_ends = { -1, -1 }, .is_takeover = true, .is_drain_only = is_drain_only,
		.members = { .table = &shim->table, .stops = &shim->stops, .leader_pidfd = -1, .is_settled = true },
	};
	if (length != (ssize_t)sizeof(message))
		message = (struct handover){ 0 }; /* nothing was handed over: only the processes can be watched */
	if (!is_drain_only) {
		if (record_read(shim->slots, shim->slot, &attempt->record) < 0 || attempt->record.state != RECORD_STARTED)
			return false;
		attempt->is_lock_wanted = true;
		attempt->record.shim_pid = shim->pid;
		attempt->record.shim_start = shim->start_ticks;
		attempt->flags = attempt->record.start_flags;
		attempt->stray_grace_ns = attempt->record.stray_grace_ns;
		take_members(shim);
		attempt->was_frozen = attempt->members.is_frozen = attempt->record.is_frozen;
		attempt->members.has_unknown_stops = attempt->members.is_frozen && !attempt->members.cgroup;
	}
	take_outputs(shim, &message, fds);
	return true;
}
