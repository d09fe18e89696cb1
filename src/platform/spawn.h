/*
 * spawn.h - starts a program: what happens between clone and exec, in a file of its own.
 *
 * The child is cloned like vfork: it borrows our memory, and we stand still until it has executed the program or failed.
 * That costs a third less than a fork even of a tiny process, needs no error pipe (the child writes what went wrong into
 * memory we share), and tells at once whether the program runs. It is safe because the caller has one thread, all signals
 * are blocked meanwhile, and the child calls nothing but system calls. The price: a program on a file system that hangs
 * hangs us too; who cannot have that, starts it through the keeper.
 *
 * The child has a session of its own, no signal blocked, and no descriptors but those given. It does not reset signal
 * dispositions: a process that starts others does that for itself, once, with spawn_reset_signals().
 */
#pragma once

#include <sys/types.h>

#include "base/macros.h"

enum { SPAWN_FDS_MAX = 8 };

/* How far a start that failed has come. */
enum spawn_stage {
	SPAWN_NONE,
	SPAWN_CLONE, /* also, with ECANCELED, when the child was killed before it came to its exec */
	SPAWN_SETUP, /* descriptors, session */
	SPAWN_DIRECTORY,
	SPAWN_INPUT,
	SPAWN_LIMITS,
	SPAWN_EXEC,
	SPAWN_INTERPRETER, /* the program is there; the interpreter that it names is not, or may not be executed */
};

struct spawn_report {
	int stage; /* enum spawn_stage; SPAWN_NONE: it executes the program */
	int error; /* positive errno */
};

/* Memory that a child shares with us even where it has a copy of everything else. */
struct spawner {
	volatile struct spawn_report *report;
	bool has_no_clone3; /* refused by a seccomp filter: the older call is used */
};

struct spawn {
	char **argv;             /* argv[-1] must be writable: the shell goes there for a program without a format */
	char **envp;
	const char *program;     /* path of what is executed; NULL = argv[0] */
	const char *search_path; /* ':'-separated, for an argv[0] without '/'; NULL = argv[0] is a path */
	const char *directory;   /* NULL = ours */
	const char *input;       /* file for descriptor 0, opened in `directory`; NULL = fds[0] */
	const int *fds;          /* become descriptors 0, 1 …; our descriptors 0 to 2 are open and not close-on-exec */
	size_t fd_count;
	int cgroup_fd;           /* directory of the cgroup it is born into; −1 = ours */
	int nice;                /* added to ours */
	bool has_umask;
	mode_t umask;
	uint64_t open_files_max; /* soft RLIMIT_NOFILE; 0 = ours */
	bool keeps_signals_blocked;
	bool wants_pidfd;
	void (*on_born)(void *context); /* in the child, in a session of its own, before its descriptors change; its memory
	                                   is ours or a copy; NULL = nothing */
	void *context;
};

struct spawned {
	pid_t pid;
	int pidfd; /* −1 unless wanted */
	enum spawn_stage stage;
	int error; /* positive errno with a stage */
};

/* Reserves the shared memory. 0 or -errno. */
int spawn_init(struct spawner *spawner);

/* All signals to their default actions, and blocked. Called once, before anything is started. */
void spawn_reset_signals(void);

/*
 * Starts a program. 0 with ret->pid when it runs. Otherwise -errno, with ret->stage telling where it failed; nothing is left
 * then (the failed child has been waited for).
 */
int spawn_process(struct spawner *spawner, const struct spawn *spawn, struct spawned *ret);
