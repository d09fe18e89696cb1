#include "daemon/full.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/log.h"
#include "daemon/daemon.h"

enum { RETRY_MS = 500 };

static void on_timer(uv_timer_t *timer)
{
	struct daemon *daemon = timer->data;

	turn_retry(daemon);
}

void full_enter(struct daemon *daemon, const struct err *err)
{
	if (!daemon->is_full)
		log_error("%s", err->text);
	daemon->is_full = true;
	daemon->full = *err;
	uv_timer_start(&daemon->retry, on_timer, RETRY_MS, 0);
	full_relieve(daemon, &daemon->turn.in_flight);
}

void full_leave(struct daemon *daemon)
{
	if (daemon->is_full)
		log_info("the commit that waited for room on the disk has ended");
	daemon->is_full = false;
}

static void perform_urgent(struct daemon *daemon, struct generation *generation)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < generation->effect_count; i++) {
		const struct effect *effect = &generation->effects[i];

		if (effect->kind == EFFECT_TERMINATE || effect->kind == EFFECT_KILL || effect->kind == EFFECT_FREEZE ||
		    effect->kind == EFFECT_THAW)
			perform_effect(daemon, effect);
		else
			generation->effects[kept++] = *effect;
	}
	generation->effect_count = kept;
}

/* Each is taken out first: what it does may add to this generation. */
static void fail_waiters(struct daemon *daemon, struct generation *generation)
{
	CLEANUP_FREE struct turn_waiting *waiters = TAKE_PTR(generation->waiters);
	uint32_t count = generation->waiter_count;

	generation->waiter_count = generation->waiter_capacity = 0;
	for (uint32_t i = 0; i < count; i++)
		waiters[i].call(daemon, waiters[i].context, &daemon->full);
}

void full_relieve(struct daemon *daemon, struct generation *generation)
{
	perform_urgent(daemon, generation);
	while (generation->waiter_count > 0)
		fail_waiters(daemon, generation);
}
