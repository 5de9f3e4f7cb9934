/* stacks.h: user stacks of the target's threads. */
#ifndef DOCTOR_STACKS_H
#define DOCTOR_STACKS_H

#include "doctor/look.h"

/* Take the stack of every thread, as far as time and rights allow; fills frames and set hints.
 * A thread is stopped for the instant in which its registers and stack are copied, but a thread
 * that sleeps in epoll_wait and its like is not stopped at all, because that would end its wait.
 * What could not be had is said in look->limits. */
void stacks_take(struct look *look);

#endif
