/*
 * watch.c - a running attempt until nothing is left of it: stores its output, passes signals on, reaps, deals with what the
 * leader leaves behind, and records the end.
 *
 * At the end, in this order: record, unlock, notify. Only then does the shim take back what it handed over.
 */
#include "keeper/shim.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "platform/clock.h"
#include "platform/socketpass.h"

enum {
	KILL_AGAIN_MS = 200, /* for orphans that turned up between two looks */
	LOCK_AGAIN_MS = 20,
	LOOK_AGAIN_MS = 100,
	SETTLE_AGAIN_MS = 5,
	ITEMS_MAX = 5,
};

bool watch_send_handover(struct shim *shim, bool is_left_running)
{
	struct attempt *attempt = &shim->attempt;
	struct handover message = {
		.task = attempt->record.task, .nonce = attempt->record.nonce, .attempt = attempt->record.attempt,
		.head_bytes = attempt->outputs[0].head_bytes, .tail_bytes = attempt->outputs[0].tail_bytes,
		.is_left_running = is_left_running,
	};
	int fds[HANDOVER_FDS];
	size_t fd_count = 0;

	for (uint32_t i = 0; i < attempt->output_count; i++) {
		const struct output *output = &attempt->outputs[i];

		if (output->pipe < 0)
			continue; /* at its end: nobody writes any more */
		message.outputs[i].is_open = true;
		message.outputs[i].bytes = output->bytes;
		message.outputs[i].gap_at = output->gap_at;
		message.outputs[i].dropped = output->dropped;
		fds[fd_count++] = output->pipe;
		fds[fd_count++] = output->log;
	}
	return fd_count > 0 && socketpass_send(shim->handover_send, &message, sizeof(message), fds, fd_count) == 0;
}

void watch_drop_handover(struct shim *shim)
{
	struct handover message;

	if (shim->attempt.has_handover)
		socketpass_receive(shim->handover_receive, &message, sizeof(message), NULL, 0); /* closes what it carried */
	shim->attempt.has_handover = false;
}

static void add_usage(struct slot_record *record, const struct rusage *usage)
{
	record->user_us += (uint64_t)usage->ru_utime.tv_sec * 1000000 + (uint64_t)usage->ru_utime.tv_usec;
	record->system_us += (uint64_t)usage->ru_stime.tv_sec * 1000000 + (uint64_t)usage->ru_stime.tv_usec;
	record->memory_peak_bytes = MAX(record->memory_peak_bytes, (uint64_t)usage->ru_maxrss * KIB);
}

/* Waits for all children that have ended, the leader and orphans that came to us alike. */
static void reap(struct attempt *attempt)
{
	struct rusage usage;
	int status;
	pid_t pid;

	while ((pid = wait4(-1, &status, WNOHANG | __WALL, &usage)) > 0) {
		add_usage(&attempt->record, &usage);
		if (pid != attempt->members.leader) {
			attempt->killed_count += attempt->phase == ATTEMPT_KILLED && WIFSIGNALED(status) &&
			                         WTERMSIG(status) == SIGKILL;
			continue;
		}
		attempt->record.wait_status = status;
		attempt->members.leader = 0; /* the number may be another's from now on */
		attempt->has_leader_ended = true;
	}
	attempt->members.has_children = pid == 0;
	/* The kernel continues process groups that the end of a process leaves alone (setpgid(2)). */
	attempt->members.is_settled = !attempt->members.is_frozen || attempt->members.cgroup;
	attempt->members.was_still = false;
}

static void kill_members(struct attempt *attempt)
{
	unsigned count = members_kill(&attempt->members);

	if (attempt->has_leader_ended)
		attempt->record.strays = MAX(attempt->record.strays, count); /* again and again, until all are gone */
	attempt->is_group_spent = true; /* see cgroup_kill() */
	attempt->deadline_ns = clock_monotonic_ns() + KILL_AGAIN_MS * NS_PER_MS;
}

/* What the leader left may go on for so long, not counting the time it is frozen. */
static void limit_strays(struct attempt *attempt, uint64_t left_ns)
{
	bool has_limit = left_ns != NEVER_NS && !attempt->members.is_frozen;

	attempt->stray_left_ns = left_ns;
	attempt->deadline_ns = has_limit ? clock_monotonic_ns() + left_ns : NEVER_NS;
}

static void freeze_members(struct shim *shim, bool frozen)
{
	struct attempt *attempt = &shim->attempt;
	uint64_t now_ns = clock_monotonic_ns();
	bool is_ours = !attempt->is_drain_only && !attempt->is_lock_wanted;

	attempt->was_frozen = attempt->was_frozen || frozen;
	attempt->record.is_frozen = frozen;
	if (is_ours && record_write(shim->slots, shim->slot, &attempt->record) < 0)
		attempt->was_frozen = true; /* only a successor would miss it, and the daemon tells it anyway */
	if (attempt->phase == ATTEMPT_STRAYS && attempt->deadline_ns != NEVER_NS)
		attempt->stray_left_ns = attempt->deadline_ns - MIN(attempt->deadline_ns, now_ns);
	members_freeze(&attempt->members, frozen);
	if (attempt->phase == ATTEMPT_STRAYS)
		limit_strays(attempt, attempt->stray_left_ns);
}

static void terminate_members(struct shim *shim)
{
	if (shim->attempt.members.is_frozen)
		freeze_members(shim, false);
	members_terminate(&shim->attempt.members);
}

static void take_signal(struct shim *shim, const struct signalfd_siginfo *info)
{
	struct attempt *attempt = &shim->attempt;

	if (info->ssi_signo == SIGCHLD) {
		reap(attempt);
	} else if (info->ssi_signo == SIGTERM) {
		terminate_members(shim);
	} else if (info->ssi_signo == SIGUSR1) {
		attempt->is_kill_ordered = true;
		kill_members(attempt);
	} else if (info->ssi_signo == (uint32_t)WIRE_SIGNAL_FREEZE) {
		freeze_members(shim, info->ssi_int != 0);
	}
}

static void take_signals(struct shim *shim)
{
	struct signalfd_siginfo infos[8];
	ssize_t length = read(shim->signals, infos, sizeof(infos));

	for (ssize_t i = 0; i < length / (ssize_t)sizeof(infos[0]); i++)
		take_signal(shim, &infos[i]);
}

static void close_write_ends(struct attempt *attempt)
{
	fd_close(&attempt->write_ends[0]);
	fd_close(&attempt->write_ends[1]);
}

static bool is_output_open(const struct attempt *attempt)
{
	return attempt->outputs[0].pipe >= 0 || attempt->outputs[1].pipe >= 0;
}

/* True when something of the attempt is still to be waited for. */
static bool is_anything_left(struct attempt *attempt)
{
	struct members *members = &attempt->members;

	if (attempt->is_drain_only)
		return is_output_open(attempt);
	if (members_are_left(members))
		return true;
	/* A takeover that knows neither cgroup nor leader has only the pipe to go by. */
	return !members->cgroup && members->leader_pidfd < 0 && !attempt->has_leader_ended && is_output_open(attempt);
}

static void on_leader_ended(struct attempt *attempt)
{
	attempt->record.ended_ns = clock_monotonic_ns();
	close_write_ends(attempt);
	if (!is_anything_left(attempt)) {
		attempt->phase = ATTEMPT_OVER;
	} else if (attempt->is_kill_ordered) {
		attempt->phase = ATTEMPT_KILLED;
		kill_members(attempt);
	} else if (attempt->flags & WIRE_LEAVE_RUNNING) {
		attempt->record.has_left_running = 1;
		attempt->phase = ATTEMPT_OVER;
	} else {
		attempt->phase = ATTEMPT_STRAYS;
		limit_strays(attempt, attempt->flags & WIRE_WAIT_ALL || attempt->stray_grace_ns >= NEVER_NS / 2
		                              ? NEVER_NS
		                              : attempt->stray_grace_ns);
	}
}

/* The phases of shim.h; each turn of the loop looks whether the next one is due. */
static void advance(struct attempt *attempt)
{
	bool is_due = attempt->deadline_ns != NEVER_NS && clock_monotonic_ns() >= attempt->deadline_ns;

	if (attempt->phase == ATTEMPT_OVER)
		return;
	if (attempt->phase == ATTEMPT_RUNNING && attempt->has_leader_ended) {
		on_leader_ended(attempt);
		return;
	}
	if ((attempt->phase != ATTEMPT_RUNNING || attempt->members.leader == 0) && !is_anything_left(attempt)) {
		attempt->phase = ATTEMPT_OVER;
		return;
	}
	if (attempt->phase == ATTEMPT_STRAYS && (is_due || attempt->is_kill_ordered)) {
		attempt->phase = ATTEMPT_KILLED;
		kill_members(attempt);
	} else if (is_due || (attempt->phase == ATTEMPT_KILLED && !attempt->members.cgroup)) {
		kill_members(attempt); /* orphans have become our children meanwhile */
	}
}

/* A takeover begins before the record's lock is free for it: whoever looks at the record holds it for moments. */
static void want_lock(struct shim *shim)
{
	struct attempt *attempt = &shim->attempt;
	struct slot_record record;

	if (!attempt->is_lock_wanted || record_lock(shim->slots, shim->slot) < 0)
		return;
	attempt->is_lock_wanted = false;
	if (record_read(shim->slots, shim->slot, &record) == 0 && record.state == RECORD_STARTED &&
	    record.nonce == attempt->record.nonce && record.task == attempt->record.task) {
		record_write(shim->slots, shim->slot, &attempt->record); /* says which shim it is now */
		return;
	}
	attempt->is_drain_only = true; /* somebody has judged it meanwhile: only its output is ours */
	record_unlock(shim->slots, shim->slot);
}

static void note_output(struct shim *shim)
{
	struct attempt *attempt = &shim->attempt;
	bool has_news = false;

	for (uint32_t i = 0; i < attempt->output_count; i++) {
		struct output *output = &attempt->outputs[i];

		has_news = output_has_news(output) || has_news;
		attempt->record.output_bytes[i] = output->bytes;
		attempt->record.output_dropped[i] = output->dropped;
		attempt->record.output_gap_at[i] = output->gap_at;
	}
	if (!has_news || attempt->is_drain_only || attempt->is_lock_wanted)
		return;
	if (record_write(shim->slots, shim->slot, &attempt->record) < 0)
		return; /* only news; the end will be written again */
}

static int poll_timeout_ms(const struct attempt *attempt)
{
	uint64_t now_ns;

	if (attempt->is_lock_wanted)
		return LOCK_AGAIN_MS;
	if (attempt->members.is_frozen && !attempt->members.is_settled)
		return SETTLE_AGAIN_MS;
	if (attempt->is_takeover && !attempt->members.cgroup && attempt->has_leader_ended)
		return LOOK_AGAIN_MS; /* nothing tells when they end */
	if (attempt->deadline_ns == NEVER_NS)
		return -1;
	now_ns = clock_monotonic_ns();
	if (attempt->deadline_ns <= now_ns)
		return 0;
	return (int)MIN((attempt->deadline_ns - now_ns) / NS_PER_MS + 1, (uint64_t)INT32_MAX);
}

/* One turn: waits, stores output, takes signals. */
static void turn(struct shim *shim)
{
	struct attempt *attempt = &shim->attempt;
	bool is_leader_foreign = attempt->members.leader_pidfd >= 0 && !attempt->has_leader_ended;
	bool is_group_watched = attempt->members.cgroup && (attempt->has_leader_ended || attempt->members.leader == 0);
	struct pollfd items[ITEMS_MAX] = {
		{ .fd = shim->signals, .events = POLLIN },
		{ .fd = attempt->outputs[0].pipe, .events = POLLIN },
		{ .fd = attempt->outputs[1].pipe, .events = POLLIN },
		{ .fd = is_leader_foreign ? attempt->members.leader_pidfd : -1, .events = POLLIN },
		{ .fd = is_group_watched ? attempt->members.cgroup->events : -1, .events = POLLPRI },
	};

	if (poll(items, ITEMS_MAX, poll_timeout_ms(attempt)) < 0)
		return; /* EINTR: all signals are blocked, but a debugger can do that */
	for (int i = 0; i < 2; i++)
		if (items[1 + i].revents)
			output_move(&attempt->outputs[i], 1);
	if (items[0].revents)
		take_signals(shim);
	if (attempt->members.is_frozen)
		members_settle(&attempt->members);
	if (items[3].revents) {
		attempt->has_leader_ended = true;
		attempt->members.leader = 0;
	}
	want_lock(shim);
	note_output(shim);
}

static void move_rest(struct attempt *attempt)
{
	close_write_ends(attempt);
	for (uint32_t i = 0; i < attempt->output_count; i++)
		output_move_rest(&attempt->outputs[i]);
}

static void hand_over_left_running(struct shim *shim)
{
	bool is_sent = watch_send_handover(shim, true);

	watch_drop_handover(shim); /* the one from the start, which stands before */
	shim->attempt.has_handover = is_sent;
}

static void write_end(struct shim *shim)
{
	struct attempt *attempt = &shim->attempt;
	struct slot_record *record = &attempt->record;
	int r;

	record->state = attempt->is_takeover ? RECORD_UNKNOWN : RECORD_ENDED;
	if (attempt->is_takeover || attempt->flags & WIRE_WAIT_ALL)
		record->ended_ns = clock_monotonic_ns();
	record->strays = MAX(record->strays, attempt->killed_count);
	if (attempt->members.cgroup) {
		record->memory_peak_bytes = MAX(cgroup_peak(&shim->cgroup), record->memory_peak_bytes);
		record->is_oom_killed = cgroup_was_oom_killed(&shim->cgroup);
	}
	r = record_write(shim->slots, shim->slot, record);
	ASSERT(r == 0); /* preallocated: only a broken disk can do that, and there is nobody to tell it to */
	record_unlock(shim->slots, shim->slot);
	shim_send(shim, WIRE_ENDED, record);
}

void watch_attempt(struct shim *shim)
{
	struct attempt *attempt = &shim->attempt;

	while (attempt->phase != ATTEMPT_OVER || attempt->is_lock_wanted) {
		turn(shim);
		advance(attempt);
	}
	move_rest(attempt);
	if (attempt->was_frozen)
		members_freeze(&attempt->members, false); /* the group is used again, or what is left goes on in it */
	if (attempt->record.has_left_running)
		hand_over_left_running(shim);
	note_output(shim);
	for (uint32_t i = 0; i < attempt->output_count; i++)
		output_close(&attempt->outputs[i]);
	if (attempt->is_drain_only)
		return;
	write_end(shim);
	if (!attempt->record.has_left_running)
		watch_drop_handover(shim);
	if (attempt->is_group_spent)
		start_discard_cgroup(shim);
}
