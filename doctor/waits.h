/* waits.h: what a sleeping thread waits for, read off its system call. */
#ifndef DOCTOR_WAITS_H
#define DOCTOR_WAITS_H

#include "doctor/look.h"

/* The stack pointer in the text of /proc/PID/task/TID/syscall; 0 when the thread runs. */
uint64_t waits_stack_pointer(const char *text);

/* Decode that text. */
void waits_of_syscall(const char *text, struct thread_wait *ret_wait);

/* Is it in restart_syscall: does a call go on that a stop, or a signal that stopped it,
 * interrupted? poll, futex with a time limit and nanosleep do. */
bool waits_is_resumed(const struct thread_wait *wait);

/* Decode a text that may be of such a call, as the call it was. `function` is the kernel's one in
 * which the thread sleeps (wchan). Where even that does not tell, it is WAIT_OTHER, resumed. */
void waits_of_resumed(const char *text, const char *function, struct thread_wait *ret_wait);

/* Decode the name of the kernel function (wchan): much less can be said. */
void waits_of_wchan(const char *name, struct thread_wait *ret_wait);

bool waits_are_same(const struct thread_wait *a, const struct thread_wait *b);

/* Note on the sockets that `thread` waits on them directly (poll, select, recv...), for `looks`
 * looks. */
void waits_note_sockets(struct look *look, const struct seen_thread *thread, uint32_t looks);

/* For threads that wait for a futex: is it a glibc mutex, and who holds it? */
void waits_read_mutexes(struct look *look);

/* For people: "epoll_wait on fd 5", "a mutex held by thread 17"... */
void waits_describe(const struct look *look, const struct seen_thread *thread, char *ret_text,
                    size_t size);

/* Does it sleep in a call that writes to `fd`? */
bool waits_is_write(const struct thread_wait *wait);

#endif
