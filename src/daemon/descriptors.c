#include "daemon/descriptors.h"

#include <errno.h>
#include <sys/resource.h>

#include "base/limits.h"

/*
 * OWN: 20 for loop, signals, store, lock, slot file, keeper, listening and spare socket; 6 that come and go, for a helper
 * job, an environment blob, descriptors in a message. KEEPER: what the keeper has for itself and while it starts a shim.
 */
enum {
	OWN = 26,
	OF_ATTEMPT = 2, /* the shim's channel and pidfd */
	KEEPER = 22,
	KEEPER_OF_ATTEMPT = 3,
	CLIENTS_MIN = 4,
	CLIENTS_SHARE = 4, /* one in so many of what is not the daemon's own */
	LIMIT_MIN = OWN + CLIENTS_MIN + OF_ATTEMPT,
};

_Static_assert(LIMIT_MIN >= KEEPER + KEEPER_OF_ATTEMPT, "where the daemon can run one task, the keeper can");

bool descriptors_plan(uint64_t limit, struct descriptors *ret)
{
	uint64_t rest, clients, slots;

	if (limit < LIMIT_MIN)
		return false;
	rest = limit - OWN;
	clients = MIN(MAX(rest / CLIENTS_SHARE, (uint64_t)CLIENTS_MIN), (uint64_t)LIMIT_CLIENTS);
	slots = MIN((rest - clients) / OF_ATTEMPT, (limit - KEEPER) / KEEPER_OF_ATTEMPT);
	*ret = (struct descriptors){
		.limit = limit,
		.slots_max = (uint32_t)MIN(slots, (uint64_t)LIMIT_SLOTS),
		.clients_max = (uint32_t)clients,
	};
	return true;
}

int descriptors_divide(struct descriptors *ret, struct err *err)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return err_set(err, -errno, "learn the limit of open files");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0 && getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return err_set(err, -errno, "learn the limit of open files");
	if (!descriptors_plan(limit.rlim_cur, ret))
		return err_say(err, -EINVAL,
		               "at most %llu files may be open (RLIMIT_NOFILE), and drover needs %d to run one task: "
		               "raise the limit ('ulimit -n') and start it again",
		               (unsigned long long)limit.rlim_cur, LIMIT_MIN);
	return 0;
}
