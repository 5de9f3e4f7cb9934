/* sample.h: the looking itself: everything once, then again and again for the set time. */
#ifndef DOCTOR_SAMPLE_H
#define DOCTOR_SAMPLE_H

#include "doctor/look.h"

/* Fill `look` (after look_init). Fails with IL_ESYS when the process cannot be looked at or ended
 * meanwhile. Takes options.duration_ms and a little more. */
enum il_code sample_process(struct look *look, struct il_error *err);

#endif
