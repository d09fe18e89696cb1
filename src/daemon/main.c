/*
 * main.c - drover-daemon: builds the context, recovers, turns until told to stop.
 *
 * Started by its keeper with the keeper's socket at a descriptor; without one it starts a keeper of its own. Its exit status
 * tells the keeper what to do (keeper/wire.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "config/config.h"
#include "daemon/daemon.h"
#include "daemon/methods.h"
#include "daemon/reader.h"
#include "daemon/recovery.h"
#include "daemon/rescue.h"
#include "platform/clock.h"
#include "platform/lock.h"
#include "platform/machine.h"
#include "platform/random.h"
#include "version.h"

enum {
	HOUSEKEEPING_MS = 5000,
	HOUSEKEEPING_BUSY_MS = 100,
	LAST_COMMIT_MS = 5000,
	SNAPSHOT_FIRST_MS = 600 * 1000, /* when there is none yet */
	UNUSED_MEMORY_MAX = 2 << 20,    /* bytes freed and kept for what comes next */
};

void daemon_take_time(struct daemon *daemon)
{
	daemon->now_ns = MAX(clock_monotonic_ns() + daemon->core_offset_ns, daemon->now_ns);
	daemon->now_ms = clock_wall_ms();
}

int64_t daemon_wall_ms(const struct daemon *daemon, uint64_t core_ns)
{
	int64_t away_ns = (int64_t)(core_ns - daemon->now_ns);

	return daemon->now_ms + away_ns / (int64_t)NS_PER_MS;
}

void daemon_stop(struct daemon *daemon, int exit_status)
{
	daemon->is_stopping = true;
	daemon->exit_status = exit_status;
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static void on_deadline(uv_timer_t *timer)
{
	struct daemon *daemon = timer->data;
	struct core_event tick = { .kind = CORE_TICK };

	turn_step(daemon, &tick);
}

static void set_deadline(struct daemon *daemon)
{
	uint64_t deadline = core_deadline(daemon->core);
	uint64_t delay_ns = deadline > daemon->now_ns ? deadline - daemon->now_ns : 0;

	if (deadline == NEVER_NS)
		uv_timer_stop(&daemon->timer);
	else
		uv_timer_start(&daemon->timer, on_deadline, delay_ns / NS_PER_MS + 1, 0);
}

static void on_commit(uv_poll_t *poll, int status UNUSED, int events UNUSED)
{
	struct daemon *daemon = poll->data;

	turn_on_commit(daemon);
	store_finish_reads(daemon->store);
}

static void drop_old_events(struct daemon *daemon)
{
	uint64_t keep = daemon->settings.keep_events;

	if (daemon->is_broken || daemon->last_seq < daemon->first_seq + keep + keep / 10)
		return; /* many at once, not each by itself */
	daemon->first_seq = daemon->last_seq - keep;
	store_txn_drop_events(turn_txn(daemon), daemon->first_seq);
}

static void on_snapshot(void *context, const struct err *failure, const char *text)
{
	struct daemon *daemon = context;

	if (failure)
		log_warning("no snapshot of the database was taken: %s", failure->text);
	else
		log_info("snapshot of the database: " PATHS_SNAPSHOTS "/%s", text);
	daemon->snapshot_ms = daemon->now_ms; /* after a failure too: once an hour is enough to tell */
	if (!failure)
		daemon->snapshot_seq = store_latest_snapshot(daemon->store, NULL);
	daemon->is_copying = false;
}

/* Now and then, when something has changed since the latest. */
static void take_snapshot(struct daemon *daemon)
{
	int64_t every_ms = daemon->settings.snapshot_every_ms;
	bool is_due = daemon->now_ms - daemon->snapshot_ms >= every_ms || daemon->now_ms < daemon->snapshot_ms;

	if (every_ms == 0 || daemon->is_broken || daemon->is_copying || !is_due || daemon->last_seq == daemon->snapshot_seq)
		return;
	daemon->is_copying = true;
	store_take_snapshot(daemon->store, on_snapshot, daemon);
}

/* What large batches and answers have left behind goes back to the machine, when nobody waits. */
static void give_memory_back(struct daemon *daemon)
{
	size_t unused = mallinfo2().fordblks;

	if (unused < UNUSED_MEMORY_MAX || unused == daemon->unused_memory || !turn_is_idle(daemon))
		return;
	malloc_trim(0);
	daemon->unused_memory = mallinfo2().fordblks;
}

/* Makes the socket again when it is gone. What is in the way is told once, not every few seconds. */
static void keep_socket(struct daemon *daemon)
{
	struct err err = ERR_INIT;
	bool is_bound = server_is_bound(daemon->server) || server_rebind(daemon->server, &err) == 0;

	if (!is_bound && !daemon->is_unbound)
		log_error("nobody can connect: %s", err.text);
	if (is_bound && daemon->is_unbound)
		log_info("the socket '%s' is there again", daemon->socket_path);
	daemon->is_unbound = !is_bound;
}

static void on_housekeeping(uv_timer_t *timer)
{
	struct daemon *daemon = timer->data;
	bool has_more;

	if (daemon->is_reader) {
		reader_look(daemon);
		uv_timer_start(timer, on_housekeeping, READER_LOOK_MS, 0);
		return;
	}
	keep_socket(daemon);
	if (daemon->keeper.socket >= 0)
		attempts_on_keeper_ready(daemon); /* shims that could not be had when they were asked for */
	has_more = attempts_look_again(daemon);
	attempts_tell_owed(daemon);
	has_more = retention_run(daemon) || has_more;
	drop_old_events(daemon);
	take_snapshot(daemon);
	give_memory_back(daemon);
	uv_timer_start(timer, on_housekeeping, has_more ? HOUSEKEEPING_BUSY_MS : HOUSEKEEPING_MS, 0);
}

static void on_signal(uv_signal_t *signal, int number)
{
	struct daemon *daemon = signal->data;

	log_info("signal %d: the daemon stops, tasks go on", number);
	daemon_stop(daemon, WIRE_EXIT_STOP);
}

/*
 * One turn: wait, take the time once, let the callbacks tell their facts to the core, hand over what changed. The wait is
 * ours and not uv_run()'s, so that the time is taken between waiting and looking.
 */
static void run(struct daemon *daemon)
{
	struct pollfd wait = { .fd = uv_backend_fd(daemon->loop), .events = POLLIN };

	while (!daemon->is_stopping) {
		poll(&wait, 1, uv_backend_timeout(daemon->loop));
		daemon_take_time(daemon);
		uv_run(daemon->loop, UV_RUN_NOWAIT);
		methods_on_drained(daemon);
		turn_end(daemon);
		set_deadline(daemon);
	}
}

/* ---- the start --------------------------------------------------------------------------------------------------- */

struct arguments {
	const char *state_dir;
	int keeper_socket;
	enum log_level log_level;
	const char *verb; /* what to do with the database instead of serving it; NULL = serve */
	const char *from;
	bool is_reader;
};

static int usage(const char *what)
{
	fprintf(stderr,
	        "drover-daemon: %s\nusage: drover-daemon --state DIR [--keeper-fd N] [--log-level LEVEL]\n"
	        "       drover-daemon --state DIR --db check|restore [--from FILE]\n"
	        "       drover-daemon --state DIR --reader\n",
	        what);
	return -EINVAL;
}

static int parse_arguments(int argc, char **argv, struct arguments *ret)
{
	static const struct option options[] = {
		{ "state", required_argument, NULL, 's' },     { "keeper-fd", required_argument, NULL, 'k' },
		{ "log-level", required_argument, NULL, 'l' }, { "db", required_argument, NULL, 'd' },
		{ "from", required_argument, NULL, 'f' },      { "reader", no_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .keeper_socket = -1, .log_level = LOG_INFO };
	uint64_t number;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 's') {
			arguments.state_dir = optarg;
		} else if (option == 'd') {
			arguments.verb = optarg;
		} else if (option == 'f') {
			arguments.from = optarg;
		} else if (option == 'r') {
			arguments.is_reader = true;
		} else if (option == 'k' && str_parse_u64(optarg, 1024, &number) == 0) {
			arguments.keeper_socket = (int)number;
		} else if (option == 'l' && log_parse_level(optarg) >= 0) {
			arguments.log_level = (enum log_level)log_parse_level(optarg);
		} else {
			return usage("an argument is wrong");
		}
	}
	if (arguments.state_dir && !str_is_utf8(arguments.state_dir, strlen(arguments.state_dir)))
		return usage("the path of the state directory is not UTF-8: choose another by DROVER_STATE_DIR");
	if (!arguments.state_dir || arguments.state_dir[0] != '/' || strlen(arguments.state_dir) >= PATHS_MAX)
		return usage("--state wants the absolute path of the state directory");
	*ret = arguments;
	return 0;
}

static int load_settings(struct daemon_settings *ret, struct err *err)
{
	struct drover_config config;
	uint64_t automatic = MIN(machine_cores(), machine_memory_bytes() / GIB);
	int r = config_load_user(NULL, &config, err);

	if (r < 0)
		return r;
	for (unsigned n = 0; n < CONFIG_PLANNED_MAX; n++)
		if (config.planned & 1u << n && config_planned_name(n))
			log_warning("config.yaml: this version does not heed '%s' yet", config_planned_name(n));
	*ret = (struct daemon_settings){
		.slots_hard_max =
			(uint32_t)(config.hard_max_concurrent.value ? config.hard_max_concurrent.value : LIMIT_SLOTS),
		.queued_max = (uint32_t)config.max_queued.value,
		.keep_tasks = (uint32_t)config.keep_tasks.value,
		.keep_events = config.keep_events.value,
		.keep_ns = config.keep_days.value * NS_PER_DAY,
		.snapshot_every_ms = (int64_t)MIN(config.snapshot_every_ns.value / NS_PER_MS, (uint64_t)INT32_MAX),
		.log_head_bytes = config.log_head_bytes.value,
		.log_tail_bytes = config.log_tail_bytes.value,
		.timeout_ns = config.default_timeout_ns.value,
		.keeps_worktrees = !config.cleanup_on_complete.value,
	};
	ret->slots = (uint32_t)(config.max_parallel.value ? config.max_parallel.value : MAX(automatic, (uint64_t)1));
	ret->slots = MIN(ret->slots, ret->slots_hard_max);
	return 0;
}

/* Makes the state directory if need be; one that others could write to is refused. */
static int open_state_dir(struct daemon *daemon, struct err *err)
{
	struct stat status;

	if (mkdir(daemon->state_dir, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "make the state directory %s", daemon->state_dir);
	daemon->state_fd = open(daemon->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (daemon->state_fd < 0 || fstat(daemon->state_fd, &status) < 0)
		return err_set(err, -errno, "open the state directory %s", daemon->state_dir);
	if (status.st_uid != geteuid())
		return err_say(err, -EPERM,
		               "the state directory %s belongs to uid %u, not to you: choose another by "
		               "DROVER_STATE_DIR",
		               daemon->state_dir, status.st_uid);
	if (status.st_mode & 022)
		return err_say(err, -EPERM, "the state directory %s can be written by others: chmod 700 it",
		               daemon->state_dir);
	return 0;
}

/* Fewer tasks at once than configured, where the descriptors do not suffice. */
static int divide_descriptors(struct daemon *daemon, struct err *err)
{
	struct daemon_settings *settings = &daemon->settings;
	int r = descriptors_divide(&daemon->descriptors, err);

	if (r < 0 || settings->slots_hard_max <= daemon->descriptors.slots_max)
		return r;
	daemon->has_few_descriptors = true;
	settings->slots_hard_max = daemon->descriptors.slots_max;
	settings->slots = MIN(settings->slots, settings->slots_hard_max);
	log_warning(DESCRIPTORS_FEW, (unsigned long long)daemon->descriptors.limit, settings->slots_hard_max);
	return 0;
}

static int open_files(struct daemon *daemon, struct store_options *ret, struct err *err)
{
	int r = open_state_dir(daemon, err);

	*ret = (struct store_options){ .state_fd = daemon->state_fd, .state_dir = daemon->state_dir };

	if (r == 0)
		r = lock_file_take(daemon->state_fd, PATHS_DAEMON_LOCK, &daemon->lock_fd, err);
	if (r == -EAGAIN)
		daemon->exit_status = WIRE_EXIT_LOCKED;
	if (r == 0)
		r = clock_boot_id(daemon->boot_id);
	if (r == 0)
		r = record_open(daemon->state_fd, PATHS_SLOTS, LIMIT_SLOTS, &daemon->slots_fd, err);
	if (r < 0)
		return r;
	r = record_read_committed(daemon->slots_fd, &ret->committed_seq);
	return r < 0 ? err_set(err, r, "read %s/" PATHS_SLOTS, daemon->state_dir) : 0;
}

static int make_core(struct daemon *daemon, struct err *err)
{
	struct core_limits limits = { .tasks_max = LIMIT_TASKS, .edges_max = LIMIT_EDGES, .slots_max = LIMIT_SLOTS };
	void *memory =
		mmap(NULL, core_size(&limits), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return err_set(err, -errno, "reserve address space for the queue");
	daemon->core_config = (struct core_config){
		.slots = daemon->settings.slots,
		.slots_hard_max = daemon->settings.slots_hard_max,
		.backoff_max_ns = 10 * NS_PER_MIN,
		.seed = random_u64(),
	};
	daemon->core = core_init(memory, &limits, &daemon->core_config);
	return roster_init(&daemon->roster, daemon->core, err);
}

/*
 * A slot file by which nothing was ever committed was made by this start, in place of one that is gone: it knows nothing of
 * what runs. (Tasks that the database calls running were told of by a slot file that had seen commits.)
 */
static int check_slots(struct daemon *daemon, uint64_t committed_seq, struct err *err)
{
	uint32_t running = 0;

	for (uint32_t index = daemon->roster.first; index != TASK_NONE; index = daemon->roster.tasks[index].next)
		running += core_task_at(daemon->core, index)->phase == PHASE_PROCESS;
	if (committed_seq > 0 || daemon->is_rebooted || running == 0)
		return 0;
	return err_say(err, -EILSEQ, RESCUE_SLOTS_LOST, daemon->state_dir, running);
}

static int open_store(struct daemon *daemon, const struct store_options *options, struct err *err)
{
	int r = store_open(options, &daemon->store, err);

	if (r == 0)
		r = recovery_load(daemon, err);
	if (r == 0)
		r = daemon->is_reader ? 0 : check_slots(daemon, options->committed_seq, err);
	if (r < 0) {
		pauses_done(daemon);
		roster_done(&daemon->roster);
		return r;
	}
	if (store_is_remote(daemon->state_fd, &daemon->remote_name))
		log_warning(REMOTE_WARNING, daemon->state_dir, daemon->remote_name);
	daemon->restore_notice = rescue_find_notice(daemon->state_fd, daemon->state_dir);
	if (daemon->restore_notice)
		log_warning("%s", daemon->restore_notice);
	daemon->snapshot_ms = daemon->now_ms - MAX(daemon->settings.snapshot_every_ms - SNAPSHOT_FIRST_MS, 0);
	daemon->snapshot_seq = store_latest_snapshot(daemon->store, &daemon->snapshot_ms);
	return 0;
}

static int open_server(struct daemon *daemon, struct err *err)
{
	struct server_options options = { .loop = daemon->loop,
		                          .socket_path = daemon->socket_path,
		                          .clients_max = daemon->descriptors.clients_max };
	CLEANUP_FREE char *lines = NULL;
	int r = 0;

	if (daemon->is_reader)
		reader_name_socket(daemon);
	else
		r = paths_socket(daemon->state_dir, daemon->socket_path, err);
	if (r < 0)
		return r;
	methods_fill(daemon, &options);
	r = server_open(&options, &daemon->server, err);
	if (r < 0 || daemon->is_reader)
		return r;
	FAILPOINT("socket_bound_not_told");
	lines = xasprintf("pid %d\nsocket %s\nversion %s\n", (int)getpid(), daemon->socket_path, DROVER_VERSION);
	r = lock_file_write(daemon->lock_fd, lines, strlen(lines));
	return r < 0 ? err_set(err, r, "write %s/" PATHS_DAEMON_LOCK, daemon->state_dir) : 0;
}

static void watch_signals(struct daemon *daemon, uv_signal_t signals[2])
{
	static const int numbers[2] = { SIGTERM, SIGINT };

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN); /* a closed terminal is none of its business */
	for (int i = 0; i < 2; i++) {
		uv_signal_init(daemon->loop, &signals[i]);
		signals[i].data = daemon;
		uv_signal_start(&signals[i], on_signal, numbers[i]);
	}
}

static void watch_store(struct daemon *daemon, uv_poll_t *poll)
{
	uv_poll_init(daemon->loop, poll, store_fd(daemon->store));
	poll->data = daemon;
	uv_poll_start(poll, UV_READABLE, on_commit);
	uv_timer_init(daemon->loop, &daemon->timer);
	daemon->timer.data = daemon;
	uv_timer_init(daemon->loop, &daemon->retry);
	daemon->retry.data = daemon;
	uv_timer_init(daemon->loop, &daemon->housekeeping);
	daemon->housekeeping.data = daemon;
	uv_timer_start(&daemon->housekeeping, on_housekeeping, daemon->is_reader ? READER_LOOK_MS : HOUSEKEEPING_MS, 0);
}

static void on_git_version(struct daemon *daemon, void *context UNUSED, json_t *result, const char *code UNUSED,
                           const struct err *err)
{
	if (err)
		log_warning("worktrees cannot be made: %s", err->text);
	else
		daemon->git_version = xstrdup(json_string_value(json_object_get(result, "version")));
}

/* What a reader does in place of recovering and cleaning up. */
static int start_reader(struct daemon *daemon, struct err *err)
{
	int r = open_server(daemon, err);

	if (r < 0)
		return r;
	reader_settle(daemon);
	reader_tell_socket(daemon);
	return 0;
}

static int start(struct daemon *daemon, int keeper_socket, struct err *err)
{
	struct store_options options;
	int r;

	umask(077);
	jobs_init(daemon);
	worktree_watch_init(daemon);
	r = load_settings(&daemon->settings, err);
	if (r == 0)
		r = divide_descriptors(daemon, err);
	if (r == 0)
		r = daemon->is_reader ? reader_open(daemon, &options, err) : open_files(daemon, &options, err);
	if (r == 0)
		r = make_core(daemon, err);
	if (r == 0)
		r = open_store(daemon, &options, err);
	if (r == 0 && daemon->is_reader)
		return start_reader(daemon, err);
	if (r == 0)
		r = keeper_link_open(daemon, keeper_socket, err);
	if (r == 0)
		r = open_server(daemon, err);
	if (r < 0)
		return r;
	daemon->started_ns = daemon->now_ns;
	recovery_run(daemon);
	worktree_watch_resume(daemon);
	retention_sweep_environments(daemon);
	jobs_run(daemon, "version", json_object(), on_git_version, NULL);
	return 0;
}

/*
 * What is being committed is answered still; what finds no room is given up, recovery finds it again. False when the disk
 * hangs for longer than is waited for.
 */
static bool finish_commit(struct daemon *daemon)
{
	uint64_t deadline_ns = clock_monotonic_ns() + LAST_COMMIT_MS * NS_PER_MS;
	struct pollfd wait = { .fd = store_fd(daemon->store), .events = POLLIN };

	while (store_is_busy(daemon->store) && !store_is_parked(daemon->store) && clock_monotonic_ns() < deadline_ns) {
		poll(&wait, 1, LAST_COMMIT_MS);
		turn_on_commit(daemon);
		store_finish_reads(daemon->store);
	}
	return !store_is_busy(daemon->store) || store_is_parked(daemon->store);
}

static void finish(struct daemon *daemon)
{
	FAILPOINT("stopping");
	if (!finish_commit(daemon)) {
		log_error("the disk does not answer: what was not acknowledged may be lost");
		keeper_link_close(daemon, daemon->exit_status);
		_exit(daemon->exit_status); /* closing the store would wait for the disk */
	}
	uv_timer_stop(&daemon->timer); /* the loop runs once more, when what these work on is gone */
	uv_timer_stop(&daemon->housekeeping);
	uv_timer_stop(&daemon->retry);
	store_close(daemon->store); /* before the server: reads that are given up answer their requests */
	server_close(daemon->server);
	drafts_done(daemon);
	methods_worktrees_done(daemon);
	json_decref(daemon->fresh_keys);
	free(daemon->git_version);
	free(daemon->restore_notice);
	jobs_done_all(daemon);
	worktree_watch_done(daemon);
	if (!daemon->is_reader)
		keeper_link_close(daemon, daemon->exit_status);
	turn_done(daemon);
	attempts_done(daemon);
	pauses_done(daemon);
	roster_done(&daemon->roster);
	uv_run(daemon->loop, UV_RUN_NOWAIT); /* closed handles are freed by the loop */
}

/* Errors that may be gone after a while: the keeper tries again. For any other the user has to do something. */
static bool is_passing(int error)
{
	static const int passing[] = { -EAGAIN, -ENOMEM, -EMFILE,    -ENFILE, -ENOSPC, -EDQUOT,
		                       -EIO,    -EBUSY,  -ETIMEDOUT, -EPIPE,  -EINTR,  -ECONNRESET };

	for (size_t i = 0; i < ARRAY_SIZE(passing); i++)
		if (error == passing[i])
			return true;
	return false;
}

/* Instead of serving: does what is asked with the database, for `drover db`. Returns the exit status. */
static int rescue(const struct arguments *arguments)
{
	struct rescue_options options = { .state_dir = arguments->state_dir,
		                          .verb = arguments->verb,
		                          .from = arguments->from };
	struct err err = ERR_INIT;

	umask(077);
	if (rescue_run(&options, &err) == 0)
		return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	fflush(stdout);
	fprintf(stderr, "drover: %s\n", err.text);
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	static struct daemon daemon; /* large, and every part of it lives as long as the process */
	struct arguments arguments;
	struct err err = ERR_INIT;
	uv_signal_t signals[2];
	uv_poll_t store_poll;
	int r;

	if (parse_arguments(argc, argv, &arguments) < 0)
		return WIRE_EXIT_USAGE;
	if (arguments.verb)
		return rescue(&arguments);
	log_init(arguments.log_level, true);
	json_set_alloc_funcs(xmalloc, free);
	if (uv_replace_allocator(xmalloc, xrealloc, xcalloc, free) < 0)
		NEVER("libuv takes an allocator before its first use");
	snprintf(daemon.state_dir, sizeof(daemon.state_dir), "%s", arguments.state_dir);
	daemon.is_reader = arguments.is_reader;
	daemon.state_fd = daemon.lock_fd = daemon.slots_fd = daemon.reader_fd = daemon.keeper.socket = -1;
	daemon.loop = uv_default_loop();
	if (!daemon.loop) {
		log_error("there are no descriptors for the event loop: raise 'ulimit -n'");
		return EXIT_FAILURE;
	}
	daemon.fresh_keys = json_object();
	watch_signals(&daemon, signals);
	r = start(&daemon, arguments.keeper_socket, &err);
	if (r < 0) {
		log_error("%s", err.text);
		reader_done(&daemon);
		return daemon.exit_status ? daemon.exit_status : is_passing(r) ? EXIT_FAILURE : WIRE_EXIT_USAGE;
	}
	watch_store(&daemon, &store_poll);
	log_info("drover %s serves %s", DROVER_VERSION, daemon.socket_path);
	turn_end(&daemon);
	run(&daemon);
	finish(&daemon);
	reader_done(&daemon);
	return daemon.exit_status;
}
