#include "platform/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

/* With ASan the child's calls would poison the stack that we go on with; it gets a copy there, as on other machines. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#if defined(__has_feature)
#if !__has_feature(address_sanitizer)
#define SHARES_MEMORY 1
#endif
#else
#define SHARES_MEMORY 1
#endif
#endif

struct child {
	const struct spawn *spawn;
	volatile struct spawn_report *report;
	bool must_join_cgroup;
};

static NORETURN void fail(const struct child *child, enum spawn_stage stage, int error)
{
	child->report->error = error;
	child->report->stage = (int)stage;
	_exit(127);
}

/* The classic hazard is a source that lies among the targets: such ones are first moved above them. */
static int place_descriptors(const struct spawn *spawn)
{
	int count = (int)spawn->fd_count;
	int from[SPAWN_FDS_MAX];

	for (int i = 0; i < count; i++) {
		from[i] = spawn->fds[i];
		if (from[i] < count && from[i] != i)
			from[i] = fcntl(from[i], F_DUPFD, count);
		if (from[i] < 0)
			return -errno;
	}
	for (int i = 0; i < count; i++) {
		int r = from[i] != i ? dup2(from[i], i) : i > 2 ? fcntl(i, F_SETFD, 0) : 0;

		if (r < 0)
			return -errno;
	}
	/* Ours are close-on-exec; this is for what we were ourselves given unseen. Kernels before 5.9 do without. */
	syscall(SYS_close_range, (unsigned)count, UINT_MAX, 0);
	return 0;
}

/* A FIFO without a writer must not hold us up; it reads as empty, as does a terminal that went away. */
static int open_input(const char *path)
{
	int fd = open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK);
	int flags;

	if (fd < 0)
		return -errno;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
		return -errno;
	if (fd != STDIN_FILENO && dup2(fd, STDIN_FILENO) < 0)
		return -errno;
	if (fd != STDIN_FILENO)
		fd_close(&fd);
	return 0;
}

static int join_cgroup(int cgroup_fd)
{
	int fd = openat(cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, "0", 1);
	fd_close(&fd);
	return r;
}

static int set_limits(const struct spawn *spawn)
{
	struct rlimit limit;

	if (spawn->nice != 0) {
		int now;

		errno = 0;
		now = getpriority(PRIO_PROCESS, 0);
		if (errno != 0 || setpriority(PRIO_PROCESS, 0, now + spawn->nice) < 0)
			return -errno;
	}
	if (spawn->open_files_max == 0 || getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == spawn->open_files_max)
		return 0;
	limit.rlim_cur = MIN(spawn->open_files_max, limit.rlim_max);
	return setrlimit(RLIMIT_NOFILE, &limit) < 0 ? -errno : 0;
}

/* An executable regular file: then what is missing or forbidden is its interpreter. */
static bool is_program(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

/* A file that a shell may be given: no NUL in its beginning, as bash has it. A program for another machine has one. */
static bool is_text(const char *path)
{
	char head[80];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, head, sizeof(head));

	fd_close(&fd);
	return length >= 0 && !memchr(head, '\0', (size_t)length);
}

struct search {
	int error; /* of the last attempt that tells something */
	bool is_interpreter;
	bool is_over; /* this error ends the search */
};

/* As execvp(3) does it, with the shell for files that have no format. Comes back only on failure. */
static void try_program(const struct spawn *spawn, const char *path, struct search *search)
{
	int error;

	execve(path, spawn->argv, spawn->envp);
	error = errno;
	if (error == ENOEXEC && is_text(path)) {
		char **argv = spawn->argv - 1;
		char *name = spawn->argv[0];

		argv[0] = (char *)(uintptr_t)"/bin/sh";
		argv[1] = (char *)(uintptr_t)path;
		execve("/bin/sh", argv, spawn->envp);
		error = errno;
		argv[1] = name;
	}
	if ((error == ENOENT || error == EACCES) && is_program(path)) {
		*search = (struct search){ .error = error, .is_interpreter = true };
	} else if (error == EACCES) {
		*search = (struct search){ .error = EACCES };
	} else if (error == ENOENT || error == ENOTDIR || error == ESTALE || error == ENODEV || error == ETIMEDOUT) {
		if (search->error != EACCES)
			search->error = search->error == ENOENT ? ENOENT : error;
	} else {
		*search = (struct search){ .error = error, .is_over = true };
	}
}

static void search_program(const struct spawn *spawn, struct search *search)
{
	const char *name = spawn->argv[0];
	const char *at = spawn->search_path;
	size_t name_length = strlen(name);
	char path[PATH_MAX];

	if (name_length == 0) {
		search->error = ENOENT;
		return;
	}
	for (; !search->is_over; at++) {
		size_t length = strcspn(at, ":");

		if (length + name_length + 2 <= sizeof(path)) {
			size_t used = length;

			memcpy(path, at, length);
			if (used > 0) /* an empty entry is the working directory */
				path[used++] = '/';
			memcpy(path + used, name, name_length + 1);
			try_program(spawn, path, search);
		}
		at += length;
		if (*at == '\0')
			return;
	}
}

static NORETURN void run_child(const struct child *child)
{
	const struct spawn *spawn = child->spawn;
	struct search search = { 0 };
	sigset_t none;
	int r = child->must_join_cgroup ? join_cgroup(spawn->cgroup_fd) : 0;

	setsid();
	if (r == 0 && spawn->on_born)
		spawn->on_born(spawn->context);
	if (r == 0)
		r = place_descriptors(spawn);
	if (r < 0)
		fail(child, SPAWN_SETUP, -r);
	if (spawn->directory && chdir(spawn->directory) < 0)
		fail(child, SPAWN_DIRECTORY, errno);
	if (spawn->input) {
		r = open_input(spawn->input);
		if (r < 0)
			fail(child, SPAWN_INPUT, -r);
	}
	if (spawn->has_umask)
		umask(spawn->umask);
	r = set_limits(spawn);
	if (r < 0)
		fail(child, SPAWN_LIMITS, -r);
	if (!spawn->keeps_signals_blocked) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
	}
	child->report->stage = SPAWN_NONE;
	if (spawn->program)
		try_program(spawn, spawn->program, &search);
	else if (!spawn->search_path || strchr(spawn->argv[0], '/'))
		try_program(spawn, spawn->argv[0], &search);
	else
		search_program(spawn, &search);
	fail(child, search.is_interpreter ? SPAWN_INTERPRETER : SPAWN_EXEC, search.error);
}

#ifdef SHARES_MEMORY
/*
 * The call must not be a function's: the child would return from it on our stack, and we would return once more to wherever
 * it left that. So the instruction stands here, and the child goes down into run_child(), below what we still need.
 */
static __attribute__((noinline)) long clone_child(struct clone_args *args, const struct child *child)
{
	long result;

	args->flags |= CLONE_VM;
	__asm__ volatile("syscall"
	                 : "=a"(result)
	                 : "0"((long)SYS_clone3), "D"(args), "S"(sizeof(*args))
	                 : "rcx", "r11", "memory");
	if (result == 0)
		run_child(child);
	return result;
}
#else
static long clone_child(struct clone_args *args, const struct child *child)
{
	long result = syscall(SYS_clone3, args, sizeof(*args));

	if (result == 0)
		run_child(child);
	return result < 0 ? -errno : result;
}
#endif

/* For containers whose seccomp filter does not know clone3. The child has a copy of the memory. */
static long clone_child_old(const struct clone_args *args, const struct child *child)
{
	unsigned long flags = (unsigned long)(args->flags & (CLONE_VFORK | CLONE_PIDFD)) | SIGCHLD;
	long result = syscall(SYS_clone, flags, NULL, (int *)(uintptr_t)args->pidfd, NULL, 0);

	if (result == 0)
		run_child(child);
	return result < 0 ? -errno : result;
}

static long clone_any(struct spawner *spawner, struct clone_args *args, struct child *child)
{
	long result = -ENOSYS;

	if (!spawner->has_no_clone3)
		result = clone_child(args, child);
	if (result == -ENOSYS) {
		spawner->has_no_clone3 = true;
		child->must_join_cgroup = child->spawn->cgroup_fd >= 0;
		result = clone_child_old(args, child);
	}
	return result;
}

int spawn_init(struct spawner *spawner)
{
	void *memory = mmap(NULL, sizeof(struct spawn_report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return -errno;
	*spawner = (struct spawner){ .report = memory };
	return 0;
}

void spawn_reset_signals(void)
{
	/* As the kernel has it: rt_sigaction(2). All zero is SIG_DFL without flags or mask. */
	struct {
		unsigned long handler;
		unsigned long flags;
		unsigned long restorer;
		uint64_t mask;
	} plain = { 0 };
	sigset_t all;

	/* By the system call itself: libc does not let its own two be touched, which make, say, leaves ignored. */
	for (int number = 1; number < NSIG; number++)
		syscall(SYS_rt_sigaction, number, &plain, NULL, sizeof(plain.mask)); /* fails for SIGKILL and SIGSTOP */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
}

int spawn_process(struct spawner *spawner, const struct spawn *spawn, struct spawned *ret)
{
	struct child child = { .spawn = spawn, .report = spawner->report };
	int pidfd = -1;
	struct clone_args args = {
		.flags = CLONE_VFORK | (spawn->wants_pidfd ? CLONE_PIDFD : 0) |
		         (spawn->cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD,
		.cgroup = spawn->cgroup_fd >= 0 ? (uint64_t)spawn->cgroup_fd : 0,
	};
	long pid;

	ASSERT(spawn->fd_count <= SPAWN_FDS_MAX);
	ASSERT(spawner->report);
	spawner->report->stage = SPAWN_CLONE; /* stands until the child comes to its exec */
	spawner->report->error = ECANCELED;
	*ret = (struct spawned){ .pidfd = -1 };
	pid = clone_any(spawner, &args, &child);
	if (pid < 0) {
		ret->stage = SPAWN_CLONE;
		ret->error = (int)-pid;
		return (int)pid;
	}
	if (spawner->report->stage == SPAWN_NONE) {
		ret->pid = (pid_t)pid;
		ret->pidfd = pidfd;
		return 0;
	}
	ret->stage = (enum spawn_stage)spawner->report->stage;
	ret->error = spawner->report->error;
	fd_close(&pidfd);
	while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR)
		;
	return -ret->error;
}
