/* raw_client.h: a socket and a response reader for tests of the lab server, which must not trust
 * the library's client. Every wait has a deadline; whatever goes wrong fails the test.
 * Thread: each client one at a time. */
#ifndef LAB_RAW_CLIENT_H
#define LAB_RAW_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lab/server.h"

#define RAW_DEADLINE_MS 20000
#define RAW_IN_SIZE     (256 << 10)

enum raw_end {
    RAW_OPEN,
    RAW_FIN,
    RAW_RST,
};

struct raw {
    int fd;
    enum raw_end end;  /* how the server ended the connection, as far as read */
    size_t in_size;    /* bytes read and not yet taken by raw_answer */
    size_t read_count; /* recv() calls that gave something */
    char in[RAW_IN_SIZE + 1];
};

struct raw_answer {
    int status;
    size_t informational_count; /* 1xx before it */
    size_t body_size;           /* as declared, or read to the end */
    char head[16384];           /* status line and header lines of the final response */
    char body[65536 + 1];       /* NUL-terminated; of larger bodies the beginning */
};

/* Start a server; stop it, and check that no descriptor, thread or byte is left of it. All clients
 * must be closed before. One server at a time. `options` may be NULL. */
struct lab_server *raw_server_start(const struct lab_server_options *options);
void raw_server_stop(struct lab_server *server);

/* How many descriptors, threads, allocations the process has. */
struct raw_census {
    size_t fd_count;
    size_t thread_count; /* of lab servers */
    uint64_t live_count;
    uint64_t live_bytes;
};
void raw_census(struct raw_census *ret_census);
void raw_check_nothing_left(const struct raw_census *before);

/* Raise the limit of open descriptors to `count`; skips the test where that is not allowed. */
void raw_need_fds(size_t count);

/* RAW_DEADLINE_MS from now. */
uint64_t raw_soon(void);

/* Connect to the server. The caller closes. */
struct raw *raw_open(struct lab_server *server);
struct raw *raw_open_port(uint16_t port); /* of a server in another process */
/* As raw_open, for a port that need not accept: returns at once, connected or not. */
struct raw *raw_open_stalling(struct lab_server *server);
bool raw_is_connected(const struct raw *raw);
void raw_wait_connected(struct raw *raw);
void raw_close(struct raw *raw);
void raw_reset(struct raw *raw);          /* closes by RST */
uint16_t raw_port(const struct raw *raw); /* our own */

void raw_send(struct raw *raw, const char *text);
void raw_send_bytes(struct raw *raw, const void *data, size_t size);
/* Send what the socket takes without waiting; returns how much. */
size_t raw_send_some(struct raw *raw, const void *data, size_t size);

/* Read more into raw->in; false at the end of the connection. */
bool raw_read(struct raw *raw);
/* Read until raw->in contains `text`. */
void raw_read_until(struct raw *raw, const char *text);
/* Read until the server ends the connection; returns how. */
enum raw_end raw_read_to_end(struct raw *raw);
/* Whether nothing is there to be read now, and the connection is open. */
bool raw_is_quiet(const struct raw *raw);

/* Read one response by its framing (length, chunks, end); 1xx are skipped and counted. */
void raw_read_answer(struct raw *raw, bool is_head, struct raw_answer *ret_answer);
/* "GET target HTTP/1.1" and its answer. */
void raw_get(struct raw *raw, const char *target, struct raw_answer *ret_answer);
/* The value of a header line of the answer, in `buffer`; NULL if there is none. */
const char *raw_header(const struct raw_answer *answer, const char *name, char *buffer,
                       size_t size);
uint64_t raw_header_number(const struct raw_answer *answer, const char *name);

#endif
