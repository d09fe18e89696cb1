/*
 * daemon.h - the daemon's context: what main() builds and every part of the folder gets. Not seen outside daemon/.
 *
 * One thread, one loop. A part's callbacks tell facts to turn_step(); what is to be done comes back, after it is durable, as
 * a call of perform_effect(). `now_ns` is read once a turn.
 */
#pragma once

#include <uv.h>

#include "base/limits.h"
#include "base/paths.h"
#include "core/core.h"
#include "daemon/attempts.h"
#include "daemon/descriptors.h"
#include "daemon/jobs.h"
#include "daemon/keeper_link.h"
#include "daemon/pauses.h"
#include "daemon/room.h"
#include "daemon/roster.h"
#include "daemon/server.h"
#include "daemon/turn.h"
#include "daemon/worktree_watch.h"
#include "store/store.h"

struct draft;
struct worktree_call;

/* Calls about worktrees that are under way, see methods_worktrees.c. */
struct worktree_calls {
	struct worktree_call *first;
	bool is_starting; /* what waits is being given its turn */
};

struct daemon_settings {
	uint32_t slots; /* at once, by default */
	uint32_t slots_hard_max;
	uint32_t queued_max; /* unfinished tasks */
	uint32_t keep_tasks; /* finished ones */
	uint64_t keep_events;
	uint64_t keep_ns;
	int64_t snapshot_every_ms; /* 0 = none */
	uint64_t log_head_bytes;
	uint64_t log_tail_bytes;
	uint64_t timeout_ns;  /* for tasks that name none; 0 = none */
	bool keeps_worktrees; /* after success: cleanupOnComplete false */
};

/* For log and status; wants the state directory and the file system's name. */
#define REMOTE_WARNING                                                                                                      \
	"the state directory %s lies on %s, where locks cannot be trusted and the database may be damaged: set "            \
	"DROVER_STATE_DIR to a directory on a local disk"

struct daemon {
	uv_loop_t *loop;
	char state_dir[PATHS_MAX];
	char socket_path[PATHS_MAX];
	int state_fd;
	int lock_fd;
	int slots_fd;
	uint8_t boot_id[16];
	bool is_rebooted; /* the machine was started again since the last commit */
	struct daemon_settings settings;
	struct descriptors descriptors;
	bool has_few_descriptors; /* fewer than hardMaxConcurrent needs */

	uint64_t core_offset_ns; /* core time − CLOCK_MONOTONIC */
	uint64_t now_ns;         /* core time of this turn */
	int64_t now_ms;          /* wall time of this turn */
	uint64_t started_ns;
	uv_timer_t timer;        /* core_deadline() */
	uv_timer_t housekeeping; /* socket still there, things to forget */
	uv_timer_t retry;        /* while is_full: the commit is tried again */

	struct core *core;
	struct core_config core_config;
	struct store *store;
	struct server *server;
	struct roster roster;
	struct turn turn;
	struct keeper_link keeper;
	struct attempts attempts;
	struct jobs jobs;
	struct worktree_watch worktree_watch;
	struct draft *drafts;
	struct room room;
	struct pause_note *pauses;
	struct worktree_calls worktree_calls;
	json_t *fresh_keys; /* idempotency keys put but not yet handed to the store, with their answers */
	uint64_t last_draft;

	uint64_t last_task; /* ids given out */
	uint64_t last_batch;
	uint64_t last_seq;
	uint64_t first_seq; /* oldest event kept */

	uint64_t snapshot_seq; /* the event that the latest snapshot of the database ends with */
	int64_t snapshot_ms;   /* when it was taken */
	bool is_copying;       /* one is being taken */
	bool is_reader;              /* serves a state directory that cannot be written, see reader.h */
	bool has_read;               /* a connection has ended */
	unsigned reader_looks;       /* for one, before */
	int reader_fd;               /* the directory of its copies */
	char reader_dir[PATHS_MAX];  /* "" = none */
	char *restore_notice;  /* about a restore, NULL = none */
	const char *remote_name; /* of the network file system that the state directory is on, NULL = a local one */

	char *git_version;   /* NULL until it is known, or when git cannot be used */
	bool is_broken; /* the store cannot be written: nothing new is accepted or started */
	struct err broken;
	bool is_full; /* the commit in flight waits for room on the disk: nothing new is accepted or started until then */
	struct err full;
	struct request *stop_request; /* answered when drained */
	size_t unused_memory;         /* that could not be given back the last time */
	bool is_draining;             /* stop when the last active task has ended */
	bool is_unbound;              /* the socket's file is gone and something is in its place */
	bool is_stopping;             /* leave the loop */
	int exit_status;
};

/* Takes the time for this turn. */
void daemon_take_time(struct daemon *daemon);

/* Unix milliseconds of a core time, by today's clocks: for display of times in the future. */
int64_t daemon_wall_ms(const struct daemon *daemon, uint64_t core_ns);

/* Performs one effect whose decision is durable. Idempotent under (task, attempt, kind); stale ones do nothing. */
void perform_effect(struct daemon *daemon, const struct effect *effect);

/* Feeds one input about a task's attempt; errors (stale, illegal by now) are of no consequence and only logged. */
void daemon_feed(struct daemon *daemon, const struct core_event *event);

/* Ends the loop: with exit status WIRE_EXIT_STOP or WIRE_EXIT_RESTART. */
void daemon_stop(struct daemon *daemon, int exit_status);
