/*
 * replay_main.c - runs a fuzz target without a fuzzer: over each file of its corpus, and over seeded mutations of each.
 *
 *     fuzz_NAME DIRECTORY [MUTATIONS]
 *
 * The seed is fixed, so a find comes again. It finds less than libFuzzer does, but it runs in every check.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"
#include "fuzz.h"

enum { FILE_MAX = 1 << 20, EDITS_MAX = 8 };

static uint64_t next_random(uint64_t *state)
{
	/* splitmix64 */
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* One change: a byte, a piece taken out, a piece doubled, or a byte that parsers care about put in. */
static void edit(struct buf *input, uint64_t *state)
{
	static const char telling[] = "{}[]\",:\\\n\0u0dE-.\xff\xc0";
	size_t at = input->length ? next_random(state) % input->length : 0;
	size_t wanted = next_random(state) % 16 + 1;
	size_t length = MIN(wanted, input->length - at);
	char *piece CLEANUP_FREE = xmemdup0(input->bytes ? input->bytes + at : "", length);
	char *tail CLEANUP_FREE = xmemdup0(input->bytes ? input->bytes + at : "", input->length - at);
	size_t tail_length = input->length - at;

	input->length = at;
	switch (next_random(state) % 4) {
	case 0:
		buf_add_byte(input, (char)next_random(state));
		buf_add(input, tail + (tail_length > 0), tail_length - (tail_length > 0));
		break;
	case 1:
		buf_add(input, tail + length, tail_length - length);
		break;
	case 2:
		buf_add(input, piece, length);
		buf_add(input, tail, tail_length);
		break;
	default:
		buf_add_byte(input, telling[next_random(state) % (sizeof(telling) - 1)]);
		buf_add(input, tail, tail_length);
		break;
	}
}

static void run_mutations(const struct buf *original, unsigned count)
{
	uint64_t state = original->length;

	for (unsigned i = 0; i < count; i++) {
		struct buf input CLEANUP_BUF = BUF_INIT;
		unsigned edits = (unsigned)(next_random(&state) % EDITS_MAX) + 1;

		buf_add(&input, original->bytes, original->length);
		while (edits-- > 0)
			edit(&input, &state);
		LLVMFuzzerTestOneInput((const uint8_t *)input.bytes, input.length);
	}
}

static int run_file(int directory_fd, const char *name, unsigned mutations)
{
	struct buf input CLEANUP_BUF = BUF_INIT;
	int fd CLEANUP_FD = openat(directory_fd, name, O_RDONLY | O_CLOEXEC);
	int error = fd < 0 ? -errno : fd_read_all(fd, &input, FILE_MAX);

	if (error) {
		fprintf(stderr, "cannot read '%s': %s\n", name, strerror(-error));
		return 1;
	}
	LLVMFuzzerTestOneInput((const uint8_t *)input.bytes, input.length);
	run_mutations(&input, mutations);
	return 0;
}

int main(int argc, char **argv)
{
	DIR *directory = argc >= 2 ? opendir(argv[1]) : NULL;
	uint64_t mutations = 1000;
	struct dirent *entry;
	unsigned count = 0;
	int failed = 0;

	if (!directory || argc > 3 || (argc == 3 && str_parse_u64(argv[2], UINT32_MAX, &mutations))) {
		fprintf(stderr, "usage: %s DIRECTORY [MUTATIONS]\n", argv[0]);
		return 2;
	}
	while ((entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		failed |= run_file(dirfd(directory), entry->d_name, (unsigned)mutations);
		count++;
	}
	closedir(directory);
	printf("%u files, %llu mutations of each\n", count, (unsigned long long)mutations);
	return failed || count == 0;
}
