/* reason.h: why the kernel said no, in words for people. Thread: any. */
#ifndef IL_NET_REASON_H
#define IL_NET_REASON_H

#include "base/base.h"

#define NET_REASON_SIZE 80

/* "connection refused": as it stands in the middle of a sentence. Returns `text`, of
 * NET_REASON_SIZE bytes. */
const char *net_reason_text(int sys_errno, char *text);

/* This process or this machine has run out of something: no address is to blame. */
bool net_is_shortage(int sys_errno);

/* What to do about a shortage. Static. */
const char *net_shortage_remedy(int sys_errno);

#endif
