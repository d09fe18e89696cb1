#include "base/paths.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* An environment variable that holds an absolute path, or NULL. */
static const char *absolute_variable(const char *name)
{
	const char *value = getenv(name);

	return value && value[0] == '/' ? value : NULL;
}

static int join(char path[PATHS_MAX], struct err *err, const char *directory, const char *rest)
{
	int length = snprintf(path, PATHS_MAX, "%s/%s", directory, rest);

	if (length < 0 || length >= PATHS_MAX)
		return err_say(err, -ENAMETOOLONG, "the path %s/%s is too long: %d bytes at most", directory, rest,
		               PATHS_MAX - 1);
	return 0;
}

/* `variable`/drover or $HOME/`below_home`/drover, then /`rest` unless that is empty. */
static int join_home(char path[PATHS_MAX], struct err *err, const char *variable, const char *below_home, const char *rest)
{
	const char *base = absolute_variable(variable);
	const char *home = absolute_variable("HOME");
	char tail[64];

	if (!base && !home)
		return err_say(err, -ENOENT, "neither %s nor HOME names an absolute directory: set one of them", variable);
	snprintf(tail, sizeof(tail), "%s%sdrover%s%s", base ? "" : below_home, base ? "" : "/", *rest ? "/" : "", rest);
	return join(path, err, base ? base : home, tail);
}

int paths_state_dir(char path[PATHS_MAX], struct err *err)
{
	const char *chosen = getenv("DROVER_STATE_DIR");
	int r = 0;

	if (chosen && chosen[0] == '/')
		snprintf(path, PATHS_MAX, "%s", chosen);
	else if (chosen && chosen[0] != '\0')
		return err_say(err, -EINVAL, "DROVER_STATE_DIR is '%s': give an absolute path", chosen);
	else
		r = join_home(path, err, "XDG_STATE_HOME", ".local/state", "");
	if (r == 0 && strlen(path) > PATHS_STATE_MAX)
		return err_say(
			err, -ENAMETOOLONG,
			"the path of the state directory is too long: %zu bytes, and %d are possible; choose another by "
			"DROVER_STATE_DIR",
			chosen ? strlen(chosen) : strlen(path), PATHS_STATE_MAX);
	return r;
}

int paths_socket(const char *state_dir, char path[PATHS_MAX], struct err *err)
{
	const char *chosen = getenv("DROVER_STATE_DIR");
	const char *runtime = absolute_variable("XDG_RUNTIME_DIR");
	struct stat status;

	/* In one that others may write to they could be there first, or put ours aside. */
	if (runtime && !(chosen && *chosen) && stat(runtime, &status) == 0 && S_ISDIR(status.st_mode) &&
	    status.st_uid == geteuid() && !(status.st_mode & 022))
		return join(path, err, runtime, "drover/daemon.sock");
	return join(path, err, state_dir, "run/daemon.sock");
}

int paths_config(char path[PATHS_MAX], struct err *err)
{
	return join_home(path, err, "XDG_CONFIG_HOME", ".config", "config.yaml");
}

int paths_program(const char *name, char path[PATHS_MAX], struct err *err)
{
	const char *chosen = absolute_variable("DROVER_LIBEXEC_DIR");
	char directory[PATHS_MAX];
	ssize_t length;
	char *slash;

	if (chosen)
		return join(path, err, chosen, name);
	length = readlink("/proc/self/exe", directory, sizeof(directory) - 1);
	if (length <= 0)
		return err_set(err, -ENOENT, "cannot find drover's own programs: read /proc/self/exe");
	directory[length] = '\0';
	slash = strrchr(directory, '/');
	if (slash)
		*slash = '\0';
	if (join(path, err, directory, name) == 0 && access(path, X_OK) == 0)
		return 0;
	snprintf(directory + strlen(directory), sizeof(directory) - strlen(directory), "/../libexec/drover");
	if (join(path, err, directory, name) == 0 && access(path, X_OK) == 0)
		return 0;
	return err_say(err, -ENOENT, "%s is not beside this program nor in %s: install drover again", name, directory);
}
