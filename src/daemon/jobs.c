#include "daemon/jobs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "daemon/daemon.h"

enum { ANSWER_MAX = 1 << 20, READ_STEP = 16384, RETRY_MS = 250, RETRY_MAX_MS = 30000, DEATHS_MAX = 5 };

static void on_retry(uv_timer_t *timer);

struct job {
	struct daemon *daemon;
	struct job *next;
	uint64_t token;
	const char *verb;
	json_t *request;
	job_done done;
	void *context;
	uv_poll_t *poll; /* NULL while it has not been started */
	int answer;      /* read end of the helper's output; −1 while it has not been started */
	struct buf text;
	unsigned tries;  /* that the machine did not bear */
	unsigned deaths; /* of helpers without an answer */
};

static void on_poll_closed(uv_handle_t *handle)
{
	free(handle);
}

static void close_answer(struct job *job)
{
	if (job->poll) {
		uv_poll_stop(job->poll);
		uv_close((uv_handle_t *)TAKE_PTR(job->poll), on_poll_closed);
	}
	fd_close(&job->answer);
	buf_clear(&job->text);
}

static void unlink_job(struct job *job)
{
	struct job **at = &job->daemon->jobs.first;

	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
}

static void release(struct job *job)
{
	close_answer(job);
	json_decref(job->request);
	buf_done(&job->text);
	free(job);
}

static void finish(struct job *job, json_t *result, const char *code, const struct err *err)
{
	unlink_job(job);
	job->done(job->daemon, job->context, result, code, err);
	release(job);
}

static void fail(struct job *job, int code, const char *why)
{
	struct err err = ERR_INIT;

	err_say(&err, code, "drover-worktree %s: %s", job->verb, why);
	finish(job, NULL, "", &err);
}

/* What the machine does not bear now it may bear later; every verb is idempotent, so the job is simply run again. */
static void try_later(struct job *job)
{
	struct jobs *jobs = &job->daemon->jobs;
	unsigned delay_ms = MIN((unsigned)RETRY_MS << MIN(job->tries, 8u), (unsigned)RETRY_MAX_MS);

	close_answer(job);
	job->tries++;
	if (!uv_is_active((uv_handle_t *)&jobs->retry) || uv_timer_get_due_in(&jobs->retry) > delay_ms)
		uv_timer_start(&jobs->retry, on_retry, delay_ms, 0);
}

static bool is_machines_fault(int error)
{
	return error == -EAGAIN || error == -ENOMEM || error == -EMFILE || error == -ENFILE || error == -ENOBUFS;
}

/* The helper has answered, or died: its output is at its end. */
static void read_answer(struct job *job)
{
	json_t *answer = json_loadb(job->text.bytes ? job->text.bytes : "", job->text.length, 0, NULL);
	json_t *error = json_object_get(answer, "error");
	struct err err = ERR_INIT;

	if (!json_is_object(answer)) {
		json_decref(answer);
		if (++job->deaths < DEATHS_MAX)
			try_later(job);
		else
			fail(job, -ECANCELED, "it ended without an answer; see daemon.log");
		return;
	}
	if (error) {
		json_int_t number = json_integer_value(json_object_get(error, "errno"));
		const char *code = json_string_value(json_object_get(error, "code"));
		const char *message = json_string_value(json_object_get(error, "message"));

		err_say(&err, number > 0 ? (int)-number : -EIO, "%s", message ? message : "it failed without a reason");
		finish(job, answer, code ? code : "", &err);
	} else {
		finish(job, answer, "", NULL);
	}
	json_decref(answer);
}

static void on_readable(uv_poll_t *poll, int status UNUSED, int events UNUSED)
{
	struct job *job = poll->data;
	ssize_t got = read(job->answer, buf_reserve(&job->text, READ_STEP), READ_STEP);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got > 0 && job->text.length + (size_t)got <= ANSWER_MAX) {
		job->text.length += (size_t)got;
		job->text.bytes[job->text.length] = '\0';
		return;
	}
	if (got > 0)
		fail(job, -EFBIG, "its answer is too large");
	else
		read_answer(job);
}

static int make_input(json_t *request)
{
	CLEANUP_FREE char *text = json_dumps(request, JSON_COMPACT);
	CLEANUP_FD int fd = memfd_create("drover-request", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (fd_write_all(fd, text, strlen(text)) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return -EIO;
	return TAKE_FD(fd);
}

static int launch(struct job *job)
{
	char program[PATHS_MAX];
	const char *argv[] = { program, job->verb, NULL };
	CLEANUP_FD int input = make_input(job->request);
	CLEANUP_FD int output = -1;
	int pair[2];
	int r = paths_program("drover-worktree", program, NULL);

	if (r < 0)
		return r;
	if (input < 0)
		return input;
	if (pipe2(pair, O_CLOEXEC) < 0)
		return -errno;
	job->answer = pair[0];
	output = pair[1];
	fd_set_nonblocking(job->answer, true);
	r = keeper_run_helper(job->daemon, job->token, argv, (int[]){ input, output, STDERR_FILENO });
	if (r < 0) {
		fd_close(&job->answer);
		return r;
	}
	job->poll = xcalloc(1, sizeof(*job->poll));
	job->poll->data = job;
	if (uv_poll_init(job->daemon->loop, job->poll, job->answer) < 0 ||
	    uv_poll_start(job->poll, UV_READABLE, on_readable) < 0)
		NEVER("a pipe of ours can be polled");
	return 0;
}

/* Starts it, or sees to it that it is started later: without a keeper by the next one. */
static void launch_or_wait(struct job *job)
{
	int r = launch(job);

	if (is_machines_fault(r))
		try_later(job);
	else if (r < 0 && r != -ENOTCONN)
		fail(job, r, strerror(-r));
}

static void launch_waiting(struct daemon *daemon)
{
	struct job *next;

	for (struct job *job = daemon->jobs.first; job; job = next) {
		next = job->next;
		if (job->answer < 0)
			launch_or_wait(job);
	}
}

static void on_retry(uv_timer_t *timer)
{
	launch_waiting(timer->data);
}

void jobs_init(struct daemon *daemon)
{
	uv_timer_init(daemon->loop, &daemon->jobs.retry);
	daemon->jobs.retry.data = daemon;
}

void jobs_run(struct daemon *daemon, const char *verb, json_t *request, job_done done, void *context)
{
	struct job *job = xcalloc(1, sizeof(*job));

	*job = (struct job){ .daemon = daemon,
		             .token = ++daemon->jobs.last_token,
		             .verb = verb,
		             .request = request,
		             .done = done,
		             .context = context,
		             .answer = -1,
		             .next = daemon->jobs.first };
	daemon->jobs.first = job;
	launch_or_wait(job);
}

void jobs_on_helper_failed(struct daemon *daemon, uint64_t token, int error)
{
	for (struct job *job = daemon->jobs.first; job; job = job->next) {
		if (job->token != token)
			continue;
		if (is_machines_fault(error))
			try_later(job);
		else
			fail(job, error, strerror(-error));
		return;
	}
}

void jobs_on_keeper_ready(struct daemon *daemon)
{
	launch_waiting(daemon);
}

void jobs_done_all(struct daemon *daemon)
{
	uv_close((uv_handle_t *)&daemon->jobs.retry, NULL);
	while (daemon->jobs.first) {
		struct job *job = daemon->jobs.first;

		daemon->jobs.first = job->next;
		release(job);
	}
}
