#include "fuzz_folder.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

static char path[64];
static pid_t owner;

static int remove_entry(const char *name, const struct stat *status UNUSED, int type UNUSED, struct FTW *at UNUSED)
{
	return remove(name);
}

static void remove_all(void)
{
	if (getpid() == owner)
		nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

int fuzz_folder_fd(void)
{
	static int fd = -1;

	if (fd >= 0)
		return fd;
	snprintf(path, sizeof(path), "%s/drover-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	ASSERT(mkdtemp(path));
	owner = getpid();
	atexit(remove_all);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT(fd >= 0);
	return fd;
}

const char *fuzz_folder_path(void)
{
	fuzz_folder_fd();
	return path;
}

void fuzz_folder_write(const char *name, const void *bytes, size_t length)
{
	CLEANUP_FD int fd = openat(fuzz_folder_fd(), name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ASSERT(fd >= 0);
	ASSERT(fd_write_all(fd, bytes, length) == 0);
}
