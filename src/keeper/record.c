#include "keeper/record.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/fd.h"
#include "platform/lock.h"

enum { READ_TRIES = 100, FILL_SIZE = 65536 };

static const char header_magic[8] = "drover-s";

static off_t place_of(uint32_t slot)
{
	return RECORD_HEADER_SIZE + (off_t)slot * RECORD_SIZE;
}

static uint32_t record_crc(const struct slot_record *record)
{
	return crc32c(0, (const char *)record + sizeof(record->crc), sizeof(*record) - sizeof(record->crc));
}

/* The sequence number changes by itself, so it stands outside. */
static uint32_t header_crc(const struct slot_header *header)
{
	uint32_t crc = crc32c(0, header->magic, sizeof(header->magic));

	crc = crc32c(crc, &header->version, sizeof(header->version));
	crc = crc32c(crc, &header->slots, sizeof(header->slots));
	return crc32c(crc, header->unused, sizeof(header->unused));
}

static int write_at(int fd, const void *bytes, size_t length, off_t offset)
{
	ssize_t written;

	do
		written = pwrite(fd, bytes, length, offset);
	while (written < 0 && errno == EINTR);
	if (written < 0)
		return -errno;
	return (size_t)written == length ? 0 : -ENOSPC;
}

static int read_at(int fd, void *bytes, size_t length, off_t offset)
{
	ssize_t got;

	do
		got = pread(fd, bytes, length, offset);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	return (size_t)got == length ? 0 : -EIO;
}

/* Real records everywhere, so that zeroes are damage and the space is there when the disk is full. */
static int fill(int fd, uint32_t slots)
{
	struct slot_record block[FILL_SIZE / RECORD_SIZE] = { 0 };
	struct slot_header header = { .version = RECORD_VERSION, .slots = slots };
	int r;

	memcpy(header.magic, header_magic, sizeof(header.magic));
	header.crc = header_crc(&header);
	for (size_t i = 0; i < ARRAY_SIZE(block); i++)
		block[i].crc = record_crc(&block[i]);
	r = write_at(fd, &header, sizeof(header), 0);
	for (uint32_t slot = 0; slot < slots && r == 0; slot += ARRAY_SIZE(block)) {
		size_t count = MIN(slots - slot, ARRAY_SIZE(block));

		r = write_at(fd, block, count * RECORD_SIZE, place_of(slot));
	}
	return r;
}

/* Without it each write to a shared or copy-on-write extent would need new space (btrfs). */
static void forbid_copy_on_write(int fd)
{
	int flags;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return;
	flags |= FS_NOCOW_FL;
	if (ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0)
		return; /* only btrfs and a few others know it */
}

/*
 * Made under another name and moved into place whole and on disk: a half-made file would be refused for ever.
 */
static int make_file(int state_fd, const char *name, uint32_t slots, struct err *err)
{
	char new_name[64];
	CLEANUP_FD int fd = -1;
	int r;

	snprintf(new_name, sizeof(new_name), "%s.%d.new", name, (int)getpid());
	fd = openat(state_fd, new_name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(err, -errno, "make the slot file '%s'", new_name);
	forbid_copy_on_write(fd);
	r = fill(fd, slots);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && renameat2(state_fd, new_name, state_fd, name, RENAME_NOREPLACE) < 0 && errno != EEXIST)
		r = -errno;
	unlinkat(state_fd, new_name, 0); /* still there after an error, or when another was faster */
	if (r == -ENOSPC || r == -EDQUOT)
		return err_say(err, r,
		               "disk full: the slot file '%s' needs %u KiB: make room on the file system of the state "
		               "directory",
		               name, (unsigned)(place_of(slots) >> 10));
	return r < 0 ? err_set(err, r, "make the slot file '%s'", name) : 0;
}

static int check_file(int fd, const char *name, uint32_t slots, struct err *err)
{
	struct slot_header header;
	struct stat status;
	int r;

	if (fstat(fd, &status) < 0)
		return err_set(err, -errno, "look at the slot file '%s'", name);
	if (!S_ISREG(status.st_mode) || status.st_uid != geteuid())
		return err_say(err, -EPERM, "the slot file '%s' is not a plain file of this user", name);
	r = read_at(fd, &header, sizeof(header), 0);
	if (r < 0)
		return err_say(err, -EILSEQ, "the slot file '%s' is cut short: remove it when no task of drover runs",
		               name);
	if (memcmp(header.magic, header_magic, sizeof(header.magic)) != 0 || header.crc != header_crc(&header))
		return err_say(err, -EILSEQ, "'%s' is no slot file, or damaged: remove it when no task of drover runs",
		               name);
	if (header.version != RECORD_VERSION)
		return err_say(err, -EPROTO, "the slot file '%s' has version %u, not %d: use the drover that made it", name,
		               header.version, RECORD_VERSION);
	if (header.slots != slots || status.st_size < place_of(slots))
		return err_say(err, -EILSEQ, "the slot file '%s' is for %u slots in %lld bytes, this drover wants %u", name,
		               header.slots, (long long)status.st_size, slots);
	return 0;
}

int record_open(int state_fd, const char *name, uint32_t slots, int *ret_fd, struct err *err)
{
	CLEANUP_FD int fd = openat(state_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (fd < 0 && errno == ENOENT) {
		r = make_file(state_fd, name, slots, err);
		if (r < 0)
			return r;
		fd = openat(state_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	}
	if (fd < 0)
		return err_set(err, -errno, "open the slot file '%s'", name);
	r = check_file(fd, name, slots, err);
	if (r == 0)
		*ret_fd = TAKE_FD(fd);
	return r;
}

int record_read(int fd, uint32_t slot, struct slot_record *ret)
{
	struct slot_record record;

	for (int try = 0; try < READ_TRIES; try++) {
		int r = read_at(fd, &record, sizeof(record), place_of(slot));

		if (r < 0)
			return r;
		if (record.crc == record_crc(&record) && record.state < RECORD_STATE_MAX) {
			*ret = record;
			return 0;
		}
		sched_yield(); /* somebody writes it */
	}
	*ret = (struct slot_record){ 0 };
	return -EILSEQ;
}

int record_write(int fd, uint32_t slot, struct slot_record *record)
{
	ASSERT(record->state < RECORD_STATE_MAX);
	record->crc = record_crc(record);
	return write_at(fd, record, sizeof(*record), place_of(slot));
}

int record_lock(int fd, uint32_t slot)
{
	return lock_take(fd, (uint64_t)place_of(slot), RECORD_SIZE);
}

void record_unlock(int fd, uint32_t slot)
{
	lock_release(fd, (uint64_t)place_of(slot), RECORD_SIZE);
}

bool record_is_locked(int fd, uint32_t slot)
{
	return lock_is_held(fd, (uint64_t)place_of(slot), RECORD_SIZE);
}

int record_read_committed(int fd, uint64_t *ret_seq)
{
	return read_at(fd, ret_seq, sizeof(*ret_seq), offsetof(struct slot_header, committed_seq));
}

int record_write_committed(int fd, uint64_t seq)
{
	return write_at(fd, &seq, sizeof(seq), offsetof(struct slot_header, committed_seq));
}

static off_t place_of_base(uint32_t index)
{
	return (off_t)offsetof(struct slot_header, cgroup_bases) + (off_t)(index - 1) * RECORD_CGROUP_BASE_MAX;
}

int record_cgroup_base(int fd, uint32_t index, char path[RECORD_CGROUP_BASE_MAX])
{
	char text[RECORD_CGROUP_BASE_MAX];
	int r;

	path[0] = '\0';
	if (index == 0)
		return 0;
	if (index > RECORD_CGROUP_BASES)
		return -EINVAL;
	r = read_at(fd, text, sizeof(text), place_of_base(index));
	if (r < 0)
		return r;
	text[sizeof(text) - 1] = '\0';
	memcpy(path, text, sizeof(text));
	return 0;
}

/* True when no record that may still have processes points at this place of the table. */
static int is_base_unused(int fd, uint32_t slots, uint32_t index)
{
	for (uint32_t slot = 0; slot < slots; slot++) {
		struct slot_record record;
		int r = record_read(fd, slot, &record);

		if (r < 0 && r != -EILSEQ)
			return r;
		if (r == 0 && record.state != RECORD_FREE && record.cgroup_base == index)
			return 0;
	}
	return 1;
}

int record_enter_cgroup_base(int fd, uint32_t slots, const char *path, uint32_t *ret)
{
	char text[RECORD_CGROUP_BASE_MAX];
	uint32_t place = 0;
	int r;

	*ret = 0;
	if (strlen(path) >= sizeof(text))
		return -ENAMETOOLONG;
	for (uint32_t index = RECORD_CGROUP_BASES; index >= 1; index--) {
		r = record_cgroup_base(fd, index, text);
		if (r < 0)
			return r;
		if (strcmp(text, path) == 0) {
			*ret = index;
			return 0;
		}
		if (text[0] == '\0')
			place = index; /* the lowest free one in the end */
	}
	for (uint32_t index = 1; index <= RECORD_CGROUP_BASES && place == 0; index++) {
		r = is_base_unused(fd, slots, index);
		if (r < 0)
			return r;
		place = r ? index : 0;
	}
	if (place == 0)
		return -ENOSPC;
	memset(text, 0, sizeof(text));
	memcpy(text, path, strlen(path));
	r = write_at(fd, text, sizeof(text), place_of_base(place));
	if (r == 0)
		*ret = place;
	return r;
}

void record_cgroup_name(uint32_t slot, uint32_t serial, char name[RECORD_CGROUP_NAME_MAX])
{
	if (serial == 0)
		snprintf(name, RECORD_CGROUP_NAME_MAX, "slot-%u", slot);
	else
		snprintf(name, RECORD_CGROUP_NAME_MAX, "slot-%u.%u", slot, serial);
}

const char *record_stage_name(enum start_stage stage)
{
	static const char *const names[STAGE_MAX] = {
		[STAGE_NONE] = "starting",
		[STAGE_OUTPUT] = "making the log or the pipe for its output",
		[STAGE_ENVIRONMENT] = "reading its environment",
		[STAGE_CGROUP] = "making its control group",
		[STAGE_CLONE] = "making its process",
		[STAGE_DIRECTORY] = "entering its working directory",
		[STAGE_INPUT] = "opening the file for its standard input",
		[STAGE_LIMITS] = "setting its priority and limits",
		[STAGE_EXEC] = "finding or executing the program",
		[STAGE_INTERPRETER] = "finding or executing the interpreter that the program names",
	};

	return stage < STAGE_MAX ? names[stage] : "an unknown step";
}
