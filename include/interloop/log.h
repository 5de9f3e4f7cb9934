/* log.h: where the library's few remarks go. It never prints by itself. */
#ifndef INTERLOOP_LOG_H
#define INTERLOOP_LOG_H

#include "interloop/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Called with one line, without its newline. May be called from any thread, never under a lock of
 * the library's. Must not call back into the library. */
typedef void il_log_fn(void *arg, const char *line);

/* Set the process's log hook; NULL turns it off, which is the default. Set it before the first
 * other call; changing it while the library is in use may lose or misdirect a line in flight.
 * Thread: any, one at a time. Since 0.1. */
IL_API void il_set_log(il_log_fn *log, void *arg);

#ifdef __cplusplus
}
#endif
#endif
