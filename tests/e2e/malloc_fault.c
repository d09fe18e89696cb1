/*
 * malloc_fault.c - preloaded into one program: lets its N-th allocation fail, once or from then on.
 *
 * MALLOC_FAULT names a file of one struct control, which the test maps too and so arms, counts and disarms at any time;
 * MALLOC_FAULT_PROGRAM the program that is meant, for the environment is inherited. Built for programs without sanitizers,
 * which bring an allocator of their own.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct control {
	_Atomic uint64_t calls;   /* since it was armed */
	_Atomic uint64_t at;      /* which fails; 0 = none */
	_Atomic uint64_t is_ever; /* and all after it */
	_Atomic uint64_t failed;
};

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *pointer, size_t size);

static struct control *control;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("MALLOC_FAULT");
	const char *program = getenv("MALLOC_FAULT_PROGRAM");
	void *memory;
	int fd;

	if (!path || !program || strcmp(program, program_invocation_short_name) != 0)
		return;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	memory = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (memory != MAP_FAILED)
		control = memory;
}

static int must_fail(void)
{
	uint64_t call, at;

	if (!control)
		return 0;
	call = atomic_fetch_add(&control->calls, 1) + 1;
	at = atomic_load(&control->at);
	if (at == 0 || call < at || (call > at && !atomic_load(&control->is_ever)))
		return 0;
	atomic_fetch_add(&control->failed, 1);
	errno = ENOMEM;
	return 1;
}

void *malloc(size_t size)
{
	return must_fail() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return must_fail() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *pointer, size_t size)
{
	return must_fail() ? NULL : __libc_realloc(pointer, size);
}
