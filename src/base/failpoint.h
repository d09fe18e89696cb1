/*
 * failpoint.h - places at which a test ends the process, to prove that recovery finds everything (FAULTS §3).
 *
 * Compiled in where DROVER_FAILPOINTS is defined (debug and sanitized builds), nothing otherwise. DROVER_FAIL=NAME[:N] kills
 * the process by SIGKILL when the place NAME is reached for the N-th time (first without N). With DROVER_FAIL_ONCE=PATH it
 * happens only if that file could be made, so once over all restarts of a process with the same environment.
 */
#pragma once

#ifdef DROVER_FAILPOINTS
/* The place `name` is reached; does not return when the environment asks for its failure. */
void failpoint_reach(const char *name);
#define FAILPOINT(name) failpoint_reach(name)
#else
#define FAILPOINT(name) ((void)0)
#endif
