/* demangle.h: symbol names as people write them. */
#ifndef DOCTOR_DEMANGLE_H
#define DOCTOR_DEMANGLE_H

#include <stddef.h>

/* Write the readable form of `symbol` (Rust, both schemes; C++ where libstdc++ is installed) into
 * `ret_name`, or `symbol` itself when it is not mangled or not understood. Never more than `size`
 * bytes, always NUL-terminated and printable. Thread: one; C++ loads libstdc++ at first use. */
void demangle(const char *symbol, char *ret_name, size_t size);

#endif
