#include "fake_daemon.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "proto/api.h"

/* In the fake's process no test framework is at work: say what was wrong and end. */
#define MUST(condition)                                                                                                     \
	do {                                                                                                                \
		if (!(condition)) {                                                                                         \
			fprintf(stderr, "fake daemon: %s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
			_exit(1);                                                                                           \
		}                                                                                                           \
	} while (0)

void fake_init(struct fake *fake)
{
	*fake = (struct fake){ 0 };
	snprintf(fake->state_dir, sizeof(fake->state_dir), "/tmp/drover-client-XXXXXX");
	assert_non_null(mkdtemp(fake->state_dir));
}

void fake_write(const struct fake *fake, const char *name, const char *text, unsigned mode)
{
	char path[128];
	CLEANUP_FD int fd = -1;

	snprintf(path, sizeof(path), "%s/%s", fake->state_dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
	assert_int_equal(fchmod(fd, mode), 0);
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(strlen(path) < sizeof(address.sun_path));
	memcpy(address.sun_path, path, strlen(path));
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

void fake_start(struct fake *fake, void (*script)(struct fake_side *side))
{
	struct fake_side side = { .connection = -1 };
	char path[128], lock[256];

	snprintf(path, sizeof(path), "%s/daemon.sock", fake->state_dir);
	side.listener = listen_at(path);
	snprintf(lock, sizeof(lock), "pid 1\nsocket %s\nversion 9.9\n", path);
	fake_write(fake, "daemon.lock", lock, 0600);
	fake->pid = fork();
	assert_true(fake->pid >= 0);
	if (fake->pid == 0) {
		alarm(30); /* a script that waits in vain */
		script(&side);
		_exit(0);
	}
	fd_close(&side.listener);
}

void fake_end(struct fake *fake)
{
	static const char *const names[] = { "daemon.sock", "daemon.lock", "daemon.log", "keeper.lock", "drover-keeper" };
	char path[128];
	int status = 0;

	if (fake->pid > 0)
		assert_int_equal(waitpid(fake->pid, &status, 0), fake->pid);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", fake->state_dir, names[i]);
		if (unlink(path) < 0)
			assert_int_equal(errno, ENOENT);
	}
	assert_int_equal(rmdir(fake->state_dir), 0);
	assert_int_equal(status, 0);
}

void fake_hang_up(struct fake_side *side)
{
	if (side->connection < 0)
		return;
	fclose(side->input);
	fd_close(&side->connection);
}

void fake_accept(struct fake_side *side)
{
	fake_hang_up(side);
	side->connection = accept4(side->listener, NULL, NULL, SOCK_CLOEXEC);
	MUST(side->connection >= 0);
	side->input = fdopen(dup(side->connection), "r");
	MUST(side->input);
	fake_answer(side, fake_expect(side, "hello"),
	            "{\"protocol\": 1, \"version\": \"9.9\", \"pid\": 1, \"state_dir\": \"/s\"}");
}

json_t *fake_expect(struct fake_side *side, const char *method)
{
	char *line = NULL;
	size_t size = 0;
	json_t *request;

	MUST(getline(&line, &size, side->input) > 0);
	MUST(strlen(line) <= 1 << 20);
	request = json_loads(line, 0, NULL);
	free(line);
	MUST(request);
	if (strcmp(json_string_value(json_object_get(request, "method")), method) != 0) {
		fprintf(stderr, "fake daemon: %s instead of %s\n", json_string_value(json_object_get(request, "method")),
		        method);
		_exit(1);
	}
	return request;
}

void fake_say(struct fake_side *side, const char *line)
{
	MUST(fd_write_all(side->connection, line, strlen(line)) == 0);
	MUST(fd_write_all(side->connection, "\n", 1) == 0);
}

static void reply(struct fake_side *side, json_t *request, const char *member, const char *text)
{
	CLEANUP_BUF struct buf line = BUF_INIT;

	buf_add_format(&line, "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"%s\":%s}",
	               json_integer_value(json_object_get(request, "id")), member, text);
	fake_say(side, line.bytes);
	json_decref(request);
}

/* Adds the required fields that are not there. */
static void complete(json_t *value, int object)
{
	const struct api_object_info *info = api_object_info(object);

	for (unsigned i = 0; i < info->field_count; i++) {
		const struct api_field_info *field = &info->fields[i];

		if (!field->is_required || json_object_get(value, field->name))
			continue;
		if (field->type == API_STRING)
			json_object_set_new(value, field->name, json_string("?"));
		else if (field->type == API_BOOLEAN)
			json_object_set_new(value, field->name, json_false());
		else if (field->type == API_STRINGS || field->type == API_LIST)
			json_object_set_new(value, field->name, json_array());
		else if (field->type == API_OBJECT)
			json_object_set_new(value, field->name, json_object());
		else
			json_object_set_new(value, field->name, json_integer(1));
	}
}

void fake_answer(struct fake_side *side, json_t *request, const char *result)
{
	int method = api_find_method(json_string_value(json_object_get(request, "method")));
	json_t *value = json_loads(result, 0, NULL);
	char *text;

	MUST(method >= 0 && value);
	complete(value, api_method_info((enum api_method)method)->result);
	text = json_dumps(value, JSON_COMPACT);
	reply(side, request, "result", text);
	free(text);
	json_decref(value);
}

void fake_event(struct fake_side *side, int seq, const char *kind)
{
	CLEANUP_BUF struct buf line = BUF_INIT;

	buf_add_format(&line,
	               "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"seq\":%d,\"at\":\"?\",\"kind\":\"%s\"}}",
	               seq, kind);
	fake_say(side, line.bytes);
}

void fake_refuse(struct fake_side *side, json_t *request, const char *error)
{
	reply(side, request, "error", error);
}
