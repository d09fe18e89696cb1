/*
 * machine.h - what the machine has.
 */
#pragma once

#include "base/macros.h"

/* Processors this process may run on, at least 1. */
unsigned machine_cores(void);

/* Bytes of physical memory, 0 when it cannot be learnt. */
uint64_t machine_memory_bytes(void);
