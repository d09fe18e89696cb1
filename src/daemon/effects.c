/*
 * effects.c - performs what the core decided, after it is durable: the table from effect to deed.
 */
#include <errno.h>
#include <signal.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/worktrees.h"

static void do_start(struct daemon *daemon, const struct effect *effect)
{
	attempts_start(daemon, effect);
}

static void do_terminate(struct daemon *daemon, const struct effect *effect)
{
	attempts_signal(daemon, effect, SIGTERM);
	FAILPOINT("term_sent");
}

static void do_kill(struct daemon *daemon, const struct effect *effect)
{
	attempts_signal(daemon, effect, SIGUSR1);
	FAILPOINT("kill_sent");
}

static void do_freeze(struct daemon *daemon, const struct effect *effect)
{
	FAILPOINT("suspend_intent");
	attempts_freeze(daemon, effect, true);
	FAILPOINT("frozen_not_recorded");
}

static void do_thaw(struct daemon *daemon, const struct effect *effect)
{
	attempts_freeze(daemon, effect, false);
	FAILPOINT("thawed_not_recorded");
}

static void do_nothing(struct daemon *daemon UNUSED, const struct effect *effect UNUSED)
{
}

static void (*const deeds[EFFECT_MAX])(struct daemon *, const struct effect *) = {
	[EFFECT_PREPARE] = worktrees_prepare, [EFFECT_START] = do_start,
	[EFFECT_TERMINATE] = do_terminate,    [EFFECT_KILL] = do_kill,
	[EFFECT_FREEZE] = do_freeze,          [EFFECT_THAW] = do_thaw,
	[EFFECT_COLLECT] = worktrees_collect, [EFFECT_CHANGED] = do_nothing,
};

void perform_effect(struct daemon *daemon, const struct effect *effect)
{
	ASSERT(effect->kind < EFFECT_MAX);
	deeds[effect->kind](daemon, effect);
}

void daemon_feed(struct daemon *daemon, const struct core_event *event)
{
	int r = turn_step(daemon, event);

	if (r < 0)
		log_debug("task %llu attempt %u: %s came too late (%d)", (unsigned long long)event->task, event->attempt,
		          task_input_name(event->input), r);
}
