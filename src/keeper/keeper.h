/*
 * keeper.h - the keeper's context, for the files it is made of: keeper.c (start and loop), orders.c (what the daemon asks
 * for), shims.c (the table of shims), guardian.c (starts the daemon and starts it again), place.c (control groups).
 *
 * One thread, no heap after the start, nothing here waits for anything but the loop. The keeper knows slots and processes,
 * no tasks: all that it decides by is in the slot file and in what shims hand over.
 */
#pragma once

#include "base/limits.h"
#include "base/paths.h"
#include "keeper/handover.h"
#include "keeper/wire.h"
#include "platform/cgroup.h"
#include "platform/spawn.h"

enum { KEEPER_ANSWERS_MAX = 256 };

/*
 * What the daemon is still to be told about a slot. Several deaths may fall together; then GONE is about the shim that the
 * daemon knows, and says whether there is a successor now.
 */
enum {
	TELL_GONE = 1 << 0,
	TELL_SHIM = 1 << 1,
	TELL_FAILED = 1 << 2, /* the shim that was asked for died before the daemon heard of it */
};

/* The last thing a shim left in its socket, with its descriptors. */
struct legacy {
	struct handover message;
	int fds[HANDOVER_FDS];
	bool is_there;
};

struct keeper_shim {
	pid_t pid;    /* 0 = none; then the descriptors are −1 */
	int pidfd;
	int channel;  /* the daemon's end, kept for the next daemon */
	int handover; /* the receiving end */
	uint8_t tell;
	bool is_gone_taken_over;
	pid_t gone_pid;
	struct legacy legacy; /* of one that died while no successor could be started; kept, or the task would see SIGPIPE */
};

enum guardian_wish {
	GUARDIAN_WATCH,   /* start it again when it dies */
	GUARDIAN_RESTART, /* start it at once when it dies */
	GUARDIAN_STOP,    /* exit when it dies */
};

struct guardian {
	char program[PATHS_MAX];
	bool is_foreign; /* not our child: it started us */
	pid_t pid;       /* 0 = it does not run */
	int pidfd;
	int socket;      /* −1 = none */
	enum guardian_wish wish;
	unsigned failures;    /* in a row */
	uint64_t started_ns;
	uint64_t start_at_ns; /* when it is to be started again; NEVER_NS */
	bool has_run;
};

struct keeper {
	char state_dir[PATHS_MAX];
	int state;
	int lock;
	int slots;
	int signals;
	int null;
	int log;
	bool is_detached;
	bool is_attached; /* --attach-daemon */
	bool must_exit;
	int exit_status;
	uint64_t open_files_max; /* soft limit as we were given it, for everything we start */
	char cgroup_parent[2 * CGROUP_PATH_MAX]; /* the group that was given to us */
	char cgroup_name[CGROUP_NAME_MAX];       /* the base in it */
	char cgroup_leaf[CGROUP_NAME_MAX + 8];   /* beside the base: where we live, when is_in_leaf */
	bool is_in_leaf;
	unsigned hand_down_tries;
	int cgroup_base;       /* −1 = no cgroups */
	uint32_t cgroup_index; /* 0 = no cgroups */
	char **environment;
	struct spawner spawner;
	struct guardian guardian;

	struct keeper_shim shims[LIMIT_SLOTS];
	uint32_t shim_count;
	uint32_t tell_count;   /* slots with something to tell */
	uint32_t told_count;   /* SHIM messages since ATTACH */
	bool is_attaching;     /* ATTACHED is to follow when all are told */
	struct wire_keeper answers[KEEPER_ANSWERS_MAX]; /* that the socket did not take yet */
	uint32_t answer_count;
};

/* main() of the keeper's role. Returns the exit status. */
int keeper_main(int argc, char **argv);

/* shims.c */
void shims_init(struct keeper *keeper);

/* Starts a shim for the slot; one that takes over what is recorded there when `takes_over`. 0 or -errno. */
int shims_spawn(struct keeper *keeper, uint32_t slot, bool takes_over);

/* A child of this pid has ended. False when it is no shim. */
bool shims_on_exit(struct keeper *keeper, pid_t pid);

/* A child of this pid was stopped by a signal: a shim goes on, whoever wanted that. */
void shims_on_stop(struct keeper *keeper, pid_t pid);

/* A new daemon: nothing is told before it asks; then every shim. */
void shims_forget_news(struct keeper *keeper);
void shims_tell_all(struct keeper *keeper);

/* Sends what is to be told, as far as the socket takes it. True when all is told. */
bool shims_flush(struct keeper *keeper);

/* orders.c: takes what the daemon sent. False when its socket is at its end. */
bool orders_take(struct keeper *keeper);

/* A dead daemon's last orders: only those that say what is to become of us. */
void orders_take_last_words(struct keeper *keeper);

/* Sends an answer, after those that wait. */
void orders_answer(struct keeper *keeper, const struct wire_keeper *message);
bool orders_flush(struct keeper *keeper);

/*
 * place.c: makes the base of the attempts' groups, if that can be, and moves us out of their way; asks for controllers,
 * again with each shim; gives all of it up.
 */
void place_find(struct keeper *keeper);
void place_hand_down(struct keeper *keeper);
void place_leave(struct keeper *keeper);

/* guardian.c */
int guardian_start(struct keeper *keeper, struct err *err);
void guardian_hello(struct keeper *keeper);
void guardian_on_exit(struct keeper *keeper, bool has_status, int wait_status);

/* Starts the daemon when it is time. Returns the milliseconds until then, −1 when nothing is due. */
int guardian_run(struct keeper *keeper);

/* Asks the daemon to end, or leaves at once when there is none. */
void guardian_stop(struct keeper *keeper);
