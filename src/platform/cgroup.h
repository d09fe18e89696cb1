/*
 * cgroup.h - control groups, version 2: where they are, and groups of our own to start, freeze, kill and watch processes in.
 *
 * The mount may be the only hierarchy or the one beside version 1 (hybrid); it need not have any controller, since kill,
 * freeze and "is anybody left" are the core's. Nothing here uses the heap.
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"

enum { CGROUP_PATH_MAX = 4096, CGROUP_NAME_MAX = 64 };

/* Where we are. */
struct cgroup_place {
	char mount[CGROUP_PATH_MAX]; /* the cgroup2 file system */
	char own[CGROUP_PATH_MAX];   /* our own group below it; begins with '/' */
};

/*
 * Finds it from the mountinfo and cgroup files below `process_directory` ("/proc/self"). 0, -ENOENT when no cgroup2 is
 * mounted or we are outside of what is mounted, or -errno.
 */
int cgroup_find(const char *process_directory, struct cgroup_place *ret);

/*
 * Makes (or finds) the group `name` in the one at `parent`, an absolute path, to make others in, and asks for the
 * controllers memory, pids, cpu and io for it and for groups in it; those that are not to be had are done without. *ret_fd
 * is its directory; give it up with cgroup_leave(). 0 or -errno.
 */
int cgroup_make(const char *parent, const char *name, int *ret_fd, struct err *err);

/*
 * True when groups below that at `parent` are ours to arrange: systemd's mark of delegation is on it, or it belongs to us
 * and we are not root, or no systemd is there to mind. Never the topmost group.
 */
bool cgroup_is_delegated(const char *parent);

/* Makes (or finds) the group `name` in the one at `parent` and moves the calling process into it. 0 or -errno. */
int cgroup_enter(const char *parent, const char *name);

/*
 * Undoes cgroup_enter() when we are alone in it and `parent` has no other groups: takes the controllers back, moves to
 * `parent`, removes the group. Else all stays.
 */
void cgroup_return(const char *parent, const char *name);

/*
 * Asks again for the controllers for `base_fd` and groups in it: the kernel grants none while a process is in `parent`
 * itself. True when it has some.
 */
bool cgroup_hand_down(const char *parent, int base_fd);

/*
 * Gives up a base that cgroup_make() made, closing *fd. Who holds it last removes it, with the groups in it that nobody is
 * in: as long as any process has this descriptor or a duplicate, it stays.
 */
void cgroup_leave(int *fd, const char *name);

/* Removes the groups directly in `dir_fd` that nobody is in, whatever they are called; what cannot be removed stays. */
void cgroup_remove_children(int dir_fd);

/* One group, opened for use. */
struct cgroup {
	int dir;       /* −1 = not open */
	int events;    /* cgroup.events; poll it for POLLPRI after reading */
	int peak;      /* memory.peak, −1 where there is no memory controller */
	bool can_reset_peak; /* Linux 6.12 */
	uint64_t oom_kills;  /* when last asked */
};

#define CGROUP_NONE ((struct cgroup){ .dir = -1, .events = -1, .peak = -1 })

/* Makes (or finds) the group `name` in `base_fd` and opens it. 0 or -errno. */
int cgroup_open(int base_fd, const char *name, struct cgroup *ret);

/* Closes it; it stays. */
void cgroup_close(struct cgroup *cgroup);

/* 1 when some process (no zombie) is in it or in a group below, 0 when none, or -errno. */
int cgroup_is_populated(const struct cgroup *cgroup);

/* How many processes are in it directly. */
unsigned cgroup_count(const struct cgroup *cgroup);

/* Sends a signal to each process directly in it, by pidfd. Returns how many were reached. */
unsigned cgroup_signal(const struct cgroup *cgroup, int signal_number);

/*
 * Kills all in it, frozen ones too; before Linux 5.14 by freezing it and signalling each. 0 or -errno.
 * The group is not to be used again: Linux 6.18 (measured) kills whatever is cloned into one that was ever killed.
 */
int cgroup_kill(const struct cgroup *cgroup);

/* Freezes or thaws it. 0 or -errno. */
int cgroup_freeze(const struct cgroup *cgroup, bool frozen);

/* Makes the peak of memory use count from now. */
void cgroup_reset_peak(struct cgroup *cgroup);

/* That peak in bytes; 0 when it is not known. */
uint64_t cgroup_peak(const struct cgroup *cgroup);

/* True when the kernel killed something in it for want of memory since the last question. */
bool cgroup_was_oom_killed(struct cgroup *cgroup);
