#include "base/failpoint.h"

#ifdef DROVER_FAILPOINTS

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

/* How often the one place that the environment names was reached. */
static unsigned long reached;

static int may_fail(void)
{
	const char *once = getenv("DROVER_FAIL_ONCE");
	int fd;

	if (!once)
		return 1;
	fd = open(once, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return 0;
	fd_close(&fd);
	return 1;
}

void failpoint_reach(const char *name)
{
	const char *wanted = getenv("DROVER_FAIL");
	size_t length = strlen(name);
	unsigned long at = 1;

	if (!wanted || strncmp(wanted, name, length) != 0 || (wanted[length] != '\0' && wanted[length] != ':'))
		return;
	if (wanted[length] == ':')
		at = strtoul(wanted + length + 1, NULL, 10);
	if (++reached == at && may_fail())
		kill(getpid(), SIGKILL);
}

#endif
