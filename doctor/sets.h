/* sets.h: event sets (epoll, io_uring): which fds are one set, who polls it, is it ready. */
#ifndef DOCTOR_SETS_H
#define DOCTOR_SETS_H

#include "doctor/look.h"

/* Make the list of sets out of the open files, and read what each watches. */
void sets_find(struct look *look);

/* A thread was seen at `looks` looks waiting in the set that `fd` stands for. */
void sets_note_poller(struct look *look, int fd, pid_t tid, uint32_t looks);

/* One look at the readiness of every set. */
void sets_look(struct look *look);

/* Of the eventfds in sets that nobody polls: is there anything in them? Once, at the end. */
void sets_read_wakeups(struct look *look);

/* Sets that are registered in other sets, and sockets that are registered in sets. */
void sets_link(struct look *look);

#endif
