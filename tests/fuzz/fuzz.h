/*
 * fuzz.h - what a fuzz target is: the entry point that libFuzzer calls, and replay_main.c too.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Runs the target on one input. Returns 0; finds end the process. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
