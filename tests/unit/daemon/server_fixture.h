/*
 * server_fixture.h - a server with clients in the same process: the loop runs while a client waits.
 */
#pragma once

#include <uv.h>

#include "daemon/server.h"
#include "proto/frame.h"

enum { KEPT_MAX = 4 };

/* Its server answers status at once, keeps task.show for the test, subscribes, and gives task.cancel long answers. */
struct fixture {
	uv_loop_t loop;
	struct server *server;
	struct server_options options;
	char directory[64]; /* made by mkdtemp */
	char path[512];
	unsigned disconnects;
	uint64_t last_gone; /* id of the client */
	struct request *kept[KEPT_MAX];
	unsigned kept_count;
	unsigned answered; /* of status */
};

/* A client's end. */
struct peer {
	int fd;
	struct frame input;
	bool has_ended;
};

/* Lines: hello, and requests named by method and id. */
extern const char hello[];
extern const char status_2[];
extern const char show_3[];

/* For cmocka: a fixture, without or with an open server, and its end. */
int setup(void **state);
int setup_open(void **state);
int teardown(void **state);

/* Opens the server by fixture->options, which setup() filled. */
void open_server(struct fixture *fixture);

/* Closes it and lets the loop finish. */
void close_server(struct fixture *fixture);

/* One iteration of the loop, without waiting. */
void turn(struct fixture *fixture);

/* Lets the loop run and waits a little for `fd` (−1 = for the loop only). Fails after the deadline. */
void wait_a_little(struct fixture *fixture, int fd, uint64_t started_ns);

/* A connected non-blocking socket, or −1. */
int connect_to(const char *path);

/* A connection; peer_greeted() has said hello on it. */
struct peer peer_open(struct fixture *fixture);
struct peer peer_greeted(struct fixture *fixture);
void peer_close(struct peer *peer);

/* Sends all; false when the other end is closed. peer_send() adds the line's end, and fails instead. */
bool peer_send_bytes(struct fixture *fixture, struct peer *peer, const void *bytes, size_t length);
void peer_send(struct fixture *fixture, struct peer *peer, const char *line);

/* The next line as JSON (new reference), or NULL at the end of the stream. */
json_t *peer_receive(struct fixture *fixture, struct peer *peer);

/* What comes next: the end, a result, or an error (id 0 stands for null) whose sentence contains `part`. */
void expect_end(struct fixture *fixture, struct peer *peer);
void expect_result(struct fixture *fixture, struct peer *peer, int id);
void expect_error(struct fixture *fixture, struct peer *peer, int id, enum api_error code, const char *part);

/* The connection answers. */
void expect_alive(struct fixture *fixture, struct peer *peer);

/* Until the server has so many connections. */
void wait_for_count(struct fixture *fixture, unsigned count);

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_open, teardown)
#define TEST_CLOSED(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
