/*
 * descriptors.h - what RLIMIT_NOFILE allows: how many descriptors go to the daemon itself, to running attempts, to clients.
 * Divided at start, so that nobody's flood takes what another needs to go on.
 */
#pragma once

#include "base/err.h"

struct descriptors {
	uint64_t limit;
	uint32_t slots_max;   /* attempts at once; the keeper, which has the same limit, holds more for each */
	uint32_t clients_max; /* connections at once */
};

/* For log and status: the limit (unsigned long long), tasks at once (uint32_t). */
#define DESCRIPTORS_FEW "only %llu files may be open (RLIMIT_NOFILE), so at most %u tasks run at once: raise 'ulimit -n' " \
			"before the daemon is started"

/* Raises the soft limit to the hard one and divides it. 0, or -EINVAL with a sentence when not even one task could run. */
int descriptors_divide(struct descriptors *ret, struct err *err);

/* The division of a given limit. False when it is too small. */
bool descriptors_plan(uint64_t limit, struct descriptors *ret);
