/* doctor.h: `interloop doctor PID`: which request of a live process hangs, and why.
 *
 * The doctor looks from outside, through /proc, sock_diag, pidfd_getfd and (unless told not to)
 * stacks. It changes nothing in the target. docs/doctor.md says how it concludes. */
#ifndef DOCTOR_DOCTOR_H
#define DOCTOR_DOCTOR_H

/* The whole command. argv[0] is the name to use in messages, the rest are options and the PID.
 * Prints to stdout (the findings) and stderr (what went wrong); returns the exit status:
 * 0 healthy, 1 a finding, 2 wrong usage, 3 could not look. Thread: the process's only one: it
 * forks for the stacks and, for a moment, enters the target's network namespace. */
int doctor_main(int argc, char **argv);

#endif
