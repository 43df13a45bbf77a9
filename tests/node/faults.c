/* Between a program and the file system (LD_PRELOAD): what changes files below one
 * directory is counted, and from one operation on the disk fails or the process dies.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_long operations;
static long fault_at = -1;
static int fault_errno; /* 0: the process dies */
static int once;        /* only that operation fails, and none after it */
static long torn;       /* bytes of a write that are done all the same */
static char below[PATH_MAX];

long faults_count(void) { return operations; }

void faults_set(const char *directory, long at, int error, int only_once, long bytes)
{
    snprintf(below, sizeof below, "%s", directory);
    operations = 0;
    fault_errno = error;
    once = only_once;
    torn = bytes;
    fault_at = at;
}

__attribute__((constructor)) static void from_environment(void)
{
    const char *directory = getenv("FAULTS_BELOW");
    if (directory)
        faults_set(directory, atol(getenv("FAULTS_AT")), atoi(getenv("FAULTS_ERRNO")), 0, 0);
}

static int is_below(const char *path)
{
    return below[0] && strncmp(path, below, strlen(below)) == 0;
}

static int is_file_below(int file)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    path[size < 0 ? 0 : size] = 0;
    return is_below(path);
}

static int fails(void)
{
    long index = operations++;
    return fault_at >= 0 && (once ? index == fault_at : index >= fault_at);
}

static int fail(void)
{
    if (!fault_errno)
        kill(getpid(), SIGKILL);
    errno = fault_errno;
    return -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void *data, size_t size)
{
    if (is_file_below(file) && fails()) {
        size_t done = torn < 0 ? size / 2 : (size_t)torn < size ? (size_t)torn : size;
        if (done && REAL(write)(file, data, done) < 0)
            abort();
        return fail();
    }
    return REAL(write)(file, data, size);
}

int fsync(int file)
{
    return is_file_below(file) && fails() ? fail() : REAL(fsync)(file);
}

int fdatasync(int file)
{
    return is_file_below(file) && fails() ? fail() : REAL(fdatasync)(file);
}

int rename(const char *old, const char *new)
{
    return is_below(new) && fails() ? fail() : REAL(rename)(old, new);
}

int unlink(const char *path)
{
    return is_below(path) && fails() ? fail() : REAL(unlink)(path);
}

static int opened(const char *name, const char *path, int flags, mode_t mode)
{
    if ((flags & O_CREAT) && is_below(path) && fails())
        return fail();
    return ((__typeof__(&open))dlsym(RTLD_NEXT, name))(path, flags, mode);
}

static mode_t mode_of(int flags, va_list rest)
{
    return flags & O_CREAT ? va_arg(rest, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return opened("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return opened("open64", path, flags, mode);
}
