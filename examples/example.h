/* example.h: what every example needs and no reader wants to see six times. */
#ifndef EXAMPLES_EXAMPLE_H
#define EXAMPLES_EXAMPLE_H

#include <interloop/share.h>
#include <stdio.h>
#include <stdlib.h>

/* The URL from the command line. */
static inline const char *example_url(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s URL\n", argv[0]);
        exit(2);
    }
    return argv[1];
}

/* In an example every failure is the end. */
static inline void must(enum il_code code, const struct il_error *err)
{
    if (code != IL_OK) {
        fprintf(stderr, "%s: %s\n", il_code_name(code), err->message);
        exit(1);
    }
}

/* Say what came, and where; frees the response. */
static inline void show(const char *where, struct il_response *response)
{
    size_t size;

    (void)il_response_body(response, &size);
    printf("%s: status %d, %zu bytes\n", where, il_response_status(response), size);
    il_response_free(response);
}

/* A runtime that moves only inside il_block_on. */
static inline struct il_runtime *new_current_thread_runtime(const char *name)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *runtime;
    struct il_error err;

    options.kind = IL_RUNTIME_CURRENT_THREAD;
    options.name = name;
    must(il_runtime_new(&options, &runtime, &err), &err);
    return runtime;
}

/* A runtime with one worker thread, which runs all the time. */
static inline struct il_runtime *new_worker_runtime(const char *name)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *runtime;
    struct il_error err;

    options.worker_count = 1;
    options.name = name;
    must(il_runtime_new(&options, &runtime, &err), &err);
    return runtime;
}

#endif
