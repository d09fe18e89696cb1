/*
 * test_server_socket.c - the unix socket's file, other users, and too few descriptors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "server_fixture.h"

static void write_nothing_to(const char *path)
{
	int fd CLEANUP_FD = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
}

static void expect_refused(struct fixture *fixture, int code, const char *part)
{
	struct err err = ERR_INIT;

	assert_int_equal(server_open(&fixture->options, &fixture->server, &err), code);
	assert_null(fixture->server);
	if (!strstr(err.text, part))
		fail_msg("'%s' does not contain '%s'", err.text, part);
}

static void modes_are_closed(void **state)
{
	struct fixture *fixture = *state;
	char directory[128];
	struct stat status;

	snprintf(directory, sizeof(directory), "%s/run", fixture->directory);
	assert_int_equal(mkdir(directory, 0755), 0);
	open_server(fixture);
	assert_int_equal(lstat(directory, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	assert_int_equal(lstat(fixture->path, &status), 0);
	assert_true(S_ISSOCK(status.st_mode));
	assert_int_equal(status.st_mode & 07777, 0600);
}

static void unsafe_places_are_refused(void **state)
{
	struct fixture *fixture = *state;
	char directory[128], other[128];

	snprintf(directory, sizeof(directory), "%s/run", fixture->directory);
	snprintf(other, sizeof(other), "%s/other", fixture->directory);
	assert_int_equal(mkdir(other, 0700), 0);
	assert_int_equal(symlink(other, directory), 0);
	expect_refused(fixture, -ENOTDIR, "is a link or a file");
	assert_int_equal(unlink(directory), 0);
	write_nothing_to(directory);
	expect_refused(fixture, -ENOTDIR, "is a link or a file");
	assert_int_equal(unlink(directory), 0);
	assert_int_equal(mkdir(directory, 0700), 0);
	assert_int_equal(chmod(directory, 0770), 0);
	expect_refused(fixture, -EPERM, "others may write");
	assert_int_equal(chmod(directory, 0700), 0);
	write_nothing_to(fixture->path);
	expect_refused(fixture, -EEXIST, "is no socket");
	assert_int_equal(unlink(fixture->path), 0);
	assert_int_equal(symlink("/nowhere", fixture->path), 0);
	expect_refused(fixture, -EEXIST, "is no socket");
	assert_int_equal(unlink(fixture->path), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(directory, 65534, 65534), 0);
		expect_refused(fixture, -EPERM, "belongs to user 65534");
		assert_int_equal(chown(directory, 0, 0), 0);
	}
	fixture->options.socket_path = "daemon.sock";
	expect_refused(fixture, -EINVAL, "must be absolute");
	fixture->options.socket_path = fixture->path;
	open_server(fixture);
}

static void long_path_works(void **state)
{
	struct fixture *fixture = *state;
	struct peer peer;
	char name[120];

	memset(name, 'd', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	snprintf(fixture->path, sizeof(fixture->path), "%s/%s", fixture->directory, name);
	assert_int_equal(mkdir(fixture->path, 0700), 0);
	snprintf(fixture->path, sizeof(fixture->path), "%s/%s/%s/daemon.sock", fixture->directory, name, name);
	open_server(fixture);
	peer = peer_greeted(fixture);
	peer_close(&peer);
}

static void stale_socket_is_replaced(void **state)
{
	struct fixture *fixture = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct peer peer;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/run", fixture->directory);
	assert_int_equal(mkdir(address.sun_path, 0700), 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/run/daemon.sock", fixture->directory);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	fd_close(&fd);
	assert_true(connect_to(fixture->path) < 0);
	open_server(fixture);
	peer = peer_greeted(fixture);
	peer_close(&peer);
}

static void own_socket_is_removed_at_the_end(void **state)
{
	struct fixture *fixture = *state;
	struct peer peer = peer_greeted(fixture);

	assert_true(server_is_bound(fixture->server));
	close_server(fixture);
	assert_int_equal(fixture->disconnects, 1);
	assert_true(access(fixture->path, F_OK) < 0);
	expect_end(fixture, &peer);
	peer_close(&peer);
}

static void foreign_socket_is_left_alone(void **state)
{
	struct fixture *fixture = *state;
	struct fixture successor = *fixture;

	successor.server = NULL;
	open_server(&successor);
	assert_false(server_is_bound(fixture->server));
	assert_true(server_is_bound(successor.server));
	server_close(fixture->server);
	fixture->server = NULL;
	turn(fixture);
	assert_true(server_is_bound(successor.server));
	server_close(successor.server);
	turn(fixture);
	assert_true(access(fixture->path, F_OK) < 0);
}

static void vanished_socket_is_made_anew(void **state)
{
	struct fixture *fixture = *state;
	struct peer before = peer_greeted(fixture);
	struct peer after;
	struct err err = ERR_INIT;
	char directory[128];

	snprintf(directory, sizeof(directory), "%s/run", fixture->directory);
	assert_int_equal(unlink(fixture->path), 0);
	assert_int_equal(rmdir(directory), 0);
	assert_false(server_is_bound(fixture->server));
	assert_int_equal(server_rebind(fixture->server, &err), 0);
	assert_true(server_is_bound(fixture->server));
	after = peer_greeted(fixture);
	expect_alive(fixture, &before);
	expect_alive(fixture, &after);
	assert_int_equal(server_client_count(fixture->server), 2);
	peer_close(&before);
	peer_close(&after);
}

static void other_users_are_turned_away(void **state)
{
	struct fixture *fixture = *state;
	char directory[128];
	pid_t child;
	int status;

	if (geteuid() != 0) {
		print_message("skipped: only root can be another user\n");
		skip();
	}
	/* Even when the modes were opened. */
	snprintf(directory, sizeof(directory), "%s/run", fixture->directory);
	assert_int_equal(chmod(fixture->directory, 0755), 0);
	assert_int_equal(chmod(directory, 0755), 0);
	assert_int_equal(chmod(fixture->path, 0666), 0);
	child = fork();
	if (child == 0) {
		char byte;
		int fd;

		if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
			_exit(2);
		fd = connect_to(fixture->path);
		if (fd < 0 || fd_set_nonblocking(fd, false))
			_exit(3);
		_exit(read(fd, &byte, 1) == 0 ? 0 : 4);
	}
	while (waitpid(child, &status, WNOHANG) == 0) {
		turn(fixture);
		assert_int_equal(server_client_count(fixture->server), 0);
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void set_descriptor_limit(rlim_t most)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = most;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void connect_prepared(struct fixture *fixture, struct peer *peer)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "%.64s/run/daemon.sock", fixture->directory);
	assert_int_equal(connect(peer->fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

static void running_out_of_descriptors_is_survived(void **state)
{
	struct fixture *fixture = *state;
	struct peer inside = peer_greeted(fixture);
	struct pollfd loop = { .fd = uv_backend_fd(&fixture->loop), .events = POLLIN };
	struct rlimit before;
	struct peer peers[4];
	int lowest;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	for (size_t i = 0; i < ARRAY_SIZE(peers); i++)
		peers[i] = (struct peer){ .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) };
	lowest = dup(0);
	assert_true(lowest >= 0);
	set_descriptor_limit((rlim_t)lowest);
	fd_close(&lowest);
	for (size_t i = 0; i + 1 < ARRAY_SIZE(peers); i++) {
		connect_prepared(fixture, &peers[i]);
		expect_error(fixture, &peers[i], 0, API_ERROR_TOO_MANY_CLIENTS, "no file descriptors left");
		expect_end(fixture, &peers[i]);
	}
	/* Not even the spare one can be had: the connection waits, the loop sleeps. */
	set_descriptor_limit(3);
	connect_prepared(fixture, &peers[3]);
	for (int i = 0; i < 3; i++)
		turn(fixture);
	assert_int_equal(poll(&loop, 1, 0), 0);
	assert_true(uv_backend_timeout(&fixture->loop) > 0);
	expect_alive(fixture, &inside);
	set_descriptor_limit(before.rlim_cur);
	peer_send(fixture, &peers[3], hello);
	expect_result(fixture, &peers[3], 1);
	expect_alive(fixture, &inside);
	for (size_t i = 0; i < ARRAY_SIZE(peers); i++)
		peer_close(&peers[i]);
	peer_close(&inside);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_CLOSED(modes_are_closed),
		TEST_CLOSED(unsafe_places_are_refused),
		TEST_CLOSED(long_path_works),
		TEST_CLOSED(stale_socket_is_replaced),
		TEST(own_socket_is_removed_at_the_end),
		TEST(foreign_socket_is_left_alone),
		TEST(vanished_socket_is_made_anew),
		TEST(other_users_are_turned_away),
		TEST(running_out_of_descriptors_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
