/*
 * attempts.h - the slots: which shim holds which attempt, its channel and pidfd, its record.
 *
 * The record file and its locks are the truth; this table is what the daemon needs between two looks at it.
 */
#pragma once

#include <uv.h>

#include "core/core.h"
#include "keeper/wire.h"

struct daemon;
struct roster_task;

enum shim_state {
	SHIM_NONE,    /* no shim for the slot */
	SHIM_ASKED,   /* the keeper was asked for one */
	SHIM_READY,   /* it has a channel */
	SHIM_ADOPTED, /* found at start without a channel: signals and its end only */
};

struct attempt_slot {
	struct daemon *daemon;
	uint32_t number;
	enum shim_state shim;
	bool is_retiring; /* its keeper is gone: no further attempt for this shim */
	int channel;
	int pidfd;
	int shim_pid;
	uv_poll_t *channel_poll; /* NULL when not watched */
	uv_poll_t *pidfd_poll;
	uint64_t task; /* attempt bound to the slot, 0 = none */
	uint64_t nonce;
	uint32_t attempt;
	bool is_sent;        /* START went out, or the attempt was adopted */
	bool is_state_owed;  /* whether it is frozen is to be told again: the last signal could not be sent */
	bool is_kill_sent;   /* once; if that did not help, the shim may not be able to */
	uint8_t start_tries; /* shims that died before they took the START */
};

struct attempts {
	struct attempt_slot *slots[LIMIT_SLOTS]; /* NULL until first used */
	uint32_t adopted_watched; /* that have a pidfd */
};

/* Stops watching and closes everything; shims and attempts go on. */
void attempts_done(struct daemon *daemon);

/* The slot's entry, made when it is new. */
struct attempt_slot *attempts_slot(struct daemon *daemon, uint32_t number);

/* START: binds the attempt and starts it as soon as there is a shim. Nothing happens when it is bound already. */
void attempts_start(struct daemon *daemon, const struct effect *effect);

/* Sends a signal of wire.h to the attempt's shim; without a shim the attempt's cgroup is killed for SIGUSR1. */
void attempts_signal(struct daemon *daemon, const struct effect *effect, int signal_number);

/* Has the attempt frozen or thawed. What cannot be said now is said again by attempts_tell_owed(). */
void attempts_freeze(struct daemon *daemon, const struct effect *effect, bool frozen);

/* Now and then: tells shims what could not be told. */
void attempts_tell_owed(struct daemon *daemon);

/*
 * Binds an attempt that was found running: by its channel when the keeper gave it, else by the recorded pid and its lock. 0,
 * or -ESRCH when its shim ended just now: look again.
 */
int attempts_adopt(struct daemon *daemon, const struct task *task, const struct slot_record *record);

/*
 * Looks at the shims of adopted attempts for which there was no descriptor; settles those that ended. True when some remain
 * that are to be looked at again soon.
 */
bool attempts_look_again(struct daemon *daemon);

/* Binds an attempt whose shim is gone while processes of it are left: asks for another shim over them. */
void attempts_take_over(struct daemon *daemon, const struct task *task, const struct slot_record *record);

/* True when this attempt is bound to its slot. */
bool attempts_is_bound(struct daemon *daemon, const struct task *task);

/* From the keeper: a shim is there (descriptors are taken over), could not be started, or died. */
void attempts_on_shim(struct daemon *daemon, const struct wire_keeper *message, int channel, int pidfd);
void attempts_on_shim_gone(struct daemon *daemon, const struct wire_keeper *message);

/* The keeper died: no shim of it gets another attempt. A new one is there: go on with what waited for it. */
void attempts_on_keeper_lost(struct daemon *daemon);
void attempts_on_keeper_ready(struct daemon *daemon);

/* Turns a record that tells an end into the core's event. False when it tells none. */
bool attempts_read_end(const struct slot_record *record, struct core_event *ret_event);

/*
 * True when a start failed for want of what the machine may have later: no room for the log, no descriptor, no process.
 */
bool attempts_is_machines_fault(const struct slot_record *record);

/* Name of an attempt's log below the state directory. */
void attempts_log_name(uint64_t task, uint32_t attempt, char name[64]);

/* Pid of the leading process of the task's attempt, 0 when there is none. */
int attempts_leader_pid(struct daemon *daemon, const struct task *task);
