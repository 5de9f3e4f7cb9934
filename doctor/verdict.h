/* verdict.h: from what was seen to what it means. */
#ifndef DOCTOR_VERDICT_H
#define DOCTOR_VERDICT_H

#include "doctor/look.h"

/* Does anything stand still so that stacks are worth their stop? */
bool verdict_needs_stacks(const struct look *look);

/* Conclude; fills look->findings (gravest first) and look->notes. Call after stacks_take() and
 * runtime_recognise_threads(). */
void verdict_conclude(struct look *look);

/* Could system calls and readiness be seen, and did the process get its CPU? Otherwise that nothing
 * was found does not say that nothing hangs. */
bool verdict_is_complete(const struct look *look);

/* The gravest finding's, or healthy. */
enum verdict verdict_of(const struct look *look);

/* ---- between the judges (judge_*.c) and verdict.c ---- */

/* A new finding; never NULL: beyond the maximum a spare one is handed out and counted as dropped.
 */
struct finding *finding_new(struct look *look, enum verdict verdict, enum confidence confidence);
void finding_add_socket(struct look *look, struct finding *finding, uint32_t index);
void finding_add_set(struct finding *finding, uint32_t index);
void finding_add_thread(struct finding *finding, uint32_t index);
void finding_say(struct finding *finding, const char *format, ...) IL_PRINTF(2, 3);

/* Was the window long and dense enough to conclude from absence? */
bool window_is_enough(const struct look *look);
uint64_t window_ms(const struct look *look);

/* Unread bytes that nobody reads. */
bool socket_is_unread(const struct seen_socket *socket);
/* ...and that for long. */
bool socket_stands_unread(const struct look *look, const struct seen_socket *socket);
/* What lies unread was not asked for by anyone: the peer closes an idle connection, or pings. */
bool socket_is_idle_noise(const struct seen_socket *socket);
bool socket_buffer_is_full(const struct seen_socket *socket);
/* Reading was stopped on purpose, in the middle or at a full buffer. */
bool socket_looks_paused(const struct seen_socket *socket);
/* The set whose pollers drive this one: itself, or the outermost that watches it. */
uint32_t set_driver(const struct look *look, uint32_t set);
/* Nobody waited in it (or in the set around it) at any look. */
bool set_is_unpolled(const struct look *look, uint32_t set);
/* Somebody collected its events while we looked, though never at the moment of a look. */
bool set_was_driven(const struct look *look, uint32_t set);
/* Ready at every look, or from some look to the last for long, and nobody collects. */
bool set_is_stale(const struct look *look, uint32_t set);
/* The thread sat in a callback of a loop, or ran, during all looks, and polled nothing. */
bool thread_never_polled(const struct seen_thread *thread);

/* Stands unread, is in no set, and has no thread. */
bool socket_is_orphan(const struct look *look, const struct seen_socket *socket);

void judge_stopped(struct look *look);
void judge_locks(struct look *look);
void judge_sets(struct look *look);
void judge_contexts(struct look *look); /* after judge_sets */
void judge_pools(struct look *look);
void judge_sockets(struct look *look);
void judge_resolver(struct look *look);
void judge_registry(struct look *look); /* after all others */

/* words.c: fill explanation and advice of a finding. */
void words_fill(const struct look *look, struct finding *finding);

#endif
