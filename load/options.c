/* options.c: the command line of `interloop bench`. Owns: the body, from parse to deinit. Thread:
 * one. */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "options.h"

#define CONNECTIONS_DEFAULT 50
#define DURATION_DEFAULT_NS UINT64_C(10000000000)
#define TIMEOUT_DEFAULT_MS  10000
#define BODY_READ_SIZE      ((size_t)64 * 1024)

const char bench_help[] =
    "usage: interloop bench [options] URL\n"
    "\n"
    "Sends requests to URL from several runtimes at once, for 10 seconds unless told otherwise, "
    "and\n"
    "says how many were answered, how fast, and what became of the others.\n"
    "\n"
    "  -c, --connections N    at most so many requests at a time (default 50): each on a "
    "connection\n"
    "                         of its own, with HTTP/2 as streams of as few as the server allows\n"
    "  -r, --runtimes N       so many runtimes, each a loop in a thread of its own, share them\n"
    "                         (default: one for each processor)\n"
    "      --clients WHICH    `one` client for all runtimes (default), or for `each` its own\n"
    "  -q, --rate N           start N requests a second, whether or not others have been "
    "answered;\n"
    "                         a latency then counts from when the request was due. Default: start\n"
    "                         the next as soon as one is answered\n"
    "  -z, --duration TIME    how long: 10, 500ms, 2m, 1h (default 10s, or until --requests are "
    "made)\n"
    "  -n, --requests N       so many and no more\n"
    "  -w, --warm-up TIME     so long before that, which does not count (default 0)\n"
    "  -t, --timeout TIME     for each request (default 10s; 0: none)\n"
    "  -X, --method METHOD    default GET, or POST if there is a body\n"
    "  -H, --header LINE      \"Name: value\"; may be given again\n"
    "  -d, --body BODY        send BODY, or @FILE, or what comes on stdin: @-\n"
    "      --no-keep-alive    a new connection for each request\n"
    "      --cacert FILE      https: trust these CAs (PEM) instead of the system's\n"
    "  -k, --insecure         https: DO NOT CHECK who the server is\n"
    "      --http1.1          HTTP/1.1 only; else https servers may choose HTTP/2\n"
    "      --http2            https: HTTP/2 or nothing\n"
    "      --http2-prior-knowledge  HTTP/2 from the first byte, without TLS too\n"
    "      --json             one JSON object instead of the report\n"
    "  -h, --help             this text\n"
    "\n"
    "Numbers may end in k or M. Ctrl-C ends the run early, with the report. Exit status: 0 every\n"
    "request was answered with a status below 400, 1 not, or the rate was not held, 2 wrong "
    "usage,\n"
    "3 could not do it.\n";

enum {
    OPTION_CLIENTS = 256,
    OPTION_NO_KEEP_ALIVE,
    OPTION_CACERT,
    OPTION_HTTP_1_1,
    OPTION_HTTP_2,
    OPTION_HTTP_2_PRIOR_KNOWLEDGE,
    OPTION_JSON,
};

static const struct option long_options[] = {
    { "connections", required_argument, NULL, 'c' },
    { "runtimes", required_argument, NULL, 'r' },
    { "clients", required_argument, NULL, OPTION_CLIENTS },
    { "rate", required_argument, NULL, 'q' },
    { "duration", required_argument, NULL, 'z' },
    { "requests", required_argument, NULL, 'n' },
    { "warm-up", required_argument, NULL, 'w' },
    { "timeout", required_argument, NULL, 't' },
    { "method", required_argument, NULL, 'X' },
    { "header", required_argument, NULL, 'H' },
    { "body", required_argument, NULL, 'd' },
    { "no-keep-alive", no_argument, NULL, OPTION_NO_KEEP_ALIVE },
    { "cacert", required_argument, NULL, OPTION_CACERT },
    { "insecure", no_argument, NULL, 'k' },
    { "http1.1", no_argument, NULL, OPTION_HTTP_1_1 },
    { "http2", no_argument, NULL, OPTION_HTTP_2 },
    { "http2-prior-knowledge", no_argument, NULL, OPTION_HTTP_2_PRIOR_KNOWLEDGE },
    { "json", no_argument, NULL, OPTION_JSON },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

/* ---- numbers ---- */

/* "2.5k": the number and what stands behind it; false if there is no number. */
static bool parse_decimal(const char *text, double *ret_number, const char **ret_suffix)
{
    char *end;

    if (strspn(text, "0123456789.") == 0) { /* strtod would take "inf", " 1", "-1" and "0x1" too */
        return false;
    }
    errno = 0;
    *ret_number = strtod(text, &end);
    *ret_suffix = end;
    return end == text + strspn(text, "0123456789.") && errno == 0;
}

static double magnitude(const char *suffix)
{
    return strcmp(suffix, "") == 0    ? 1
           : strcmp(suffix, "k") == 0 ? 1e3
           : strcmp(suffix, "M") == 0 ? 1e6
                                      : 0;
}

static bool take_rate(const char *text, double *ret_rate)
{
    const char *suffix;
    double number;

    if (!parse_decimal(text, &number, &suffix) || magnitude(suffix) == 0 ||
        number * magnitude(suffix) <= 0 || number * magnitude(suffix) > BENCH_RATE_MAX) {
        fprintf(stderr,
                "interloop bench: --rate is a number of requests a second, over 0 and at most %d, "
                "not '%.64s'\n",
                BENCH_RATE_MAX, text);
        return false;
    }
    *ret_rate = number * magnitude(suffix);
    return true;
}

static bool take_count(const char *option, const char *text, uint64_t max, uint64_t *ret_count)
{
    const char *suffix;
    double number;

    if (!parse_decimal(text, &number, &suffix) || magnitude(suffix) == 0 ||
        number * magnitude(suffix) < 1 || number * magnitude(suffix) > (double)max ||
        (double)(uint64_t)(number * magnitude(suffix)) < number * magnitude(suffix)) {
        fprintf(stderr, "interloop bench: --%s is a number from 1 to %llu, not '%.64s'\n", option,
                (unsigned long long)max, text);
        return false;
    }
    *ret_count = (uint64_t)(number * magnitude(suffix));
    return true;
}

/* "10", "10s", "500ms", "2m", "1h". */
static bool take_time(const char *option, const char *text, bool may_be_zero, uint64_t *ret_ns)
{
    static const struct {
        const char *suffix;
        double seconds;
    } units[] = { { "", 1 }, { "s", 1 }, { "ms", 1e-3 }, { "m", 60 }, { "h", 3600 } };
    const char *suffix;
    double number, seconds = -1;

    if (parse_decimal(text, &number, &suffix)) {
        for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
            if (strcmp(suffix, units[i].suffix) == 0) {
                seconds = number * units[i].seconds;
            }
        }
    }
    if (seconds < 0 || seconds > BENCH_SECONDS_MAX ||
        (seconds < 1e-3 && !(may_be_zero && seconds == 0))) {
        fprintf(stderr,
                "interloop bench: --%s is a time from %s to 24h, as 10s, 500ms, 2m, not "
                "'%.64s'\n",
                option, may_be_zero ? "0" : "1ms", text);
        return false;
    }
    *ret_ns = (uint64_t)(seconds * 1e9);
    return true;
}

/* ---- the others ---- */

static bool take_clients(const char *text, bool *ret_has_own)
{
    if (strcmp(text, "one") != 0 && strcmp(text, "each") != 0) {
        fprintf(stderr, "interloop bench: --clients is `one` or `each`, not '%.64s'\n", text);
        return false;
    }
    *ret_has_own = strcmp(text, "each") == 0;
    return true;
}

static bool take_header(const char *text, struct bench_options *options)
{
    const char *colon = strchr(text, ':');

    if (colon == NULL || colon == text) {
        fprintf(stderr, "interloop bench: --header is \"Name: value\", not '%.64s'\n", text);
        return false;
    }
    if (options->header_count == BENCH_HEADERS_MAX) {
        fprintf(stderr, "interloop bench: more than %d headers\n", BENCH_HEADERS_MAX);
        return false;
    }
    options->headers[options->header_count++] = text;
    return true;
}

/* One of the three; twice the same is fine. */
static bool take_http_version(int option, struct bench_options *options)
{
    enum bench_http http = option == OPTION_HTTP_1_1 ? BENCH_HTTP_1_1
                           : option == OPTION_HTTP_2 ? BENCH_HTTP_2
                                                     : BENCH_HTTP_2_PRIOR_KNOWLEDGE;

    if (options->http != BENCH_HTTP_AUTO && options->http != http) {
        fprintf(stderr, "interloop bench: --http1.1, --http2, --http2-prior-knowledge: which?\n");
        return false;
    }
    options->http = http;
    return true;
}

static bool take_option(int option, struct bench_options *options, const char **ret_body)
{
    uint64_t number = 0;
    bool is_good = true;

    switch (option) {
    case 'c':
        return take_count("connections", optarg, BENCH_CONNECTIONS_MAX, &options->connections);
    case 'r':
        is_good = take_count("runtimes", optarg, BENCH_RUNTIMES_MAX, &number);
        options->runtimes = (unsigned)number;
        return is_good;
    case OPTION_CLIENTS:
        return take_clients(optarg, &options->has_own_clients);
    case 'q':
        return take_rate(optarg, &options->rate);
    case 'z':
        return take_time("duration", optarg, false, &options->duration_ns);
    case 'n':
        return take_count("requests", optarg, BENCH_REQUESTS_MAX, &options->requests);
    case 'w':
        return take_time("warm-up", optarg, true, &options->warm_up_ns);
    case 't':
        is_good = take_time("timeout", optarg, true, &number);
        options->timeout_ms = number / 1000000;
        return is_good;
    case 'X':
        options->method = optarg;
        return true;
    case 'H':
        return take_header(optarg, options);
    case 'd':
        *ret_body = optarg;
        return true;
    case OPTION_NO_KEEP_ALIVE:
        return options->no_keep_alive = true;
    case OPTION_CACERT:
        options->ca_file = optarg;
        return true;
    case 'k':
        return options->is_insecure = true;
    case OPTION_HTTP_1_1:
    case OPTION_HTTP_2:
    case OPTION_HTTP_2_PRIOR_KNOWLEDGE:
        return take_http_version(option, options);
    case OPTION_JSON:
        return options->is_json = true;
    case 'h':
        return options->is_help = true;
    default: /* getopt has said what is wrong */
        return false;
    }
}

/* ---- the body ---- */

static bool read_stream(FILE *file, const char *name, struct bench_options *options)
{
    size_t size = 0, got;

    do {
        char *more = realloc(options->body, size + BODY_READ_SIZE);

        if (more == NULL) {
            fprintf(stderr, "interloop bench: out of memory for the body\n");
            return false;
        }
        options->body = more;
        got = fread(options->body + size, 1, BODY_READ_SIZE, file);
        size += got;
    } while (got == BODY_READ_SIZE && size <= BENCH_BODY_SIZE_MAX);
    if (ferror(file)) {
        fprintf(stderr, "interloop bench: read the body from %s: %s\n", name, strerror(errno));
        return false;
    }
    if (size > BENCH_BODY_SIZE_MAX) {
        fprintf(stderr, "interloop bench: the body in %s is larger than %zu MiB\n", name,
                BENCH_BODY_SIZE_MAX / 1024 / 1024);
        return false;
    }
    options->body_size = size;
    return true;
}

static bool read_body(const char *text, struct bench_options *options)
{
    const char *name = text + 1;
    bool is_read;
    FILE *file;

    if (text[0] != '@') {
        options->body = strdup(text);
        options->body_size = strlen(text);
        return options->body != NULL;
    }
    if (strcmp(name, "-") == 0) {
        return read_stream(stdin, "stdin", options);
    }
    file = fopen(name, "rbe");
    if (file == NULL) {
        fprintf(stderr, "interloop bench: open the body '%s': %s\n", name, strerror(errno));
        return false;
    }
    is_read = read_stream(file, name, options);
    (void)fclose(file); /* it was only read */
    return is_read;
}

/* ---- all together ---- */

static unsigned processor_count(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

static bool fill_defaults(struct bench_options *options)
{
    if (options->connections == 0) {
        options->connections = CONNECTIONS_DEFAULT;
    }
    if (options->runtimes == 0) {
        unsigned count = processor_count();

        count = count < BENCH_RUNTIMES_MAX ? count : BENCH_RUNTIMES_MAX;
        options->runtimes = count < options->connections ? count : (unsigned)options->connections;
    }
    if (options->connections < options->runtimes) {
        fprintf(stderr,
                "interloop bench: --connections is %llu, which leaves none for some of %u "
                "--runtimes\n",
                (unsigned long long)options->connections, options->runtimes);
        return false;
    }
    if (options->duration_ns == 0 && options->requests == 0) {
        options->duration_ns = DURATION_DEFAULT_NS;
    }
    return true;
}

static bool parse_words(struct bench_options *options, int argc, char **argv, const char **ret_body)
{
    int option;

    optind = 0; /* start anew */
    while ((option = getopt_long(argc, argv, "c:r:q:z:n:w:t:X:H:d:kh", long_options, NULL)) != -1) {
        if (!take_option(option, options, ret_body)) {
            return false;
        }
    }
    if (options->is_help) {
        return true;
    }
    if (optind == argc) {
        fprintf(stderr, "interloop bench: which URL?\n");
        return false;
    }
    options->url = argv[optind];
    if (optind + 1 < argc) {
        fprintf(stderr, "interloop bench: '%.64s' is one word too many\n", argv[optind + 1]);
        return false;
    }
    if (options->http == BENCH_HTTP_2 && strncasecmp(options->url, "http:", 5) == 0) {
        fprintf(stderr, "interloop bench: --http2 asks within TLS whether the server speaks it; "
                        "without TLS it is --http2-prior-knowledge\n");
        return false;
    }
    return fill_defaults(options);
}

enum bench_parsed bench_options_parse(struct bench_options *ret_options, int argc, char **argv)
{
    const char *body = NULL;

    *ret_options = (struct bench_options){ .timeout_ms = TIMEOUT_DEFAULT_MS };
    if (!parse_words(ret_options, argc, argv, &body)) {
        return BENCH_WRONG;
    }
    if (ret_options->is_help) {
        return BENCH_PARSED;
    }
    if (body != NULL && !read_body(body, ret_options)) {
        return BENCH_IMPOSSIBLE;
    }
    if (ret_options->method == NULL) {
        ret_options->method = body != NULL ? "POST" : "GET";
    }
    return BENCH_PARSED;
}

void bench_options_deinit(struct bench_options *options)
{
    free(options->body);
    options->body = NULL;
}
