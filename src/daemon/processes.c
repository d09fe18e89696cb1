#include "daemon/processes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "daemon/daemon.h"
#include "platform/cgroup.h"
#include "platform/process.h"

/* Opens the cgroup of a slot below a base of the slot file, if it is there. 0 or -errno. */
static int open_slot_cgroup(struct daemon *daemon, uint32_t slot, const struct slot_record *record, struct cgroup *ret)
{
	struct cgroup_place place;
	char path[RECORD_CGROUP_BASE_MAX];
	char full[CGROUP_PATH_MAX + RECORD_CGROUP_BASE_MAX];
	char name[RECORD_CGROUP_NAME_MAX];
	CLEANUP_FD int base_fd = -1;
	int r = record_cgroup_base(daemon->slots_fd, record->cgroup_base, path);

	if (r < 0)
		return r;
	if (path[0] == '\0')
		return -ENOENT;
	r = cgroup_find("/proc/self", &place);
	if (r < 0)
		return r;
	snprintf(full, sizeof(full), "%s%s", place.mount, path);
	record_cgroup_name(slot, record->cgroup_serial, name);
	base_fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (base_fd < 0)
		return -errno;
	if (faccessat(base_fd, name, F_OK, 0) < 0) /* cgroup_open() would make it */
		return -errno;
	return cgroup_open(base_fd, name, ret);
}

/* Nothing can be looked at just now: what is recorded counts as there, or running tasks would be given up as lost. */
static bool is_blinding(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

static bool is_leader_alive(const struct slot_record *record)
{
	CLEANUP_FD int pidfd = record->leader_pid > 0 ? process_open_started(record->leader_pid, record->leader_start) : -1;

	return pidfd >= 0 || is_blinding(pidfd);
}

bool processes_are_left(struct daemon *daemon, uint32_t slot, const struct slot_record *record)
{
	struct cgroup cgroup = CGROUP_NONE;
	bool is_populated;
	int r = record->cgroup_base == 0 ? -ENOENT : open_slot_cgroup(daemon, slot, record, &cgroup);

	if (r < 0)
		return is_blinding(r) || is_leader_alive(record);
	is_populated = cgroup_is_populated(&cgroup) == 1;
	cgroup_close(&cgroup);
	return is_populated;
}

void processes_kill(struct daemon *daemon, uint32_t slot, const struct slot_record *record)
{
	struct cgroup cgroup = CGROUP_NONE;

	if (record->cgroup_base == 0 || record->has_left_running || open_slot_cgroup(daemon, slot, record, &cgroup) < 0)
		return;
	cgroup_kill(&cgroup);
	cgroup_close(&cgroup);
}

void processes_mark_lost_shim(struct daemon *daemon, uint64_t task)
{
	uint32_t index = core_index(daemon->core, task);

	if (index != TASK_NONE)
		roster_task(&daemon->roster, index)->conditions |= CONDITION_LOST_SHIM;
}
