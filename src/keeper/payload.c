#include "keeper/payload.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"

enum { FIXED_STRINGS = 4 };

/* The next string of a row, NULL when the row is over or not terminated. */
static char *next_string(char **at, const char *end)
{
	char *string = *at;
	char *nul = string < end ? memchr(string, '\0', (size_t)(end - string)) : NULL;

	if (!nul)
		return NULL;
	*at = nul + 1;
	return string;
}

int payload_parse(struct payload *payload, const struct wire_start *start, char *bytes, size_t length)
{
	char *fixed[FIXED_STRINGS];
	const char *end = bytes + length;
	size_t used = 1; /* words[0] stays free: argv[-1] */

	for (size_t i = 0; i < FIXED_STRINGS; i++) {
		fixed[i] = next_string(&bytes, end);
		if (!fixed[i])
			return -EINVAL;
	}
	if (start->argc == 0 || fixed[0][0] != '/' || fixed[1][0] == '\0' || strlen(fixed[2]) >= PAYLOAD_NAME_MAX)
		return -EINVAL;
	if (start->environment_count > PAYLOAD_SETTINGS_MAX ||
	    (uint64_t)start->argc + start->environment_count > PAYLOAD_WORDS_MAX)
		return -E2BIG;
	payload->argv = &payload->words[used];
	for (uint32_t i = 0; i < start->argc + start->environment_count; i++) {
		char *word = next_string(&bytes, end);

		if (!word)
			return -EINVAL;
		if (i == start->argc)
			payload->words[used++] = NULL;
		payload->words[used++] = word;
	}
	payload->words[used] = NULL;
	payload->settings = &payload->words[1 + start->argc + 1];
	payload->setting_count = start->environment_count;
	payload->directory = fixed[0];
	payload->log = fixed[1];
	payload->blob = fixed[2];
	payload->input = fixed[3][0] != '\0' ? fixed[3] : NULL;
	return bytes == end ? 0 : -EINVAL;
}

static int read_blob(struct environment *environment, int state_fd, const char *name, size_t *ret_length)
{
	CLEANUP_FD int fd = openat(state_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	size_t length = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		size_t room = sizeof(environment->bytes) - length;
		ssize_t got = read(fd, environment->bytes + length, room);

		if (got < 0)
			return -errno;
		length += (size_t)got;
		if (length == sizeof(environment->bytes))
			return -E2BIG;
		if (got == 0)
			break;
	}
	*ret_length = length;
	return 0;
}

int environment_load(struct environment *environment, int state_fd, const char *name)
{
	char *at = environment->bytes;
	size_t length;
	char *setting;
	int r;

	if (strcmp(environment->name, name) == 0)
		return 0;
	ASSERT(strlen(name) < sizeof(environment->name));
	environment->name[0] = '\0';
	environment->count = 0;
	if (name[0] == '\0')
		return 0;
	r = read_blob(environment, state_fd, name, &length);
	if (r < 0)
		return r;
	environment->bytes[length] = '\0'; /* a last one without its NUL still counts */
	while ((setting = next_string(&at, environment->bytes + length + 1)) != NULL) {
		if (setting[0] == '\0')
			continue;
		if (environment->count == PAYLOAD_SETTINGS_MAX)
			return -E2BIG;
		environment->settings[environment->count++] = setting;
	}
	memcpy(environment->name, name, strlen(name) + 1);
	return 0;
}

/* True when both set the same variable. */
static bool is_same_variable(const char *a, const char *b)
{
	while (*a == *b && *a != '=' && *a != '\0') {
		a++;
		b++;
	}
	return (*a == '=' || *a == '\0') && (*b == '=' || *b == '\0');
}

static bool is_replaced(char *const *settings, size_t count, const char *setting)
{
	for (size_t i = 0; i < count; i++)
		if (is_same_variable(settings[i], setting))
			return true;
	return false;
}

void payload_build_environment(struct payload *payload, const struct environment *environment)
{
	size_t used = 0;

	for (size_t i = 0; i < environment->count; i++)
		if (!is_replaced(payload->settings, payload->setting_count, environment->settings[i]))
			payload->envp[used++] = environment->settings[i];
	for (uint32_t i = 0; i < payload->setting_count; i++)
		if (!is_replaced(payload->settings + i + 1, payload->setting_count - i - 1, payload->settings[i]))
			payload->envp[used++] = payload->settings[i];
	payload->envp[used] = NULL;
}

const char *payload_search_path(const struct payload *payload)
{
	for (char *const *setting = payload->envp; *setting; setting++)
		if (strncmp(*setting, "PATH=", 5) == 0)
			return *setting + 5;
	return DEFAULT_PATH;
}
