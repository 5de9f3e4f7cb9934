/* reason.c: why the kernel said no, in words for people. No state. Thread: any. */
#include "net/reason.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

const char *net_reason_text(int sys_errno, char *text)
{
    const char *reason = strerrordesc_np(sys_errno);

    (void)snprintf(text, NET_REASON_SIZE, "%s", reason != NULL ? reason : "unknown error");
    if (!isupper((unsigned char)text[1])) {
        text[0] = (char)tolower((unsigned char)text[0]);
    }
    return text;
}

bool net_is_shortage(int sys_errno)
{
    return sys_errno == EMFILE || sys_errno == ENFILE || sys_errno == ENOBUFS ||
           sys_errno == ENOMEM;
}

const char *net_shortage_remedy(int sys_errno)
{
    switch (sys_errno) {
    case EMFILE:
        return "raise this process's limit of open files (ulimit -n) or have fewer open";
    case ENFILE:
        return "raise the system's limit of open files (sysctl fs.file-max) or have fewer open";
    default:
        return "the kernel has no memory for sockets: try again when there is some";
    }
}
