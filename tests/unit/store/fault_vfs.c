#include "fault_vfs.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fault_file {
	sqlite3_file base;
	struct fault_vfs *fault;
	char suffix[16];
	sqlite3_file *real; /* behind this struct */
};

/* Counts a call; returns 0 or what it must fail with. May not return. */
static int count_call(struct fault_vfs *fault, int code)
{
	fault->calls++;
	switch (fault->action) {
	case FAULT_NONE:
		return SQLITE_OK;
	case FAULT_ERROR_ONCE:
		return fault->calls == fault->at ? code : SQLITE_OK;
	case FAULT_ERROR_EVER:
		return fault->calls >= fault->at ? code : SQLITE_OK;
	case FAULT_FULL_EVER:
		return fault->calls >= fault->at ? SQLITE_FULL : SQLITE_OK;
	case FAULT_KILL:
		return fault->calls == fault->at ? code : SQLITE_OK;
	}
	return SQLITE_OK;
}

static void die_if_armed(const struct fault_vfs *fault)
{
	if (fault->action == FAULT_KILL)
		kill(getpid(), SIGKILL);
}

static void record(struct fault_vfs *fault, const struct fault_entry *entry, const char *suffix, const void *bytes)
{
	struct fault_entry copy = *entry;

	if (!fault->is_recording)
		return;
	snprintf(copy.suffix, sizeof(copy.suffix), "%s", suffix);
	buf_add(&fault->record, &copy, sizeof(copy));
	buf_add(&fault->record, bytes, entry->size);
}

void fault_vfs_mark(struct fault_vfs *fault, uint64_t number)
{
	record(fault, &(struct fault_entry){ .kind = FAULT_ENTRY_MARK, .offset = number }, "", "");
}

static struct fault_file *to_file(sqlite3_file *base)
{
	return (struct fault_file *)base;
}

static int file_close(sqlite3_file *base)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xClose(real);
}

static int file_read(sqlite3_file *base, void *bytes, int size, sqlite3_int64 offset)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xRead(real, bytes, size, offset);
}

static int file_write(sqlite3_file *base, const void *bytes, int size, sqlite3_int64 offset)
{
	struct fault_file *file = to_file(base);
	int code = count_call(file->fault, SQLITE_IOERR_WRITE);

	if (code != SQLITE_OK) {
		file->real->pMethods->xWrite(file->real, bytes, size / 2, offset);
		die_if_armed(file->fault);
		return code;
	}
	record(file->fault, &(struct fault_entry){ FAULT_ENTRY_WRITE, (uint32_t)size, (uint64_t)offset, "" }, file->suffix,
	       bytes);
	return file->real->pMethods->xWrite(file->real, bytes, size, offset);
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size)
{
	struct fault_file *file = to_file(base);
	int code = count_call(file->fault, SQLITE_IOERR_TRUNCATE);

	if (code != SQLITE_OK) {
		die_if_armed(file->fault);
		return code;
	}
	record(file->fault, &(struct fault_entry){ FAULT_ENTRY_TRUNCATE, 0, (uint64_t)size, "" }, file->suffix, "");
	return file->real->pMethods->xTruncate(file->real, size);
}

static int file_sync(sqlite3_file *base, int flags UNUSED)
{
	struct fault_file *file = to_file(base);
	int code = count_call(file->fault, SQLITE_IOERR_FSYNC);

	if (code != SQLITE_OK && code != SQLITE_FULL) {
		die_if_armed(file->fault);
		return code;
	}
	record(file->fault, &(struct fault_entry){ FAULT_ENTRY_SYNC, 0, 0, "" }, file->suffix, "");
	return SQLITE_OK;
}

static int file_size(sqlite3_file *base, sqlite3_int64 *ret)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xFileSize(real, ret);
}

static int file_lock(sqlite3_file *base, int level)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xLock(real, level);
}

static int file_unlock(sqlite3_file *base, int level)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xUnlock(real, level);
}

static int file_check_lock(sqlite3_file *base, int *ret)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xCheckReservedLock(real, ret);
}

static int file_control(sqlite3_file *base, int operation, void *argument)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xFileControl(real, operation, argument);
}

static int file_sector_size(sqlite3_file *base)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xSectorSize(real);
}

static int file_characteristics(sqlite3_file *base)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xDeviceCharacteristics(real);
}

/* Version 1: no shared memory, as the store's exclusive lock needs none; a store that wanted it would fail here. */
static const sqlite3_io_methods file_methods = {
	.iVersion = 1,
	.xClose = file_close,
	.xRead = file_read,
	.xWrite = file_write,
	.xTruncate = file_truncate,
	.xSync = file_sync,
	.xFileSize = file_size,
	.xLock = file_lock,
	.xUnlock = file_unlock,
	.xCheckReservedLock = file_check_lock,
	.xFileControl = file_control,
	.xSectorSize = file_sector_size,
	.xDeviceCharacteristics = file_characteristics,
};

static const char *suffix_of(const char *name)
{
	const char *dot = name ? strrchr(name, '.') : NULL;

	return dot ? dot : "";
}

static int vfs_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *base, int flags, int *ret_flags)
{
	struct fault_vfs *fault = (struct fault_vfs *)vfs;
	struct fault_file *file = to_file(base);
	int code;

	memset(file, 0, sizeof(*file));
	file->fault = fault;
	file->real = (sqlite3_file *)(file + 1);
	snprintf(file->suffix, sizeof(file->suffix), "%s", suffix_of(name));
	code = fault->real->xOpen(fault->real, name, file->real, flags, ret_flags);
	file->base.pMethods = file->real->pMethods ? &file_methods : NULL;
	return code;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
	struct fault_vfs *fault = (struct fault_vfs *)vfs;
	int code = count_call(fault, SQLITE_IOERR_DELETE);

	if (code != SQLITE_OK) {
		die_if_armed(fault);
		return code;
	}
	record(fault, &(struct fault_entry){ .kind = FAULT_ENTRY_REMOVE }, suffix_of(name), "");
	return fault->real->xDelete(fault->real, name, sync);
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret)
{
	struct fault_vfs *fault = (struct fault_vfs *)vfs;

	return fault->real->xAccess(fault->real, name, flags, ret);
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *name, int size, char *ret)
{
	struct fault_vfs *fault = (struct fault_vfs *)vfs;

	return fault->real->xFullPathname(fault->real, name, size, ret);
}

void fault_vfs_install(struct fault_vfs *fault)
{
	*fault = (struct fault_vfs){ .real = sqlite3_vfs_find(NULL) };
	fault->vfs = *fault->real;
	fault->vfs.zName = "fault";
	fault->vfs.szOsFile = (int)sizeof(struct fault_file) + fault->real->szOsFile;
	fault->vfs.pNext = NULL;
	fault->vfs.xOpen = vfs_open;
	fault->vfs.xDelete = vfs_delete;
	fault->vfs.xAccess = vfs_access;
	fault->vfs.xFullPathname = vfs_full_path;
	sqlite3_vfs_register(&fault->vfs, 1);
}

void fault_vfs_remove(struct fault_vfs *fault)
{
	sqlite3_vfs_unregister(&fault->vfs);
	sqlite3_vfs_register(fault->real, 1);
	buf_done(&fault->record);
}

void fault_vfs_arm(struct fault_vfs *fault, enum fault_action action, uint64_t at)
{
	fault->action = action;
	fault->at = at;
	fault->calls = 0;
}
