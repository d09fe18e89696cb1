/*
 * crc32c.h - the Castagnoli checksum (RFC 3720 appendix B.4: polynomial 0x1EDC6F41, reflected).
 */
#pragma once

#include "base/macros.h"

/* Checksum of `length` bytes going on from `crc`; start with 0. crc32c(0, "123456789", 9) is 0xE3069283. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t length);

/* The same without the processor's instruction for it: what crc32c() does on a machine that has none. */
uint32_t crc32c_by_table(uint32_t crc, const void *bytes, size_t length);
