/*
 * stopwatch.h - how long something has taken, from a kernel timer: only platform/ reads a clock, and faces need no more.
 */
#pragma once

#include "base/units.h"

struct stopwatch {
	int timer_fd; /* −1 = not started */
};

#define STOPWATCH_INIT ((struct stopwatch){ .timer_fd = -1 })

/* Starts it. 0 or -errno. */
int stopwatch_start(struct stopwatch *watch);

/* Nanoseconds since the start (the machine's sleep not counted); 0 when it could not be started. */
uint64_t stopwatch_ns(const struct stopwatch *watch);

/* Frees it; fit for CLEANUP(). */
void stopwatch_done(struct stopwatch *watch);

/* Waits, for loops that try again; interrupted by signals. */
void stopwatch_sleep_ms(int milliseconds);
