/*
 * run.c - see run.h.
 */
#include "git/run.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/str.h"
#include "base/units.h"
#include "git/lock_file.h"
#include "platform/random.h"

enum {
	FILTERS_MAX = 1000,
	SETTINGS_PER_FILTER = 4,
	ENVIRONMENT_MAX = 64 + 2 * SETTINGS_PER_FILTER * FILTERS_MAX,
	ARGUMENTS_MAX = 40,
	WORDS_MAX = 400, /* of git's complaint in our sentence */
	TRIES_MAX = 10,
	TRY_AGAIN_MS = 50,
};

#define GIT_TIMEOUT_NS (30 * NS_PER_MIN)
#define GIT_OUTPUT_MAX (512 * MIB)

struct setting {
	const char *key;
	const char *value;
};

static const struct setting settings[] = {
	{ "core.hooksPath", "/dev/null" },
	{ "core.fsmonitor", "false" },
	{ "core.untrackedCache", "false" },
	{ "core.packedRefsTimeout", "30000" },
	{ "core.filesRefLockTimeout", "5000" },
	{ "core.safecrlf", "false" }, /* "warn" and "true" would make a commit of what is there fail */
	{ "core.sshCommand", "false" },
	{ "core.askPass", "" },
	{ "credential.helper", "" },
	{ "gc.auto", "0" },
	{ "maintenance.auto", "false" },
	{ "protocol.allow", "never" },
	{ "protocol.ext.allow", "never" },
	{ "safe.bareRepository", "explicit" },
	{ "submodule.recurse", "false" }, /* would run git with the submodule's own configuration */
	{ "i18n.commitEncoding", "UTF-8" },
	{ "worktree.guessRemote", "false" },
	{ "worktree.useRelativePaths", "false" },
};

static const char *const constants[] = {
	"LANG=C",
	"LC_ALL=C",
	"GIT_TERMINAL_PROMPT=0",
	"GIT_OPTIONAL_LOCKS=0",
	"GIT_NO_LAZY_FETCH=1",
	"GIT_ALLOW_PROTOCOL=none", /* beats any protocol.X.allow of the repository's */
	"GIT_ADVICE=0",
	"GIT_LITERAL_PATHSPECS=1",
	"GIT_NO_REPLACE_OBJECTS=1", /* commits as they are, not as somebody wants them seen: branches are deleted on that */
	"GIT_GRAFT_FILE=/dev/null",
};

/* Of our own environment git needs these: where programs are, and where the user's configuration is. */
static const char *const inherited[] = { "HOME", "XDG_CONFIG_HOME", "TMPDIR" };

struct environment {
	char *entries[ENVIRONMENT_MAX];
	size_t count;
	size_t settings;
};

static void add_variable(struct environment *environment, const char *name, const char *value)
{
	ASSERT(environment->count < ENVIRONMENT_MAX - 2);
	environment->entries[environment->count++] = xasprintf("%s=%s", name, value);
}

static void add_setting(struct environment *environment, const char *key, const char *value)
{
	char name[40];

	snprintf(name, sizeof(name), "GIT_CONFIG_KEY_%zu", environment->settings);
	add_variable(environment, name, key);
	snprintf(name, sizeof(name), "GIT_CONFIG_VALUE_%zu", environment->settings++);
	add_variable(environment, name, value);
}

static void add_filter(struct environment *environment, const char *driver)
{
	static const struct setting emptied[SETTINGS_PER_FILTER] = {
		{ "clean", "" }, { "smudge", "" }, { "process", "" }, { "required", "false" }
	};

	for (size_t i = 0; i < ARRAY_SIZE(emptied); i++) {
		CLEANUP_FREE char *key = xasprintf("filter.%s.%s", driver, emptied[i].key);

		add_setting(environment, key, emptied[i].value);
	}
}

static void add_identity(struct environment *environment, const struct git *git)
{
	if (!git->has_name) {
		add_variable(environment, "GIT_AUTHOR_NAME", "drover");
		add_variable(environment, "GIT_COMMITTER_NAME", "drover");
	}
	if (!git->has_email) {
		add_variable(environment, "GIT_AUTHOR_EMAIL", "drover@localhost");
		add_variable(environment, "GIT_COMMITTER_EMAIL", "drover@localhost");
	}
}

static void make_environment(const struct git *git, const char *path, struct environment *environment)
{
	char count[24];

	add_variable(environment, "PATH", path);
	for (size_t i = 0; i < ARRAY_SIZE(inherited); i++)
		if (getenv(inherited[i]))
			add_variable(environment, inherited[i], getenv(inherited[i]));
	for (size_t i = 0; i < ARRAY_SIZE(constants); i++)
		environment->entries[environment->count++] = xstrdup(constants[i]);
	if (git->git_dir) {
		add_variable(environment, "GIT_DIR", git->git_dir);
		add_variable(environment, "GIT_COMMON_DIR", git->common_dir);
		add_variable(environment, "GIT_WORK_TREE", git->work_tree);
	}
	add_identity(environment, git);
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		add_setting(environment, settings[i].key, settings[i].value);
	for (size_t i = 0; i < git->filters_count; i++)
		add_filter(environment, git->filters[i].name);
	snprintf(count, sizeof(count), "%zu", environment->settings);
	add_variable(environment, "GIT_CONFIG_COUNT", count);
}

static void environment_done(struct environment **environment)
{
	for (size_t i = 0; i < (*environment)->count; i++)
		free((*environment)->entries[i]);
	free(*environment);
}

/* PATH without entries that mean the working directory. */
static void take_path(struct buf *ret)
{
	const char *at = getenv("PATH");

	for (at = at ? at : "/usr/bin:/bin"; *at; at += strcspn(at, ":"), at += *at == ':') {
		if (*at != '/')
			continue;
		if (ret->length > 0)
			buf_add_byte(ret, ':');
		buf_add(ret, at, strcspn(at, ":"));
	}
}

/* The first git in it, to be freed; NULL when there is none. */
static char *find_git(const char *path)
{
	for (const char *at = path; *at; at += strcspn(at, ":"), at += *at == ':') {
		CLEANUP_FREE char *program = xasprintf("%.*s/git", (int)strcspn(at, ":"), at);
		struct stat st;

		if (stat(program, &st) == 0 && S_ISREG(st.st_mode) && access(program, X_OK) == 0)
			return TAKE_PTR(program);
	}
	return NULL;
}

int git_try(const struct git *git, const struct git_call *call, struct command_result *ret, struct err *err)
{
	CLEANUP_BUF struct buf path = BUF_INIT;
	CLEANUP_FREE char *program = NULL;
	CLEANUP(environment_done) struct environment *environment = xcalloc(1, sizeof(*environment));
	const char *argv[ARGUMENTS_MAX] = { NULL };
	struct command command = {
		.argv = argv,
		.environment = (const char *const *)environment->entries,
		.input = call->input,
		.input_length = call->input_length,
		.output_limit = GIT_OUTPUT_MAX,
		.timeout_ns = GIT_TIMEOUT_NS,
		.directory = git->directory,
		.kept_fd = git->kept_fd,
	};
	int error;

	for (size_t i = 0; call->arguments[i]; i++) {
		ASSERT(i + 2 < ARRAY_SIZE(argv));
		argv[i + 1] = call->arguments[i];
	}
	take_path(&path);
	program = path.length > 0 ? find_git(path.bytes) : NULL;
	argv[0] = program;
	make_environment(git, path.length > 0 ? path.bytes : "", environment);
	error = program ? command_run(&command, ret, err) : -ENOENT;
	if (error == -ENOENT)
		return err_say(err, -ENOPKG, "there is no program 'git' in PATH: install git 2.38 or newer");
	return error;
}

/* The line of git's standard error that says most: the first that begins with "fatal: " or "error: ", else the last. */
static void find_complaint(const struct buf *errors, const char **ret_line, size_t *ret_length)
{
	const char *at = errors->bytes ? errors->bytes : "";

	*ret_line = "it gave no reason";
	*ret_length = strlen(*ret_line);
	while (*at) {
		size_t length = strcspn(at, "\n");
		bool is_marked = strncmp(at, "fatal: ", 7) == 0 || strncmp(at, "error: ", 7) == 0;

		if (length > 0) {
			*ret_line = is_marked ? at + 7 : at;
			*ret_length = is_marked ? length - 7 : length;
		}
		if (is_marked)
			return;
		at += length + (at[length] == '\n');
	}
}

int git_failure(const struct git_call *call, const struct command_result *result, struct err *err)
{
	CLEANUP_BUF struct buf shown = BUF_INIT;
	const char *said = result->errors.bytes ? result->errors.bytes : "";
	const char *line;
	size_t length;
	int code = -EIO;

	find_complaint(&result->errors, &line, &length);
	str_add_visible(&shown, line, MIN(length, (size_t)WORDS_MAX));
	if (strstr(said, "No space left on device") || strstr(said, "Disk quota exceeded"))
		code = -ENOSPC;
	else if (strstr(said, "detected dubious ownership"))
		code = -EPERM;
	else if (lock_file_explain(said, err) < 0)
		return err_wrap(err, "git %s", call->arguments[0]);
	if (WIFSIGNALED(result->status))
		return err_say(err, code, "git %s was ended by signal %d", call->arguments[0], WTERMSIG(result->status));
	return err_say(err, code, "git %s failed: %s", call->arguments[0], shown.bytes);
}

/* A gc of somebody else's took away a directory of objects just when git wanted to write into it. */
static bool is_met_by_gc(const struct command_result *result)
{
	return result->status != 0 && result->errors.length > 0 &&
	       strstr(result->errors.bytes, "unable to create temporary file: No such file or directory");
}

int git_run(const struct git *git, const struct git_call *call, struct command_result *ret, struct err *err)
{
	struct command_result result = { 0 };
	int error = git_try(git, call, &result, err);

	/* What writes objects can be done again: as if it had not been done. */
	for (int try = 1; error == 0 && is_met_by_gc(&result) && try < TRIES_MAX; try++) {
		command_result_done(&result);
		poll(NULL, 0, (int)(random_u64() % TRY_AGAIN_MS));
		error = git_try(git, call, &result, err);
	}
	if (error < 0)
		return error;
	if (result.status != 0) {
		error = git_failure(call, &result, err);
		command_result_done(&result);
		return error;
	}
	*ret = result;
	return 0;
}

static struct git_filter *find_filter(const struct git *git, const char *name, size_t length)
{
	for (size_t i = 0; i < git->filters_count; i++)
		if (strlen(git->filters[i].name) == length && memcmp(git->filters[i].name, name, length) == 0)
			return &git->filters[i];
	return NULL;
}

/* "filter.NAME.KEY\nVALUE"; `dot` is the one before KEY. */
static int add_filter_key(struct git *git, const char *entry, const char *dot)
{
	const char *name = entry + strlen("filter.");
	size_t length = (size_t)(dot - name);
	struct git_filter *filter = find_filter(git, name, length);

	if (!filter) {
		if (git->filters_count >= FILTERS_MAX)
			return -E2BIG;
		git->filters = xrealloc(git->filters, (git->filters_count + 1) * sizeof(*git->filters));
		filter = &git->filters[git->filters_count++];
		*filter = (struct git_filter){ .name = xmemdup0(name, length) };
	}
	/* git gives keys in lower case; of several the last counts, but which is last does not matter for caution */
	if ((strncmp(dot, ".clean\n", 7) == 0 && dot[7]) || (strncmp(dot, ".process\n", 9) == 0 && dot[9]))
		filter->has_clean = true;
	return 0;
}

bool git_has_clean_filter(const struct git *git, const char *name)
{
	for (size_t i = 0; i < git->filters_count; i++)
		if (git->filters[i].has_clean && (!name || strcmp(git->filters[i].name, name) == 0))
			return true;
	return false;
}

/* One entry is "key\nvalue" or, for a key without '=', "key". */
static int parse_entry(struct git *git, const char *entry)
{
	size_t length = strcspn(entry, "\n");
	const char *end = memrchr(entry, '.', length);

	if (strncmp(entry, "user.name\n", 10) == 0)
		git->has_name = entry[10] != '\0';
	else if (strncmp(entry, "user.email\n", 11) == 0)
		git->has_email = entry[11] != '\0';
	else if (strncmp(entry, "filter.", 7) == 0 && end && end >= entry + 7)
		return add_filter_key(git, entry, end);
	return 0;
}

int git_parse_config(struct git *git, const struct buf *output)
{
	for (size_t at = 0; at < output->length; at += strlen(output->bytes + at) + 1) {
		int error = parse_entry(git, output->bytes + at);

		if (error < 0)
			return error;
	}
	return 0;
}

int git_load_config(struct git *git, struct err *err)
{
	struct git_call call = { .arguments = GIT_ARGUMENTS("config", "-z", "--get-regexp",
		                                            "^(filter[.]|user[.](name|email)$)") };
	struct command_result result = { 0 };
	int error = git_try(git, &call, &result, err);

	if (error < 0)
		return error;
	/* 1: no such key. Anything else: what filters there are is unknown, so nothing may be run. */
	if (WIFEXITED(result.status) && WEXITSTATUS(result.status) <= 1)
		error = git_parse_config(git, &result.output);
	else
		error = git_failure(&call, &result, err);
	if (error == -E2BIG)
		err_say(err, error, "the git configuration names more than %d filter drivers: too many to switch off",
		        FILTERS_MAX);
	command_result_done(&result);
	return error;
}

void git_done(struct git *git)
{
	for (size_t i = 0; i < git->filters_count; i++)
		free(git->filters[i].name);
	free(git->filters);
	git->filters = NULL;
	git->filters_count = 0;
}
