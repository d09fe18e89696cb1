/*
 * clock.h - the one place that reads a clock. The daemon reads it once a turn; everything else gets the time as an argument.
 */
#pragma once

#include "base/units.h"

/* CLOCK_MONOTONIC in nanoseconds: does not count the machine's sleep, never goes back, starts anew with each boot. */
uint64_t clock_monotonic_ns(void);

/* Unix time in milliseconds: for display only. */
int64_t clock_wall_ms(void);

/* The kernel's id of this boot, from /proc/sys/kernel/random/boot_id. 0 or -errno. */
int clock_boot_id(uint8_t ret_id[16]);

/* CLOCK_BOOTTIME in nanoseconds: the clock of the start times in /proc; counts the machine's sleep. */
uint64_t clock_boottime_ns(void);
