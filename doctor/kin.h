/* kin.h: what the process shares with its parent and its children since a fork. */
#ifndef DOCTOR_KIN_H
#define DOCTOR_KIN_H

#include "doctor/look.h"

/* Mark the event sets that the parent polls, and the listening sockets that a child has too. Asks
 * only for those that would otherwise count as abandoned. Call when the looks are over. */
void kin_look(struct look *look);

#endif
