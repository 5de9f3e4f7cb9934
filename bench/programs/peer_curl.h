/* peer_curl.h: what the three libcurl programs share: how a transfer is set up and what it counts.
 *
 * One easy handle for each place in flight, set up once and used again and again, which is
 * libcurl's own advice; the sending loop is what differs. Threads: one. */
#ifndef BENCH_PEER_CURL_H
#define BENCH_PEER_CURL_H

#include <curl/curl.h>

#include "common.h"

struct transfer {
    CURL *easy;
    uint64_t body_bytes;  /* of the request in flight */
    uint64_t upload_left; /* likewise */
    uint64_t due_ns;
    struct transfer *next_idle;
};

/* Set up a transfer for `options`; ends the process on failure. */
void transfer_init(struct transfer *transfer, const struct bench_options *options);
void transfer_deinit(struct transfer *transfer);

/* Forget the counts of the last request: before each. */
void transfer_reset(struct transfer *transfer, const struct bench_options *options);

/* Ends the process if `result` is a failure or the status is not 200. */
void transfer_check(const struct transfer *transfer, CURLcode result);

#endif
