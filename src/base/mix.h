/*
 * mix.h - seeded pseudo-random numbers: a pure mixing function and a small generator on top of it.
 *
 * SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014). Not for secrets.
 */
#pragma once

#include "base/macros.h"

/* A well mixed function of x: equal inputs give equal outputs. */
static inline uint64_t mix64(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

struct random {
	uint64_t state;
};

/* The next 64 bits. */
static inline uint64_t random_next(struct random *random)
{
	return mix64(random->state++);
}

/* A number in [0, limit); limit > 0. The bias is below limit / 2^64. */
static inline uint64_t random_below(struct random *random, uint64_t limit)
{
	return (uint64_t)(((unsigned __int128)random_next(random) * limit) >> 64);
}

/* True with probability `per_mille` / 1000. */
static inline bool random_chance(struct random *random, unsigned per_mille)
{
	return random_below(random, 1000) < per_mille;
}
