/*
 * shim.c - one slot's shim: waits for a START, has it carried out, and waits again.
 *
 * Invariant: between two attempts the record's lock is not ours, no child of ours is left, and nothing is handed over.
 */
#include "keeper/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/paths.h"
#include "base/str.h"
#include "platform/clock.h"

enum { IDLE_MS = 60000, PAYLOAD_MAX = LIMIT_SPEC + LIMIT_ENVIRONMENT };

void shim_send(struct shim *shim, uint32_t kind, const struct slot_record *record)
{
	struct wire_shim message = { .kind = kind, .slot = shim->slot, .record = *record };
	int r = wire_send(shim->channel, &message, sizeof(message), NULL, 0);

	if (r < 0)
		return; /* nobody listens; the record tells whoever comes */
}

/* Signals that came before the START are about no attempt, or about one that is over. */
static void forget_signals(struct shim *shim)
{
	struct signalfd_siginfo infos[8];

	while (read(shim->signals, infos, sizeof(infos)) > 0)
		;
}

/* Bytes of the START's payload, where they are; NULL with *ret_error when they cannot be had. */
static char *find_payload(struct shim *shim, size_t length, int fd, size_t *ret_length)
{
	const struct wire_start *start = &shim->message.start;
	struct stat status;
	void *memory;

	if (!(start->flags & WIRE_PAYLOAD_IN_FD)) {
		*ret_length = length - sizeof(*start);
		return start->payload_length == *ret_length ? shim->message.bytes + sizeof(*start) : NULL;
	}
	if (fd < 0 || fstat(fd, &status) < 0 || start->payload_length == 0 || start->payload_length > PAYLOAD_MAX ||
	    (uint64_t)status.st_size < start->payload_length)
		return NULL;
	memory = mmap(NULL, start->payload_length, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	*ret_length = start->payload_length;
	return memory == MAP_FAILED ? NULL : memory;
}

static void carry_out(struct shim *shim, size_t length, int fd)
{
	size_t payload_length = 0;
	char *payload = find_payload(shim, length, fd, &payload_length);
	bool is_mapped = payload && (shim->message.start.flags & WIRE_PAYLOAD_IN_FD);
	bool has_started = start_attempt(shim, payload, payload_length);

	if (is_mapped)
		munmap(payload, payload_length);
	if (has_started)
		watch_attempt(shim);
}

/* One message. False when the channel is at its end. */
static bool take_order(struct shim *shim)
{
	CLEANUP_FD int fd = -1;
	ssize_t length = wire_receive(shim->channel, &shim->message, sizeof(shim->message), &fd, 1);

	if (length == -EAGAIN)
		return true;
	if (length <= 0 && length != -EMSGSIZE)
		return false;
	if (length < (ssize_t)sizeof(shim->message.start) || shim->message.start.kind != WIRE_START ||
	    shim->message.start.slot != shim->slot) {
		shim_send(shim, WIRE_REFUSED, &(struct slot_record){ 0 });
		return true;
	}
	carry_out(shim, (size_t)length, fd);
	return true;
}

/* Until the channel ends, nothing was to be done for a while, or processes were left for a successor to listen to. */
static void serve(struct shim *shim)
{
	struct pollfd items[2] = {
		{ .fd = shim->channel, .events = POLLIN },
		{ .fd = shim->signals, .events = POLLIN },
	};

	while (!shim->attempt.record.has_left_running) {
		int ready = poll(items, ARRAY_SIZE(items), IDLE_MS);

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			return;
		if (items[1].revents)
			forget_signals(shim);
		if (items[0].revents && !take_order(shim))
			return;
	}
}

/* The slot's group goes when nobody is in it, and the base of all when nobody else uses it. */
static void leave_cgroups(struct shim *shim)
{
	char base[RECORD_CGROUP_BASE_MAX];
	const char *name;

	start_discard_cgroup(shim);
	if (shim->cgroup_index == 0 || record_cgroup_base(shim->slots, shim->cgroup_index, base) < 0)
		return;
	name = strrchr(base, '/');
	if (name)
		cgroup_leave(&shim->cgroup_base, name + 1);
}

static int read_arguments(struct shim *shim, char **argv)
{
	uint64_t slot, cgroup_index;
	int r = str_parse_u64(argv[2], LIMIT_SLOTS - 1, &slot);

	if (r == 0)
		r = str_parse_u64(argv[4], RECORD_CGROUP_BASES, &cgroup_index);
	if (r == 0)
		r = str_parse_u64(argv[5], UINT64_MAX, &shim->open_files_max);
	if (r < 0)
		return r;
	shim->slot = (uint32_t)slot;
	shim->cgroup_index = (uint32_t)cgroup_index;
	return 0;
}

static int set_up(struct shim *shim, struct err *err)
{
	struct process_stat stat;
	sigset_t all;
	int r;

	shim->pid = getpid();
	shim->channel = SHIM_CHANNEL_FD;
	shim->handover_send = SHIM_HANDOVER_SEND_FD;
	shim->handover_receive = SHIM_HANDOVER_RECEIVE_FD;
	shim->state = SHIM_STATE_FD;
	shim->cgroup_base = SHIM_CGROUP_FD;
	shim->cgroup = CGROUP_NONE;
	shim->attempt.outputs[0] = shim->attempt.outputs[1] = OUTPUT_NONE;
	for (int fd = SHIM_CHANNEL_FD; fd < SHIM_FDS; fd++)
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
			return err_set(err, -errno, "descriptor %d of a shim", fd);
	spawn_reset_signals();
	sigfillset(&all);
	shim->signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	if (shim->signals < 0)
		return err_set(err, -errno, "make a signal descriptor");
	r = spawn_init(&shim->spawner);
	if (r == 0)
		r = clock_boot_id(shim->boot_id);
	if (r == 0)
		r = process_read_stat(shim->pid, &stat);
	if (r < 0)
		return err_set(err, r, "set up a shim");
	shim->start_ticks = stat.start_ticks;
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	prctl(PR_SET_NAME, "drover-shim", 0, 0, 0);
	return record_open(shim->state, PATHS_SLOTS, LIMIT_SLOTS, &shim->slots, err);
}

int shim_main(int argc, char **argv)
{
	static struct shim shim; /* main()'s context: too large for the stack, untouched pages until used */
	struct err err = ERR_INIT;

	if (argc != 6 || read_arguments(&shim, argv) < 0) {
		log_error("a shim is started by the keeper only");
		return WIRE_EXIT_USAGE;
	}
	if (set_up(&shim, &err) < 0) {
		log_error("shim of slot %u: %s", shim.slot, err.text);
		return 1;
	}
	if (strcmp(argv[3], SHIM_MODE_SERVE) == 0)
		serve(&shim);
	else if (takeover_prepare(&shim, strcmp(argv[3], SHIM_MODE_DRAIN) == 0))
		watch_attempt(&shim);
	leave_cgroups(&shim);
	return 0;
}
