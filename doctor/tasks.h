/* tasks.h: the target's threads, as /proc shows them. */
#ifndef DOCTOR_TASKS_H
#define DOCTOR_TASKS_H

#include "doctor/look.h"

/* One look at every thread: what it waits in, how much it ran. Of those that sleep for long, some
 * are left out unless this is the last look. */
void tasks_look(struct look *look, bool is_last);

/* Find the threads that are ready to run and get no CPU: what they do not do says nothing. And
 * those that ran and slept in between. */
void tasks_find_starved(struct look *look);

/* Is the process stopped, by a signal, a debugger or its cgroup, for nearly the whole window? */
void tasks_find_stopped(struct look *look);

#endif
