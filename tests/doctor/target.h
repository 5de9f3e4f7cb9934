/* target.h: programs for the doctor to look at: hangs made on purpose, and their healthy twins.
 *
 * A case sets its scene up, calls target_ready(), and stands there until it is killed. Whatever
 * server it talks to is another process (target_server), so that the scene holds one side only. */
#ifndef TESTS_DOCTOR_TARGET_H
#define TESTS_DOCTOR_TARGET_H

#include <stdbool.h>
#include <stdint.h>

struct target_case {
    const char *name;
    void (*run)(void);
};

extern const struct target_case loop_cases[]; /* each list ends with a NULL name */
extern const struct target_case socket_cases[];
extern const struct target_case thread_cases[];
extern const struct target_case process_cases[];

/* ---- the server, in a process of its own ---- */

enum server_manner {
    SERVER_ANSWERS, /* each request at once */
    SERVER_SLOW,    /* each request after 200 ms */
    SERVER_SILENT,  /* reads, never answers */
    SERVER_ONCE,    /* answers the first request of a connection, then reads silently */
    SERVER_CLOSES,  /* answers, and closes the connection a moment later */
    SERVER_FLOODS,  /* an endless body */
    SERVER_DEAF,    /* never reads */
    SERVER_TLS,     /* answers with a record of TLS */
    SERVER_HTTP2,   /* answers with a frame of HTTP/2 */
    SERVER_FULL     /* its queue of connections is full: SYNs are dropped */
};

/* Start it; returns its port. It dies with this process. */
uint16_t target_server(enum server_manner manner);

/* ---- helpers ---- */

__attribute__((noreturn)) void target_die(const char *what);
int target_connect(uint16_t port); /* connected, non-blocking */
void target_send_request(int fd);
bool target_read_response(int fd); /* false: nothing there */
void target_wait_unread(int fd);   /* until bytes lie in the socket */
void target_wait_closed(int fd);   /* until the peer has closed */
int target_epoll(void);
void target_watch(int epoll, int fd, uint32_t events);
void target_thread(void *(*run)(void *arg), void *arg, const char *name);
void target_wait_still(void); /* until no other thread has run for a while */
void target_wait_read(int fd);
void target_wait_full(int fd);
void target_wait_retransmit(int fd);
void target_ready(void);                           /* tell the tester */
__attribute__((noreturn)) void target_stand(void); /* wait in a futex for ever */
void target_sleep_ms(uint64_t ms);
uint64_t target_now_ms(void);

#endif
