#include "cli/environment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

/* Name up to '=' or the end. */
static size_t name_length(const char *setting)
{
	return strcspn(setting, "=");
}

static bool has_name(const char *setting, const char *name, size_t length)
{
	return name_length(setting) == length && strncmp(setting, name, length) == 0;
}

static bool is_given(const struct option_list *given, const char *setting)
{
	for (size_t i = 0; i < given->count; i++)
		if (has_name(given->texts[i], setting, name_length(setting)))
			return true;
	return false;
}

/* What an enclosing task was told does not hold for the tasks it submits. */
static bool is_inherited(const char *setting, bool is_clean)
{
	static const char *const kept[] = { "PATH", "HOME",   "USER",     "LOGNAME", "SHELL",
		                            "LANG", "LC_ALL", "LC_CTYPE", "TZ",      "TMPDIR" };
	static const char *const dropped[] = { "PARALLEL_TASK_ID", "PARALLEL_WORKTREE", "DROVER_AFTER" };

	if (strncmp(setting, "GIT_", 4) == 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(dropped); i++)
		if (has_name(setting, dropped[i], strlen(dropped[i])))
			return false;
	for (size_t i = 0; is_clean && i < ARRAY_SIZE(kept); i++)
		if (has_name(setting, kept[i], strlen(kept[i])))
			return true;
	return !is_clean;
}

/* Letters, digits and _, no digit first: shells know no others. */
static bool is_identifier(const char *setting)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
	size_t length = name_length(setting);

	return length > 0 && strspn(setting, letters) == length && !(setting[0] >= '0' && setting[0] <= '9');
}

const char **environment_settings(const struct option_list *given, bool is_clean, struct err *err)
{
	const char **settings;
	size_t present = 0, count = 0;

	while (environ[present])
		present++;
	settings = xcalloc(present + given->count + 1, sizeof(*settings));
	for (size_t i = 0; i < present; i++)
		if (is_inherited(environ[i], is_clean) && !is_given(given, environ[i]))
			settings[count++] = environ[i];
	for (size_t i = 0; i < given->count; i++) {
		const char *setting = given->texts[i];

		if (!is_identifier(setting)) {
			err_say(err, -EINVAL, "--env: '%.80s' has no name of letters, digits and _: write NAME=VALUE",
			        setting);
			free(settings);
			return NULL;
		}
		if (strchr(setting, '=')) {
			settings[count++] = setting;
			continue;
		}
		for (size_t j = 0; j < present; j++)
			if (has_name(environ[j], setting, strlen(setting)))
				settings[count++] = environ[j];
	}
	return settings;
}

int environment_directory(const char *given, char path[PATHS_MAX], struct err *err)
{
	struct stat status;
	size_t length = 0;

	if (!given || given[0] != '/') {
		if (!getcwd(path, PATHS_MAX))
			return err_set(err, -errno, "cannot tell the working directory");
		length = strlen(path);
	}
	if (given) {
		int added = snprintf(path + length, PATHS_MAX - length, "%s%s", length > 0 ? "/" : "", given);

		if (added < 0 || (size_t)added >= PATHS_MAX - length)
			return err_say(err, -ENAMETOOLONG, "the directory's path is too long: %d bytes at most",
			               PATHS_MAX - 1);
	}
	if (stat(path, &status) < 0)
		return err_set(err, -errno, "cannot use the directory '%s'", path);
	if (!S_ISDIR(status.st_mode))
		return err_say(err, -ENOTDIR, "'%s' is no directory", path);
	return 0;
}

int environment_input_path(char path[PATHS_MAX], struct err *err)
{
	struct stat ours, named;
	ssize_t length = readlink("/proc/self/fd/0", path, PATHS_MAX - 1);

	if (length < 0)
		return err_set(err, -errno, "--stdin=-: cannot tell which file standard input is");
	path[length] = '\0';
	if (fstat(STDIN_FILENO, &ours) < 0 || stat(path, &named) < 0 || ours.st_dev != named.st_dev ||
	    ours.st_ino != named.st_ino || !(S_ISREG(ours.st_mode) || strcmp(path, "/dev/null") == 0))
		return err_say(
			err, -EINVAL,
			"--stdin=-: standard input is no file with a name, and a task may run long after this program: "
			"write it to a file first, and name that");
	if (S_ISREG(ours.st_mode) && lseek(STDIN_FILENO, 0, SEEK_CUR) != 0)
		return err_say(err, -EINVAL,
		               "--stdin=-: some of standard input has been read already, and tasks would get "
		               "all of it");
	return 0;
}

int environment_check_input(const char *directory, const char *given, struct err *err)
{
	char path[PATHS_MAX];
	struct stat status;
	int length = given[0] == '/' ? snprintf(path, sizeof(path), "%s", given)
	                             : snprintf(path, sizeof(path), "%s/%s", directory, given);

	if (length < 0 || (size_t)length >= sizeof(path))
		return err_say(err, -ENAMETOOLONG, "--stdin: the path is too long: %d bytes at most", PATHS_MAX - 1);
	if (stat(path, &status) < 0 || faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) < 0)
		return err_set(err, -errno, "--stdin: cannot open '%s', which tasks were to read", path);
	if (S_ISDIR(status.st_mode))
		return err_say(err, -EISDIR, "--stdin: '%s' is a directory", path);
	return 0;
}

unsigned environment_mask(void)
{
	mode_t mask = umask(022);

	umask(mask);
	return mask;
}

int environment_repository_config(const char *directory, struct drover_config *config, struct err *err)
{
	char path[PATHS_MAX + 8];
	struct stat status;

	if (snprintf(path, PATHS_MAX, "%s", directory) >= PATHS_MAX)
		return 0;
	for (;;) {
		char *slash;
		size_t length = strlen(path);

		memcpy(path + length, "/.git", sizeof("/.git"));
		if (lstat(path, &status) == 0) {
			path[length] = '\0';
			return config_load_repository(path, config, err);
		}
		path[length] = '\0';
		slash = strrchr(path, '/');
		if (!slash || length == 0)
			return 0;
		*slash = '\0';
	}
}
