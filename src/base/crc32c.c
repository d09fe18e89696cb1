#include "base/crc32c.h"

#include <string.h>

/*
 * Nibble tables: 64 bytes instead of 1 KiB or of a run-time table, which a no-heap, no-globals shim would have to build.
 * One record of 256 bytes costs under a microsecond, far below the system call that follows.
 */
static const uint32_t nibbles[16] = {
	0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
	0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t crc32c(uint32_t crc, const void *bytes, size_t length)
{
	const unsigned char *at = bytes;

	crc = ~crc;
	for (size_t i = 0; i < length; i++) {
		crc = nibbles[(crc ^ at[i]) & 15] ^ (crc >> 4);
		crc = nibbles[(crc ^ (unsigned)(at[i] >> 4)) & 15] ^ (crc >> 4);
	}
	return ~crc;
}
