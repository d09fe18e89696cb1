#include "daemon/start_message.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "daemon/present.h"

enum { TASK_NICE = 5 }; /* COMPAT D13: the desktop lives */

#define AFTER_DIRECTORY "after"

/* Adds a string and its NUL; latin1 text stands for bytes: U+0000 … U+00FF, one byte each. */
static void add_string(struct buf *payload, const char *text, bool is_latin1)
{
	for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
		if (is_latin1 && (*at & 0xe0) == 0xc0 && at[1]) {
			buf_add_byte(payload, (char)((*at & 0x03) << 6 | (at[1] & 0x3f)));
			at++;
		} else {
			buf_add_byte(payload, (char)*at);
		}
	}
	buf_add_byte(payload, '\0');
}

char *start_message_directory(const struct roster_task *texts, const json_t *spec)
{
	const char *cwd = json_string_value(json_object_get(spec, "cwd"));
	const char *worktree = json_string_value(json_object_get(texts->result, "path"));
	const struct roster_batch *batch = texts->batch;

	if (cwd && cwd[0] == '/')
		return xstrdup(cwd);
	if (!worktree)
		return cwd ? xasprintf("%s/%s", batch->cwd, cwd) : xstrdup(batch->cwd);
	return xasprintf("%s%s%s%s%s", worktree, batch->prefix && *batch->prefix ? "/" : "",
	                 batch->prefix ? batch->prefix : "", cwd ? "/" : "", cwd ? cwd : "");
}

/* A word of the command, the number of the task's slot in its place. */
static void add_word(struct buf *payload, const json_t *word, const struct task *task, const json_t *spec)
{
	const char *text = json_string_value(word);
	const char *slot = json_string_value(json_object_get(spec, "slot_text"));
	bool is_latin1 = json_is_true(json_object_get(spec, "is_latin1"));
	CLEANUP_BUF struct buf filled = BUF_INIT;

	if (!slot || !*slot || !strstr(text, slot)) {
		add_string(payload, text, is_latin1);
		return;
	}
	for (const char *at; (at = strstr(text, slot)) != NULL; text = at + strlen(slot)) {
		buf_add(&filled, text, (size_t)(at - text));
		buf_add_format(&filled, "%u", task->slot + 1);
	}
	buf_add_text(&filled, text);
	add_string(payload, filled.bytes, is_latin1);
}

static uint32_t add_arguments(struct buf *payload, const struct task *task, const json_t *spec)
{
	const json_t *command = json_object_get(spec, "command");
	size_t index;
	json_t *word;

	if (!json_is_array(command)) {
		add_string(payload, "/bin/sh", false);
		add_string(payload, "-c", false);
		add_word(payload, json_object_get(spec, "shell"), task, spec);
		return 3;
	}
	json_array_foreach (command, index, word)
		add_word(payload, word, task, spec);
	return (uint32_t)json_array_size(command);
}

static PRINTF_LIKE(3, 4) void add_setting(struct buf *payload, uint32_t *count, const char *format, ...)
{
	CLEANUP_FREE char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		abort();
	va_end(args);
	add_string(payload, text, false);
	++*count;
}

static uint32_t add_environment(struct daemon *daemon, struct buf *payload, const struct task *task,
                                const struct roster_task *texts, const json_t *spec)
{
	const char *worktree = json_string_value(json_object_get(texts->result, "path"));
	uint32_t count = 0;
	size_t index;
	json_t *setting;

	json_array_foreach (json_object_get(spec, "environment"), index, setting) {
		add_string(payload, json_string_value(setting), json_is_true(json_object_get(spec, "is_latin1")));
		count++;
	}
	add_setting(payload, &count, "PARALLEL_TASK_ID=%llu", (unsigned long long)task->id);
	add_setting(payload, &count, "PARALLEL_JOBSLOT=%u", task->slot + 1);
	add_setting(payload, &count, "DROVER_TASK=%s", texts->name ? texts->name : "");
	add_setting(payload, &count, "DROVER_ATTEMPT=%u", task->attempt);
	add_setting(payload, &count, "DROVER_BATCH=%llu", (unsigned long long)task->batch);
	add_setting(payload, &count, "DROVER_STATE_DIR=%s", daemon->state_dir);
	if (worktree)
		add_setting(payload, &count, "PARALLEL_WORKTREE=%s", worktree);
	if (core_dependencies(daemon->core, task->id, NULL, 0) > 0)
		add_setting(payload, &count, "DROVER_AFTER=%s/" AFTER_DIRECTORY "/%llu.json", daemon->state_dir,
		            (unsigned long long)task->id);
	return count;
}

/* The file that DROVER_AFTER names: what the predecessors were and left. */
static int write_after_file(struct daemon *daemon, const struct task *task, struct err *err)
{
	CLEANUP_FREE char *name = xasprintf(AFTER_DIRECTORY "/%llu.json", (unsigned long long)task->id);
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FD int fd = -1;
	json_t *list;
	int r;

	if (core_dependencies(daemon->core, task->id, NULL, 0) == 0)
		return 0;
	list = present_predecessors(daemon, task->id);
	text = json_dumps(list, JSON_INDENT(1));
	json_decref(list);
	if (mkdirat(daemon->state_fd, AFTER_DIRECTORY, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "make %s/" AFTER_DIRECTORY, daemon->state_dir);
	fd = openat(daemon->state_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(err, -errno, "write %s/%s", daemon->state_dir, name);
	r = fd_write_all(fd, text, strlen(text));
	return r < 0 ? err_set(err, r, "write %s/%s", daemon->state_dir, name) : 0;
}

/* Whatever went wrong before: what was to work in a worktree never runs in the user's own directory instead. */
static int check_worktree(const struct task *task, const struct roster_task *texts, struct err *err)
{
	if (!(task->flags & TASK_WORKTREE) || json_is_string(json_object_get(texts->result, "path")))
		return 0;
	return err_say(err, -ENOENT,
	               "attempt %u has no worktree, and does not run in '%s' instead; 'drover retry' makes one",
	               task->attempt, texts->batch->cwd);
}

static uint32_t start_flags(const struct task *task, const json_t *spec)
{
	uint32_t flags = 0;

	if (task->flags & TASK_LEAVE_RUNNING)
		flags |= WIRE_LEAVE_RUNNING;
	if (json_is_true(json_object_get(spec, "split_output")))
		flags |= WIRE_SPLIT_OUTPUT;
	return flags;
}

int start_message_build(struct daemon *daemon, const struct task *task, const struct roster_task *texts, struct buf *ret,
                        struct err *err)
{
	struct wire_start start = {
		.kind = WIRE_START,
		.slot = task->slot,
		.task = task->id,
		.nonce = texts->nonce,
		.attempt = task->attempt,
		.stray_grace_ns = 5 * NS_PER_SEC,
		.log_head_bytes = daemon->settings.log_head_bytes,
		.log_tail_bytes = daemon->settings.log_tail_bytes,
		.umask = texts->batch->umask,
		.nice = TASK_NICE,
	};
	json_t *spec = json_loads(texts->spec, 0, NULL);
	const char *input = json_string_value(json_object_get(spec, "stdin"));
	CLEANUP_FREE char *directory = NULL;
	char log_name[64];
	int r;

	ASSERT(spec); /* it was made by us and its row's checksum held */
	r = check_worktree(task, texts, err);
	if (r == 0)
		r = write_after_file(daemon, task, err);
	if (r < 0) {
		json_decref(spec);
		return r;
	}
	directory = start_message_directory(texts, spec);
	attempts_log_name(task->id, task->attempt, log_name);
	buf_add(ret, &start, sizeof(start));
	add_string(ret, directory, false);
	add_string(ret, log_name, false);
	add_string(ret, texts->batch->environment ? texts->batch->environment->name : "", false);
	add_string(ret, input ? input : "", false);
	start.argc = add_arguments(ret, task, spec);
	start.environment_count = add_environment(daemon, ret, task, texts, spec);
	start.flags = start_flags(task, spec);
	start.payload_length = ret->length - sizeof(start);
	memcpy(ret->bytes, &start, sizeof(start));
	json_decref(spec);
	return 0;
}

char *start_message_object(const struct roster_task *texts, enum start_stage stage)
{
	json_t *spec = json_loads(texts->spec, 0, NULL);
	const char *program = json_string_value(json_array_get(json_object_get(spec, "command"), 0));
	CLEANUP_FREE char *directory = start_message_directory(texts, spec);
	char *object = NULL;

	if (stage == STAGE_EXEC)
		object = xasprintf("program '%s'", program ? program : "/bin/sh");
	else if (stage == STAGE_INTERPRETER)
		object = xasprintf("interpreter named in the first line of '%s'", program ? program : "/bin/sh");
	else if (stage == STAGE_DIRECTORY)
		object = xasprintf("working directory '%s'", directory);
	else if (stage == STAGE_INPUT)
		object = xasprintf("standard input from '%s'", json_string_value(json_object_get(spec, "stdin")));
	json_decref(spec);
	return object;
}
