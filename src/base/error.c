/* error.c: names and texts of codes, and how an error is made. No state. */
#include <errno.h>
#include <stdio.h>

#include "base/base.h"

const char *il_code_name(enum il_code code)
{
    switch (code) {
#define CODE_NAME(name, number, text)                                                              \
    case IL_##name:                                                                                \
        return "IL_" #name;
        IL_CODES(CODE_NAME)
#undef CODE_NAME
    }
    return "IL_E?";
}

const char *il_code_text(enum il_code code)
{
    switch (code) {
#define CODE_TEXT(name, number, text)                                                              \
    case IL_##name:                                                                                \
        return text;
        IL_CODES(CODE_TEXT)
#undef CODE_TEXT
    }
    return "unknown error";
}

const char *il_phase_name(enum il_phase phase)
{
    static const char *const names[] = {
        [IL_PHASE_NONE] = "none",       [IL_PHASE_POOL_WAIT] = "pool-wait",
        [IL_PHASE_RESOLVE] = "resolve", [IL_PHASE_CONNECT] = "connect",
        [IL_PHASE_TLS] = "tls",         [IL_PHASE_DISPATCH] = "dispatch",
        [IL_PHASE_WRITE] = "write",     [IL_PHASE_FIRST_BYTE] = "first-byte",
        [IL_PHASE_READ] = "read",       [IL_PHASE_DONE] = "done",
        [IL_PHASE_TOTAL] = "total",
    };

    if ((size_t)phase >= il_array_count(names)) {
        return "?";
    }
    return names[phase];
}

static void error_fill(struct il_error *err, enum il_code code, int sys_errno, const char *format,
                       va_list args)
{
    int length;

    *err = (struct il_error){ .code = code, .sys_errno = sys_errno };
    length = vsnprintf(err->message, sizeof(err->message), format, args);
    if (sys_errno != 0 && length >= 0 && (size_t)length < sizeof(err->message)) {
        char text[96];

        (void)snprintf(err->message + length, sizeof(err->message) - (size_t)length, ": %s",
                       strerror_r(sys_errno, text, sizeof(text)));
    }
}

enum il_code il_fail(struct il_error *err, enum il_code code, const char *format, ...)
{
    int sys_errno = code == IL_ESYS ? errno : 0;
    va_list args;

    if (err != NULL) {
        va_start(args, format);
        error_fill(err, code, sys_errno, format, args);
        va_end(args);
    }
    return code;
}

enum il_code il_fail_errno(struct il_error *err, enum il_code code, int sys_errno,
                           const char *format, ...)
{
    va_list args;

    if (err != NULL) {
        va_start(args, format);
        error_fill(err, code, sys_errno, format, args);
        va_end(args);
    }
    return code;
}

enum il_code il_fail_timeout(struct il_error *err, enum il_phase phase, uint64_t limit_ms,
                             const char *format, ...)
{
    va_list args;

    if (err != NULL) {
        va_start(args, format);
        error_fill(err, IL_ETIMEDOUT, 0, format, args);
        va_end(args);
        err->phase = phase;
        err->limit_ms = (uint32_t)il_min_u64(limit_ms, UINT32_MAX);
    }
    return IL_ETIMEDOUT;
}
