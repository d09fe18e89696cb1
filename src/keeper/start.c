/*
 * start.c - from a START to a running child: checks that the record is armed for it, makes log, pipe and cgroup, builds the
 * program's arguments and environment, clones.
 *
 * Order, for whoever comes after a crash: hand the pipe over, record STARTED with leader 0, clone, record the leader. So a
 * record that is still ARMED says that nothing ran, and whatever may have run is never started a second time.
 */
#include "keeper/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "platform/clock.h"

enum { CGROUP_SERIALS_MAX = 64, CLONE_TRIES = 4 };

void start_discard_cgroup(struct shim *shim)
{
	char name[RECORD_CGROUP_NAME_MAX];

	if (shim->cgroup.dir < 0)
		return;
	cgroup_close(&shim->cgroup);
	record_cgroup_name(shim->slot, shim->cgroup_serial, name);
	if (unlinkat(shim->cgroup_base, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		shim->cgroup_serial++; /* somebody or some group is in it: the next name */
}

void start_prepare_cgroup(struct shim *shim)
{
	char name[RECORD_CGROUP_NAME_MAX];

	if (shim->cgroup_index == 0)
		return;
	if (shim->cgroup.peak >= 0 && !shim->cgroup.can_reset_peak && shim->is_cgroup_used)
		start_discard_cgroup(shim); /* its peak would be that of all attempts so far */
	shim->is_cgroup_used = true;
	if (shim->cgroup.dir >= 0)
		return;
	for (; shim->cgroup_serial < CGROUP_SERIALS_MAX; shim->cgroup_serial++) {
		record_cgroup_name(shim->slot, shim->cgroup_serial, name);
		if (cgroup_open(shim->cgroup_base, name, &shim->cgroup) < 0)
			return;
		if (cgroup_is_populated(&shim->cgroup) == 0) {
			cgroup_freeze(&shim->cgroup, false);
			return;
		}
		cgroup_close(&shim->cgroup); /* left running on purpose, by an earlier attempt */
	}
}

static int open_outputs(struct shim *shim, const struct payload *payload)
{
	struct attempt *attempt = &shim->attempt;
	const struct wire_start *start = &shim->message.start;

	attempt->output_count = start->flags & WIRE_SPLIT_OUTPUT ? 2 : 1;
	for (uint32_t i = 0; i < attempt->output_count; i++) {
		int r = output_open(&attempt->outputs[i], shim->state, payload->log, i == 0 ? "" : ".err",
		                    &attempt->write_ends[i]);

		if (r < 0)
			return r;
		attempt->outputs[i].head_bytes = start->log_head_bytes;
		attempt->outputs[i].tail_bytes = start->log_tail_bytes;
	}
	return 0;
}

static void close_outputs(struct attempt *attempt)
{
	for (int i = 0; i < 2; i++) {
		fd_close(&attempt->write_ends[i]);
		output_close(&attempt->outputs[i]);
	}
}

static enum start_stage stage_of(enum spawn_stage stage)
{
	switch (stage) {
	case SPAWN_SETUP:
		return STAGE_OUTPUT;
	case SPAWN_DIRECTORY:
		return STAGE_DIRECTORY;
	case SPAWN_INPUT:
		return STAGE_INPUT;
	case SPAWN_LIMITS:
		return STAGE_LIMITS;
	case SPAWN_EXEC:
		return STAGE_EXEC;
	case SPAWN_INTERPRETER:
		return STAGE_INTERPRETER;
	default:
		return STAGE_CLONE;
	}
}

/*
 * A group that cannot be cloned into: removed, made unfit by what ran in it, or killed by the daemon, after which the kernel
 * kills at birth what is cloned into it. Another one then, and at last none.
 */
static bool may_retry_clone(struct shim *shim, const struct spawned *spawned, int tries)
{
	if (spawned->stage != SPAWN_CLONE || shim->cgroup.dir < 0 || spawned->error == EAGAIN || spawned->error == ENOMEM)
		return false;
	start_discard_cgroup(shim);
	if (tries < CLONE_TRIES)
		start_prepare_cgroup(shim);
	return true;
}

static int record_leader(struct shim *shim, pid_t pid)
{
	struct slot_record *record = &shim->attempt.record;
	struct process_stat stat;

	record->leader_pid = pid;
	record->leader_start = process_start_ticks_between(shim->attempt.cloned_ns, clock_boottime_ns());
	if (record->leader_start == 0 && process_read_stat(pid, &stat) == 0)
		record->leader_start = stat.start_ticks;
	return record_write(shim->slots, shim->slot, record);
}

/* By the child itself: once it executes its program it may kill us, and without its number nobody would find it. */
static void on_born(void *context)
{
	struct shim *shim = context;

	if (record_leader(shim, getpid()) < 0)
		shim->attempt.record.leader_pid = 0; /* we try again ourselves */
}

static int clone_child(struct shim *shim, struct payload *payload, struct spawned *ret)
{
	const struct wire_start *start = &shim->message.start;
	struct attempt *attempt = &shim->attempt;
	const int fds[3] = { STDIN_FILENO, attempt->write_ends[0], attempt->write_ends[attempt->output_count - 1] };
	struct spawn spawn = {
		.argv = payload->argv, .envp = payload->envp, .search_path = payload_search_path(payload),
		.directory = payload->directory, .input = payload->input, .fds = fds, .fd_count = 3, .nice = start->nice,
		.has_umask = true, .umask = start->umask & 0777, .open_files_max = shim->open_files_max,
		.on_born = on_born, .context = shim,
	};
	int tries = 0;
	int r;

	do {
		spawn.cgroup_fd = shim->cgroup.dir;
		attempt->record.cgroup_base = shim->cgroup.dir >= 0 ? shim->cgroup_index : 0;
		attempt->record.cgroup_serial = shim->cgroup.dir >= 0 ? shim->cgroup_serial : 0;
		attempt->members.cgroup = shim->cgroup.dir >= 0 ? &shim->cgroup : NULL;
		attempt->record.leader_pid = 0;
		*ret = (struct spawned){ .stage = SPAWN_NONE };
		r = record_write(shim->slots, shim->slot, &attempt->record);
		if (r < 0)
			break;
		r = spawn_process(&shim->spawner, &spawn, ret);
	} while (r < 0 && may_retry_clone(shim, ret, ++tries));
	return r;
}

/* Clones and records. -errno with *ret_stage when it did not come to run. */
static int clone_and_record(struct shim *shim, struct payload *payload, enum start_stage *ret_stage)
{
	struct attempt *attempt = &shim->attempt;
	struct spawned spawned;
	int r;

	attempt->cloned_ns = clock_boottime_ns();
	attempt->record.state = RECORD_STARTED;
	attempt->record.started_ns = clock_monotonic_ns();
	r = clone_child(shim, payload, &spawned);
	if (r < 0) {
		*ret_stage = stage_of(spawned.stage);
		return r;
	}
	attempt->members.leader = spawned.pid;
	attempt->members.has_children = true;
	if (attempt->record.leader_pid == spawned.pid)
		return 0;
	r = record_leader(shim, spawned.pid);
	ASSERT(r == 0); /* preallocated: only a broken disk can do that, and then the keeper's shim takes over */
	return 0;
}

static int try_start(struct shim *shim, char *bytes, size_t length, enum start_stage *ret_stage)
{
	struct payload *payload = &shim->payload;
	int r;

	*ret_stage = STAGE_ENVIRONMENT;
	if (!bytes)
		return -EINVAL;
	r = payload_parse(payload, &shim->message.start, bytes, length);
	if (r == -E2BIG)
		*ret_stage = STAGE_EXEC;
	if (r < 0)
		return r;
	r = environment_load(&shim->environment, shim->state, payload->blob);
	if (r < 0)
		return r;
	payload_build_environment(payload, &shim->environment);
	*ret_stage = STAGE_OUTPUT;
	r = open_outputs(shim, payload);
	if (r < 0)
		return r;
	shim->attempt.has_handover = watch_send_handover(shim, false);
	start_prepare_cgroup(shim);
	cgroup_reset_peak(&shim->cgroup);
	*ret_stage = STAGE_CLONE;
	return clone_and_record(shim, payload, ret_stage);
}

static void fill_attempt(struct shim *shim, const struct slot_record *armed)
{
	const struct wire_start *start = &shim->message.start;

	shim->stops.count = 0;
	shim->attempt = (struct attempt){
		.record = { .state = RECORD_ARMED, .task = armed->task, .nonce = armed->nonce, .attempt = armed->attempt,
		            .shim_pid = shim->pid, .shim_start = shim->start_ticks, .stray_grace_ns = start->stray_grace_ns,
		            .start_flags = start->flags },
		.phase = ATTEMPT_RUNNING, .flags = start->flags, .stray_grace_ns = start->stray_grace_ns,
		.deadline_ns = NEVER_NS, .outputs = { OUTPUT_NONE, OUTPUT_NONE }, .write_ends = { -1, -1 },
		.members = { .table = &shim->table, .stops = &shim->stops, .leader_pidfd = -1 },
	};
	memcpy(shim->attempt.record.boot_id, shim->boot_id, sizeof(shim->boot_id));
}

/* Locks the record; it must be armed for this START. */
static bool take_record(struct shim *shim)
{
	const struct wire_start *start = &shim->message.start;
	/* A refusal names the START that it is about, not what the record says by now. */
	struct slot_record refused = { .task = start->task, .attempt = start->attempt, .nonce = start->nonce };
	struct slot_record record = { 0 };

	if (record_lock(shim->slots, shim->slot) < 0) {
		shim_send(shim, WIRE_REFUSED, &refused);
		return false;
	}
	if (record_read(shim->slots, shim->slot, &record) == 0 && record.state == RECORD_ARMED &&
	    record.task == start->task && record.attempt == start->attempt && record.nonce == start->nonce) {
		fill_attempt(shim, &record);
		return true;
	}
	record_unlock(shim->slots, shim->slot);
	shim_send(shim, WIRE_REFUSED, &refused);
	return false;
}

bool start_attempt(struct shim *shim, char *payload, size_t payload_length)
{
	struct attempt *attempt = &shim->attempt;
	enum start_stage stage;
	int r;

	if (!take_record(shim))
		return false;
	r = try_start(shim, payload, payload_length, &stage);
	if (r == 0) {
		shim_send(shim, WIRE_STARTED, &attempt->record);
		return true;
	}
	attempt->record.state = RECORD_FAILED;
	attempt->record.start_errno = -r;
	attempt->record.start_stage = stage;
	attempt->record.ended_ns = clock_monotonic_ns();
	r = record_write(shim->slots, shim->slot, &attempt->record);
	ASSERT(r == 0);
	record_unlock(shim->slots, shim->slot);
	shim_send(shim, WIRE_ENDED, &attempt->record);
	watch_drop_handover(shim);
	close_outputs(attempt);
	return false;
}
