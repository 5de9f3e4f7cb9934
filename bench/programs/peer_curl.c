/* peer_curl.c: see peer_curl.h. */
#include "peer_curl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static size_t transfer_on_body(char *data, size_t size, size_t count, void *arg)
{
    struct transfer *transfer = arg;

    (void)data;
    transfer->body_bytes += size * count;
    return size * count;
}

static size_t transfer_on_upload(char *data, size_t size, size_t count, void *arg)
{
    struct transfer *transfer = arg;
    size_t room = size * count;
    size_t given = transfer->upload_left < room ? (size_t)transfer->upload_left : room;

    memset(data, 0, given); /* a program that uploads something would copy it here */
    transfer->upload_left -= given;
    return given;
}

static void transfer_set_up_upload(struct transfer *transfer, const struct bench_options *options)
{
    static struct curl_slist *no_expect; /* one list for all the handles, for the process's life */

    if (no_expect == NULL) {
        no_expect = curl_slist_append(NULL, "Expect:");
    }
    curl_easy_setopt(transfer->easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(transfer->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)options->upload_bytes);
    curl_easy_setopt(transfer->easy, CURLOPT_READFUNCTION, transfer_on_upload);
    curl_easy_setopt(transfer->easy, CURLOPT_READDATA, transfer);
    curl_easy_setopt(transfer->easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)BENCH_UPLOAD_SIZE);
    curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, no_expect);
}

void transfer_init(struct transfer *transfer, const struct bench_options *options)
{
    *transfer = (struct transfer){ .easy = curl_easy_init() };
    if (transfer->easy == NULL ||
        curl_easy_setopt(transfer->easy, CURLOPT_URL, bench_url(options)) != CURLE_OK) {
        errno = 0;
        bench_fail("make a libcurl handle");
    }
    curl_easy_setopt(transfer->easy, CURLOPT_PROXY, "");
    curl_easy_setopt(transfer->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(transfer->easy, CURLOPT_BUFFERSIZE, (long)BENCH_BUFFER_SIZE);
    curl_easy_setopt(transfer->easy, CURLOPT_WRITEFUNCTION, transfer_on_body);
    curl_easy_setopt(transfer->easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(transfer->easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(transfer->easy, CURLOPT_CAINFO, options->ca_file);
    if (options->http == 2) {
        curl_easy_setopt(transfer->easy, CURLOPT_HTTP_VERSION,
                         options->ca_file != NULL ? (long)CURL_HTTP_VERSION_2TLS
                                                  : (long)CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE);
        curl_easy_setopt(transfer->easy, CURLOPT_PIPEWAIT, 1L); /* one connection for all */
    } else {
        curl_easy_setopt(transfer->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    }
    if (options->upload_bytes > 0) {
        transfer_set_up_upload(transfer, options);
    }
}

void transfer_deinit(struct transfer *transfer)
{
    curl_easy_cleanup(transfer->easy);
}

void transfer_reset(struct transfer *transfer, const struct bench_options *options)
{
    transfer->body_bytes = 0;
    transfer->upload_left = options->upload_bytes;
}

void transfer_check(const struct transfer *transfer, CURLcode result)
{
    long status = 0;

    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    if (result != CURLE_OK || status != 200) {
        errno = 0;
        bench_fail(result != CURLE_OK ? curl_easy_strerror(result) : "the status is not 200");
    }
}
