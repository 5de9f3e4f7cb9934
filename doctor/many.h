/* many.h: several diagnoses: one process again and again, or all processes once. */
#ifndef DOCTOR_MANY_H
#define DOCTOR_MANY_H

#include "doctor/options.h"

/* Both return the exit status of the command. */
int many_watch(const struct doctor_options *options, const char *name);
int many_all(const struct doctor_options *options, const char *name);

#endif
