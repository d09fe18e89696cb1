/*
 * writer.c - a task whose output is known.
 *
 * usage: writer lines NUMBER GATE    writes a numbered line every so often until the file GATE exists, then a last one that
 * says how many there were; its exit status is NUMBER modulo 200 writer flood BYTES          writes so many bytes as fast as
 * it can
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"

enum { EVERY_MS = 250, STATUSES = 200, BLOCK = 128 << 10 };

static int say(const char *what, uint64_t number, uint64_t count)
{
	char line[96];
	int length = snprintf(line, sizeof(line), "%s %llu of task %llu\n", what, (unsigned long long)count,
	                      (unsigned long long)number);

	return fd_write_all(STDOUT_FILENO, line, (size_t)length);
}

static int write_lines(uint64_t number, const char *gate)
{
	uint64_t count = 0;

	poll(NULL, 0, (int)(number % EVERY_MS)); /* not all at once */
	while (access(gate, F_OK) < 0) {
		if (say("line", number, count++) < 0)
			return 255;
		poll(NULL, 0, EVERY_MS);
	}
	return say("end after", number, count) < 0 ? 255 : (int)(number % STATUSES);
}

static int flood(uint64_t bytes)
{
	static char block[BLOCK];

	memset(block, 'x', sizeof(block));
	for (uint64_t left = bytes; left > 0;) {
		size_t size = left < sizeof(block) ? (size_t)left : sizeof(block);

		if (fd_write_all(STDOUT_FILENO, block, size) < 0)
			return 1;
		left -= size;
	}
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t number;

	if (argc == 4 && strcmp(argv[1], "lines") == 0 && str_parse_u64(argv[2], UINT32_MAX, &number) == 0)
		return write_lines(number, argv[3]);
	if (argc == 3 && strcmp(argv[1], "flood") == 0 && str_parse_u64(argv[2], UINT64_MAX, &number) == 0)
		return flood(number);
	fprintf(stderr, "usage: writer lines NUMBER GATE | writer flood BYTES\n");
	return 2;
}
