/* get.h: `interloop get`: a request from the shell.
 *
 * get.c reads the command line and sends; get_show.c prints. Thread: the process's first. */
#ifndef CLI_GET_H
#define CLI_GET_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "interloop/client.h"

enum get_exit {
    GET_EXIT_OK = 0,     /* a whole response has come */
    GET_EXIT_STATUS = 1, /* --fail, and the status is 400 or more */
    GET_EXIT_USAGE = 2,
    GET_EXIT_FAILED = 3, /* no whole response */
};

int get_main(int argc, char **argv);

/* ---- get_show.c ---- */

struct get_show {
    FILE *out;            /* where the response goes */
    bool out_is_terminal; /* what the server sends must not command it */
    bool shows_head;      /* -i */
    bool is_verbose;      /* -v, on stderr */
    bool is_json;
};

/* The status line and headers: with -i into the output, with -v on stderr. */
void get_show_head(const struct get_show *show, const struct il_response *response);

/* A piece of the body. False: it could not be written; errno says why. */
bool get_show_body(const struct get_show *show, const char *bytes, size_t size);

/* What came behind the body, and how it all went: with -v on stderr, with --json into the output.
 */
void get_show_end(const struct get_show *show, const char *url, const struct il_response *response,
                  uint64_t body_size);

/* With --json: why there is no response. */
void get_show_failure(const struct get_show *show, const char *url, const struct il_error *err);

#endif
