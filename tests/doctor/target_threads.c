/* target_threads.c: scenes around threads: locks in a circle, a resolver without an answer. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <resolv.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/doctor/target.h"

/* ---- locks ---- */

static pthread_mutex_t locks[2] = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER };
static pthread_barrier_t both_hold_one;

static void *lock_crosswise(void *arg)
{
    int first = arg != NULL;

    pthread_mutex_lock(&locks[first]);
    pthread_barrier_wait(&both_hold_one);
    pthread_mutex_lock(&locks[1 - first]);
    return NULL;
}

static void lock_cycle(void)
{
    pthread_barrier_init(&both_hold_one, NULL, 2);
    target_thread(lock_crosswise, NULL, "locker-a");
    target_thread(lock_crosswise, &both_hold_one, "locker-b");
    target_wait_still();
    target_ready();
}

/* The same lock twice, by one thread. */
static void *lock_twice(void *arg)
{
    pthread_mutex_lock(&locks[0]);
    pthread_mutex_lock(&locks[0]);
    return arg;
}

static void lock_self(void)
{
    target_thread(lock_twice, NULL, "locker");
    target_wait_still();
    target_ready();
}

/* A thread ends with the lock held, and another one wants it. Under `unlocks` it lets go first. */
static void *lock_and_end(void *unlocks)
{
    pthread_mutex_lock(&locks[0]);
    if (unlocks != NULL) {
        pthread_mutex_unlock(&locks[0]);
    }
    return NULL;
}

static void *lock_now_and_then(void *arg)
{
    for (;;) {
        pthread_mutex_lock(&locks[0]);
        target_sleep_ms(20);
        pthread_mutex_unlock(&locks[0]);
    }
    return arg;
}

static void run_lock_orphan(void *unlocks)
{
    pthread_t owner;

    if (pthread_create(&owner, NULL, lock_and_end, unlocks) != 0) {
        target_die("pthread_create");
    }
    pthread_join(owner, NULL);
    target_thread(lock_now_and_then, NULL, "heir");
}

static void lock_orphan(void)
{
    run_lock_orphan(NULL);
    target_wait_still();
    target_ready();
}

static void lock_orphan_ok(void)
{
    run_lock_orphan(locks);
    target_ready();
}

/* Much contention, one order, always progress. */
static void *lock_in_order(void *arg)
{
    for (;;) {
        pthread_mutex_lock(&locks[0]);
        pthread_mutex_lock(&locks[1]);
        target_sleep_ms(5);
        pthread_mutex_unlock(&locks[1]);
        pthread_mutex_unlock(&locks[0]);
    }
    return arg;
}

static void lock_cycle_ok(void)
{
    for (int i = 0; i < 4; i++) {
        target_thread(lock_in_order, NULL, "locker");
    }
    target_ready();
}

/* ---- the resolver ---- */

/* A name server in a process of its own: it takes questions, and answers none, or all with "no such
 * name". */
static uint16_t name_server(bool answers)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0) {
        target_die("bind the name server");
    }
    switch (fork()) {
    case -1:
        target_die("fork");
    case 0:
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            unsigned char packet[512];
            struct sockaddr_in from;
            socklen_t from_length = sizeof(from);
            ssize_t size =
                recvfrom(fd, packet, sizeof(packet), 0, (struct sockaddr *)&from, &from_length);

            if (answers && size > 12) {
                packet[2] |= 0x80;
                packet[3] = 0x83; /* NXDOMAIN */
                (void)sendto(fd, packet, (size_t)size, 0, (struct sockaddr *)&from, from_length);
            }
        }
    default:
        close(fd);
        return ntohs(address.sin_port);
    }
}

static void *resolve_for_ever(void *arg)
{
    const uint16_t *port = arg;

    for (;;) {
        struct addrinfo *found = NULL;

        res_init();
        _res.nscount = 1;
        _res.nsaddr_list[0] = (struct sockaddr_in){ .sin_family = AF_INET,
                                                    .sin_port = htons(*port),
                                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        if (getaddrinfo("nowhere.invalid.example", "80", NULL, &found) == 0) {
            freeaddrinfo(found);
        }
        target_sleep_ms(20);
    }
    return NULL;
}

static void run_resolver(bool answers)
{
    static uint16_t port;

    port = name_server(answers);
    target_thread(resolve_for_ever, &port, "resolver");
    target_sleep_ms(200);
    target_ready();
}

static void resolver(void)
{
    run_resolver(false);
}

static void resolver_ok(void)
{
    run_resolver(true);
}

const struct target_case thread_cases[] = {
    { "lock-cycle", lock_cycle },         { "lock-self", lock_self },
    { "lock-cycle-ok", lock_cycle_ok },   { "resolver", resolver },
    { "resolver-ok", resolver_ok },       { "lock-orphan", lock_orphan },
    { "lock-orphan-ok", lock_orphan_ok }, { 0 },
};
