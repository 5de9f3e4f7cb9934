/* diagnose.h: one whole diagnosis, from the first look to the findings. */
#ifndef DOCTOR_DIAGNOSE_H
#define DOCTOR_DIAGNOSE_H

#include "doctor/look.h"

/* Look at `look->pid` (after look_init) and conclude. IL_ESYS: it could not be looked at. */
enum il_code diagnose_process(struct look *look, struct il_error *err);

#endif
