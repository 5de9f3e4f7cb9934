/* common.c: see common.h. */
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S  1000000000u
#define US_PER_S  1000000u
#define US_PER_MS 1000u

void bench_fail(const char *what)
{
    if (errno != 0) {
        fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
    } else {
        fprintf(stderr, "bench: %s\n", what);
    }
    exit(1);
}

uint64_t bench_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

void bench_raise_file_limit(uint64_t wanted)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) < 0) {
        bench_fail("ask for the limit of open files");
    }
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_max < wanted) {
        errno = EMFILE;
        bench_fail("open enough connections (raise `ulimit -Hn`)");
    }
}

/* ---- options ---- */

static uint64_t parse_number(const char *option, const char *text, uint64_t min, uint64_t max)
{
    char *end;
    uint64_t value;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < min || value > max) {
        fprintf(stderr, "bench: --%s is '%s', want a number from %" PRIu64 " to %" PRIu64 "\n",
                option, text, min, max);
        exit(2);
    }
    return value;
}

void bench_parse(struct bench_options *options, int argc, char **argv)
{
    static const struct option long_options[] = {
        { "port", required_argument, NULL, 'p' },
        { "path", required_argument, NULL, 'a' },
        { "warm-up", required_argument, NULL, 'w' },
        { "mode", required_argument, NULL, 'm' },
        { "connections", required_argument, NULL, 'c' },
        { "requests", required_argument, NULL, 'n' },
        { "rate", required_argument, NULL, 'r' },
        { "linger", required_argument, NULL, 'l' },
        { "upload", required_argument, NULL, 'u' },
        { "runtimes", required_argument, NULL, 't' },
        { "tls", required_argument, NULL, 's' },
        { "http", required_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int index = 0, c;

    *options = (struct bench_options){
        .path = "/small", .connections = 1, .requests = 1, .runtimes = 1, .http = 1
    };
    while ((c = getopt_long(argc, argv, "", long_options, &index)) != -1) {
        const char *name = c == '?' ? NULL : long_options[index].name;

        switch (c) {
        case 'p':
            options->port = (uint16_t)parse_number(name, optarg, 1, UINT16_MAX);
            break;
        case 'a':
            options->path = optarg;
            break;
        case 'm':
            options->mode = optarg;
            break;
        case 'c':
            options->connections = parse_number(name, optarg, 1, 100000);
            break;
        case 'n':
            options->requests = parse_number(name, optarg, 1, UINT64_MAX / 2);
            break;
        case 'w':
            options->warm_up = parse_number(name, optarg, 0, UINT64_MAX / 2);
            break;
        case 'r':
            options->rate = parse_number(name, optarg, 0, NS_PER_S);
            break;
        case 'u':
            options->upload_bytes = parse_number(name, optarg, 0, UINT32_MAX);
            break;
        case 'l':
            options->linger_ms = parse_number(name, optarg, 0, 60000);
            break;
        case 't':
            options->runtimes = parse_number(name, optarg, 1, 1024);
            break;
        case 's':
            options->ca_file = optarg;
            break;
        case 'h':
            options->http = parse_number(name, optarg, 1, 2);
            break;
        default:
            exit(2); /* getopt has said why */
        }
    }
    if (options->port == 0 || optind != argc) {
        fprintf(stderr,
                "usage: %s --port P [--path /small] [--connections C] [--requests N] [--warm-up W] "
                "[--rate R] [--upload BYTES] [--linger MS] [--mode M] [--runtimes T] "
                "[--tls CA_FILE] [--http 1|2]\n",
                argv[0]);
        exit(2);
    }
    if (options->warm_up >= options->requests) {
        fprintf(stderr, "bench: --warm-up must be less than --requests\n");
        exit(2);
    }
    bench_raise_file_limit(options->connections + 64);
    options->is_close = strcmp(options->path, "/close") == 0;
}

const char *bench_url(const struct bench_options *options)
{
    static char url[1100];

    snprintf(url, sizeof(url), "%s://127.0.0.1:%u%s", options->ca_file != NULL ? "https" : "http",
             options->port, options->path);
    return url;
}

/* ---- the plan ---- */

static void plan_arm_ticks(struct bench_plan *plan)
{
    uint64_t interval_ns = NS_PER_S / plan->options->rate;
    struct itimerspec ticks = { 0 };

    plan->interval_ns = interval_ns;
    plan->histogram = calloc(HISTOGRAM_BUCKET_COUNT, sizeof(*plan->histogram));
    plan->tick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (plan->histogram == NULL || plan->tick_fd < 0) {
        bench_fail("make the timer of --rate");
    }
    ticks.it_interval.tv_sec = (time_t)(interval_ns / NS_PER_S);
    ticks.it_interval.tv_nsec = (long)(interval_ns % NS_PER_S);
    ticks.it_value = ticks.it_interval;
    plan->start_ns = bench_now_ns() + interval_ns;
    if (timerfd_settime(plan->tick_fd, 0, &ticks, NULL) < 0) {
        bench_fail("arm the timer of --rate");
    }
}

void plan_init(struct bench_plan *plan, const struct bench_options *options)
{
    *plan = (struct bench_plan){ .options = options, .tick_fd = -1 };
    if (options->rate > 0) {
        plan_arm_ticks(plan);
    }
    usage_take(&plan->window_begin); /* without a warm-up */
}

void plan_on_tick(struct bench_plan *plan)
{
    uint64_t count;

    if (read(plan->tick_fd, &count, sizeof(count)) != (ssize_t)sizeof(count)) {
        bench_fail("read the timer of --rate");
    }
    plan->due += count;
}

bool plan_next(struct bench_plan *plan, uint64_t *ret_due_ns)
{
    if (plan->started == plan->options->requests) {
        return false;
    }
    if (plan->tick_fd >= 0) {
        if (plan->started == plan->due) {
            return false;
        }
        *ret_due_ns = plan->start_ns + plan->started * plan->interval_ns;
    } else {
        *ret_due_ns = 0;
    }
    plan->started++;
    return true;
}

bool plan_wait_next(struct bench_plan *plan, uint64_t *ret_due_ns)
{
    if (plan->tick_fd >= 0 && plan->started == plan->due) {
        plan_on_tick(plan);
    }
    return plan_next(plan, ret_due_ns);
}

void usage_take(struct usage *ret_usage)
{
    struct rusage usage;

    if (getrusage(RUSAGE_SELF, &usage) < 0) {
        bench_fail("ask for the CPU time used");
    }
    ret_usage->user_us =
        (uint64_t)usage.ru_utime.tv_sec * US_PER_S + (uint64_t)usage.ru_utime.tv_usec;
    ret_usage->system_us =
        (uint64_t)usage.ru_stime.tv_sec * US_PER_S + (uint64_t)usage.ru_stime.tv_usec;
    ret_usage->at_ns = bench_now_ns();
}

void plan_complete(struct bench_plan *plan, uint64_t due_ns, uint64_t body_bytes)
{
    plan->completed++;
    plan->body_bytes += body_bytes;
    if (plan->completed == plan->options->warm_up) {
        usage_take(&plan->window_begin);
    }
    if (plan->completed == plan->options->requests) {
        usage_take(&plan->window_end);
    }
    if (plan->histogram != NULL) {
        uint64_t now_ns = bench_now_ns();

        plan->histogram[histogram_index(now_ns > due_ns ? now_ns - due_ns : 0)]++;
    }
}

bool plan_is_complete(const struct bench_plan *plan)
{
    return plan->completed == plan->options->requests;
}

void plan_print(const struct bench_plan *plan)
{
    const struct usage *begin = &plan->window_begin, *end = &plan->window_end;
    const char *comma = "";

    printf("{\"requests\": %" PRIu64 ", \"bytes\": %" PRIu64, plan->completed, plan->body_bytes);
    printf(", \"window\": {\"requests\": %" PRIu64 ", \"user_us\": %" PRIu64
           ", \"system_us\": %" PRIu64 ", \"wall_ns\": %" PRIu64 "}",
           plan->completed - plan->options->warm_up, end->user_us - begin->user_us,
           end->system_us - begin->system_us, end->at_ns - begin->at_ns);
    if (plan->histogram != NULL) {
        printf(", \"histogram\": {");
        for (size_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
            if (plan->histogram[i] != 0) {
                printf("%s\"%zu\": %" PRIu64, comma, i, plan->histogram[i]);
                comma = ", ";
            }
        }
        printf("}");
    }
    printf("}\n");
    fflush(stdout);
    malloc_trim(0);
    if (plan->options->linger_ms > 0) {
        usleep((useconds_t)(plan->options->linger_ms * US_PER_MS));
        _exit(0); /* tearing down would be read as well */
    }
}

size_t histogram_index(uint64_t value_ns)
{
    unsigned shift;
    size_t index;

    if (value_ns < 256) {
        return (size_t)value_ns;
    }
    shift = 56u - (unsigned)__builtin_clzll(value_ns); /* leaves the 8 highest bits */
    index = (size_t)shift * 128 + (size_t)(value_ns >> shift);
    return index < HISTOGRAM_BUCKET_COUNT ? index : HISTOGRAM_BUCKET_COUNT - 1;
}

/* ---- the wire ---- */

#define BACKLOG 16384

int bench_listen(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 || /* inherited */
        bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, BACKLOG) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0) {
        bench_fail("listen");
    }
    printf("listening %u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int bench_connect(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    if (fd < 0) {
        bench_fail("make a socket");
    }
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        bench_fail("connect to the bench server");
    }
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0) {
        bench_fail("set TCP_NODELAY");
    }
    return fd;
}

const char *bench_request_head(const struct bench_options *options, size_t *ret_size)
{
    static char head[1024];
    char length[64] = "";
    int size;

    if (options->upload_bytes > 0) {
        snprintf(length, sizeof(length), "Content-Length: %" PRIu64 "\r\n", options->upload_bytes);
    }
    size = snprintf(
        head, sizeof(head),
        "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUser-Agent: bench\r\nAccept: */*\r\n%s\r\n",
        options->upload_bytes > 0 ? "PUT" : "GET", options->path, options->port, length);
    if (size < 0 || (size_t)size >= sizeof(head)) {
        errno = 0;
        bench_fail("--path is too long");
    }
    *ret_size = (size_t)size;
    return head;
}
