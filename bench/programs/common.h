/* common.h: what the benchmark's C programs share: options, the plan of requests, the result line.
 *
 * Every program, in whatever language, keeps one contract, so that one runner can drive them all:
 *
 *     PROGRAM --port P [--path /small] [--connections C] [--requests N] [--rate R] [--upload BYTES]
 *             [--tls CA_FILE] [--http 1|2]
 *
 * It sends N requests to 127.0.0.1:P, C at a time, over connections that it keeps unless the path
 * is /close (with --http 2 over one, as streams), discards the bodies, and prints one line of JSON:
 * `requests`, `bytes` of bodies, and with
 * --rate the latencies. It measures nothing else: CPU, wall time and memory of its process are read
 * from outside, in the same way for every program.
 *
 * Without --rate the loop is closed: a request starts when another ends, and no clock is read. With
 * --rate it is open: a timer that the server cannot slow down says how many requests are due, and a
 * latency counts from the moment the request was due, so a stall is charged to every request that
 * it delayed and not only to the one that met it (no coordinated omission).
 *
 * Threads: one, which owns the plan. Ends: with the process; a failure ends it with status 1. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One read from a socket asks for as much as this, in every program where the program decides. */
#define BENCH_BUFFER_SIZE ((size_t)64 * 1024)

/* And one write as much as this: over loopback, 16 to 32 KiB cost half of what 64 KiB do. */
#define BENCH_UPLOAD_SIZE ((size_t)32 * 1024)

struct bench_options {
    uint16_t port;
    const char *path;      /* "/small" unless given; the server's routes are in server.c */
    const char *mode;      /* programs that can do a thing in several ways; NULL: the first way */
    uint64_t connections;  /* at least 1 */
    uint64_t requests;     /* at least 1 */
    uint64_t warm_up;      /* how many of them are not in the window */
    uint64_t rate;         /* requests a second; 0: closed loop */
    uint64_t upload_bytes; /* with each request, by PUT; 0: GET without a body */
    uint64_t linger_ms;  /* after the last answer, with the connections idle, so that memory can be
                            read */
    uint64_t runtimes;   /* only for programs that have runtimes */
    const char *ca_file; /* https, and whom to trust; NULL: http */
    uint64_t http;       /* 1 or 2: HTTP/2 from the first byte, in clear too */
    bool is_close;       /* the path is /close: a new connection for each request */
};

/* What the process had used at one moment. */
struct usage {
    uint64_t user_us, system_us;
    uint64_t at_ns;
};

/* A plan: which request may start now, and what has come of those that did. */
struct bench_plan {
    const struct bench_options *options;
    uint64_t started, completed;
    uint64_t body_bytes;
    struct usage window_begin, window_end;
    uint64_t due;         /* open loop: how many should have started by now */
    uint64_t start_ns;    /* open loop: when request 0 was due */
    uint64_t interval_ns; /* open loop: between one and the next */
    int tick_fd;          /* open loop: readable when more are due; else -1 */
    uint64_t *histogram;  /* open loop: latencies by histogram_index(); else NULL */
};

/* Read the command line; explain and end the process when it is wrong. */
void bench_parse(struct bench_options *options, int argc, char **argv);

/* The URL that the options ask for. Static memory. */
const char *bench_url(const struct bench_options *options);

/* Begin; with --rate, the timer runs from now. */
void plan_init(struct bench_plan *plan, const struct bench_options *options);

/* Room for as many open descriptors as the system allows; ends the process if that is not enough.
 */
void bench_raise_file_limit(uint64_t wanted);

/* May one more request start now? If so it counts as started, and `*ret_due_ns` is what to hand to
 * plan_complete(): the time at which it was due, or 0 in a closed loop. */
bool plan_next(struct bench_plan *plan, uint64_t *ret_due_ns);
void plan_complete(struct bench_plan *plan, uint64_t due_ns, uint64_t body_bytes);
bool plan_is_complete(const struct bench_plan *plan);

/* Open loop: call when tick_fd is readable; then plan_next() until it refuses. Blocks if it is not.
 */
void plan_on_tick(struct bench_plan *plan);

/* For loops that can do nothing else: wait until a request is due, then as plan_next(). False once
 * all have started. */
bool plan_wait_next(struct bench_plan *plan, uint64_t *ret_due_ns);

/* What the process, all its threads, has used by now. */
void usage_take(struct usage *ret_usage);

/* Print the result line. With --linger, then give memory that is not needed back to the system,
 * linger with the connections as they are, and end the process. */
void plan_print(const struct bench_plan *plan);

uint64_t bench_now_ns(void);

/* Say what failed (with errno's text if it is set) and end the process. */
__attribute__((noreturn)) void bench_fail(const char *what);

/* For servers: listen on 127.0.0.1 (0: any free port) without blocking, say so on stdout
 * ("listening PORT"), and return the socket. What it accepts has TCP_NODELAY. */
int bench_listen(uint16_t port);

/* A connected, blocking socket to 127.0.0.1 at `port`, TCP_NODELAY set. */
int bench_connect(uint16_t port);

/* The request as bytes on the wire: head, and `upload_bytes` of zeros announced but not included.
 * Static memory. */
const char *bench_request_head(const struct bench_options *options, size_t *ret_size);

/* Latencies are kept as HdrHistogram does: buckets of equal width up to 256 ns, then 128 to each
 * doubling, so that a value is known to 0.8 % whatever its size. */
#define HISTOGRAM_BUCKET_COUNT ((size_t)128 * 40)
size_t histogram_index(uint64_t value_ns);

#endif
