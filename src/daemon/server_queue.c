/*
 * server_queue.c - bytes on their way to a client: shared lines in a ring, written many at a time.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/alloc.h"
#include "daemon/server_internal.h"

enum { WRITE_PARTS = 256, RING_MIN = 16 };

struct packet *packet_new(struct buf *buf)
{
	struct packet *packet = xcalloc(1, sizeof(*packet));

	packet->references = 1;
	packet->length = buf->length;
	packet->bytes = buf_take(buf);
	return packet;
}

void packet_unref(struct packet *packet)
{
	ASSERT(packet->references > 0);
	if (--packet->references > 0)
		return;
	free(packet->bytes);
	free(packet);
}

static struct packet **slot_of(const struct queue *queue, unsigned index)
{
	return &queue->packets[(queue->first + index) & (queue->capacity - 1)];
}

static void grow(struct queue *queue)
{
	struct queue bigger = { .capacity = MAX(queue->capacity * 2, (unsigned)RING_MIN) };

	bigger.packets = xcalloc(bigger.capacity, sizeof(*bigger.packets));
	for (unsigned i = 0; i < queue->count; i++)
		bigger.packets[i] = *slot_of(queue, i);
	free(queue->packets);
	queue->packets = bigger.packets;
	queue->capacity = bigger.capacity;
	queue->first = 0;
}

void queue_add(struct queue *queue, struct packet *packet)
{
	if (queue->count == queue->capacity)
		grow(queue);
	packet->references++;
	*slot_of(queue, queue->count++) = packet;
	queue->size += packet->length + PACKET_OVERHEAD;
}

/* Takes what was written off the front. */
static void advance(struct queue *queue, size_t written)
{
	queue->sent += written;
	while (queue->count > 0) {
		struct packet *packet = *slot_of(queue, 0);

		if (queue->sent < packet->length)
			break;
		queue->sent -= packet->length;
		queue->size -= packet->length + PACKET_OVERHEAD;
		queue->first = (queue->first + 1) & (queue->capacity - 1);
		queue->count--;
		packet_unref(packet);
	}
	if (queue->count == 0) {
		ASSERT(queue->sent == 0 && queue->size == 0);
		queue_done(queue);
	}
}

int queue_flush(struct queue *queue, int fd)
{
	while (queue->count > 0) {
		struct iovec parts[WRITE_PARTS];
		struct msghdr message = { .msg_iov = parts, .msg_iovlen = MIN(queue->count, (unsigned)WRITE_PARTS) };
		ssize_t written;

		for (unsigned i = 0; i < message.msg_iovlen; i++) {
			struct packet *packet = *slot_of(queue, i);
			size_t sent = i == 0 ? queue->sent : 0;

			parts[i] = (struct iovec){ .iov_base = packet->bytes + sent, .iov_len = packet->length - sent };
		}
		written = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return errno == EAGAIN ? 0 : -errno;
		advance(queue, (size_t)written);
	}
	return 0;
}

void queue_done(struct queue *queue)
{
	for (unsigned i = 0; i < queue->count; i++)
		packet_unref(*slot_of(queue, i));
	free(queue->packets);
	*queue = (struct queue){ 0 };
}
