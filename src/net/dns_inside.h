/* dns_inside.h: what dns.c and dns_socket.c know of each other. Private to these two. */
#ifndef IL_NET_DNS_INSIDE_H
#define IL_NET_DNS_INSIDE_H

#include <ares.h>

#include "net/dns.h"

#define DNS_SERVERS_TEXT_SIZE 80

struct dns {
    struct il_loop *loop;
    ares_channel channel;
    size_t ref_count;
    bool is_in_ares; /* c-ares is on the stack: it must not be called again */
    struct job job;
    bool is_job_pushed;
    struct timer timer; /* c-ares has a time-out */
    bool is_overdue;    /* the timer fired */

    struct il_list sockets;  /* dns_socket.c's */
    struct il_list asked;    /* asks that c-ares has */
    struct il_list answered; /* asks whose on_answered is to run */
    size_t abandoned_count;  /* of those that c-ares has */
    int sys_errno;           /* why a server could not be reached, the last time */

    char *domains[DNS_SEARCH_MAX];
    size_t domain_count;
    int ndots;
    char servers_text[DNS_SERVERS_TEXT_SIZE];
};

/* Let the job run: something is to be read, written, timed out or delivered. */
void dns_push(struct dns *dns);

/* Call c-ares about two descriptors, either of which may be ARES_SOCKET_BAD. */
void dns_process(struct dns *dns, int read_fd, int write_fd);

/* A datagram has come: if a server refuses to answer a question, remember that with the question.
 */
void dns_note_refusal(struct dns *dns, const unsigned char *packet, size_t size);

/* Have c-ares open its sockets through src/sys, on the loop's poller. */
void dns_sockets_init(struct dns *dns);

/* c-ares has, or no longer has, something to send on `fd`. */
void dns_socket_on_state(void *arg, int fd, int readable, int writable);

/* Whatever events have said: see what can be read. */
void dns_sockets_look(struct dns *dns);

/* Let c-ares read and write where it can. False when there is more than one turn's share. */
bool dns_sockets_work(struct dns *dns);

#endif
