/*
 * shims.c - the keeper's table of shims: starts them, sees them die, puts successors over what they left.
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "keeper/shim.h"
#include "platform/socketpass.h"

void shims_init(struct keeper *keeper)
{
	for (uint32_t slot = 0; slot < LIMIT_SLOTS; slot++)
		keeper->shims[slot] = (struct keeper_shim){
			.pidfd = -1, .channel = -1, .handover = -1, .legacy = { .fds = { -1, -1, -1, -1 } }
		};
}

static void tell(struct keeper *keeper, struct keeper_shim *shim, uint8_t what)
{
	if (keeper->guardian.socket < 0)
		return;
	if (shim->tell == 0)
		keeper->tell_count++;
	shim->tell |= what;
}

static void close_legacy(struct legacy *legacy)
{
	for (int i = 0; i < HANDOVER_FDS; i++)
		fd_close(&legacy->fds[i]);
	legacy->is_there = false;
}

/* A shim adds the new message before it takes the old one out, so there may be two. */
static void take_legacy(int socket, struct legacy *ret)
{
	struct legacy next = { .fds = { -1, -1, -1, -1 } };

	*ret = next;
	while (socketpass_receive(socket, &next.message, sizeof(next.message), next.fds, HANDOVER_FDS) ==
	       (ssize_t)sizeof(next.message)) {
		close_legacy(ret);
		*ret = next;
		ret->is_there = true;
	}
}

/* The pairs of sockets of a shim to be. */
struct ends {
	int channel_daemon;
	int channel_shim;
	int handover_send;
	int handover_receive;
};

static void close_ends(struct ends *ends)
{
	fd_close(&ends->channel_daemon);
	fd_close(&ends->channel_shim);
	fd_close(&ends->handover_send);
	fd_close(&ends->handover_receive);
}

static int open_ends(struct ends *ends, const struct legacy *legacy)
{
	int pair[2];
	int r = socketpass_pair(pair);
	size_t fd_count = 0;

	*ends = (struct ends){ -1, -1, -1, -1 };
	if (r < 0)
		return r;
	ends->channel_daemon = pair[0];
	ends->channel_shim = pair[1];
	r = socketpass_pair(pair);
	if (r < 0)
		return r;
	ends->handover_send = pair[0];
	ends->handover_receive = pair[1];
	if (!legacy || !legacy->is_there)
		return 0;
	while (fd_count < HANDOVER_FDS && legacy->fds[fd_count] >= 0)
		fd_count++;
	return socketpass_send(ends->handover_send, &legacy->message, sizeof(legacy->message), legacy->fds, fd_count);
}

static int clone_shim(struct keeper *keeper, uint32_t slot, const char *mode, const struct ends *ends, struct spawned *ret)
{
	char slot_text[16], cgroup_text[16], files_text[32];
	const char *words[] = { NULL, "drover-keeper", "shim", slot_text, mode, cgroup_text, files_text, NULL };
	const int fds[SHIM_FDS] = {
		keeper->null, keeper->log, keeper->log, ends->channel_shim, ends->handover_send, ends->handover_receive,
		keeper->state, keeper->cgroup_base >= 0 ? keeper->cgroup_base : keeper->null,
	};
	char *none[] = { NULL };
	struct spawn spawn = {
		.argv = (char **)(uintptr_t)(words + 1), .envp = none, .program = "/proc/self/exe", .fds = fds,
		.fd_count = SHIM_FDS, .cgroup_fd = -1,
		.keeps_signals_blocked = true, .wants_pidfd = true,
	};

	snprintf(slot_text, sizeof(slot_text), "%u", slot);
	snprintf(cgroup_text, sizeof(cgroup_text), "%u", keeper->cgroup_index);
	snprintf(files_text, sizeof(files_text), "%llu", (unsigned long long)keeper->open_files_max);
	return spawn_process(&keeper->spawner, &spawn, ret);
}

static int spawn_shim(struct keeper *keeper, uint32_t slot, const char *mode, const struct legacy *legacy)
{
	struct keeper_shim *shim = &keeper->shims[slot];
	struct spawned spawned;
	struct ends ends;
	int r = open_ends(&ends, legacy);

	place_hand_down(keeper);
	ASSERT(shim->pid == 0);
	if (r == 0)
		r = clone_shim(keeper, slot, mode, &ends, &spawned);
	if (r == 0) {
		shim->pid = spawned.pid;
		shim->pidfd = spawned.pidfd;
		shim->channel = TAKE_FD(ends.channel_daemon);
		shim->handover = TAKE_FD(ends.handover_receive);
		keeper->shim_count++;
		tell(keeper, shim, TELL_SHIM);
	}
	close_ends(&ends);
	return r;
}

/* Nobody needs to hear of this one: it listens to what was left running, until that ends. */
static int spawn_drain(struct keeper *keeper, uint32_t slot, const struct legacy *legacy)
{
	struct spawned spawned;
	struct ends ends;
	int r = open_ends(&ends, legacy);

	if (r == 0)
		r = clone_shim(keeper, slot, SHIM_MODE_DRAIN, &ends, &spawned);
	if (r < 0)
		log_error("slot %u: nobody stores the output of what was left running (errno %d)", slot, -r);
	else
		fd_close(&spawned.pidfd);
	close_ends(&ends);
	return r;
}

/* What could not be handed on when its shim died is handed on now. */
int shims_spawn(struct keeper *keeper, uint32_t slot, bool takes_over)
{
	struct legacy *legacy = slot < LIMIT_SLOTS ? &keeper->shims[slot].legacy : NULL;
	int r = 0;

	if (!legacy)
		return -EINVAL;
	if (keeper->shims[slot].pid != 0) {
		tell(keeper, &keeper->shims[slot], TELL_SHIM); /* there is one: that is what was wanted */
		return 0;
	}
	if (takes_over)
		r = spawn_shim(keeper, slot, SHIM_MODE_TAKE_OVER, legacy->is_there ? legacy : NULL);
	else if (legacy->is_there)
		r = spawn_drain(keeper, slot, legacy);
	if (r == 0)
		close_legacy(legacy);
	return r < 0 || takes_over ? r : spawn_shim(keeper, slot, SHIM_MODE_SERVE, NULL);
}

/* True when the shim died with an attempt under way, by what it handed over. */
static bool is_under_way(const struct keeper *keeper, uint32_t slot, const struct legacy *legacy)
{
	struct slot_record record;

	return record_read(keeper->slots, slot, &record) == 0 && record.state == RECORD_STARTED &&
	       (!legacy->is_there || (record.task == legacy->message.task && record.nonce == legacy->message.nonce));
}

static void note_death(struct keeper *keeper, struct keeper_shim *shim)
{
	bool is_known = !(shim->tell & TELL_SHIM);

	if (is_known)
		shim->gone_pid = shim->pid;
	shim->tell &= (uint8_t)~TELL_SHIM;
	if (is_known)
		tell(keeper, shim, TELL_GONE);
	else if (!(shim->tell & TELL_GONE))
		shim->tell |= TELL_FAILED; /* it counted as something to tell already */
	shim->pid = 0;
}

static void on_death(struct keeper *keeper, uint32_t slot)
{
	struct keeper_shim *shim = &keeper->shims[slot];
	struct legacy legacy;
	int r = 0;

	take_legacy(shim->handover, &legacy);
	note_death(keeper, shim);
	keeper->shim_count--;
	fd_close(&shim->pidfd);
	fd_close(&shim->channel);
	fd_close(&shim->handover);
	if (legacy.is_there && legacy.message.is_left_running) {
		r = spawn_drain(keeper, slot, &legacy);
	} else if (is_under_way(keeper, slot, &legacy)) {
		log_warning("slot %u: its shim died with an attempt under way; another takes over", slot);
		r = spawn_shim(keeper, slot, SHIM_MODE_TAKE_OVER, &legacy);
	}
	shim->is_gone_taken_over = shim->pid != 0;
	if (shim->pid != 0)
		shim->tell &= (uint8_t)~TELL_FAILED;
	if (r == 0 || !legacy.is_there) {
		close_legacy(&legacy);
		return;
	}
	log_error("slot %u: no shim can be put over what is left (errno %d)", slot, -r);
	close_legacy(&shim->legacy);
	shim->legacy = legacy;
}

bool shims_on_exit(struct keeper *keeper, pid_t pid)
{
	for (uint32_t slot = 0; slot < LIMIT_SLOTS; slot++) {
		if (keeper->shims[slot].pid != pid)
			continue;
		on_death(keeper, slot);
		return true;
	}
	return false;
}

void shims_on_stop(struct keeper *keeper, pid_t pid)
{
	for (uint32_t slot = 0; slot < LIMIT_SLOTS; slot++) {
		if (keeper->shims[slot].pid != pid)
			continue;
		log_warning("the shim of slot %u (pid %d) was stopped by a signal, and goes on", slot, (int)pid);
		kill(pid, SIGCONT); /* our child, not yet waited for: the number is its */
		return;
	}
}

void shims_forget_news(struct keeper *keeper)
{
	for (uint32_t slot = 0; slot < LIMIT_SLOTS; slot++)
		keeper->shims[slot].tell = 0;
	keeper->tell_count = 0;
	keeper->is_attaching = false;
}

void shims_tell_all(struct keeper *keeper)
{
	keeper->told_count = 0;
	keeper->is_attaching = true;
	for (uint32_t slot = 0; slot < LIMIT_SLOTS; slot++)
		if (keeper->shims[slot].pid != 0)
			tell(keeper, &keeper->shims[slot], TELL_SHIM);
}

/* With its descriptors, or, where they cannot be passed, with the reason. */
static int send_shim(struct keeper *keeper, uint32_t slot)
{
	const struct keeper_shim *shim = &keeper->shims[slot];
	struct wire_keeper message = { .kind = WIRE_SHIM, .slot = slot, .pid = shim->pid };
	int r = wire_send(keeper->guardian.socket, &message, sizeof(message), (int[]){ shim->channel, shim->pidfd }, 2);

	if (r == 0 || r == -EAGAIN || r == -EPIPE || r == -ECONNRESET)
		return r;
	message.error = r;
	return wire_send(keeper->guardian.socket, &message, sizeof(message), NULL, 0);
}

/* GONE before SHIM: the new one stands for the rest of the old one. -EAGAIN when the daemon does not read. */
static int flush_slot(struct keeper *keeper, uint32_t slot)
{
	struct keeper_shim *shim = &keeper->shims[slot];
	struct wire_keeper message = { .kind = WIRE_SHIM_GONE, .slot = slot, .pid = shim->gone_pid,
		                       .is_taken_over = shim->is_gone_taken_over };

	if (shim->tell & TELL_GONE && wire_send(keeper->guardian.socket, &message, sizeof(message), NULL, 0) == -EAGAIN)
		return -EAGAIN;
	shim->tell &= (uint8_t)~TELL_GONE;
	message = (struct wire_keeper){ .kind = WIRE_SHIM, .slot = slot, .error = -EAGAIN };
	if (shim->tell & TELL_FAILED && wire_send(keeper->guardian.socket, &message, sizeof(message), NULL, 0) == -EAGAIN)
		return -EAGAIN;
	if (shim->tell & TELL_SHIM && shim->pid != 0) {
		if (send_shim(keeper, slot) == -EAGAIN)
			return -EAGAIN;
		keeper->told_count++;
	}
	shim->tell = 0;
	keeper->tell_count--;
	return 0;
}

bool shims_flush(struct keeper *keeper)
{
	struct wire_keeper message = { .kind = WIRE_ATTACHED };

	if (keeper->guardian.socket < 0)
		return true;
	for (uint32_t slot = 0; slot < LIMIT_SLOTS && keeper->tell_count > 0; slot++)
		if (keeper->shims[slot].tell != 0 && flush_slot(keeper, slot) < 0)
			return false;
	if (!keeper->is_attaching)
		return true;
	message.count = keeper->told_count;
	if (wire_send(keeper->guardian.socket, &message, sizeof(message), NULL, 0) == -EAGAIN)
		return false;
	keeper->is_attaching = false;
	return true;
}
