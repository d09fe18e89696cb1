/*
 * place.c - the keeper's place among the control groups: a base for the attempts' groups, and in a delegated group a leaf of
 * its own beside it, since the kernel hands controllers down only from a group that no process is in.
 *
 *   own group, as we found it
 *   ├── drover-HASH          the base: a group for each slot
 *   └── drover-HASH.keeper   keeper, daemon, shims, helpers
 */
#include "keeper/keeper.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mix.h"

enum { HAND_DOWN_TRIES = 16 };

/* The same for each keeper of the directory, another for each directory: inode numbers come back, so the path counts too. */
static void name_cgroup(struct keeper *keeper)
{
	struct stat status = { 0 };
	uint64_t hash = 0;

	for (const char *at = keeper->state_dir; *at; at++)
		hash = mix64(hash ^ (unsigned char)*at);
	if (fstat(keeper->state, &status) == 0)
		hash = mix64(mix64(hash ^ (uint64_t)status.st_dev) ^ (uint64_t)status.st_ino);
	snprintf(keeper->cgroup_name, sizeof(keeper->cgroup_name), "drover-%016llx", (unsigned long long)hash);
	snprintf(keeper->cgroup_leaf, sizeof(keeper->cgroup_leaf), "%s.keeper", keeper->cgroup_name);
}

/* Started by a daemon that lives in our leaf already: what counts is the group above. True when it was so. */
static bool strip_leaf(const struct keeper *keeper, char *own)
{
	char *slash = strrchr(own, '/');

	if (strcmp(slash + 1, keeper->cgroup_leaf) != 0)
		return false;
	slash[slash == own] = '\0'; /* the topmost group is "/" */
	return true;
}

/* Without a cgroup things go on with the lesser means; the reason is logged once. */
void place_find(struct keeper *keeper)
{
	struct cgroup_place place;
	struct err err = ERR_INIT;
	char base[CGROUP_PATH_MAX + CGROUP_NAME_MAX];
	int r = cgroup_find("/proc/self", &place);

	if (r < 0) {
		log_info("no cgroup2 file system: what tasks leave behind is found by descent only");
		return;
	}
	name_cgroup(keeper);
	keeper->is_in_leaf = strip_leaf(keeper, place.own);
	snprintf(base, sizeof(base), "%s/%s", strcmp(place.own, "/") == 0 ? "" : place.own, keeper->cgroup_name);
	snprintf(keeper->cgroup_parent, sizeof(keeper->cgroup_parent), "%s%s", place.mount, place.own);
	r = cgroup_make(keeper->cgroup_parent, keeper->cgroup_name, &keeper->cgroup_base, &err);
	if (r < 0) {
		log_info("%s: what tasks leave behind is found by descent only", err.text);
		return;
	}
	r = record_enter_cgroup_base(keeper->slots, LIMIT_SLOTS, base, &keeper->cgroup_index);
	if (r < 0) {
		log_warning("the control group %s cannot be recorded (errno %d) and is not used", base, -r);
		fd_close(&keeper->cgroup_base);
		return;
	}
	if (!keeper->is_in_leaf && cgroup_is_delegated(keeper->cgroup_parent))
		keeper->is_in_leaf = cgroup_enter(keeper->cgroup_parent, keeper->cgroup_leaf) == 0;
	place_hand_down(keeper);
}

/* Who started us may still be in the group above, so it is tried again; not for ever, for it may be a user's shell. */
void place_hand_down(struct keeper *keeper)
{
	if (!keeper->is_in_leaf || keeper->hand_down_tries >= HAND_DOWN_TRIES)
		return;
	keeper->hand_down_tries++;
	if (cgroup_hand_down(keeper->cgroup_parent, keeper->cgroup_base))
		keeper->hand_down_tries = HAND_DOWN_TRIES;
}

void place_leave(struct keeper *keeper)
{
	cgroup_leave(&keeper->cgroup_base, keeper->cgroup_name);
	if (keeper->is_in_leaf)
		cgroup_return(keeper->cgroup_parent, keeper->cgroup_leaf);
}
