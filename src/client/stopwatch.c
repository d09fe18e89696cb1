#include "client/stopwatch.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <sys/timerfd.h>

#include "base/fd.h"

enum { LIFE_S = 1000000000 }; /* 31 years: the timer never fires */

int stopwatch_start(struct stopwatch *watch)
{
	struct itimerspec life = { .it_value = { .tv_sec = LIFE_S } };
	CLEANUP_FD int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	*watch = STOPWATCH_INIT;
	if (fd < 0 || timerfd_settime(fd, 0, &life, NULL) < 0)
		return -errno;
	watch->timer_fd = TAKE_FD(fd);
	return 0;
}

uint64_t stopwatch_ns(const struct stopwatch *watch)
{
	struct itimerspec left;
	uint64_t left_ns;

	if (watch->timer_fd < 0 || timerfd_gettime(watch->timer_fd, &left) < 0)
		return 0;
	left_ns = (uint64_t)left.it_value.tv_sec * NS_PER_SEC + (uint64_t)left.it_value.tv_nsec;
	return LIFE_S * NS_PER_SEC - MIN(left_ns, LIFE_S * NS_PER_SEC);
}

void stopwatch_done(struct stopwatch *watch)
{
	fd_close(&watch->timer_fd);
}

void stopwatch_sleep_ms(int milliseconds)
{
	if (poll(NULL, 0, milliseconds) < 0 && errno != EINTR)
		NEVER("poll without descriptors fails only by a signal");
}
