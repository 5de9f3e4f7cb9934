/* log.c: the process's one log hook. */
#include <stdio.h>

#include "base/base.h"
#include "interloop/log.h"

static _Atomic(il_log_fn *) log_hook;
static _Atomic(void *) log_arg;

void il_set_log(il_log_fn *log, void *arg)
{
    atomic_store(&log_hook, NULL);
    atomic_store(&log_arg, arg);
    atomic_store(&log_hook, log);
}

bool il_log_is_on(void)
{
    return atomic_load(&log_hook) != NULL;
}

void il_log_event(const char *format, ...)
{
    il_log_fn *hook = atomic_load(&log_hook);
    char line[512];
    va_list args;

    if (hook == NULL) {
        return;
    }
    va_start(args, format);
    (void)vsnprintf(line, sizeof(line), format, args); /* a cut line is better than none */
    va_end(args);
    hook(atomic_load(&log_arg), line);
}
