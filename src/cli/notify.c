#include "cli/notify.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/units.h"
#include "config/config.h"

enum { SETTINGS_MAX = 8, AUTO_MIN_MS = 100 }; /* the latter: not even notifyAfter is looked up for less */

struct notice {
	struct cli *cli;
	const struct tally *tally;
	uint64_t batch;
	uint64_t spent_ns;
	const char *text; /* the summary, one line */
};

/*
 * BEL is known to every terminal. OSC 9, or 777 for those that know that one, is passed over by others, but for the console
 * of the kernel and for multiplexers, which do not hand it on.
 */
static void ring(const struct notice *notice)
{
	const char *kind = getenv("TERM");
	bool is_shared = kind && (strncmp(kind, "screen", 6) == 0 || strncmp(kind, "tmux", 4) == 0 || getenv("TMUX"));
	bool is_simple = !kind || is_shared || strcmp(kind, "linux") == 0 || strcmp(kind, "dumb") == 0;
	bool knows_777 = kind && (strncmp(kind, "rxvt", 4) == 0 || getenv("VTE_VERSION"));
	CLEANUP_BUF struct buf text = BUF_INIT;

	if (!notice->cli->is_error_terminal)
		return;
	if (!is_simple && knows_777)
		buf_add_format(&text, "\033]777;notify;drover;%s\033\\", notice->text);
	else if (!is_simple)
		buf_add_format(&text, "\033]9;drover: %s\033\\", notice->text);
	buf_add_byte(&text, '\a');
	cli_flush(notice->cli);
	if (fd_write_all(STDERR_FILENO, text.bytes, text.length) < 0)
		notice->cli->has_write_failed = true;
}

/* What the command may want to know; the rest of the environment is ours. Ends with NULL. */
static size_t make_settings(const struct notice *notice, char *settings[SETTINGS_MAX])
{
	const struct tally *tally = notice->tally;
	uint64_t bad = tally_ended(tally) - tally->succeeded;
	size_t count = 0;

	settings[count++] = xasprintf("DROVER_NOTICE=%s", notice->text);
	settings[count++] = xasprintf("DROVER_RESULT=%s", bad == 0 ? "succeeded" : "failed");
	settings[count++] = xasprintf("DROVER_TASKS=%llu", (unsigned long long)tally->total);
	settings[count++] = xasprintf("DROVER_SUCCEEDED=%llu", (unsigned long long)tally->succeeded);
	settings[count++] = xasprintf("DROVER_NOT_SUCCEEDED=%llu", (unsigned long long)bad);
	settings[count++] = xasprintf("DROVER_DURATION_S=%.3f", (double)notice->spent_ns / (double)NS_PER_SEC);
	if (notice->batch > 0)
		settings[count++] = xasprintf("DROVER_BATCH=%llu", (unsigned long long)notice->batch);
	ASSERT(count <= SETTINGS_MAX);
	return count;
}

/* Our environment and the settings; to be freed, the texts are not its own. */
static char **make_environment(char *const *settings, size_t count)
{
	char **environment;
	size_t present = 0;

	while (environ[present])
		present++;
	environment = xcalloc(present + count + 1, sizeof(*environment));
	memcpy(environment, environ, present * sizeof(*environment));
	memcpy(environment + present, settings, count * sizeof(*environment));
	return environment;
}

/* 0 or a positive errno. The command is not waited for: this program ends, and it may take its time. */
static int spawn(char *const *words, char *const *environment)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	pid_t pid;
	int error;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
	error = posix_spawnp(&pid, words[0], &actions, &attributes, words, environment);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

static void run_command(const struct notice *notice, const json_t *command)
{
	CLEANUP_FREE char **words = xcalloc(json_array_size(command) + 1, sizeof(*words));
	CLEANUP_FREE char **environment = NULL;
	char *settings[SETTINGS_MAX];
	size_t count = make_settings(notice, settings);
	json_t *word;
	size_t i;
	int error;

	json_array_foreach (command, i, word)
		words[i] = (char *)(uintptr_t)json_string_value(word); /* exec changes nothing of them */
	environment = make_environment(settings, count);
	error = spawn(words, environment);
	if (error != 0)
		cli_tell(notice->cli, "'%s', the command for notices in config.yaml, could not be started: %s", words[0],
		         strerror(error));
	for (i = 0; i < count; i++)
		free(settings[i]);
}

void notify_end(struct cli *cli, const char *when, const struct tally *tally, uint64_t batch, uint64_t spent_ns)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct notice notice = { .cli = cli, .tally = tally, .batch = batch, .spent_ns = spent_ns };
	bool is_always = when && strcmp(when, "always") == 0;
	struct drover_config config;
	json_t *command = NULL;
	struct err err = ERR_INIT;

	if (when && strcmp(when, "never") == 0)
		return;
	if (!is_always && spent_ns < AUTO_MIN_MS * NS_PER_MS)
		return;
	if (config_load_notify(NULL, &config, &command, &err) < 0) {
		cli_tell(cli, "%s", err.text);
		return;
	}
	if (is_always || spent_ns >= config.notify_after_ns.value) {
		tally_format(tally, spent_ns, &text);
		notice.text = text.bytes;
		ring(&notice);
		if (json_array_size(command) > 0)
			run_command(&notice, command);
	}
	json_decref(command);
}
