/*
 * random.h - numbers nobody can guess, from the kernel.
 */
#pragma once

#include "base/macros.h"

/* 64 random bits, never 0. */
uint64_t random_u64(void);
