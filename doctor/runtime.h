/* runtime.h: which runtime a process and its threads belong to, and what each thread does there. */
#ifndef DOCTOR_RUNTIME_H
#define DOCTOR_RUNTIME_H

#include "doctor/look.h"

/* From files and names: look->runtime. */
void runtime_recognise_process(struct look *look);

/* From stacks, waits and names: each thread's runtime and role. Call after stacks_take(). */
void runtime_recognise_threads(struct look *look);

/* What a thread has on its stack is spoken on the socket that it waits for. After stacks_take(). */
void runtime_note_protocols(struct look *look);

/* The first frame worth showing to people: not libc's, not the runtime's own; NULL when none. */
const struct thread_frame *runtime_user_frame(const struct seen_thread *thread);

#endif
