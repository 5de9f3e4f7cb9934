/* procfs.h: what /proc tells of the target, other than of its threads (tasks.h). */
#ifndef DOCTOR_PROCFS_H
#define DOCTOR_PROCFS_H

#include "doctor/look.h"

/* Can this process be looked at, and with which means? Fills the names and the can_ flags. When
 * not even the list of open files may be read: IL_ESYS, and `err` says what is missing. */
enum il_code procfs_open(struct look *look, struct il_error *err);

/* List the open files; sets get their aliases and watches. Replaces what was read before. */
enum il_code procfs_read_fds(struct look *look, struct il_error *err);

/* Read what set `set` watches, anew. False when it cannot be read (any more). */
bool procfs_read_watches(struct look *look, struct seen_set *set);

/* Up to `size` bytes of the target's memory; what was read, 0 when nothing could be. */
size_t procfs_read_memory(const struct look *look, uint64_t address, void *ret_bytes, size_t size);

/* The process's parent; 0 when it cannot be told. */
pid_t procfs_parent(pid_t pid);

/* Read a small file whole into `ret_text`, ending in NUL; -1 when it cannot be read. */
ssize_t procfs_read_file(const char *path, char *ret_text, size_t size);

/* Call `visit` with the path of each mapped file until it returns false. */
void procfs_each_mapped_file(const struct look *look, bool (*visit)(const char *path, void *arg),
                             void *arg);

#endif
