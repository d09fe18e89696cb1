#include "platform/random.h"

#include <sys/random.h>

uint64_t random_u64(void)
{
	uint64_t value = 0;

	/* Up to 256 bytes are never short nor interrupted once the pool is ready: getrandom(2). */
	while (value == 0)
		if (getrandom(&value, sizeof(value), 0) != sizeof(value))
			value = 0;
	return value;
}
