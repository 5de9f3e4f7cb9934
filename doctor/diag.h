/* diag.h: questions to the kernel's sock_diag, and its answers. */
#ifndef DOCTOR_DIAG_H
#define DOCTOR_DIAG_H

#include <linux/inet_diag.h>
#include <linux/netlink.h>

#include "doctor/look.h"

/* Called for each message of an answer. */
typedef void diag_reply_fn(void *arg, const struct nlmsghdr *header);

/* A netlink socket in the network namespace of the target; -1 when there is none to be had, and why
 * is in the limits where it is a right that is missing. */
int diag_open(struct look *look);
/* All sockets of the namespace. False when the kernel gave no list. */
bool diag_dump_tcp(struct look *look, diag_reply_fn *on_reply, void *arg);
bool diag_dump_udp(struct look *look, diag_reply_fn *on_reply, void *arg);
bool diag_dump_unix(struct look *look, diag_reply_fn *on_reply, void *arg);

/* Exactly these TCP sockets, DIAG_EXACT_MAX at most. `on_reply` is called once for each one that
 * still exists; its number is in nlmsg_seq. */
#define DIAG_EXACT_MAX 32u

struct diag_exact {
    uint8_t family; /* as the kernel counts them */
    struct inet_diag_sockid id;
    uint32_t number;
};

bool diag_ask_exactly(struct look *look, const struct diag_exact *sockets, uint32_t count,
                      diag_reply_fn *on_reply, void *arg);

#endif
