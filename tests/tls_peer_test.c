/* tls_peer_test.c: https with a server that the test plays itself, TLS message by TLS message, and
 * connections that change loops in the middle of their lives. */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tls_check.h"

/* ---- a server played by the test ---- */

struct peer {
    int listen_fd;
    uint16_t port;
    SSL_CTX *context;
    pthread_t thread;
    void (*play)(struct peer *peer, int fd);
    _Atomic int step; /* for the play and the test to meet */
};

static void peer_meet(struct peer *peer, int step)
{
    while (atomic_load(&peer->step) < step) {
        usleep(1000);
    }
}

static void *peer_run(void *arg)
{
    struct peer *peer = arg;
    int fd = accept(peer->listen_fd, NULL, NULL);

    CHECK(fd >= 0);
    peer->play(peer, fd);
    close(fd);
    return NULL;
}

static int listen_anywhere(uint16_t *ret_port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0);
    CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    CHECK_EQ(listen(fd, 16), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *ret_port = ntohs(address.sin_port);
    return fd;
}

static void peer_start(struct peer *peer, void (*play)(struct peer *peer, int fd))
{
    static const struct lab_certificate_options usual;
    struct lab_certificate certificate;
    BIO *bio;
    X509 *x509;
    EVP_PKEY *key;

    authority_start();
    CHECK_OK(lab_authority_issue(authority, &usual, &certificate, &err));
    peer->context = SSL_CTX_new(TLS_server_method());
    bio = BIO_new_mem_buf(certificate.pem, -1);
    x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    bio = BIO_new_mem_buf(certificate.key_pem, -1);
    key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    CHECK_EQ(SSL_CTX_use_certificate(peer->context, x509), 1);
    CHECK_EQ(SSL_CTX_use_PrivateKey(peer->context, key), 1);
    X509_free(x509);
    EVP_PKEY_free(key);
    lab_certificate_deinit(&certificate);
    peer->play = play;
    atomic_store(&peer->step, 0);
    peer->listen_fd = listen_anywhere(&peer->port);
    CHECK_EQ(pthread_create(&peer->thread, NULL, peer_run, peer), 0);
    tls_client_start(IL_DRIVER_CALLER, NULL);
}

static void peer_stop(struct peer *peer)
{
    client = il_client_unref(client);
    pthread_join(peer->thread, NULL);
    close(peer->listen_fd);
    SSL_CTX_free(peer->context);
    lab_authority_free(authority);
    authority = NULL;
}

static SSL *peer_accept(struct peer *peer, int fd)
{
    SSL *ssl = SSL_new(peer->context);

    CHECK(ssl != NULL);
    SSL_set_fd(ssl, fd);
    CHECK_EQ(SSL_accept(ssl), 1);
    return ssl;
}

static void peer_read_request(SSL *ssl)
{
    char text[4096];
    int size = 0;

    do {
        int got = SSL_read(ssl, text + size, (int)sizeof(text) - 1 - size);

        CHECK(got > 0);
        size += got;
        text[size] = '\0';
    } while (strstr(text, "\r\n\r\n") == NULL);
}

#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

static void peer_answer(SSL *ssl)
{
    CHECK_EQ(SSL_write(ssl, ANSWER, sizeof(ANSWER) - 1), (int)sizeof(ANSWER) - 1);
}

/* What was sent lies in the client's socket. Else it may still be on its way, although send() has
 * returned: a busy system brings it on later. */
static void peer_wait_until_received(SSL *ssl)
{
    int left;

    do {
        usleep(1000);
        CHECK_EQ(ioctl(SSL_get_rfd(ssl), SIOCOUTQ, &left), 0);
    } while (left > 0);
}

/* The response of the peer, or a code. */
static enum il_code peer_get(const struct peer *peer, struct il_response **ret_response)
{
    char text[64];

    snprintf(text, sizeof(text), "https://127.0.0.1:%u/", peer->port);
    return il_get(client, text, ret_response, &err);
}

static uint64_t peer_get_ok(const struct peer *peer)
{
    struct il_response_timing timing;
    struct il_response *response;

    CHECK_OK(peer_get(peer, &response));
    CHECK_STR(il_response_body(response, NULL), "hello");
    il_response_timing(response, &timing);
    il_response_free(response);
    return timing.connection_id;
}

/* ---- what TLS says on an idle connection ---- */

static void play_tickets(struct peer *peer, int fd)
{
    SSL *ssl = peer_accept(peer, fd);

    for (int i = 0; i < 4; i++) {
        peer_read_request(ssl);
        peer_answer(ssl);
        peer_meet(peer, 2 * i + 1);
        CHECK_EQ(i % 2 == 0 ? SSL_new_session_ticket(ssl)
                            : SSL_key_update(ssl, i == 1 ? SSL_KEY_UPDATE_REQUESTED
                                                         : SSL_KEY_UPDATE_NOT_REQUESTED),
                 1);
        CHECK_EQ(SSL_do_handshake(ssl), 1);
        atomic_store(&peer->step, 2 * i + 2);
    }
    SSL_free(ssl);
}

TEST(ticket_or_key_update_on_an_idle_connection_does_not_cost_it)
{
    struct il_client_stats stats;
    struct peer peer;
    uint64_t first = 0;

    peer_start(&peer, play_tickets);
    for (int i = 0; i < 4; i++) {
        uint64_t id = peer_get_ok(&peer);

        first = i == 0 ? id : first;
        CHECK_EQ(id, first);
        atomic_store(&peer.step, 2 * i + 1);
        peer_meet(&peer, 2 * i + 2);
        if (i % 2 == 0) {
            (void)il_sleep_ms(5); /* its loop sees it; else the next request does */
        }
    }
    il_client_stats(client, &stats);
    CHECK_EQ(stats.connections_total, 1);
    pool_validate(&client->pool);
    peer_stop(&peer);
}

static void play_unasked(struct peer *peer, int fd)
{
    SSL *ssl = peer_accept(peer, fd);

    peer_read_request(ssl);
    peer_answer(ssl);
    peer_meet(peer, 1);
    CHECK_EQ(SSL_new_session_ticket(ssl), 1);
    peer_answer(ssl); /* for nobody: would poison the next request */
    peer_wait_until_received(ssl);
    atomic_store(&peer->step, 2);
    peer_meet(peer, 3);
    SSL_free(ssl);
}

/* The same, but only half of its record comes. */
static void play_half_unasked(struct peer *peer, int fd)
{
    SSL *ssl = peer_accept(peer, fd);
    BIO *wire = BIO_new(BIO_s_mem());
    char *record;
    long size;

    CHECK(wire != NULL);
    peer_read_request(ssl);
    peer_answer(ssl);
    peer_meet(peer, 1);
    SSL_set0_wbio(ssl, wire);
    peer_answer(ssl);
    size = BIO_get_mem_data(wire, &record);
    CHECK_EQ(write(fd, record, (size_t)size / 2), size / 2);
    peer_wait_until_received(ssl);
    atomic_store(&peer->step, 2);
    peer_meet(peer, 3);
    SSL_free(ssl);
}

/* Such a connection is not used again, whether its loop sees it or the next request does. */
static void check_costs_the_connection(void (*play)(struct peer *peer, int fd))
{
    for (int is_seen_by_loop = 0; is_seen_by_loop < 2; is_seen_by_loop++) {
        struct il_client_stats stats;
        struct il_request *request;
        struct il_response *response;
        struct peer peer;
        char text[64];

        peer_start(&peer, play);
        (void)peer_get_ok(&peer);
        atomic_store(&peer.step, 1);
        peer_meet(&peer, 2);
        if (is_seen_by_loop) {
            (void)il_sleep_ms(5);
        }
        snprintf(text, sizeof(text), "https://127.0.0.1:%u/", peer.port);
        CHECK_OK(il_request_new("GET", text, &request, &err));
        CHECK_OK(il_request_set_timeout_ms(request, IL_PHASE_TLS, 50)); /* nobody accepts another */
        CHECK_EQ(il_send(client, request, &response, &err), IL_ETIMEDOUT);
        CHECK_EQ(err.phase, IL_PHASE_TLS);
        il_client_stats(client, &stats);
        CHECK_EQ(stats.idle, 0);
        CHECK_EQ(stats.connections, 0);
        il_request_free(request);
        atomic_store(&peer.step, 3);
        peer_stop(&peer);
    }
}

TEST(response_that_nobody_asked_for_costs_the_idle_connection)
{
    check_costs_the_connection(play_unasked);
}

TEST(half_a_response_that_nobody_asked_for_costs_the_idle_connection)
{
    check_costs_the_connection(play_half_unasked);
}

static void play_flood(struct peer *peer, int fd)
{
    SSL *ssl = peer_accept(peer, fd);

    peer_read_request(ssl);
    for (int i = 0; i < 1000000; i++) { /* until the client has enough */
        if (SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1 || SSL_do_handshake(ssl) != 1) {
            break;
        }
    }
    SSL_free(ssl);
}

TEST(flood_of_key_updates_ends_the_connection)
{
    struct il_response *response;
    struct peer peer;

    (void)signal(SIGPIPE, SIG_IGN); /* the peer's */
    peer_start(&peer, play_flood);
    CHECK(peer_get(&peer, &response) != IL_OK);
    CHECK_EQ(err.code, IL_ETLS);
    CHECK_CONTAINS(err.message, "bytes of TLS without any of the response");
    peer_stop(&peer);
}

/* ---- small pieces ---- */

struct relay {
    int from, to;
};

static void *relay_run(void *arg)
{
    struct relay *relay = arg;
    char byte;

    while (read(relay->from, &byte, 1) == 1) {
        if (send(relay->to, &byte, 1, MSG_NOSIGNAL) != 1) {
            break;
        }
    }
    (void)shutdown(relay->to, SHUT_WR);
    return NULL;
}

/* Every byte of the handshake and of what follows in a packet of its own. */
static void play_relay(struct peer *peer, int fd)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(lab_server_port(server)),
                                   .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int up = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct relay down = { .from = up, .to = fd }, back = { .from = fd, .to = up };
    pthread_t thread;
    int on = 1;

    CHECK_EQ(connect(up, (struct sockaddr *)&address, sizeof(address)), 0);
    CHECK_EQ(setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof(on)), 0);
    CHECK_EQ(pthread_create(&thread, NULL, relay_run, &down), 0);
    (void)relay_run(&back);
    pthread_join(thread, NULL);
    close(up);
}

TEST(records_may_come_byte_by_byte)
{
    struct peer peer;

    tls_server_start(NULL, NULL);
    peer_start(&peer, play_relay);
    for (int i = 0; i < 3; i++) {
        char text[96];
        struct il_response *response;

        snprintf(text, sizeof(text), "https://127.0.0.1:%u/bytes/3000?seed=%d&chunked=1&chunk=7",
                 peer.port, i);
        CHECK_OK(il_get(client, text, &response, &err));
        CHECK(lab_pattern_matches(il_response_body(response, NULL), 3000, (uint64_t)i, 0));
        il_response_free(response);
    }
    peer_stop(&peer);
    lab_server_stop(server);
}

/* ---- handshakes that do not come to an end ---- */

static void play_silence(struct peer *peer, int fd)
{
    peer_meet(peer, 1);
}

TEST(handshake_has_a_limit_of_its_own_and_leaves_nothing_behind)
{
    struct il_client_stats stats;
    struct il_memory_use before, after;
    struct il_request *request;
    struct il_response *response;
    struct peer peer;
    char text[64];

    peer_start(&peer, play_silence);
    snprintf(text, sizeof(text), "https://127.0.0.1:%u/", peer.port);
    CHECK_OK(il_request_new("GET", text, &request, &err));
    CHECK_OK(il_request_set_timeout_ms(request, IL_PHASE_TLS, 20));
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(il_send(client, request, &response, &err), IL_ETIMEDOUT);
        CHECK_EQ(err.phase, IL_PHASE_TLS);
        CHECK_EQ(err.limit_ms, 20);
        CHECK_CONTAINS(err.message,
                       "phase tls: waited 20 ms for the TLS handshake with 127.0.0.1:");
        turn_own_loop(); /* what was buried is freed */
        il_memory_use(i == 0 ? &before : &after);
    }
    CHECK_EQ(after.live_count, before.live_count);
    il_client_stats(client, &stats);
    CHECK_EQ(stats.connections, 0);
    il_request_free(request);
    atomic_store(&peer.step, 1);
    peer_stop(&peer);
}

static void on_done_count(void *arg, enum il_code code, struct il_response *response,
                          const struct il_error *error)
{
    if (code == IL_OK) {
        il_response_free(response);
    } else {
        CHECK(code == IL_ECANCELED || code == IL_ESHUTDOWN);
    }
    atomic_fetch_add((_Atomic int *)arg, 1);
}

/* At any moment of resolving, connecting, handshake and exchange. */
TEST(call_is_cancelled_at_any_moment_and_every_call_is_answered_once)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *runtime;
    struct il_client_stats stats;
    _Atomic int done = 0;
    int count = 0;

    tls_server_start(NULL, NULL);
    tls_client_start(IL_DRIVER_CALLER, NULL);
    options.worker_count = 1;
    CHECK_OK(il_runtime_new(&options, &runtime, &err));
    for (unsigned pause_us = 0; pause_us < 6000; pause_us += 40) {
        struct il_call_options call_options = IL_CALL_OPTIONS_INIT;
        struct il_request *request;
        struct il_call *call;

        CHECK_OK(il_request_new("GET", tls_url("localhost", "/hello"), &request, &err));
        call_options.runtime = runtime;
        call_options.on_done = on_done_count;
        call_options.arg = &done;
        CHECK_OK(il_call_start(client, request, &call_options, &call, &err));
        usleep(pause_us);
        il_call_cancel(call);
        call = il_call_unref(call);
        count++;
        if (pause_us % 400 == 0) {
            il_client_close_idle(client);
        }
    }
    il_runtime_drop(runtime); /* ends the calls that are left, handshakes included */
    CHECK_EQ(atomic_load(&done), count);
    il_client_stats(client, &stats);
    CHECK_EQ(stats.calls, 0);
    CHECK_EQ(stats.connections, stats.idle);
    tls_stop();
}

/* ---- from loop to loop ---- */

struct handed {
    struct il_response *response;
    size_t got;
    char body[200000];
};

static void read_part(void *arg)
{
    struct handed *handed = arg;
    size_t size = 1;

    for (int i = 0; i < 2 && size > 0; i++) {
        CHECK_OK(il_response_read(handed->response, handed->body + handed->got, 5000, &size, &err));
        handed->got += size;
    }
}

static void *read_part_in_thread(void *arg)
{
    read_part(arg);
    return NULL;
}

TEST(streamed_body_is_read_by_one_runtime_after_the_other)
{
    static struct handed handed;
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *multi, *current;
    struct il_request *request;

    tls_server_start(NULL, NULL);
    tls_client_start(IL_DRIVER_CALLER, NULL);
    options.worker_count = 2;
    CHECK_OK(il_runtime_new(&options, &multi, &err));
    options.kind = IL_RUNTIME_CURRENT_THREAD;
    options.worker_count = 0;
    CHECK_OK(il_runtime_new(&options, &current, &err));
    CHECK_OK(il_request_new("GET", tls_url("localhost", "/bytes/200000?seed=3"), &request, &err));
    CHECK_OK(il_send_streaming(client, request, &handed.response, &err));
    for (int i = 0; handed.got < 200000; i++) {
        pthread_t thread;

        switch (i % 4) {
        case 0:
            CHECK_OK(il_block_on(current, read_part, &handed, &err));
            break;
        case 1:
            CHECK_OK(il_block_on(multi, read_part, &handed, &err));
            break;
        case 2:
            CHECK_EQ(pthread_create(&thread, NULL, read_part_in_thread, &handed), 0);
            pthread_join(thread, NULL);
            break;
        default:
            read_part(&handed);
            break;
        }
    }
    CHECK(lab_pattern_matches(handed.body, 200000, 3, 0));
    il_response_free(handed.response);
    il_request_free(request);
    il_runtime_drop(current);
    il_runtime_drop(multi);
    tls_stop();
}

static _Atomic int mover_count;

static void move_in_task(void *arg)
{
    for (int i = 0; i < 60; i++) {
        struct il_response *response;
        struct il_error error;
        char path[64];
        size_t size = (size_t)(i * 997 % 40000);

        snprintf(path, sizeof(path), "/bytes/%zu?seed=%d%s", size, i,
                 i % 3 == 0 ? "&chunked=1" : "");
        if (il_get(client, tls_url("127.0.0.1", path), &response, &error) != IL_OK) {
            check_fail(__FILE__, __LINE__, "%s", error.message);
        }
        CHECK(lab_pattern_matches(il_response_body(response, NULL), size, (uint64_t)i, 0));
        il_response_free(response);
        atomic_fetch_add(&mover_count, 1);
    }
}

static void *move_in_thread(void *arg)
{
    move_in_task(arg);
    return NULL;
}

TEST(connections_with_tls_are_handed_round_by_runtimes_and_threads)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *runtimes[2];
    struct il_task *tasks[8];
    struct il_client_stats stats;
    pthread_t threads[2];

    tls_server_start(NULL, NULL);
    tls_client_start(IL_DRIVER_CALLER, NULL);
    options.worker_count = 1;
    for (int i = 0; i < 2; i++) {
        CHECK_OK(il_runtime_new(&options, &runtimes[i], &err));
    }
    for (int i = 0; i < 8; i++) {
        CHECK_OK(il_spawn(runtimes[i % 2], "mover", move_in_task, NULL, &tasks[i], &err));
    }
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, move_in_thread, NULL), 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < 8; i++) {
        CHECK_OK(il_task_join(tasks[i], IL_FOREVER, &err));
        il_task_unref(tasks[i]);
    }
    CHECK_EQ(atomic_load(&mover_count), 600);
    move_in_task(NULL); /* with what the others have left */
    il_client_stats(client, &stats);
    CHECK(stats.moves_total > 0);
    CHECK(stats.connections_total < 60);
    il_runtime_drop(runtimes[0]);
    il_runtime_drop(runtimes[1]);
    tls_stop();
}

/* ---- uploads ---- */

static enum il_code make_body(void *arg, void *buffer, size_t size, size_t *ret_size)
{
    uint64_t *left = arg;

    *ret_size = (size_t)il_min_u64(size, *left);
    memset(buffer, 'x', *ret_size);
    *left -= *ret_size;
    return IL_OK;
}

TEST(large_bodies_go_up_and_come_down)
{
    static char body[3000000];
    uint64_t left = 2000000;
    struct il_request *request;
    struct il_response *response;
    size_t size;

    tls_server_start(NULL, NULL);
    tls_client_start(IL_DRIVER_CALLER, NULL);
    memset(body, 'y', sizeof(body));
    CHECK_OK(il_request_new("POST", tls_url("localhost", "/sink"), &request, &err));
    CHECK_OK(il_request_set_body(request, body, sizeof(body), &err));
    CHECK_OK(il_send(client, request, &response, &err));
    CHECK_CONTAINS(il_response_body(response, NULL), "3000000");
    il_response_free(response);
    CHECK_OK(il_request_set_body_source(request, make_body, &left, IL_LENGTH_UNKNOWN, &err));
    CHECK_OK(il_send(client, request, &response, &err));
    CHECK_CONTAINS(il_response_body(response, NULL), "2000000");
    il_response_free(response);
    il_request_free(request);
    CHECK_OK(il_get(client, tls_url("localhost", "/bytes/5000000?seed=9"), &response, &err));
    CHECK(lab_pattern_matches(il_response_body(response, &size), 5000000, 9, 0));
    CHECK_EQ(size, 5000000);
    il_response_free(response);
    tls_stop();
}

/* ---- hardship ---- */

static enum il_code get_hello(uint16_t port)
{
    struct il_response *response;
    char text[64];
    enum il_code code;

    snprintf(text, sizeof(text), "https://127.0.0.1:%u/hello", port);
    code = il_get(client, text, &response, &err);
    if (code == IL_OK) {
        il_response_free(response);
    }
    return code;
}

/* Each of the library's own allocations fails in turn; OpenSSL's are OpenSSL's business. The server
 * has a process of its own: its allocations are not to fail. */
TEST(whichever_allocation_fails_an_https_request_says_so_and_the_next_one_works)
{
    uint64_t failed = 0;
    uint16_t port;
    int pipe_fds[2];
    enum il_code code;
    pid_t pid;

    authority_start(); /* both sides' */
    CHECK_EQ(pipe(pipe_fds), 0);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        tls_server_start(NULL, NULL);
        port = lab_server_port(server);
        CHECK_EQ(write(pipe_fds[1], &port, sizeof(port)), (ssize_t)sizeof(port));
        close(pipe_fds[1]);
        for (;;) {
            pause();
        }
    }
    close(pipe_fds[1]); /* if the server dies, the read ends */
    CHECK_EQ(read(pipe_fds[0], &port, sizeof(port)), (ssize_t)sizeof(port));
    tls_client_start(IL_DRIVER_CALLER, NULL);
    do {
        il_client_close_idle(client);
        il_memory_fail_after(failed++);
        code = get_hello(port);
        il_memory_fail_after(UINT64_MAX);
        CHECK(code == IL_OK || code == IL_ENOMEM);
        CHECK_OK(get_hello(port));
    } while (code != IL_OK);
    CHECK(failed > 8); /* so many allocations were there to fail */
    client = il_client_unref(client);
    lab_authority_free(authority);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void get_with_handshake(void *arg)
{
    struct il_response *response;

    for (int i = 0; i < 3; i++) {
        CHECK_OK(il_get(client, tls_url("localhost", "/bytes/40000?seed=1"), &response, &err));
        il_response_free(response);
        il_client_close_idle(client);
    }
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SMALL_STACK (256 << 10) /* sanitizers' frames are larger */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SMALL_STACK (256 << 10)
#endif
#endif
#ifndef SMALL_STACK
#define SMALL_STACK (64 << 10)
#endif

TEST(task_with_a_stack_of_64_KiB_sends_https_requests)
{
    for (int kind = 0; kind < 2; kind++) {
        struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
        struct il_runtime *runtime;
        struct il_task *task;

        tls_server_start(NULL, NULL);
        tls_client_start(IL_DRIVER_CALLER, NULL);
        options.kind = kind == 0 ? IL_RUNTIME_MULTI_THREAD : IL_RUNTIME_CURRENT_THREAD;
        options.stack_size = SMALL_STACK;
        CHECK_OK(il_runtime_new(&options, &runtime, &err));
        CHECK_OK(il_spawn(runtime, "small", get_with_handshake, NULL, &task, &err));
        CHECK_OK(il_block_on(runtime, get_with_handshake, NULL, &err));
        CHECK_OK(il_task_join(task, IL_FOREVER, &err));
        il_task_unref(task);
        il_runtime_drop(runtime);
        tls_stop();
    }
}
