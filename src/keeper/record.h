/*
 * record.h - the slot file: what shims know of their attempts, in 256 bytes each, preallocated, so that an exit status is
 * recorded even when the disk is full, and read by whoever comes after a crash.
 *
 * Who writes: the daemon arms and disarms a record while it holds the record's lock; from then on the shim that took the
 * lock writes it. The lock is an OFD write lock over the record's own bytes, taken through a descriptor that the process
 * opened itself. A lock that can be taken means: no shim. Pids in here are hints, never evidence.
 *
 * The file lives as long as processes do; it is not synced, since after a power cut no attempt is left to find.
 */
#pragma once

#include "base/err.h"
#include "base/limits.h"

enum {
	RECORD_SIZE = 256,
	RECORD_HEADER_SIZE = 8192,
	RECORD_CGROUP_BASES = 16,
	RECORD_CGROUP_BASE_MAX = 480,
	RECORD_VERSION = 1,
};

enum record_state {
	RECORD_FREE,    /* nobody's */
	RECORD_ARMED,   /* by the daemon, for a shim that has not taken it yet */
	RECORD_STARTED, /* from just before the child is cloned; leader_pid is 0 until it is born */
	RECORD_ENDED,   /* the end is known: status, usage, output are final */
	RECORD_FAILED,  /* exec failed: start_errno, start_stage */
	RECORD_UNKNOWN, /* the attempt is over and its exit status could not be learnt (its first shim died) */
	RECORD_STATE_MAX
};

/* At which step a start failed; the words are in record_stage_name(). */
enum start_stage {
	STAGE_NONE,
	STAGE_OUTPUT,      /* making the log or the pipe */
	STAGE_ENVIRONMENT, /* reading the environment blob */
	STAGE_CGROUP,      /* making the cgroup */
	STAGE_CLONE,       /* cloning the child: EAGAIN, ENOMEM are the machine's fault and transient */
	STAGE_DIRECTORY,   /* entering the working directory */
	STAGE_INPUT,       /* opening the file for standard input */
	STAGE_LIMITS,      /* nice, rlimits */
	STAGE_EXEC,        /* finding or executing the program */
	STAGE_INTERPRETER, /* the program is there, the interpreter named in its first line is not */
	STAGE_MAX
};

struct slot_record {
	uint32_t crc;   /* crc32c of the 252 bytes behind */
	uint32_t state; /* enum record_state */
	uint64_t task;
	uint64_t nonce; /* of this attempt, random, from the daemon */
	uint32_t attempt;
	uint32_t cgroup_base; /* index into the header's table + 1; 0 = no cgroup */
	uint8_t boot_id[16];
	int32_t shim_pid;
	int32_t leader_pid;
	uint64_t shim_start;   /* start time in clock ticks since boot: field 22 of /proc/PID/stat, proc(5) */
	uint64_t leader_start;
	uint64_t started_ns; /* CLOCK_MONOTONIC */
	uint64_t ended_ns;   /* end of the leader; of the last process with WIRE_WAIT_ALL or RECORD_UNKNOWN */
	int32_t wait_status; /* as waitpid(2) gives it; RECORD_ENDED only */
	int32_t start_errno; /* RECORD_FAILED only, positive */
	uint32_t start_stage; /* enum start_stage */
	uint32_t strays;      /* processes ended after the leader */
	uint64_t user_us;     /* of all reaped processes */
	uint64_t system_us;
	uint64_t memory_peak_bytes; /* memory.peak of the cgroup where there is one, else the largest process */
	uint64_t output_bytes[2];   /* standard output (or both), standard error when split; written before the end too, but
	                               then only now and then */
	uint64_t output_dropped[2];
	uint32_t is_oom_killed; /* the cgroup counted an oom_kill */
	uint32_t has_left_running; /* processes live on in the cgroup by order; their output still goes to the log */
	uint64_t output_gap_at[2]; /* where in the stream the dropped bytes were: the log has [0, gap_at) and then, at the
	                              same offsets as in the stream, [gap_at + dropped, bytes) */
	uint64_t stray_grace_ns;   /* as in the START, for a shim that takes over */
	uint32_t start_flags;      /* enum wire_start_flag */
	uint32_t cgroup_serial;    /* the group is slot-N, or slot-N.SERIAL if not 0: see record_cgroup_name() */
	uint32_t is_frozen;        /* stopped by order; written before it is done */
	uint8_t unused[52];
};
_Static_assert(sizeof(struct slot_record) == RECORD_SIZE, "records lie at multiples of 256 bytes");

struct slot_header {
	char magic[8]; /* "drover-s" */
	uint32_t crc;  /* crc32c of the rest of the first 512 bytes */
	uint32_t version;
	uint32_t slots;
	uint32_t unused0;
	uint64_t committed_seq; /* last sequence number known durable in the database (outside the crc, own word) */
	uint8_t unused[480];
	char cgroup_bases[RECORD_CGROUP_BASES][RECORD_CGROUP_BASE_MAX]; /* paths below the cgroup2 mount, "" = free */
};
_Static_assert(sizeof(struct slot_header) == RECORD_HEADER_SIZE, "the header is two pages");

/*
 * Opens `name` below the directory `state_fd`, making and preallocating it for `slots` records when it is not there. A file
 * of another version, size or owner is refused with a sentence. *ret_fd is close-on-exec and a new open file description:
 * each process opens its own, since locks belong to the description. Returns 0 or -errno.
 */
int record_open(int state_fd, const char *name, uint32_t slots, int *ret_fd, struct err *err);

/*
 * Reads record `slot`. A torn read is tried again; one whose checksum stays wrong is -EILSEQ and *ret is zeroed (treated as
 * damaged, never as empty). 0 or -errno.
 */
int record_read(int fd, uint32_t slot, struct slot_record *ret);

/* Writes record `slot` with its checksum in one pwrite. Uses no heap. 0 or -errno. */
int record_write(int fd, uint32_t slot, struct slot_record *record);

/* Tries to lock record `slot`; -EAGAIN when another process holds it. 0 or -errno. */
int record_lock(int fd, uint32_t slot);

/* Gives the lock back. */
void record_unlock(int fd, uint32_t slot);

/* True when some other process holds the lock of `slot`. */
bool record_is_locked(int fd, uint32_t slot);

/* The header's sequence number: what the daemon last saw durable. 0 or -errno. */
int record_read_committed(int fd, uint64_t *ret_seq);
int record_write_committed(int fd, uint64_t seq);

/*
 * The index + 1 under which `path` (below the cgroup2 mount) stands in the header's table, entering it in a free or no
 * longer used place when it is new; *ret is 0 when there is none. Called by the keeper, which is alone. 0 or -errno.
 */
int record_enter_cgroup_base(int fd, uint32_t slots, const char *path, uint32_t *ret);

/* The path of an index from a record; "" for 0. */
int record_cgroup_base(int fd, uint32_t index, char path[RECORD_CGROUP_BASE_MAX]);

enum { RECORD_CGROUP_NAME_MAX = 32 };

/* The name of the attempt's group within its base: "slot-7", or "slot-7.2" where slot-7 has been left populated. */
void record_cgroup_name(uint32_t slot, uint32_t serial, char name[RECORD_CGROUP_NAME_MAX]);

/* "finding or executing the program" … for messages. */
const char *record_stage_name(enum start_stage stage);
