/*
 * shim.h - the shim's context, for the files it is made of: shim.c (waits for orders), start.c (starts an attempt), watch.c
 * (sees it to its end), takeover.c (goes on with a dead shim's attempt), members.c, output.c, payload.c.
 *
 * A shim serves one slot, one attempt at a time. One thread, no heap, all signals blocked and read from a descriptor. It is
 * never in the attempt's cgroup.
 */
#pragma once

#include "keeper/handover.h"
#include "keeper/members.h"
#include "keeper/output.h"
#include "keeper/payload.h"
#include "keeper/record.h"
#include "keeper/wire.h"
#include "platform/cgroup.h"
#include "platform/process.h"
#include "platform/spawn.h"

/* How the keeper starts us: "shim SLOT MODE CGROUP_BASE OPEN_FILES", with these descriptors. */
enum {
	SHIM_CHANNEL_FD = 3,
	SHIM_HANDOVER_SEND_FD = 4,    /* /dev/null in modes other than serve */
	SHIM_HANDOVER_RECEIVE_FD = 5, /* /dev/null where nothing was handed over */
	SHIM_STATE_FD = 6,
	SHIM_CGROUP_FD = 7,           /* /dev/null without cgroups */
	SHIM_FDS = 8,
};

#define SHIM_MODE_SERVE "serve"       /* wait for START */
#define SHIM_MODE_TAKE_OVER "takeover" /* watch the rest of a dead shim's attempt, record its end, exit */
#define SHIM_MODE_DRAIN "drain"       /* only store what left-running processes still write, then exit */

enum attempt_phase {
	ATTEMPT_RUNNING, /* the leader lives */
	ATTEMPT_STRAYS,  /* it has ended; what is left may go on for a while */
	ATTEMPT_KILLED,  /* it is being killed */
	ATTEMPT_OVER,
};

struct attempt {
	struct slot_record record;
	enum attempt_phase phase;
	uint32_t flags; /* enum wire_start_flag */
	uint64_t stray_grace_ns;
	uint64_t deadline_ns; /* CLOCK_MONOTONIC, of the phase; NEVER_NS */
	uint64_t cloned_ns;   /* CLOCK_BOOTTIME, just before */
	uint64_t stray_left_ns; /* STRAYS, while frozen: how much of their grace is left; NEVER_NS = no limit */
	struct output outputs[2];
	uint32_t output_count;
	int write_ends[2]; /* kept while the leader lives, so that its silence wakes nobody; −1 in a takeover */
	struct members members;
	bool has_handover;
	bool is_kill_ordered;
	bool has_leader_ended;
	bool is_lock_wanted;  /* a takeover that has not got the record's lock yet */
	bool is_takeover;     /* of a dead shim's attempt: its exit status cannot be learnt */
	bool is_drain_only;   /* neither processes nor the record are ours to deal with */
	bool was_frozen;
	bool is_group_spent;  /* it was killed: the next attempt gets another */
	uint32_t killed_count; /* of those reaped after the leader */
};

struct shim {
	uint32_t slot;
	uint32_t cgroup_index; /* of the base, in the slot file's table; 0 = no cgroups */
	uint32_t cgroup_serial;
	bool is_cgroup_used;
	int channel;
	int handover_send;
	int handover_receive;
	int state;
	int cgroup_base;
	int slots;
	int signals;
	pid_t pid;
	uint64_t start_ticks;
	uint64_t open_files_max; /* soft limit for tasks */
	uint8_t boot_id[16];
	struct spawner spawner;
	struct cgroup cgroup;
	struct attempt attempt;
	struct payload payload;
	struct environment environment;
	struct process_table table;
	struct stops stops;
	union {
		struct wire_start start;
		char bytes[WIRE_INLINE_MAX + 4096];
	} message;
};

/* main() of the shim role. Returns the exit status. */
int shim_main(int argc, char **argv);

/* Tells the daemon, with the record as it is. A daemon that does not listen finds it in the file. */
void shim_send(struct shim *shim, uint32_t kind, const struct slot_record *record);

/* start.c: takes the START in shim->message with its payload and starts it. True when an attempt is to be watched. */
bool start_attempt(struct shim *shim, char *payload, size_t payload_length);

/* Opens a cgroup of the slot that nobody is in; shim->cgroup stays closed when there is none to be had. */
void start_prepare_cgroup(struct shim *shim);

/* Closes and removes it; the next attempt gets a new one. */
void start_discard_cgroup(struct shim *shim);

/* watch.c: sees shim->attempt to its end: records, unlocks, notifies. Returns when all are gone or left on purpose. */
void watch_attempt(struct shim *shim);

/* Takes back and closes what was handed over. */
void watch_drop_handover(struct shim *shim);

/* Leaves descriptors and counters for a successor. False when nobody will get them; the attempt goes on all the same. */
bool watch_send_handover(struct shim *shim, bool is_left_running);

/* takeover.c: fills shim->attempt from the record and what was handed over. False when there is nothing to do. */
bool takeover_prepare(struct shim *shim, bool is_drain_only);
