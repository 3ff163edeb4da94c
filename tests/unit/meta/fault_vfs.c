/* A failing SQLite VFS: see fault_vfs.h. */
#include "unit/meta/fault_vfs.h"

#include <assert.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct fault_file {
    sqlite3_file base;
    sqlite3_file *real; /* behind this struct */
};

static sqlite3_vfs vfs;
static sqlite3_vfs *real_vfs;
static sqlite3_io_methods methods;
static _Atomic uint64_t operations, first_failing, failing_count, failed;
static _Atomic int fail_result;

static int fault_next(void)
{
    uint64_t number = atomic_fetch_add(&operations, 1) + 1;
    if (first_failing && number >= first_failing && number - first_failing < failing_count) {
        atomic_fetch_add(&failed, 1);
        return fail_result;
    }
    return SQLITE_OK;
}

#define REAL(file) (((struct fault_file *)(file))->real)

static int fault_close(sqlite3_file *file)
{
    return REAL(file)->pMethods ? REAL(file)->pMethods->xClose(REAL(file)) : SQLITE_OK;
}
static int fault_read(sqlite3_file *file, void *out, int amount, sqlite3_int64 offset)
{
    return REAL(file)->pMethods->xRead(REAL(file), out, amount, offset);
}
static int fault_write(sqlite3_file *file, const void *data, int amount, sqlite3_int64 offset)
{
    int result = fault_next();
    if (result != SQLITE_OK) {
        REAL(file)->pMethods->xWrite(REAL(file), data, amount / 2, offset);
        return result;
    }
    return REAL(file)->pMethods->xWrite(REAL(file), data, amount, offset);
}
static int fault_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    int result = fault_next();
    return result != SQLITE_OK ? result : REAL(file)->pMethods->xTruncate(REAL(file), size);
}
static int fault_sync(sqlite3_file *file, int flags)
{
    int result = fault_next();
    /* A full disk shows when writing; what fails in a sync is an input/output error. */
    if (result != SQLITE_OK)
        return result == SQLITE_FULL ? SQLITE_IOERR_FSYNC : result;
    return REAL(file)->pMethods->xSync(REAL(file), flags);
}
static int fault_file_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return REAL(file)->pMethods->xFileSize(REAL(file), size);
}
static int fault_lock(sqlite3_file *file, int level)
{
    return REAL(file)->pMethods->xLock(REAL(file), level);
}
static int fault_unlock(sqlite3_file *file, int level)
{
    return REAL(file)->pMethods->xUnlock(REAL(file), level);
}
static int fault_check_lock(sqlite3_file *file, int *out)
{
    return REAL(file)->pMethods->xCheckReservedLock(REAL(file), out);
}
static int fault_control(sqlite3_file *file, int op, void *arg)
{
    return REAL(file)->pMethods->xFileControl(REAL(file), op, arg);
}
static int fault_sector_size(sqlite3_file *file)
{
    return REAL(file)->pMethods->xSectorSize(REAL(file));
}
static int fault_characteristics(sqlite3_file *file)
{
    return REAL(file)->pMethods->xDeviceCharacteristics(REAL(file));
}

static int fault_open(sqlite3_vfs *self, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    struct fault_file *fault = (struct fault_file *)file;
    fault->real = (sqlite3_file *)(void *)(fault + 1);
    int result = real_vfs->xOpen(real_vfs, name, fault->real, flags, out_flags);
    file->pMethods = fault->real->pMethods ? &methods : NULL;
    return result;
}

void fault_vfs_install(void)
{
    real_vfs = sqlite3_vfs_find(NULL);
    assert(real_vfs);
    vfs = *real_vfs;
    vfs.zName = "fault";
    vfs.pNext = NULL;
    vfs.szOsFile = (int)sizeof(struct fault_file) + real_vfs->szOsFile;
    vfs.xOpen = fault_open;
    methods = (sqlite3_io_methods){
        .iVersion = 1,
        .xClose = fault_close,
        .xRead = fault_read,
        .xWrite = fault_write,
        .xTruncate = fault_truncate,
        .xSync = fault_sync,
        .xFileSize = fault_file_size,
        .xLock = fault_lock,
        .xUnlock = fault_unlock,
        .xCheckReservedLock = fault_check_lock,
        .xFileControl = fault_control,
        .xSectorSize = fault_sector_size,
        .xDeviceCharacteristics = fault_characteristics,
    };
    int result = sqlite3_vfs_register(&vfs, 1);
    assert(result == SQLITE_OK);
    (void)result;
}

void fault_vfs_fail(uint64_t nth, uint64_t count, int result)
{
    fail_result = result;
    failing_count = count;
    failed = 0;
    first_failing = nth ? operations + nth : 0;
}

uint64_t fault_vfs_operations(void)
{
    return operations;
}

uint64_t fault_vfs_failed(void)
{
    return failed;
}
