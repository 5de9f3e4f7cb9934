/* options.h: the command line of `interloop bench`. Thread: one. */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_CONNECTIONS_MAX 100000
#define BENCH_RUNTIMES_MAX    256
#define BENCH_RATE_MAX        10000000
#define BENCH_REQUESTS_MAX    1000000000000
#define BENCH_SECONDS_MAX     86400 /* of the run, of the warm-up, of a request */
#define BENCH_HEADERS_MAX     64
#define BENCH_BODY_SIZE_MAX   ((size_t)64 * 1024 * 1024)

enum bench_http {
    BENCH_HTTP_AUTO, /* https: what the server chooses */
    BENCH_HTTP_1_1,
    BENCH_HTTP_2, /* https: that or nothing */
    BENCH_HTTP_2_PRIOR_KNOWLEDGE,
};

struct bench_options {
    const char *url;
    const char *method; /* GET, or POST if there is a body */
    const char *headers[BENCH_HEADERS_MAX];
    unsigned header_count;
    char *body; /* NULL: none */
    size_t body_size;
    uint64_t connections; /* requests in flight at most */
    unsigned runtimes;
    bool has_own_clients; /* a client for each runtime instead of one for all */
    bool no_keep_alive;
    const char *ca_file; /* https: whom to trust; NULL: the system's CAs */
    bool is_insecure;    /* https: anybody */
    enum bench_http http;
    double rate;          /* requests a second; 0: the next one as soon as one is answered */
    uint64_t duration_ns; /* 0: until `requests` are made */
    uint64_t requests;    /* 0: until `duration_ns` is over */
    uint64_t warm_up_ns;
    uint64_t timeout_ms; /* 0: none */
    bool is_json, is_help;
};

enum bench_parsed { BENCH_PARSED, BENCH_WRONG, BENCH_IMPOSSIBLE };

/* Fill `ret_options`; end it with bench_options_deinit, whatever came of it. BENCH_WRONG: wrong
 * usage, BENCH_IMPOSSIBLE: the body could not be read. Both have been explained on stderr. */
enum bench_parsed bench_options_parse(struct bench_options *ret_options, int argc, char **argv);
void bench_options_deinit(struct bench_options *options);

extern const char bench_help[];

#endif
