/* error.h: the result codes of every call, and the detail that may come with one.
 *
 * Functions that can fail return an `enum il_code`. Those that can say more take a
 * `struct il_error *` as their last parameter; NULL means the detail is not wanted. An il_error is
 * a plain value: copy it, send it to another thread, forget it. Thread: any. Since 0.1. */
#ifndef INTERLOOP_ERROR_H
#define INTERLOOP_ERROR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IL_API          __attribute__((visibility("default")))
#define IL_MUST_USE     __attribute__((warn_unused_result))
#define IL_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* One list: the enum, the names, the texts and the manual are made from it. The numbers are part
 * of the ABI; new codes go to the end. */
#define IL_CODES(X)                                                                                \
    X(OK, 0, "no error")                                                                           \
    X(EINVAL, 1, "the call was used in a way it does not allow")                                   \
    X(ENOMEM, 2, "out of memory")                                                                  \
    X(ESYS, 3, "a system call failed")                                                             \
    X(ELIMIT, 4, "a configured limit was reached")                                                 \
    X(ECANCELED, 5, "cancelled by the caller")                                                     \
    X(ETIMEDOUT, 6, "a time limit ran out")                                                        \
    X(EAGAIN, 7, "not possible at once, and the call does not wait")                               \
    X(ECLOSED, 8, "the other side is closed")                                                      \
    X(EDEADLOCK, 9, "the wait could never end: the waiter itself would have to end it")            \
    X(ESHUTDOWN, 10, "the runtime that waited for the result was shut down")                       \
    X(EFORK, 11, "the object belongs to the process that this one was forked from")                \
    X(EURL, 12, "the URL is not valid")                                                            \
    X(EREQUEST, 13, "the request is not valid")                                                    \
    X(ERESOLVE, 14, "the host name could not be resolved")                                         \
    X(ECONNECT, 15, "the connection could not be established")                                     \
    X(EPEERCLOSED, 16, "the server closed the connection before the response was complete")        \
    X(EPROTOCOL, 17, "the server's response is not valid HTTP")                                    \
    X(EHEADERSIZE, 18, "the response's header is larger than allowed")                             \
    X(EBODYSIZE, 19, "the response's body is larger than allowed")                                 \
    X(EOWNERGONE, 20, "the runtime that drives the connection is gone")                            \
    X(EPOOLFULL, 21, "too many requests already wait for a connection")                            \
    X(ETLS, 22, "TLS with the server failed")                                                      \
    X(ECERT, 23, "the server's certificate was not accepted")

enum il_code {
#define IL_CODE_ENUM(name, number, text) IL_##name = number,
    IL_CODES(IL_CODE_ENUM)
#undef IL_CODE_ENUM
};

/* What a request was doing. Each phase has a time limit of its own (see client.h). */
enum il_phase {
    IL_PHASE_NONE = 0,
    IL_PHASE_POOL_WAIT,  /* waiting for a connection, or for a place to open one */
    IL_PHASE_RESOLVE,    /* DNS */
    IL_PHASE_CONNECT,    /* TCP handshake */
    IL_PHASE_TLS,        /* TLS handshake */
    IL_PHASE_DISPATCH,   /* bound driver: handed to the loop that drives the connection */
    IL_PHASE_WRITE,      /* sending the request; the limit is for a pause without progress */
    IL_PHASE_FIRST_BYTE, /* request sent, no response yet */
    IL_PHASE_READ,       /* receiving; the limit is for a pause without progress */
    IL_PHASE_DONE,
    IL_PHASE_TOTAL, /* the request as a whole; named by errors only */
};

#define IL_ERROR_MESSAGE_SIZE 232

struct il_error {
    enum il_code code;
    int sys_errno;       /* of the system call that failed, else 0 */
    enum il_phase phase; /* what a request was doing, else IL_PHASE_NONE */
    uint32_t limit_ms;   /* IL_ETIMEDOUT: the limit that ran out, in milliseconds, else 0 */
    char message[IL_ERROR_MESSAGE_SIZE]; /* for people: what happened, to what; not empty */
};

/* "IL_ETIMEDOUT"; for an unknown code "IL_E?". Static. */
IL_API const char *il_code_name(enum il_code code);

/* One sentence without a full stop. Static. */
IL_API const char *il_code_text(enum il_code code);

/* "first-byte" and so on. Static. */
IL_API const char *il_phase_name(enum il_phase phase);

#ifdef __cplusplus
}
#endif
#endif
