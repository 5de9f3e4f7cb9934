/* sockets.h: the target's sockets, as the kernel's sock_diag tells of them. */
#ifndef DOCTOR_SOCKETS_H
#define DOCTOR_SOCKETS_H

#include "doctor/look.h"

/* Make the list of sockets out of the open files. */
void sockets_find(struct look *look);

/* Ask the kernel for the numbers: at first of all of them; in between of those at which something
 * waits; at last also of those that a conclusion may rest on. Each call notes what moved. */
enum sockets_when { SOCKETS_AT_FIRST, SOCKETS_IN_BETWEEN, SOCKETS_AT_LAST };

void sockets_look(struct look *look, enum sockets_when when);

/* Look at the first unread bytes of one socket without consuming them: which protocol, and for a
 * plain HTTP/1 response its status. Nothing else of them is kept. */
void sockets_peek(struct look *look, struct seen_socket *socket);

#endif
