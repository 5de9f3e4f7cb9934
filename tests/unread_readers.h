/* unread_readers.h: what the tests of bodies that nobody reads have in common, over HTTP/1.1 and
 * HTTP/2: reading to the end, and readers whose bodies are taken from one another.
 *
 * Threads: as each says. */
#ifndef TESTS_UNREAD_READERS_H
#define TESTS_UNREAD_READERS_H

#include <pthread.h>

#include "interloop/client.h"
#include "interloop/runtime.h"
#include "tests/check.h"

#define READERS_MAX 6

/* Read to the end, or to an error. Thread: any. */
static inline enum il_code read_all(struct il_response *response, size_t *ret_size,
                                    struct il_error *error)
{
    char buffer[16384];
    enum il_code code;
    size_t got;

    *ret_size = 0;
    do {
        code = il_response_read(response, buffer, sizeof(buffer), &got, error);
        *ret_size += code == IL_OK ? got : 0;
    } while (code == IL_OK && got > 0);
    return code;
}

struct readers {
    struct il_client *client;
    const char *url; /* of a body of `size` bytes */
    size_t size;
    unsigned round_count;
    _Atomic unsigned whole_count, taken_count, failed_count;
};

struct reader {
    struct readers *all;
    unsigned number;
};

static inline void *reader_main(void *arg)
{
    const struct reader *reader = arg;
    struct readers *all = reader->all;

    for (unsigned i = 0; i < all->round_count; i++) {
        unsigned turn = reader->number + i;
        struct il_response *response = NULL;
        struct il_request *request;
        struct il_error error = { 0 };
        enum il_code code;
        size_t size = 0;

        if (il_request_new("GET", all->url, &request, &error) != IL_OK) {
            check_fail(__FILE__, __LINE__, "%s", error.message);
        }
        code = il_send_streaming(all->client, request, &response, &error);
        if (code == IL_OK && turn % 3 != 0) { /* else freed unread */
            (void)il_sleep_ms(turn % 4);
            code = read_all(response, &size, &error);
            all->whole_count += code == IL_OK && size == all->size;
            all->taken_count += code == IL_ETIMEDOUT && error.phase == IL_PHASE_READ;
            all->failed_count += code == IL_OK ? size != all->size : code != IL_ETIMEDOUT;
        } else {
            all->failed_count += code != IL_OK;
        }
        il_response_free(response);
        il_request_free(request);
    }
    return NULL;
}

/* Each has a whole body or is told that it was taken. Thread: the test's. */
static inline void check_readers(struct readers *all)
{
    pthread_t threads[READERS_MAX];
    struct reader readers[READERS_MAX];

    for (unsigned i = 0; i < READERS_MAX; i++) {
        readers[i] = (struct reader){ .all = all, .number = i };
        CHECK_EQ(pthread_create(&threads[i], NULL, reader_main, &readers[i]), 0);
    }
    for (unsigned i = 0; i < READERS_MAX; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    CHECK_EQ(all->failed_count, 0);
    CHECK(all->whole_count + all->taken_count > 0);
}

#endif
