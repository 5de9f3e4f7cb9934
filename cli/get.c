/* get.c: `interloop get`: options, the request, and what becomes of it.
 *
 * Owns: client, TLS settings, output file, from start to end. Thread: the process's first, which
 *   drives its own connections: there is no runtime. */
#include "cli/get.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GET_HEADERS_MAX 64
#define GET_HOSTS_MAX   64
#define GET_DATA_MAX    (256u << 20) /* bytes of a request's body */
#define GET_PIECE_SIZE  65536

#define GET_PASSWORD_SIZE 1024

enum get_option {
    GET_CACERT = 256,
    GET_CERT,
    GET_KEY,
    GET_PASS,
    GET_PINS,
    GET_ADDRESS,
    GET_RESOLVE,
    GET_MAX_TIME,
    GET_HTTP_1_1,
    GET_HTTP_2,
    GET_HTTP_2_PRIOR_KNOWLEDGE,
    GET_JSON,
};

static const struct option get_options[] = {
    { "verbose", no_argument, NULL, 'v' },
    { "include", no_argument, NULL, 'i' },
    { "request", required_argument, NULL, 'X' },
    { "header", required_argument, NULL, 'H' },
    { "data", required_argument, NULL, 'd' },
    { "output", required_argument, NULL, 'o' },
    { "fail", no_argument, NULL, 'f' },
    { "insecure", no_argument, NULL, 'k' },
    { "cacert", required_argument, NULL, GET_CACERT },
    { "cert", required_argument, NULL, GET_CERT },
    { "key", required_argument, NULL, GET_KEY },
    { "pass", required_argument, NULL, GET_PASS },
    { "pinnedpubkey", required_argument, NULL, GET_PINS },
    { "address", required_argument, NULL, GET_ADDRESS },
    { "resolve", required_argument, NULL, GET_RESOLVE },
    { "max-time", required_argument, NULL, GET_MAX_TIME },
    { "http1.1", no_argument, NULL, GET_HTTP_1_1 },
    { "http2", no_argument, NULL, GET_HTTP_2 },
    { "http2-prior-knowledge", no_argument, NULL, GET_HTTP_2_PRIOR_KNOWLEDGE },
    { "json", no_argument, NULL, GET_JSON },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

static const char get_usage[] =
    "usage: interloop get [options] URL...\n"
    "\n"
    "Sends a request and prints the body of the response. Several URLs one after the other, over\n"
    "the same connection where they have the same server.\n"
    "\n"
    "  -X, --request METHOD       the method (GET; POST with -d)\n"
    "  -H, --header 'NAME: VALUE' a header; may be given several times\n"
    "  -d, --data DATA            a body; @FILE: a file's content, @-: what stdin gives\n"
    "  -o, --output FILE          write the body there\n"
    "  -i, --include              print the response's header, too\n"
    "  -v, --verbose              header, phases, TLS, connection and driver, on stderr\n"
    "      --json                 print one line of JSON for each response; the body only with -o\n"
    "  -f, --fail                 exit status 1 if the response's status is 400 or more\n"
    "      --max-time SECONDS     give up after so long (300), decimals allowed\n"
    "      --http1.1              HTTP/1.1 only; else https servers may choose HTTP/2\n"
    "      --http2                https: HTTP/2, or no request and exit status 3\n"
    "      --http2-prior-knowledge  HTTP/2 from the first byte, without TLS too\n"
    "      --address ADDRESS      connect to this IP address instead of asking for the host\n"
    "      --resolve HOST:PORT:ADDRESS[,ADDRESS]...  connect to this host there, without asking\n"
    "      --cacert FILE          trust these CAs (PEM) instead of the system's\n"
    "      --cert FILE            the certificate (PEM) to show if the server asks\n"
    "      --key FILE             its key, if it is not in the same file\n"
    "      --pass @FILE|env:NAME  the key's password: a file's first line (@-: stdin's), or from "
    "the\n"
    "                             environment; not as it is, since every process could read it\n"
    "      --pinnedpubkey PINS    the server's key must be one of sha256//BASE64[;...]\n"
    "  -k, --insecure             DO NOT CHECK who the server is\n"
    "  -h, --help                 print this\n"
    "\n"
    "Exit status: 0 a whole response has come, whatever its status; 1 with --fail, its status is\n"
    "400 or more; 2 wrong usage; 3 no whole response: stderr says why.\n"
    "Environment: SSL_CERT_FILE, SSL_CERT_DIR (the system's CAs), SSLKEYLOGFILE (append TLS "
    "keys).\n";

struct get {
    const char *method; /* NULL: GET or POST */
    const char *headers[GET_HEADERS_MAX];
    unsigned header_count;
    char *data; /* NULL: none */
    size_t data_size;
    const char *output; /* NULL: stdout */
    const char *address;
    struct il_host_addresses hosts[GET_HOSTS_MAX]; /* of each the host is on the heap */
    size_t host_count;
    uint64_t max_time_ms; /* 0: the client's */
    struct il_tls_options tls_options;
    char password[GET_PASSWORD_SIZE]; /* of the key; wiped once it was used */
    bool wants_http_1_1, wants_http_2, knows_http_2;
    bool fails_on_status, is_help;
    struct get_show show;
    struct il_client *client;
    struct il_tls *tls;
};

/* ---- the command line ---- */

/* All of a file into `get`, behind what is there. */
static bool get_read_data(struct get *get, const char *name)
{
    FILE *file = strcmp(name, "-") == 0 ? stdin : fopen(name, "rb");
    bool is_good = file != NULL;
    size_t got = 1;

    while (is_good && got > 0) {
        char *grown = realloc(get->data, get->data_size + GET_PIECE_SIZE);

        is_good = grown != NULL;
        if (is_good) {
            get->data = grown;
            got = fread(get->data + get->data_size, 1, GET_PIECE_SIZE, file);
            get->data_size += got;
            is_good = !ferror(file) && get->data_size <= GET_DATA_MAX;
        }
    }
    if (!is_good) {
        fprintf(stderr, "interloop get: cannot read '%s' for --data: %s\n", name,
                get->data_size > GET_DATA_MAX ? "it is larger than 256 MiB" : strerror(errno));
    }
    if (file != NULL && file != stdin) {
        (void)fclose(file); /* it was only read */
    }
    return is_good;
}

/* Several --data are joined by '&', as curl does. */
static bool get_take_data(struct get *get, const char *data)
{
    bool has_before = get->data != NULL;
    size_t size = data[0] == '@' ? 0 : strlen(data);
    char *grown = realloc(get->data, get->data_size + size + 1);

    if (grown == NULL) {
        fprintf(stderr, "interloop get: out of memory\n");
        return false;
    }
    get->data = grown;
    if (has_before) {
        get->data[get->data_size++] = '&';
    }
    if (data[0] == '@') {
        return get_read_data(get, data + 1);
    }
    memcpy(get->data + get->data_size, data, size);
    get->data_size += size;
    return true;
}

/* The first line, without its end. */
static bool get_read_password(struct get *get, const char *name)
{
    FILE *file = strcmp(name, "-") == 0 ? stdin : fopen(name, "r");
    bool is_good = file != NULL && fgets(get->password, sizeof(get->password), file) != NULL;
    size_t size = is_good ? strcspn(get->password, "\r\n") : 0;

    if (!is_good || get->password[size] == '\0') {
        is_good = is_good && feof(file); /* a line without an end, and not one that is too long */
    }
    if (!is_good) {
        fprintf(stderr, "interloop get: cannot read a password of at most %d bytes from '%s': %s\n",
                GET_PASSWORD_SIZE - 2, name, file == NULL ? strerror(errno) : "no such line");
    }
    get->password[size] = '\0';
    if (file != NULL && file != stdin) {
        (void)fclose(file); /* it was only read */
    }
    return is_good;
}

static bool get_take_password(struct get *get, const char *source)
{
    const char *value;

    get->tls_options.key_password = get->password;
    if (source[0] == '@') {
        return get_read_password(get, source + 1);
    }
    if (strncmp(source, "env:", 4) != 0) {
        fprintf(stderr, "interloop get: --pass wants @FILE or env:NAME: what stands on a command "
                        "line can be read by every process\n");
        return false;
    }
    value = getenv(source + 4);
    if (value == NULL || strlen(value) >= sizeof(get->password)) {
        fprintf(stderr,
                "interloop get: --pass: the environment has no %s, or it is longer than %d "
                "bytes\n",
                source + 4, GET_PASSWORD_SIZE - 1);
        return false;
    }
    (void)snprintf(get->password, sizeof(get->password), "%s", value);
    return true;
}

static bool get_take_time(struct get *get, const char *text)
{
    char *end;
    double seconds = strtod(text, &end);

    if (*text == '\0' || *end != '\0' || !(seconds >= 0.001) || seconds > 1e6) {
        fprintf(stderr, "interloop get: --max-time is '%s', want seconds from 0.001 to 1000000\n",
                text);
        return false;
    }
    get->max_time_ms = (uint64_t)(seconds * 1000);
    return true;
}

static bool get_take_header(struct get *get, const char *header)
{
    if (get->header_count == GET_HEADERS_MAX) {
        fprintf(stderr, "interloop get: more than %d headers\n", GET_HEADERS_MAX);
        return false;
    }
    if (strchr(header, ':') == NULL) {
        fprintf(stderr, "interloop get: the header '%s' has no ':'\n", header);
        return false;
    }
    get->headers[get->header_count++] = header;
    return true;
}

/* HOST:PORT:ADDRESS[,ADDRESS]...; the client checks host and addresses. */
static bool get_take_host(struct get *get, const char *text)
{
    const char *colon = strchr(text, ':');
    unsigned long port = 0;
    char *end = NULL, *host;

    if (get->host_count == GET_HOSTS_MAX) {
        fprintf(stderr, "interloop get: more than %d --resolve\n", GET_HOSTS_MAX);
        return false;
    }
    if (colon != NULL && colon[1] >= '0' && colon[1] <= '9') {
        port = strtoul(colon + 1, &end, 10);
    }
    if (end == NULL || *end != ':' || port == 0 || port > UINT16_MAX) {
        fprintf(stderr,
                "interloop get: --resolve is '%s', want HOST:PORT:ADDRESS[,ADDRESS]..., with a "
                "port from 1 to 65535\n",
                text);
        return false;
    }
    host = strndup(text, (size_t)(colon - text));
    if (host == NULL) {
        fprintf(stderr, "interloop get: out of memory\n");
        return false;
    }
    get->hosts[get->host_count++] =
        (struct il_host_addresses){ .host = host, .port = (uint16_t)port, .addresses = end + 1 };
    return true;
}

static bool get_take_option(struct get *get, int option)
{
    switch (option) {
    case 'X':
        get->method = optarg;
        return true;
    case 'H':
        return get_take_header(get, optarg);
    case 'd':
        return get_take_data(get, optarg);
    case 'o':
        get->output = optarg;
        return true;
    case 'i':
        return get->show.shows_head = true;
    case 'v':
        return get->show.is_verbose = true;
    case 'f':
        return get->fails_on_status = true;
    case 'k':
        return get->tls_options.insecure_no_verification = true;
    case 'h':
        return get->is_help = true;
    case GET_CACERT:
        get->tls_options.ca_file = optarg;
        return true;
    case GET_CERT:
        get->tls_options.certificate_file = optarg;
        return true;
    case GET_KEY:
        get->tls_options.key_file = optarg;
        return true;
    case GET_PASS:
        return get_take_password(get, optarg);
    case GET_PINS:
        get->tls_options.pins = optarg;
        return true;
    case GET_ADDRESS:
        get->address = optarg;
        return true;
    case GET_RESOLVE:
        return get_take_host(get, optarg);
    case GET_MAX_TIME:
        return get_take_time(get, optarg);
    case GET_HTTP_1_1:
        return get->wants_http_1_1 = true;
    case GET_HTTP_2:
        return get->wants_http_2 = true;
    case GET_HTTP_2_PRIOR_KNOWLEDGE:
        return get->knows_http_2 = true;
    default:
        return get->show.is_json = true;
    }
}

/* A file that an option names; not opened, since a pipe can be opened only once. */
static bool get_check_file(const char *option, const char *path)
{
    if (path == NULL || access(path, R_OK) == 0) {
        return true;
    }
    fprintf(stderr, "interloop get: cannot read '%s' for %s: %s\n", path, option, strerror(errno));
    return false;
}

static bool get_check_files(const struct get *get)
{
    return get_check_file("--cacert", get->tls_options.ca_file) &&
           get_check_file("--cert", get->tls_options.certificate_file) &&
           get_check_file("--key", get->tls_options.key_file);
}

static bool get_parse(struct get *get, int argc, char **argv)
{
    int option;

    optind = 0; /* start anew */
    while ((option = getopt_long(argc, argv, "X:H:d:o:ivfkh", get_options, NULL)) != -1) {
        if (option == '?' || !get_take_option(get, option)) { /* getopt has said what is wrong */
            return false;
        }
    }
    if (get->is_help) {
        return true;
    }
    if (optind == argc) {
        fprintf(stderr, "interloop get: which URL?\n");
        return false;
    }
    if (get->wants_http_1_1 && (get->wants_http_2 || get->knows_http_2)) {
        fprintf(stderr, "interloop get: %s and --http1.1; which?\n",
                get->wants_http_2 ? "--http2" : "--http2-prior-knowledge");
        return false;
    }
    for (int i = optind; i < argc && get->wants_http_2 && !get->knows_http_2; i++) {
        if (strncasecmp(argv[i], "http:", 5) == 0) {
            fprintf(stderr,
                    "interloop get: --http2 is agreed on within TLS, and '%s' has none; if the "
                    "server is known to speak HTTP/2: --http2-prior-knowledge\n",
                    argv[i]);
            return false;
        }
    }
    if (argc - optind > 1 && get->output != NULL) {
        fprintf(stderr, "interloop get: --output is for one URL\n");
        return false;
    }
    return get_check_files(get);
}

/* ---- the request ---- */

static enum il_code get_add_headers(const struct get *get, struct il_request *request,
                                    struct il_error *err)
{
    bool has_type = false;
    enum il_code code = IL_OK;

    for (unsigned i = 0; i < get->header_count && code == IL_OK; i++) {
        const char *colon = strchr(get->headers[i], ':');
        char *name = strndup(get->headers[i], (size_t)(colon - get->headers[i]));

        if (name == NULL) {
            fprintf(stderr, "interloop get: out of memory\n");
            exit(GET_EXIT_FAILED);
        }
        has_type = has_type || strcasecmp(name, "Content-Type") == 0;
        code = il_request_add_header(request, name, colon + 1 + strspn(colon + 1, " \t"), err);
        free(name);
    }
    if (code == IL_OK && get->data != NULL && !has_type) {
        code = il_request_add_header(request, "Content-Type", "application/x-www-form-urlencoded",
                                     err);
    }
    return code;
}

static enum il_code get_make_request(const struct get *get, const char *url,
                                     struct il_request **ret_request, struct il_error *err)
{
    const char *method = get->method != NULL ? get->method : get->data != NULL ? "POST" : "GET";
    struct il_request *request;
    enum il_code code = il_request_new(method, url, &request, err);

    if (code != IL_OK) {
        return code;
    }
    code = get_add_headers(get, request, err);
    if (code == IL_OK && get->data != NULL) {
        code = il_request_set_body(request, get->data, get->data_size, err);
    }
    if (code == IL_OK && get->address != NULL) {
        code = il_request_set_address(request, get->address, err);
    }
    if (code == IL_OK && get->max_time_ms > 0) {
        code = il_request_set_timeout_ms(request, IL_PHASE_TOTAL, get->max_time_ms);
    }
    if (code != IL_OK) {
        il_request_free(request);
        return code;
    }
    *ret_request = request;
    return IL_OK;
}

/* ---- the response ---- */

/* No whole response: say why. */
static int get_fail(const struct get *get, const char *url, const struct il_error *err)
{
    fprintf(stderr, "interloop get: %s%s%s: %s\n", il_code_name(err->code),
            err->phase != IL_PHASE_NONE ? ", phase " : "",
            err->phase != IL_PHASE_NONE ? il_phase_name(err->phase) : "", err->message);
    get_show_failure(&get->show, url, err);
    return GET_EXIT_FAILED;
}

static int get_print_body(struct get *get, const char *url, struct il_response *response)
{
    static char piece[GET_PIECE_SIZE];
    uint64_t total = 0;
    size_t size = 1;

    get_show_head(&get->show, response);
    while (size > 0) {
        struct il_error err;

        if (il_response_read(response, piece, sizeof(piece), &size, &err) != IL_OK) {
            (void)fflush(get->show.out); /* what has come stands before what is said of it */
            return get_fail(get, url, &err);
        }
        total += size;
        if ((!get->show.is_json || get->output != NULL) && size > 0 &&
            !get_show_body(&get->show, piece, size)) {
            fprintf(stderr, "interloop get: write the body: %s\n", strerror(errno));
            return GET_EXIT_FAILED;
        }
    }
    (void)fflush(get->show.out); /* main says so if it fails */
    get_show_end(&get->show, url, response, total);
    return get->fails_on_status && il_response_status(response) >= 400 ? GET_EXIT_STATUS
                                                                       : GET_EXIT_OK;
}

static int get_one(struct get *get, const char *url)
{
    struct il_request *request;
    struct il_response *response;
    struct il_error err;
    int status;

    if (get_make_request(get, url, &request, &err) != IL_OK) {
        fprintf(stderr, "interloop get: %s: %s\n", il_code_name(err.code), err.message);
        return GET_EXIT_USAGE;
    }
    if (il_send_streaming(get->client, request, &response, &err) != IL_OK) {
        status = get_fail(get, url, &err);
        status = err.code == IL_EREQUEST ? GET_EXIT_USAGE : status;
    } else {
        status = get_print_body(get, url, response);
        il_response_free(response);
    }
    il_request_free(request);
    return status;
}

/* ---- start and end ---- */

static int get_start(struct get *get)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    const char *key_log = getenv("SSLKEYLOGFILE");
    struct il_error err;

    enum il_code code;

    get->tls_options.key_log_file = key_log != NULL && key_log[0] != '\0' ? key_log : NULL;
    code = il_tls_new(&get->tls_options, &get->tls, &err);
    explicit_bzero(get->password, sizeof(get->password));
    if (code != IL_OK) {
        fprintf(stderr, "interloop get: %s\n", err.message);
        return code == IL_EINVAL ? GET_EXIT_USAGE : GET_EXIT_FAILED;
    }
    options.name = "interloop get";
    options.http_version = get->wants_http_1_1 ? IL_HTTP_1_1
                           : get->knows_http_2 || get->wants_http_2
                               ? IL_HTTP_2_PRIOR_KNOWLEDGE /* within TLS nothing else is offered */
                               : IL_HTTP_AUTO;
    options.tls = get->tls;
    options.hosts = get->hosts;
    options.host_count = get->host_count;
    if (il_client_new(&options, &get->client, &err) != IL_OK) {
        fprintf(stderr, "interloop get: %s\n", err.message);
        return err.code == IL_EINVAL ? GET_EXIT_USAGE : GET_EXIT_FAILED;
    }
    get->show.out = stdout;
    if (get->output != NULL) {
        get->show.out = fopen(get->output, "wb");
        if (get->show.out == NULL) {
            fprintf(stderr, "interloop get: cannot write '%s': %s\n", get->output, strerror(errno));
            return GET_EXIT_FAILED;
        }
    }
    get->show.out_is_terminal = isatty(fileno(get->show.out)) == 1;
    if (get->tls_options.insecure_no_verification) {
        fprintf(stderr, "interloop get: warning: --insecure: nobody checks who the server is\n");
    }
    return GET_EXIT_OK;
}

static void get_free(struct get *get)
{
    for (size_t i = 0; i < get->host_count; i++) {
        free((char *)get->hosts[i].host);
    }
    free(get->data);
}

static int get_end(struct get *get, int status)
{
    if (get->show.out != NULL && get->show.out != stdout && fclose(get->show.out) != 0) {
        fprintf(stderr, "interloop get: write '%s': %s\n", get->output, strerror(errno));
        status = GET_EXIT_FAILED;
    }
    get->client = il_client_unref(get->client);
    get->tls = il_tls_unref(get->tls);
    get_free(get);
    return status;
}

int get_main(int argc, char **argv)
{
    struct get get = { .tls_options = IL_TLS_OPTIONS_INIT };
    int status = GET_EXIT_USAGE;

    if (get_parse(&get, argc, argv)) {
        if (get.is_help) {
            fputs(get_usage, stdout);
            get_free(&get);
            return GET_EXIT_OK;
        }
        status = get_start(&get);
        for (int i = optind; i < argc && status == GET_EXIT_OK; i++) {
            status = get_one(&get, argv[i]);
        }
    }
    return get_end(&get, status);
}
