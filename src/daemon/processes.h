/*
 * processes.h - what is left of an attempt, seen from outside its shim: its cgroup, or its leading process.
 */
#pragma once

#include "keeper/record.h"

struct daemon;

/* True when processes of the attempt in this record live: its cgroup is populated, or without one its leader lives. */
bool processes_are_left(struct daemon *daemon, uint32_t slot, const struct slot_record *record);

/* Kills everything in the cgroup of the attempt in this record. Harmless when there is nothing, or what was left on purpose.
 */
void processes_kill(struct daemon *daemon, uint32_t slot, const struct slot_record *record);

/* Marks a running task: its first shim is gone, so its exit status will not be known. */
void processes_mark_lost_shim(struct daemon *daemon, uint64_t task);
