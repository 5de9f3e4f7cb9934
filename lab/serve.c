/* serve.c: `interloop serve`: options, the start-up lines, and waiting for a signal.
 *
 * Owns: the server, from start to stop. Threads: the main thread. Ends: on SIGINT or SIGTERM, which
 *   it takes by sigwaitinfo() and not by a handler. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"
#include "lab/certificates.h"
#include "lab/serve.h"
#include "lab/server.h"
#include "lab/words.h"

enum serve_exit { SERVE_EXIT_OK = 0, SERVE_EXIT_USAGE = 2, SERVE_EXIT_FAILED = 3 };

enum serve_option {
    SERVE_ADDRESS = 'a',
    SERVE_HELP = 'h',
    SERVE_PORT = 'p',
    SERVE_JSON = 256,
    SERVE_HTTP10,
    SERVE_DELAY,
    SERVE_IDLE_TIMEOUT,
    SERVE_CONNECTIONS,
    SERVE_REQUESTS,
    SERVE_ANSWERING,
    SERVE_TLS,
    SERVE_CA_FILE,
    SERVE_CLIENT_FILE,
    SERVE_TLS_CUT,
    SERVE_HTTP1_1,
    SERVE_STREAMS,
};

static const struct option serve_options[] = {
    { "address", required_argument, NULL, SERVE_ADDRESS },
    { "port", required_argument, NULL, SERVE_PORT },
    { "json", no_argument, NULL, SERVE_JSON },
    { "help", no_argument, NULL, SERVE_HELP },
    { "http10", no_argument, NULL, SERVE_HTTP10 },
    { "http1.1", no_argument, NULL, SERVE_HTTP1_1 },
    { "streams", required_argument, NULL, SERVE_STREAMS },
    { "delay", required_argument, NULL, SERVE_DELAY },
    { "idle-timeout", required_argument, NULL, SERVE_IDLE_TIMEOUT },
    { "connections", required_argument, NULL, SERVE_CONNECTIONS },
    { "requests", required_argument, NULL, SERVE_REQUESTS },
    { "answering", required_argument, NULL, SERVE_ANSWERING },
    { "tls", no_argument, NULL, SERVE_TLS },
    { "ca-file", required_argument, NULL, SERVE_CA_FILE },
    { "client-file", required_argument, NULL, SERVE_CLIENT_FILE },
    { "tls-cut", no_argument, NULL, SERVE_TLS_CUT },
    { NULL, 0, NULL, 0 },
};

static const char serve_usage[] =
    "usage: interloop serve [options]\n"
    "\n"
    "A local HTTP server that misbehaves as the path of each request says. It speaks HTTP/1.1, "
    "and\n"
    "HTTP/2 to clients that begin with it: by prior knowledge, or with --tls by ALPN.\n"
    "\n"
    "  -a, --address ADDRESS   listen on this numeric address (127.0.0.1)\n"
    "  -p, --port PORT         listen on this port (0: any free one, which is printed)\n"
    "      --delay MS          wait before every answer (0)\n"
    "      --idle-timeout MS   close connections that idle for so long (0: never)\n"
    "      --connections N     serve so many at once, leave others in the backlog (0: no limit)\n"
    "      --requests N        close a connection after its Nth request (0: no limit)\n"
    "      --answering N       answer so many requests at once, queue the others (0: no limit)\n"
    "      --streams N         allow so many streams at once on a connection of HTTP/2 (100)\n"
    "      --http1.1           do not speak HTTP/2\n"
    "      --http10            answer as an HTTP/1.0 server\n"
    "      --tls               speak TLS, with a certificate for localhost made on the spot\n"
    "      --ca-file FILE      with --tls: write there whom to trust (interloop get --cacert)\n"
    "      --client-file FILE  with --tls: want a certificate from clients, and write one, with\n"
    "                          its key, there (interloop get --cert)\n"
    "      --tls-cut           with --tls: close without the close_notify of TLS\n"
    "      --json              print where it listens, and the paths, as one line of JSON\n"
    "  -h, --help              print this\n"
    "\n"
    "It serves until SIGINT (Ctrl-C) or SIGTERM. Exit status: 0 it was ended so, 2 wrong usage,\n"
    "3 it could not serve.\n"
    "\n"
    "Paths:\n";

struct serve {
    struct lab_server_options options;
    struct lab_server_tls tls;
    const char *ca_file, *client_file; /* NULL: none */
    bool is_tls;
    bool is_json;
    bool is_help;
    struct lab_authority *authority;
    struct lab_certificate certificate, client;
};

/* ---- the command line ---- */

static bool serve_number(const char *option, const char *text, uint64_t max, uint64_t *ret_number)
{
    uint64_t number = 0;

    for (const char *at = text; *at != '\0' || at == text; at++) {
        if (*at < '0' || *at > '9' || number > max) {
            fprintf(stderr, "interloop serve: %s is '%s', want a number from 0 to %llu\n", option,
                    text, (unsigned long long)max);
            return false;
        }
        number = number * 10 + (uint64_t)(*at - '0');
    }
    if (number > max) {
        fprintf(stderr, "interloop serve: %s is '%s', want at most %llu\n", option, text,
                (unsigned long long)max);
        return false;
    }
    *ret_number = number;
    return true;
}

static bool serve_take_option(struct serve *serve, int option)
{
    struct lab_server_options *options = &serve->options;
    uint64_t port = 0, streams_max = 0;
    bool is_good;

    switch (option) {
    case SERVE_ADDRESS:
        options->address = optarg;
        return true;
    case SERVE_PORT:
        is_good = serve_number("--port", optarg, UINT16_MAX, &port);
        options->port = (uint16_t)port;
        return is_good;
    case SERVE_JSON:
        return serve->is_json = true;
    case SERVE_HELP:
        return serve->is_help = true;
    case SERVE_HTTP10:
        return options->is_http10 = true;
    case SERVE_HTTP1_1:
        return options->is_http1_only = true;
    case SERVE_STREAMS:
        is_good = serve_number("--streams", optarg, INT32_MAX, &streams_max);
        options->streams_max = (uint32_t)streams_max;
        return is_good;
    case SERVE_TLS:
        return serve->is_tls = true;
    case SERVE_CA_FILE:
        serve->ca_file = optarg;
        return true;
    case SERVE_CLIENT_FILE:
        serve->client_file = optarg;
        return true;
    case SERVE_TLS_CUT:
        return serve->tls.is_cut = true;
    case SERVE_DELAY:
        return serve_number("--delay", optarg, UINT32_MAX, &options->delay_ms);
    case SERVE_IDLE_TIMEOUT:
        return serve_number("--idle-timeout", optarg, UINT32_MAX, &options->idle_timeout_ms);
    case SERVE_CONNECTIONS:
        return serve_number("--connections", optarg, UINT32_MAX, &options->connections_max);
    case SERVE_REQUESTS:
        return serve_number("--requests", optarg, UINT32_MAX,
                            &options->requests_per_connection_max);
    case SERVE_ANSWERING:
        return serve_number("--answering", optarg, UINT32_MAX, &options->answering_max);
    default: /* getopt has said what is wrong */
        return false;
    }
}

static bool serve_parse(struct serve *serve, int argc, char **argv)
{
    int option;

    optind = 0; /* start anew */
    while ((option = getopt_long(argc, argv, "a:p:h", serve_options, NULL)) != -1) {
        if (!serve_take_option(serve, option)) {
            return false;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "interloop serve: '%.64s' is one word too many\n", argv[optind]);
        return false;
    }
    if (!serve->is_tls &&
        (serve->ca_file != NULL || serve->client_file != NULL || serve->tls.is_cut)) {
        fprintf(stderr,
                "interloop serve: --ca-file, --client-file and --tls-cut want --tls as well\n");
        return false;
    }
    return true;
}

/* ---- certificates ---- */

/* For its owner only: there may be a key in it. */
static bool serve_write_file(const char *path, const char *text, const char *more)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    bool is_written = file != NULL && fputs(text, file) >= 0 && fputs(more, file) >= 0;

    if (file != NULL) {
        is_written = fclose(file) == 0 && is_written;
    }
    if (!is_written) {
        fprintf(stderr, "interloop serve: cannot write '%s': %s\n", path, strerror(errno));
    }
    return is_written;
}

static bool serve_make_certificates(struct serve *serve)
{
    static const struct lab_certificate_options for_localhost;
    static const struct lab_certificate_options for_client = { .common_name = "client",
                                                               .alternative_names = "none",
                                                               .usage = "clientAuth" };
    struct il_error err;

    if (lab_authority_new("interloop serve", &serve->authority, &err) != IL_OK ||
        lab_authority_issue(serve->authority, &for_localhost, &serve->certificate, &err) != IL_OK ||
        (serve->client_file != NULL &&
         lab_authority_issue(serve->authority, &for_client, &serve->client, &err) != IL_OK)) {
        fprintf(stderr, "interloop serve: %s\n", err.message);
        return false;
    }
    serve->tls.certificate_pem = serve->certificate.pem;
    serve->tls.key_pem = serve->certificate.key_pem;
    serve->tls.alpn =
        serve->options.is_http1_only || serve->options.is_http10 ? "http/1.1" : "h2,http/1.1";
    serve->tls.is_alpn_strict = true;
    if (serve->client_file != NULL) {
        serve->tls.client_ca_pem = lab_authority_pem(serve->authority);
    }
    serve->options.tls = &serve->tls;
    return true;
}

/* Once it listens: who finds the files can connect, and a server that cannot start replaces none
 * that another one wrote. */
static bool serve_write_certificates(const struct serve *serve)
{
    return (serve->ca_file == NULL ||
            serve_write_file(serve->ca_file, lab_authority_pem(serve->authority), "")) &&
           (serve->client_file == NULL ||
            serve_write_file(serve->client_file, serve->client.pem, serve->client.key_pem));
}

/* ---- output ---- */

/* Whether all that was printed went out. */
static bool serve_flush(void)
{
    return fflush(stdout) == 0 && !ferror(stdout);
}

/* The strings of the table are ASCII; only these two need escaping. */
static void serve_print_json_string(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            putchar('\\');
        }
        putchar(*text);
    }
    putchar('"');
}

static void serve_print_json(const struct lab_server *server, const char *url)
{
    const char *path, *query, *does;

    printf("{\"listening\": true, \"address\": \"%s\", \"port\": %u, \"url\": \"%s\", "
           "\"behaviours\": [",
           lab_server_address(server), lab_server_port(server), url);
    for (size_t i = 0; lab_server_behaviour_at(i, &path, &query, &does); i++) {
        printf("%s{\"path\": ", i == 0 ? "" : ", ");
        serve_print_json_string(path);
        printf(", \"query\": ");
        serve_print_json_string(query);
        printf(", \"does\": ");
        serve_print_json_string(does);
        putchar('}');
    }
    printf("]}\n");
}

static bool serve_print_start(const struct serve *serve, const struct lab_server *server,
                              const char *help)
{
    const char *address = lab_server_address(server);
    bool is_v6 = strchr(address, ':') != NULL;
    char url[96];

    (void)snprintf(url, sizeof(url), "%s://%s%s%s:%u/", serve->is_tls ? "https" : "http",
                   is_v6 ? "[" : "", address, is_v6 ? "]" : "", lab_server_port(server));
    if (serve->is_json) {
        serve_print_json(server, url);
    } else {
        printf("listening on %s\n\n%s\nCtrl-C ends it.\n", url, help);
    }
    return serve_flush();
}

static void serve_print_end(struct lab_server *server, int signal_number)
{
    struct lab_server_counters counters;

    lab_server_counters(server, &counters);
    printf("ended by %s after %llu connection%s and %llu request%s: %llu answered, %llu dropped, "
           "%llu abandoned by the client\n",
           signal_number == SIGINT ? "SIGINT" : "SIGTERM",
           (unsigned long long)counters.accepted_count, lab_plural(counters.accepted_count),
           (unsigned long long)counters.request_count, lab_plural(counters.request_count),
           (unsigned long long)counters.answered_count, (unsigned long long)counters.dropped_count,
           (unsigned long long)counters.abandoned_count);
    (void)fflush(stdout); /* nobody may be listening any more, and it ends anyway */
}

/* ---- serving ---- */

static IL_NOINLINE int interloop_serve_waiting_for_a_signal(const sigset_t *signals)
{
    int number;

    do {
        number = sigwaitinfo(signals, NULL);
    } while (number < 0); /* EINTR: a stop and continue */
    return number;
}

static int serve_run(const struct serve *serve, const char *help, const sigset_t *signals)
{
    struct lab_server *server;
    struct il_error err;
    enum il_code code = lab_server_start(&serve->options, &server, &err);
    int signal_number;

    if (code != IL_OK) {
        fprintf(stderr, "interloop serve: %s%s\n", err.message,
                code == IL_ESYS ? "; choose another --address or --port" : "");
        return code == IL_EINVAL ? SERVE_EXIT_USAGE : SERVE_EXIT_FAILED;
    }
    if (!serve_write_certificates(serve)) {
        lab_server_stop(server);
        return SERVE_EXIT_FAILED;
    }
    if (!serve_print_start(serve, server, help)) {
        fprintf(stderr, "interloop serve: could not print where it listens\n");
        lab_server_stop(server);
        return SERVE_EXIT_FAILED;
    }
    signal_number = interloop_serve_waiting_for_a_signal(signals);
    if (!serve->is_json) {
        serve_print_end(server, signal_number);
    }
    lab_server_stop(server);
    return SERVE_EXIT_OK;
}

int serve_main(int argc, char **argv)
{
    struct serve serve = { 0 };
    sigset_t signals, before;
    char *help;
    int status = SERVE_EXIT_OK;

    if (!serve_parse(&serve, argc, argv)) {
        return SERVE_EXIT_USAGE;
    }
    help = lab_server_help();
    if (help == NULL) {
        fprintf(stderr, "interloop serve: out of memory\n");
        return SERVE_EXIT_FAILED;
    }
    if (serve.is_help) {
        printf("%s%s", serve_usage, help);
        status = serve_flush() ? SERVE_EXIT_OK : SERVE_EXIT_FAILED;
    } else {
        sigemptyset(&signals);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGTERM);
        il_assert(sigprocmask(SIG_BLOCK, &signals, &before) == 0);
        status = serve.is_tls && !serve_make_certificates(&serve)
                     ? SERVE_EXIT_FAILED
                     : serve_run(&serve, help, &signals);
        il_assert(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
    }
    lab_certificate_deinit(&serve.certificate);
    lab_certificate_deinit(&serve.client);
    lab_authority_free(serve.authority);
    il_free(help);
    return status;
}
