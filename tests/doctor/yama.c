/* yama.c: to be preloaded into the doctor: refuses what a kernel with yama refuses to the same
 * user.
 *
 * Under kernel.yama.ptrace_scope=1 a process that is not the parent may read what needs
 * PTRACE_MODE_READ (open files, fdinfo, kcmp) and nothing that needs PTRACE_MODE_ATTACH. The
 * kernels that run the tests often have no yama, and root is never refused. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int open(const char *path, int flags, ...);
EXPORT ssize_t process_vm_readv(pid_t pid, const struct iovec *local, unsigned long local_count,
                                const struct iovec *remote, unsigned long remote_count,
                                unsigned long flags);
EXPORT long ptrace(int request, ...);
EXPORT long syscall(long number, ...);

static bool ends_with(const char *path, const char *end)
{
    size_t length = strlen(path), end_length = strlen(end);

    return length >= end_length && strcmp(path + length - end_length, end) == 0;
}

int open(const char *path, int flags, ...)
{
    static int (*real)(const char *path, int flags, ...);
    va_list args;
    int mode;

    va_start(args, flags);
    mode = va_arg(args, int);
    va_end(args);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "open");
    }
    if (strncmp(path, "/proc/", 6) == 0 &&
        (ends_with(path, "/syscall") || ends_with(path, "/mem") || ends_with(path, "/stack"))) {
        errno = EPERM;
        return -1;
    }
    if (strcmp(path, "/proc/sys/kernel/yama/ptrace_scope") == 0) {
        int fd = memfd_create("ptrace_scope", MFD_CLOEXEC);

        if (fd >= 0 && write(fd, "1\n", 2) == 2) {
            (void)lseek(fd, 0, SEEK_SET);
        }
        return fd;
    }
    return real(path, flags, mode);
}

ssize_t process_vm_readv(pid_t pid, const struct iovec *local, unsigned long local_count,
                         const struct iovec *remote, unsigned long remote_count,
                         unsigned long flags)
{
    errno = EPERM;
    return -1;
}

long ptrace(int request, ...)
{
    errno = EPERM;
    return -1;
}

long syscall(long number, ...)
{
    static long (*real)(long number, ...);
    long args[6];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++) {
        args[i] = va_arg(list, long);
    }
    va_end(list);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "syscall");
    }
    if (number == SYS_pidfd_getfd) {
        errno = EPERM;
        return -1;
    }
    return real(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}
