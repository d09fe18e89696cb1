#include "daemon/attempts.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/processes.h"
#include "daemon/start_message.h"
#include "platform/process.h"

enum { START_TRIES_MAX = 3, LOG_DIRECTORIES = 64 };

static void send_start(struct attempt_slot *slot);
static void tell_state(struct attempt_slot *slot);

void attempts_log_name(uint64_t task, uint32_t attempt, char name[64])
{
	/* Neighbours lie in different directories, so that shims that start at once do not wait for one directory's lock. */
	snprintf(name, 64, PATHS_LOGS "/%02u/%llu.%u.log", (unsigned)(task % LOG_DIRECTORIES), (unsigned long long)task,
	         attempt);
}

struct attempt_slot *attempts_slot(struct daemon *daemon, uint32_t number)
{
	struct attempt_slot *slot;

	ASSERT(number < LIMIT_SLOTS);
	slot = daemon->attempts.slots[number];
	if (!slot) {
		slot = xcalloc(1, sizeof(*slot));
		*slot = (struct attempt_slot){ .daemon = daemon, .number = number, .channel = -1, .pidfd = -1 };
		daemon->attempts.slots[number] = slot;
	}
	return slot;
}

static void on_poll_closed(uv_handle_t *handle)
{
	free(handle);
}

/* Stops watching before the descriptor is closed: a closed pidfd left in epoll ends in EBADF (FACTS §6). */
static void unwatch(uv_poll_t **poll, int *fd)
{
	if (*poll) {
		uv_poll_stop(*poll);
		uv_close((uv_handle_t *)TAKE_PTR(*poll), on_poll_closed);
	}
	fd_close(fd);
}

static uv_poll_t *watch(struct attempt_slot *slot, int fd, uv_poll_cb callback)
{
	uv_poll_t *poll = xcalloc(1, sizeof(*poll));

	if (uv_poll_init(slot->daemon->loop, poll, fd) < 0 || uv_poll_start(poll, UV_READABLE, callback) < 0)
		NEVER("a descriptor of ours can be polled");
	poll->data = slot;
	return poll;
}

static void drop_shim(struct attempt_slot *slot)
{
	if (slot->shim == SHIM_ADOPTED && slot->pidfd >= 0)
		slot->daemon->attempts.adopted_watched--;
	unwatch(&slot->channel_poll, &slot->channel);
	unwatch(&slot->pidfd_poll, &slot->pidfd);
	slot->shim = SHIM_NONE;
	slot->shim_pid = 0;
	slot->is_retiring = false;
}

static void unbind(struct attempt_slot *slot)
{
	slot->task = 0;
	slot->is_sent = false;
	slot->is_state_owed = false;
	slot->is_kill_sent = false;
	slot->start_tries = 0;
	if (slot->is_retiring)
		drop_shim(slot);
}

void attempts_done(struct daemon *daemon)
{
	for (uint32_t i = 0; i < LIMIT_SLOTS; i++) {
		if (daemon->attempts.slots[i])
			drop_shim(daemon->attempts.slots[i]);
		free(TAKE_PTR(daemon->attempts.slots[i]));
	}
}

/* Why a start that is tried again did not come about, for who asks why the task waits; 0 when it did. */
static void note_refusal(struct daemon *daemon, uint64_t task, enum start_stage stage, int error)
{
	uint32_t index = core_index(daemon->core, task);

	if (index == TASK_NONE)
		return;
	roster_task(&daemon->roster, index)->refused_stage = (uint8_t)stage;
	roster_task(&daemon->roster, index)->refused_errno = (uint16_t)error;
}

/* The words for a failed start, kept with the task. */
static void describe_failed_start(struct daemon *daemon, const struct slot_record *record)
{
	uint32_t index = core_index(daemon->core, record->task);
	struct roster_task *texts;
	CLEANUP_FREE char *object = NULL;
	CLEANUP_FREE char *detail = NULL;

	if (record->state != RECORD_FAILED || index == TASK_NONE)
		return;
	if (attempts_is_machines_fault(record)) {
		note_refusal(daemon, record->task, record->start_stage, record->start_errno);
		return;
	}
	texts = roster_task(&daemon->roster, index);
	object = start_message_object(texts, record->start_stage);
	if (object)
		detail = xasprintf("%s: %s", object, strerror(record->start_errno));
	else
		detail = xasprintf("%s: %s", record_stage_name(record->start_stage), strerror(record->start_errno));
	roster_set_detail(texts, detail);
}

static bool is_of_slot(const struct attempt_slot *slot, const struct slot_record *record)
{
	return slot->task != 0 && record->task == slot->task && record->attempt == slot->attempt &&
	       record->nonce == slot->nonce;
}

static void feed_started(struct daemon *daemon, const struct slot_record *record)
{
	struct core_event event = {
		.kind = CORE_INPUT,
		.input = INPUT_STARTED,
		.task = record->task,
		.attempt = record->attempt,
	};

	note_refusal(daemon, record->task, STAGE_NONE, 0);
	daemon_feed(daemon, &event);
}

/* The record tells that the attempt is over: the slot is free for the core at once, for the shim after the commit. */
static void feed_end(struct attempt_slot *slot, const struct slot_record *record)
{
	struct daemon *daemon = slot->daemon;
	struct core_event event;

	if (!attempts_read_end(record, &event))
		return;
	describe_failed_start(daemon, record);
	unbind(slot);
	daemon_feed(daemon, &event);
}

static void feed_lost(struct attempt_slot *slot)
{
	struct core_event event = {
		.kind = CORE_INPUT,
		.input = INPUT_ATTEMPT_LOST,
		.task = slot->task,
		.attempt = slot->attempt,
		.exit_code = -1,
		.cause = { .kind = CAUSE_VANISHED },
	};

	unbind(slot);
	daemon_feed(slot->daemon, &event);
}

static void refuse_start(struct attempt_slot *slot, int error)
{
	struct core_event event = {
		.kind = CORE_INPUT,
		.input = INPUT_START_REFUSED,
		.task = slot->task,
		.attempt = slot->attempt,
		.exit_code = -1,
		.cause = { .kind = CAUSE_START_FAILED, .value = (uint64_t)-error },
	};

	note_refusal(slot->daemon, slot->task, STAGE_NONE, -error);
	unbind(slot);
	daemon_feed(slot->daemon, &event);
}

static void fail_start(struct attempt_slot *slot, const struct err *err)
{
	struct core_event event = {
		.kind = CORE_INPUT,
		.input = INPUT_START_FAILED,
		.task = slot->task,
		.attempt = slot->attempt,
		.exit_code = -1,
		.cause = { .kind = CAUSE_START_FAILED, .value = (uint64_t)-err->code },
	};
	uint32_t index = core_index(slot->daemon->core, slot->task);

	if (index != TASK_NONE)
		roster_set_detail(roster_task(&slot->daemon->roster, index), err->text);
	unbind(slot);
	daemon_feed(slot->daemon, &event);
}

/* The shim did not find the record armed for our START. Only while nobody can take it any more is the attempt let go. */
static void on_refused(struct attempt_slot *slot)
{
	struct daemon *daemon = slot->daemon;
	struct slot_record blank = { .state = RECORD_FREE };
	struct slot_record record;

	if (record_lock(daemon->slots_fd, slot->number) < 0)
		return; /* a shim holds the attempt after all: its end will be told */
	if (record_read(daemon->slots_fd, slot->number, &record) < 0 || !is_of_slot(slot, &record) ||
	    record.state == RECORD_ARMED) {
		record_write(daemon->slots_fd, slot->number, &blank);
		record_unlock(daemon->slots_fd, slot->number);
		refuse_start(slot, -EAGAIN);
		return;
	}
	record_unlock(daemon->slots_fd, slot->number);
}

static void on_shim_message(struct attempt_slot *slot, const struct wire_shim *message)
{
	const struct slot_record *record = &message->record;

	if (!is_of_slot(slot, record))
		return; /* news of an attempt that is settled already */
	FAILPOINT(message->kind == WIRE_STARTED ? "started_not_recorded" : "exit_record_seen");
	if (message->kind == WIRE_STARTED)
		feed_started(slot->daemon, record);
	else if (message->kind == WIRE_ENDED)
		feed_end(slot, record);
	else if (message->kind == WIRE_REFUSED)
		on_refused(slot);
}

static void on_channel(uv_poll_t *poll, int status, int events UNUSED)
{
	struct attempt_slot *slot = poll->data;
	struct wire_shim message;

	for (;;) {
		ssize_t length = status < 0 ? 0 : wire_receive(slot->channel, &message, sizeof(message), NULL, 0);

		if (length == -EAGAIN)
			return;
		if (length <= 0) { /* the shim is gone or going: its pidfd, or the keeper, tells the rest */
			unwatch(&slot->channel_poll, &slot->channel);
			if (slot->task == 0)
				drop_shim(slot);
			return;
		}
		if ((size_t)length == sizeof(message))
			on_shim_message(slot, &message);
		if (slot->channel < 0)
			return;
	}
}

/* Its STARTED may have been in the channel that was closed with it; the shim that takes over says none. */
static void tell_unheard_start(struct attempt_slot *slot, const struct slot_record *record)
{
	const struct task *task = core_find(slot->daemon->core, slot->task);

	if (task && task->phase == PHASE_START && record->state == RECORD_STARTED)
		feed_started(slot->daemon, record);
}

/* The shim died. Its record tells how far it came; a keeper that lives puts another over what it left. */
static void settle_after_shim(struct attempt_slot *slot)
{
	struct daemon *daemon = slot->daemon;
	struct slot_record record;

	if (slot->task == 0)
		return;
	if (record_read(daemon->slots_fd, slot->number, &record) < 0 || !is_of_slot(slot, &record)) {
		feed_lost(slot);
		return;
	}
	if (record.state == RECORD_ARMED) { /* it never took the START */
		slot->is_sent = false;
		if (++slot->start_tries >= START_TRIES_MAX || keeper_ask_shim(daemon, slot->number, false) < 0)
			refuse_start(slot, -EAGAIN);
		else
			slot->shim = SHIM_ASKED;
		return;
	}
	if (record.state != RECORD_STARTED) {
		feed_end(slot, &record);
		return;
	}
	if (!processes_are_left(daemon, slot->number, &record)) {
		feed_lost(slot);
		return;
	}
	tell_unheard_start(slot, &record);
	attempts_take_over(daemon, core_find(daemon->core, slot->task), &record);
}

static void on_pidfd(uv_poll_t *poll, int status UNUSED, int events UNUSED)
{
	struct attempt_slot *slot = poll->data;

	drop_shim(slot);
	settle_after_shim(slot);
}

void attempts_on_shim_gone(struct daemon *daemon, const struct wire_keeper *message)
{
	struct attempt_slot *slot;
	struct slot_record record;

	if (message->slot >= LIMIT_SLOTS)
		return;
	slot = attempts_slot(daemon, message->slot);
	if (slot->shim_pid != message->pid)
		return; /* a predecessor of the shim we know */
	drop_shim(slot);
	if (message->is_taken_over) {
		slot->shim = SHIM_ASKED; /* its SHIM message follows */
		processes_mark_lost_shim(daemon, slot->task);
		if (record_read(daemon->slots_fd, slot->number, &record) == 0 && is_of_slot(slot, &record))
			tell_unheard_start(slot, &record);
	} else {
		settle_after_shim(slot);
	}
}

void attempts_on_shim(struct daemon *daemon, const struct wire_keeper *message, int channel, int pidfd)
{
	struct attempt_slot *slot;

	if (message->slot >= LIMIT_SLOTS || message->error < 0 || channel < 0) {
		fd_close(&channel);
		fd_close(&pidfd);
		if (message->slot < LIMIT_SLOTS) {
			slot = attempts_slot(daemon, message->slot);
			slot->shim = SHIM_NONE;
			if (slot->task != 0 && !slot->is_sent)
				refuse_start(slot, message->error < 0 ? message->error : -EAGAIN);
		}
		return;
	}
	slot = attempts_slot(daemon, message->slot);
	drop_shim(slot);
	slot->shim = SHIM_READY;
	slot->shim_pid = message->pid;
	slot->channel = channel;
	slot->pidfd = pidfd;
	fd_set_nonblocking(channel, true);
	slot->channel_poll = watch(slot, channel, on_channel);
	if (slot->task != 0 && !slot->is_sent)
		send_start(slot);
	else if (slot->task != 0)
		tell_state(slot);
}

/* Arms the record for the bound attempt; only then may a shim take it. */
static int arm(struct attempt_slot *slot)
{
	struct daemon *daemon = slot->daemon;
	struct slot_record record = {
		.state = RECORD_ARMED,
		.task = slot->task,
		.nonce = slot->nonce,
		.attempt = slot->attempt,
	};
	int r = record_lock(daemon->slots_fd, slot->number);

	if (r < 0)
		return r;
	memcpy(record.boot_id, daemon->boot_id, sizeof(record.boot_id));
	r = record_write(daemon->slots_fd, slot->number, &record);
	record_unlock(daemon->slots_fd, slot->number);
	return r;
}

/* Moves a payload that is too large for a message into a memfd. */
static int move_payload(struct buf *message, int *ret_fd)
{
	struct wire_start *start = (void *)message->bytes;
	CLEANUP_FD int fd = -1;
	int r;

	if (start->payload_length <= WIRE_INLINE_MAX)
		return 0;
	fd = memfd_create("drover-start", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, start->payload, start->payload_length);
	if (r < 0)
		return r;
	start->flags |= WIRE_PAYLOAD_IN_FD;
	message->length = sizeof(*start);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static void send_start(struct attempt_slot *slot)
{
	struct daemon *daemon = slot->daemon;
	const struct task *task = core_find(daemon->core, slot->task);
	CLEANUP_BUF struct buf message = BUF_INIT;
	CLEANUP_FD int payload = -1;
	struct err err = ERR_INIT;
	int r;

	ASSERT(task && task->attempt == slot->attempt);
	if (task->state == TASK_STOPPING) { /* cancelled meanwhile: nothing of it is to run */
		refuse_start(slot, -ECANCELED);
		return;
	}
	r = start_message_build(daemon, task, roster_task(&daemon->roster, core_index(daemon->core, task->id)), &message,
	                        &err);
	if (r < 0) {
		fail_start(slot, &err);
		return;
	}
	FAILPOINT("start_not_armed");
	r = arm(slot);
	FAILPOINT("armed_not_sent");
	if (r == 0)
		r = move_payload(&message, &payload);
	if (r == 0)
		r = wire_send(slot->channel, message.bytes, message.length, &payload, payload >= 0 ? 1 : 0);
	if (r == -EPIPE || r == -ECONNRESET || r == -ENOTCONN ||
	    r == -EBADF) { /* an idle shim that left just now: another one */
		drop_shim(slot);
		if (keeper_ask_shim(daemon, slot->number, false) == 0)
			slot->shim = SHIM_ASKED;
		return;
	}
	if (r < 0) {
		log_warning("task %llu: its shim takes no order: %s", (unsigned long long)slot->task, strerror(-r));
		refuse_start(slot, r);
		return;
	}
	slot->is_sent = true;
	FAILPOINT("start_sent");
}

bool attempts_is_bound(struct daemon *daemon, const struct task *task)
{
	const struct attempt_slot *slot;

	if (task->slot == TASK_NONE)
		return false;
	slot = daemon->attempts.slots[task->slot];
	return slot && slot->task == task->id && slot->attempt == task->attempt;
}

void attempts_start(struct daemon *daemon, const struct effect *effect)
{
	const struct task *task = core_find(daemon->core, effect->task);
	struct attempt_slot *slot;

	if (!task || task->attempt != effect->attempt || task->phase != PHASE_START || task->slot != effect->slot)
		return; /* decided otherwise since */
	slot = attempts_slot(daemon, effect->slot);
	if (slot->task == task->id && slot->attempt == task->attempt)
		return; /* adopted at start, or on its way */
	ASSERT(slot->task == 0);
	slot->task = task->id;
	slot->attempt = task->attempt;
	slot->nonce = roster_task(&daemon->roster, effect->index)->nonce;
	slot->is_sent = false;
	roster_task(&daemon->roster, effect->index)->conditions = 0;
	if (task->state == TASK_STOPPING) {
		refuse_start(slot, -ECANCELED);
		return;
	}
	if (slot->is_retiring)
		drop_shim(slot);
	if (slot->shim == SHIM_READY) {
		send_start(slot);
	} else if (slot->shim != SHIM_ASKED) {
		if (keeper_ask_shim(daemon, slot->number, false) == 0)
			slot->shim = SHIM_ASKED; /* else when there is a keeper again */
	}
}

void attempts_signal(struct daemon *daemon, const struct effect *effect, int signal_number)
{
	struct attempt_slot *slot;
	struct slot_record record;
	bool is_again;

	if (effect->slot == TASK_NONE)
		return;
	slot = attempts_slot(daemon, effect->slot);
	if (slot->task != effect->task || slot->attempt != effect->attempt)
		return;
	if (!slot->is_sent) { /* nothing runs: take the order back before a shim sees it */
		if (slot->shim != SHIM_READY)
			refuse_start(slot, -ECANCELED);
		return;
	}
	is_again = signal_number == SIGUSR1 && slot->is_kill_sent;
	slot->is_kill_sent = signal_number == SIGUSR1;
	if (slot->pidfd >= 0 && process_signal(slot->pidfd, signal_number) == 0 && !is_again)
		return;
	slot->is_state_owed = slot->pidfd < 0;
	if (signal_number == SIGUSR1 && record_read(daemon->slots_fd, slot->number, &record) == 0 &&
	    is_of_slot(slot, &record))
		processes_kill(daemon, slot->number, &record);
}

static void tell_frozen(struct attempt_slot *slot, bool frozen)
{
	int r = slot->pidfd >= 0 ? process_signal_value(slot->pidfd, WIRE_SIGNAL_FREEZE, frozen) : -EBADF;

	if (r == -EAGAIN && !slot->is_state_owed)
		log_warning("task %llu cannot be %s now: too many signals are pending", (unsigned long long)slot->task,
		            frozen ? "frozen" : "thawed");
	slot->is_state_owed = r == -EAGAIN || r == -EBADF; /* a dead shim's successor is told when it is there */
}

void attempts_freeze(struct daemon *daemon, const struct effect *effect, bool frozen)
{
	struct attempt_slot *slot;

	if (effect->slot == TASK_NONE)
		return;
	slot = attempts_slot(daemon, effect->slot);
	if (slot->task == effect->task && slot->attempt == effect->attempt && slot->is_sent)
		tell_frozen(slot, frozen);
}

/* What was said to the shim's predecessor may have died with it. */
static void tell_state(struct attempt_slot *slot)
{
	const struct task *task = core_find(slot->daemon->core, slot->task);

	if (!task || task->attempt != slot->attempt || task->phase != PHASE_PROCESS)
		return;
	tell_frozen(slot, task->state == TASK_SUSPENDED);
	if (task->state == TASK_STOPPING && slot->pidfd >= 0)
		process_signal(slot->pidfd, SIGTERM);
}

void attempts_tell_owed(struct daemon *daemon)
{
	for (uint32_t i = 0; i < LIMIT_SLOTS; i++)
		if (daemon->attempts.slots[i] && daemon->attempts.slots[i]->is_state_owed)
			tell_state(daemon->attempts.slots[i]);
}

/*
 * Watches the end of an adopted shim by its pid. -ESRCH when it is gone already. Without a descriptor to spare it is looked
 * at now and then instead: more may run than this daemon could have started.
 */
static int watch_adopted(struct attempt_slot *slot, const struct slot_record *record)
{
	struct daemon *daemon = slot->daemon;
	bool may_watch = daemon->attempts.adopted_watched < 2 * daemon->descriptors.slots_max;
	CLEANUP_FD int pidfd = may_watch ? (int)syscall(SYS_pidfd_open, record->shim_pid, 0) : -1;

	/* The pid may have been a stranger's by now: the lock proves that the shim still lived after pidfd_open. */
	if (!record_is_locked(daemon->slots_fd, slot->number))
		return -ESRCH;
	if (pidfd < 0)
		return 0;
	slot->pidfd = TAKE_FD(pidfd);
	slot->pidfd_poll = watch(slot, slot->pidfd, on_pidfd);
	daemon->attempts.adopted_watched++;
	return 0;
}

static struct attempt_slot *bind_found(struct daemon *daemon, const struct task *task, const struct slot_record *record)
{
	struct attempt_slot *slot = attempts_slot(daemon, task->slot);

	slot->task = task->id;
	slot->attempt = task->attempt;
	slot->nonce = record->nonce;
	slot->is_sent = true;
	return slot;
}

int attempts_adopt(struct daemon *daemon, const struct task *task, const struct slot_record *record)
{
	struct attempt_slot *slot = bind_found(daemon, task, record);

	if (slot->shim == SHIM_READY && slot->shim_pid == record->shim_pid)
		return 0;
	drop_shim(slot);
	if (watch_adopted(slot, record) < 0) {
		unbind(slot);
		return -ESRCH;
	}
	slot->shim = SHIM_ADOPTED;
	slot->shim_pid = record->shim_pid;
	slot->is_retiring = true;
	return 0;
}

bool attempts_look_again(struct daemon *daemon)
{
	bool is_any_unwatched = false;

	for (uint32_t i = 0; i < LIMIT_SLOTS; i++) {
		struct attempt_slot *slot = daemon->attempts.slots[i];
		struct slot_record record;

		if (!slot || slot->shim != SHIM_ADOPTED || slot->pidfd >= 0 ||
		    record_read(daemon->slots_fd, slot->number, &record) < 0)
			continue;
		if (watch_adopted(slot, &record) < 0) {
			drop_shim(slot);
			settle_after_shim(slot);
		} else {
			is_any_unwatched = is_any_unwatched || slot->pidfd < 0;
		}
	}
	return is_any_unwatched;
}

void attempts_take_over(struct daemon *daemon, const struct task *task, const struct slot_record *record)
{
	struct attempt_slot *slot = bind_found(daemon, task, record);

	drop_shim(slot);
	processes_mark_lost_shim(daemon, task->id);
	if (keeper_ask_shim(daemon, slot->number, true) == 0)
		slot->shim = SHIM_ASKED; /* else when there is a keeper again */
}

void attempts_on_keeper_lost(struct daemon *daemon)
{
	for (uint32_t i = 0; i < LIMIT_SLOTS; i++) {
		struct attempt_slot *slot = daemon->attempts.slots[i];

		if (!slot)
			continue;
		if (slot->shim == SHIM_ASKED)
			slot->shim = SHIM_NONE;
		if (slot->shim != SHIM_READY)
			continue;
		slot->is_retiring = true;
		if (slot->task == 0)
			drop_shim(slot);
		else if (!slot->pidfd_poll) /* the keeper no longer tells its end */
			slot->pidfd_poll = watch(slot, slot->pidfd, on_pidfd);
	}
}

void attempts_on_keeper_ready(struct daemon *daemon)
{
	for (uint32_t i = 0; i < LIMIT_SLOTS; i++) {
		struct attempt_slot *slot = daemon->attempts.slots[i];

		if (!slot || slot->task == 0 || slot->shim != SHIM_NONE)
			continue;
		if (keeper_ask_shim(daemon, slot->number, slot->is_sent) == 0)
			slot->shim = SHIM_ASKED;
	}
}

int attempts_leader_pid(struct daemon *daemon, const struct task *task)
{
	struct slot_record record;

	if (!task_state_is_active(task->state) || !attempts_is_bound(daemon, task) ||
	    record_read(daemon->slots_fd, task->slot, &record) < 0 || record.state != RECORD_STARTED ||
	    !is_of_slot(daemon->attempts.slots[task->slot], &record))
		return 0;
	return record.leader_pid;
}
