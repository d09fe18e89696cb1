/*
 * wire.h - what daemon, keeper and shims say to each other: fixed structs over SOCK_SEQPACKET socket pairs, with
 * descriptors as SCM_RIGHTS. All three come from one build; WIRE_PROTOCOL guards the case of an upgrade under a running
 * keeper (the daemon then starts a new one and lets the old one's shims finish).
 *
 *   keeper → daemon  HELLO first; then SHIM, SHIM_GONE, ATTACHED, HELPER in answer
 *   daemon → keeper  SPAWN_SHIM, ATTACH, RUN_HELPER, STOP, RESTART
 *   daemon → shim    START (its only order; everything else is a signal through the shim's pidfd, which also reaches a shim
 *                    whose channel is lost)
 *   shim → daemon    STARTED, ENDED, REFUSED
 *
 * Signals to a shim (blocked from birth, read from a signalfd): SIGTERM = ask the attempt's process group to end; SIGUSR1 =
 * kill the whole set; WIRE_SIGNAL_FREEZE = freeze (value 1) or thaw (value 0). Without an attempt they are ignored.
 *
 * What arrives before the START does not count, so the daemon sends signals for an attempt after its STARTED. SIGTERM thaws
 * a frozen attempt first; after the end of the leader it goes to each process that is left.
 *
 * A shim that reads end-of-file on its channel finishes its attempt, records it, and exits; an idle one exits, and so does
 * one that had nothing to do for a minute: a START may be lost to a shim just leaving, its record then stays armed.
 *
 * The keeper's word about the end of its shims counts, not the pidfd: what died with an attempt under way is followed by
 * SHIM_GONE with is_taken_over, and a SHIM that holds the rest of the attempt.
 *
 * STOP and RESTART say what the keeper is to do when this daemon's socket reaches its end: exit, or start a daemon at once.
 * A daemon that is its keeper's child may say it by its exit code as well; one that started its keeper can say it only so.
 * A keeper that is refused for its protocol gets STOP and a closed socket, and gives the keeper's lock back.
 *
 * The keeper is started as: drover-keeper --state DIR [--daemon PATH] [--detach], or by a daemon whose keeper has died, with
 * its socket as descriptor 3 and its pidfd as descriptor 4: drover-keeper --state DIR [--daemon PATH] --attach-daemon.
 * It exits with 3 when another keeper has the lock (the daemon tries again).
 */
#pragma once

#include <signal.h>
#include <sys/types.h>

#include "keeper/record.h"

/* One real-time signal for both, so that they arrive in the order in which they were sent. */
#define WIRE_SIGNAL_FREEZE (SIGRTMIN + 6)

enum {
	WIRE_PROTOCOL = 2,
	WIRE_DAEMON_FD = 3,        /* the daemon's end of the keeper's socket, at its start */
	WIRE_INLINE_MAX = 48 << 10, /* larger START payloads come in a memfd */
	WIRE_HELPER_MAX = 32 << 10,
};

enum wire_kind {
	WIRE_HELLO = 1,
	WIRE_SPAWN_SHIM,
	WIRE_SHIM,
	WIRE_SHIM_GONE,
	WIRE_ATTACH,
	WIRE_ATTACHED,
	WIRE_RUN_HELPER,
	WIRE_HELPER,
	WIRE_STOP,
	WIRE_RESTART,
	WIRE_START,
	WIRE_STARTED,
	WIRE_ENDED,
	WIRE_REFUSED,
	WIRE_KIND_MAX
};

/* Exit codes of the daemon by which its keeper knows what to do; any other end is a crash: start again with backoff. */
enum {
	WIRE_EXIT_STOP = 0,     /* the keeper exits too */
	WIRE_EXIT_USAGE = 2,    /* starting again would not help: the keeper exits with the same */
	WIRE_EXIT_LOCKED = 3,   /* another daemon runs */
	WIRE_EXIT_RESTART = 10, /* start again at once */
};

/* HELLO, SPAWN_SHIM, SHIM, SHIM_GONE, ATTACH, ATTACHED, HELPER, STOP, RESTART. Fields not named for a kind are 0. */
struct wire_keeper {
	uint32_t kind;
	uint32_t protocol; /* HELLO */
	uint32_t slot;     /* SPAWN_SHIM, SHIM, SHIM_GONE */
	int32_t pid;       /* HELLO: keeper's; SHIM, SHIM_GONE: shim's; HELPER: helper's */
	int32_t error;     /* SHIM, HELPER: negative errno when it could not be started, else 0 */
	uint32_t count;    /* ATTACHED: SHIM messages sent before */
	uint64_t token;    /* RUN_HELPER and its HELPER: chosen by the daemon */
	uint32_t is_taken_over; /* SHIM_GONE: a new shim drains what is left; a SHIM message of the same slot follows.
	                           SPAWN_SHIM: put a shim over an attempt whose shim died unseen by this keeper */
	uint32_t unused;
};
/*
 * SHIM carries two descriptors: the daemon's end of the shim's channel, the shim's pidfd. The keeper keeps a duplicate of
 * the first, so a shim never sees end-of-file because a daemon died, and gives it again to the next one (ATTACH).
 */

/*
 * RUN_HELPER: followed by `argc` NUL-terminated strings (program path first), with three descriptors: standard input,
 * output, error of the helper. It runs in the keeper's own surroundings with an empty environment but PATH, HOME,
 * LANG=C.UTF-8 and XDG_CONFIG_HOME. Its end is seen by end-of-file on its output.
 */
struct wire_helper {
	uint32_t kind;
	uint32_t argc;
	uint64_t token;
	char strings[]; /* to the end of the message */
};

enum wire_start_flag {
	WIRE_LEAVE_RUNNING = 1 << 0, /* do not end what the leader leaves behind */
	WIRE_SPLIT_OUTPUT = 1 << 1,  /* standard error goes to a second log, the name with ".err" added */
	WIRE_PAYLOAD_IN_FD = 1 << 2, /* the payload is a memfd in the message */
	WIRE_WAIT_ALL = 1 << 3,      /* the attempt ends when the last process has */
};

/*
 * START. The record of the slot is armed with the same task, attempt and nonce before this is sent. The payload is a row of
 * NUL-terminated strings: working directory · log name below the state directory · environment blob name below the state
 * directory, "" for none · file for standard input, "" for /dev/null · argc arguments · environment_count settings "K=V"
 * that replace or add to the blob's. The blob is a row of NUL-terminated "K=V".
 */
struct wire_start {
	uint32_t kind;
	uint32_t slot;
	uint64_t task;
	uint64_t nonce;
	uint32_t attempt;
	uint32_t flags;             /* enum wire_start_flag */
	uint64_t stray_grace_ns;    /* how long what the leader leaves behind may go on */
	uint64_t log_head_bytes;
	uint64_t log_tail_bytes;
	uint32_t umask;
	int32_t nice;
	uint32_t argc;
	uint32_t environment_count;
	uint64_t payload_length;
	char payload[]; /* unless in a memfd */
};

/*
 * STARTED, ENDED: with the record as it was written before. REFUSED: the record was not armed for the START of this task,
 * attempt and nonce; nothing else of it is filled in.
 */
struct wire_shim {
	uint32_t kind;
	uint32_t slot;
	struct slot_record record;
};

/*
 * Sends one message with `fd_count` descriptors (at most 4; the caller keeps its own). Never blocks. 0, -EAGAIN when
 * the peer does not read, or -errno.
 */
int wire_send(int socket, const void *message, size_t length, const int *fds, size_t fd_count);

/*
 * Receives one message into `buffer`. Descriptors beyond `fd_max` are closed; missing ones are −1; all are close-on-exec.
 * Returns the length, 0 at end of file, -EAGAIN when there is none, -EMSGSIZE when it did not fit, or -errno.
 */
ssize_t wire_receive(int socket, void *buffer, size_t size, int *ret_fds, size_t fd_max);
