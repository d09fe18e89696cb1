/*
 * fuzz_database.c - changed bytes of a small database, opened and loaded as at a start; what is refused is salvaged.
 *
 * The input is a list of changes, four bytes each: three of place, one that is xored. So every input is near a database,
 * and the corpus outlives a change of the schema. The first byte chooses whether the log is still apart.
 * Checked: a refusal has a sentence and a known code; what is loaded is what was written; what is salvaged can be loaded.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "fault_vfs.h"
#include "fuzz.h"
#include "fuzz_folder.h"
#include "store/salvage.h"
#include "store_model.h"

enum { SEED = 5, STEPS = 14, CHANGE_SIZE = 4, CHANGES_MAX = 64 };

static const char *const names[] = { "drover.db", "drover.db-wal" };

/* The two files, once closed and once as a crash leaves them. */
struct base {
	struct model *model;
	struct buf closed;
	struct buf open[2];
};

static void read_file(const char *directory, const char *name, struct buf *ret)
{
	CLEANUP_FREE char *path = xasprintf("%s/%s", directory, name);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	ASSERT(fd >= 0 && fd_read_all(fd, ret, 64 << 20) == 0);
}

static const struct base *get_base(void)
{
	static const struct store_loader no_loader;
	static struct fault_vfs fault; /* for its syncs, which do nothing */
	static struct base base;
	char *directory;
	struct store *store = NULL;
	struct store_facts facts;

	if (base.model)
		return &base;
	fault_vfs_install(&fault);
	directory = model_make_directory();
	base.model = model_new(SEED);
	ASSERT(model_open(directory, 0, &store, NULL) == 0);
	ASSERT(store_load(store, &no_loader, &facts, NULL) == 0);
	for (int i = 0; i < STEPS; i++) {
		struct store_txn *txn = store_txn_new();

		model_step(base.model, txn);
		ASSERT(model_commit(store, txn, NULL) == 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		read_file(directory, names[i], &base.open[i]);
	store_close(store);
	read_file(directory, names[0], &base.closed);
	model_remove_directory(directory);
	return &base;
}

/* Writes the files with the changes; a place counts through both of them. */
static void write_changed(const struct base *base, const uint8_t *data, size_t size, bool is_open)
{
	const struct buf *files = is_open ? base->open : &base->closed;
	size_t first = files[0].length, total = first + (is_open ? files[1].length : 0);
	CLEANUP_FREE char *bytes = xcalloc(1, total);

	memcpy(bytes, files[0].bytes, first);
	if (is_open)
		memcpy(bytes + first, files[1].bytes, files[1].length);
	for (size_t i = 0; i + CHANGE_SIZE <= size && i < CHANGES_MAX * CHANGE_SIZE; i += CHANGE_SIZE) {
		size_t place = ((size_t)data[i] << 16 | (size_t)data[i + 1] << 8 | data[i + 2]) % total;

		bytes[place] = (char)(bytes[place] ^ data[i + 3]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unlinkat(fuzz_folder_fd(), names[i], 0);
	fuzz_folder_write(names[0], bytes, first);
	fuzz_folder_write("0.db", bytes, first);
	unlinkat(fuzz_folder_fd(), "0.db-wal", 0);
	if (!is_open)
		return;
	fuzz_folder_write(names[1], bytes + first, files[1].length);
	fuzz_folder_write("0.db-wal", bytes + first, files[1].length);
}

static int load(const struct base *base, bool *ret_is_equal, struct err *err)
{
	struct store_options options = {
		.state_fd = fuzz_folder_fd(),
		.state_dir = fuzz_folder_path(),
		.committed_seq = base->model->facts.last_seq,
	};
	struct store *store = NULL;
	char why[256];
	int code = store_open(&options, &store, err);

	if (code == 0)
		code = model_load(base->model, store, ret_is_equal, why, err);
	store_close(store);
	return code;
}

static void salvage(const struct base *base)
{
	static const struct store_loader no_loader;
	CLEANUP_FREE char *path = xasprintf("%s/0.db", fuzz_folder_path());
	CLEANUP_FREE char *new_path = xasprintf("%s/%s", fuzz_folder_path(), names[0]);
	struct salvage_file file = { .path = path, .name = "0.db" };
	struct salvage_options options = {
		.files = &file, .file_count = 1, .committed_seq = base->model->facts.last_seq, .new_path = new_path
	};
	struct salvage_result result;
	struct store *store = NULL;
	struct store_facts facts;
	struct err err = ERR_INIT;
	int code;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unlinkat(fuzz_folder_fd(), names[i], 0);
	fuzz_folder_write(names[0], "", 0);
	code = salvage_build(&options, &result, &err);
	ASSERT(code == 0 || (code == -ENODATA && strlen(err.text) > 0));
	buf_done(&result.report);
	if (code < 0)
		return;
	ASSERT(model_open(fuzz_folder_path(), base->model->facts.last_seq, &store, NULL) == 0);
	ASSERT(store_load(store, &no_loader, &facts, NULL) == 0);
	ASSERT(facts.last_seq > base->model->facts.last_seq);
	store_close(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct base *base = get_base();
	struct err err = ERR_INIT;
	bool is_equal = false;
	int code;

	if (size == 0)
		return 0;
	write_changed(base, data + 1, size - 1, data[0] & 1);
	code = load(base, &is_equal, &err);
	ASSERT((code < 0) == (strlen(err.text) > 0));
	if (code == 0) {
		ASSERT(is_equal);
		return 0;
	}
	ASSERT(code == -EILSEQ || code == -EPROTO);
	salvage(base);
	return 0;
}
