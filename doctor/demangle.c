/* demangle.c: readable names for Rust (legacy and v0) and C++ symbols.
 *
 * Names come from the target's files and may be hostile: output is cut at the caller's size, and
 * v0's recursion and back references are bounded by DEMANGLE_DEPTH_MAX and DEMANGLE_STEPS_MAX. What
 * is not understood is shown as it is. Written for stack traces, so a few things are left out on
 * purpose: hashes, disambiguators, the instantiating crate, constants' values.
 *
 * Owns: the handle of libstdc++, once loaded, for as long as the process lives.
 * Thread: one (the stacks child). */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "doctor/demangle.h"

#define DEMANGLE_DEPTH_MAX 64
#define DEMANGLE_STEPS_MAX 4000

/* ---- output ---- */

struct out {
    char *text;
    size_t size, length;
};

static void out_bytes(struct out *out, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length && out->length + 1 < out->size; i++) {
        unsigned char c = (unsigned char)bytes[i];

        out->text[out->length++] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    out->text[out->length] = '\0';
}

static void out_text(struct out *out, const char *text)
{
    out_bytes(out, text, strlen(text));
}

/* ---- Rust, legacy: _ZN 5tokio 7runtime ... 17h0123456789abcdef E ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A decimal number; false when there is none or it is absurd. */
static bool read_number(const char **at, size_t *ret_number)
{
    size_t number = 0;

    if (!is_digit(**at)) {
        return false;
    }
    while (is_digit(**at)) {
        number = number * 10 + (size_t)(*(*at)++ - '0');
        if (number > 100000) {
            return false;
        }
    }
    *ret_number = number;
    return true;
}

static bool is_legacy_hash(const char *part, size_t length)
{
    if (length != 17 || part[0] != 'h') {
        return false;
    }
    for (size_t i = 1; i < length; i++) {
        if (!is_digit(part[i]) && (part[i] < 'a' || part[i] > 'f')) {
            return false;
        }
    }
    return true;
}

/* "$LT$" and the like; returns how many bytes of `part` it used, 0 when it is none of them. */
static size_t legacy_escape(struct out *out, const char *part, size_t length)
{
    static const struct {
        const char *name;
        const char *text;
    } escapes[] = {
        { "$SP$", "@" },  { "$BP$", "*" },  { "$RF$", "&" },  { "$LT$", "<" },  { "$GT$", ">" },
        { "$LP$", "(" },  { "$RP$", ")" },  { "$C$", "," },   { "$u20$", " " }, { "$u22$", "\"" },
        { "$u27$", "'" }, { "$u2b$", "+" }, { "$u3b$", ";" }, { "$u5b$", "[" }, { "$u5d$", "]" },
        { "$u7b$", "{" }, { "$u7d$", "}" }, { "$u7e$", "~" },
    };

    for (size_t i = 0; i < il_array_count(escapes); i++) {
        size_t size = strlen(escapes[i].name);

        if (size <= length && memcmp(part, escapes[i].name, size) == 0) {
            out_text(out, escapes[i].text);
            return size;
        }
    }
    return 0;
}

static void legacy_part(struct out *out, const char *part, size_t length)
{
    size_t i = 0;

    if (length > 1 && part[0] == '_' && part[1] == '$') {
        i = 1; /* an identifier may not begin with '$' */
    }
    while (i < length) {
        size_t used = part[i] == '$' ? legacy_escape(out, part + i, length - i) : 0;

        if (used > 0) {
            i += used;
        } else if (part[i] == '.' && i + 1 < length && part[i + 1] == '.') {
            out_text(out, "::");
            i += 2;
        } else {
            out_bytes(out, &part[i++], 1);
        }
    }
}

/* C++ uses the same prefix; only Rust's last part is a hash. */
static bool demangle_legacy(const char *symbol, struct out *out)
{
    const char *at = symbol + 3;
    const char *last = NULL;
    size_t length, last_length = 0;

    while (read_number(&at, &length)) {
        if (strnlen(at, length) < length) {
            return false;
        }
        last = at;
        last_length = length;
        at += length;
    }
    if (*at != 'E' || last == NULL || !is_legacy_hash(last, last_length)) {
        return false;
    }
    at = symbol + 3;
    for (bool is_first = true; read_number(&at, &length) && at != last; is_first = false) {
        if (!is_first) {
            out_text(out, "::");
        }
        legacy_part(out, at, length);
        at += length;
    }
    return true;
}

/* ---- Rust, v0 (RFC 2603): _R path ---- */

struct v0 {
    const char *start; /* behind "_R": back references count from here */
    const char *at;
    struct out *out;
    int depth, steps;
    bool failed;
    bool muted; /* parse on, print nothing */
};

static void v0_path(struct v0 *v0);
static void v0_type(struct v0 *v0);

static void v0_text(struct v0 *v0, const char *text)
{
    if (!v0->muted) {
        out_text(v0->out, text);
    }
}

static bool v0_enter(struct v0 *v0)
{
    if (v0->failed || ++v0->depth > DEMANGLE_DEPTH_MAX || ++v0->steps > DEMANGLE_STEPS_MAX) {
        v0->failed = true;
    }
    return !v0->failed;
}

static char v0_next(struct v0 *v0)
{
    if (*v0->at == '\0') {
        v0->failed = true;
        return '\0';
    }
    return *v0->at++;
}

static bool v0_eat(struct v0 *v0, char c)
{
    if (*v0->at != c) {
        return false;
    }
    v0->at++;
    return true;
}

/* base-62, ended by '_'; "_" alone is 0. */
static uint64_t v0_base62(struct v0 *v0)
{
    uint64_t value = 0;

    if (v0_eat(v0, '_')) {
        return 0;
    }
    for (;;) {
        char c = v0_next(v0);
        uint64_t digit;

        if (c == '_') {
            return value + 1;
        }
        if (is_digit(c)) {
            digit = (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'z') {
            digit = (uint64_t)(c - 'a') + 10;
        } else if (c >= 'A' && c <= 'Z') {
            digit = (uint64_t)(c - 'A') + 36;
        } else {
            v0->failed = true;
            return 0;
        }
        if (value > UINT32_MAX) {
            v0->failed = true;
            return 0;
        }
        value = value * 62 + digit;
    }
}

static void v0_identifier(struct v0 *v0)
{
    size_t length;

    if (v0_eat(v0, 's')) {
        (void)v0_base62(v0); /* disambiguator */
    }
    (void)v0_eat(v0, 'u'); /* punycode: shown undecoded */
    if (!read_number(&v0->at, &length)) {
        v0->failed = true;
        return;
    }
    (void)v0_eat(v0, '_');
    if (strnlen(v0->at, length) < length) {
        v0->failed = true;
        return;
    }
    if (!v0->muted) {
        out_bytes(v0->out, v0->at, length);
    }
    v0->at += length;
}

/* 'B' has been eaten: parse at an earlier place, then go on here. */
static void v0_back_reference(struct v0 *v0, void (*parse)(struct v0 *v0))
{
    const char *b_at = v0->at - 1;
    uint64_t offset = v0_base62(v0);
    const char *resume = v0->at;

    if (v0->failed || v0->start + offset >= b_at) {
        v0->failed = true;
        return;
    }
    if (v0->muted) {
        return;
    }
    v0->at = v0->start + offset;
    parse(v0);
    v0->at = resume;
}

/* A constant's type and value; the value is not worth its place in a stack trace. */
static void v0_const(struct v0 *v0)
{
    if (v0_eat(v0, 'B')) {
        (void)v0_base62(v0);
    } else if (!v0_eat(v0, 'p')) {
        bool was_muted = v0->muted;

        v0->muted = true;
        v0_type(v0);
        v0->muted = was_muted;
        while (!v0->failed && *v0->at != '_') {
            (void)v0_next(v0);
        }
        (void)v0_eat(v0, '_');
    }
    v0_text(v0, "_");
}

static void v0_generic_args(struct v0 *v0)
{
    bool is_first = true;

    v0_text(v0, "<");
    while (!v0->failed && !v0_eat(v0, 'E')) {
        if (!is_first) {
            v0_text(v0, ", ");
        }
        is_first = false;
        if (v0_eat(v0, 'L')) {
            (void)v0_base62(v0);
            v0_text(v0, "'_");
        } else if (v0_eat(v0, 'K')) {
            v0_const(v0);
        } else {
            v0_type(v0);
        }
    }
    v0_text(v0, ">");
}

/* Where an impl block stands: parsed, not shown. */
static void v0_impl_path(struct v0 *v0)
{
    bool was_muted = v0->muted;

    if (v0_eat(v0, 's')) {
        (void)v0_base62(v0);
    }
    v0->muted = true;
    v0_path(v0);
    v0->muted = was_muted;
}

static void v0_nested(struct v0 *v0)
{
    char space = v0_next(v0);

    v0_path(v0);
    if (space >= 'A' && space <= 'Z') {
        v0_text(v0, space == 'C' ? "::{closure}" : "::{shim}");
        if (v0_eat(v0, 's')) {
            (void)v0_base62(v0);
        }
        (void)v0_eat(v0, 'u');
        if (*v0->at == '0') {
            v0->at++; /* closures have no name of their own */
            return;
        }
        v0_text(v0, ":");
        v0_identifier(v0);
        return;
    }
    v0_text(v0, "::");
    v0_identifier(v0);
}

static void v0_trait_impl(struct v0 *v0)
{
    v0_text(v0, "<");
    v0_type(v0);
    v0_text(v0, " as ");
    v0_path(v0);
    v0_text(v0, ">");
}

static void v0_path(struct v0 *v0)
{
    if (!v0_enter(v0)) {
        return;
    }
    switch (v0_next(v0)) {
    case 'C':
        v0_identifier(v0);
        break;
    case 'M': /* impl Type: shown as the legacy scheme shows it, without brackets */
        v0_impl_path(v0);
        v0_type(v0);
        break;
    case 'X':
        v0_impl_path(v0);
        v0_trait_impl(v0);
        break;
    case 'Y':
        v0_trait_impl(v0);
        break;
    case 'N':
        v0_nested(v0);
        break;
    case 'I':
        v0_path(v0);
        v0_generic_args(v0);
        break;
    case 'B':
        v0_back_reference(v0, v0_path);
        break;
    default:
        v0->failed = true;
        break;
    }
    v0->depth--;
}

static const char *v0_basic_type(char c)
{
    static const char *const types[26] = {
        "i8",    "bool", "char", "f64", "str",  "f32",  NULL,  "u8", "isize",
        "usize", NULL,   "i32",  "u32", "i128", "u128", "_",   NULL, NULL,
        "i16",   "u16",  "()",   "...", NULL,   "i64",  "u64", "!",
    };

    return c >= 'a' && c <= 'z' ? types[c - 'a'] : NULL;
}

static void v0_tuple(struct v0 *v0)
{
    v0_text(v0, "(");
    for (bool is_first = true; !v0->failed && !v0_eat(v0, 'E'); is_first = false) {
        if (!is_first) {
            v0_text(v0, ", ");
        }
        v0_type(v0);
    }
    v0_text(v0, ")");
}

static void v0_binder(struct v0 *v0)
{
    if (v0_eat(v0, 'G')) {
        (void)v0_base62(v0);
    }
}

static void v0_function_type(struct v0 *v0)
{
    v0_binder(v0);
    (void)v0_eat(v0, 'U');
    if (v0_eat(v0, 'K') && !v0_eat(v0, 'C')) {
        v0_identifier(v0);
    }
    v0_text(v0, "fn(");
    for (bool is_first = true; !v0->failed && !v0_eat(v0, 'E'); is_first = false) {
        if (!is_first) {
            v0_text(v0, ", ");
        }
        v0_type(v0);
    }
    v0_text(v0, ")");
    if (!v0_eat(v0, 'u')) {
        v0_text(v0, " -> ");
        v0_type(v0);
    }
}

static void v0_dyn_type(struct v0 *v0)
{
    v0_text(v0, "dyn ");
    v0_binder(v0);
    for (bool is_first = true; !v0->failed && !v0_eat(v0, 'E'); is_first = false) {
        if (!is_first) {
            v0_text(v0, " + ");
        }
        v0_path(v0);
        while (!v0->failed && v0_eat(v0, 'p')) {
            v0_text(v0, " ");
            v0_identifier(v0);
            v0_text(v0, "=");
            v0_type(v0);
        }
    }
    if (v0_eat(v0, 'L')) {
        (void)v0_base62(v0);
    }
}

static void v0_pointer_type(struct v0 *v0, const char *prefix)
{
    v0_text(v0, prefix);
    if (v0_eat(v0, 'L')) {
        (void)v0_base62(v0);
    }
    v0_type(v0);
}

static void v0_array_type(struct v0 *v0, bool has_length)
{
    v0_text(v0, "[");
    v0_type(v0);
    if (has_length) {
        v0_text(v0, "; ");
        v0_const(v0);
    }
    v0_text(v0, "]");
}

static void v0_compound_type(struct v0 *v0)
{
    switch (v0_next(v0)) {
    case 'A':
        v0_array_type(v0, true);
        break;
    case 'S':
        v0_array_type(v0, false);
        break;
    case 'T':
        v0_tuple(v0);
        break;
    case 'R':
        v0_pointer_type(v0, "&");
        break;
    case 'Q':
        v0_pointer_type(v0, "&mut ");
        break;
    case 'P':
        v0_pointer_type(v0, "*const ");
        break;
    case 'O':
        v0_pointer_type(v0, "*mut ");
        break;
    case 'F':
        v0_function_type(v0);
        break;
    case 'D':
        v0_dyn_type(v0);
        break;
    case 'B':
        v0_back_reference(v0, v0_type);
        break;
    default:
        v0->at--;
        v0_path(v0);
        break;
    }
}

static void v0_type(struct v0 *v0)
{
    const char *basic = v0_basic_type(*v0->at);

    if (!v0_enter(v0)) {
        return;
    }
    if (basic != NULL) {
        v0->at++;
        v0_text(v0, basic);
    } else if (*v0->at == '\0') {
        v0->failed = true;
    } else {
        v0_compound_type(v0);
    }
    v0->depth--;
}

static bool demangle_v0(const char *symbol, struct out *out)
{
    struct v0 v0 = { .start = symbol + 2, .at = symbol + 2, .out = out };

    v0_path(&v0);
    return !v0.failed;
}

/* ---- C++ ---- */

/* The project is C and does not link the C++ library for this; where it is installed it is used. */
static bool demangle_cpp(const char *symbol, struct out *out)
{
    typedef char *demangle_fn(const char *name, char *buffer, size_t *length, int *ret_status);
    static demangle_fn *cpp_demangle;
    static bool was_tried;
    char *name;
    int status = -1;

    if (!was_tried) {
        void *library = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_LOCAL);

        was_tried = true;
        if (library != NULL) {
            void *function = dlsym(library, "__cxa_demangle");

            memcpy(&cpp_demangle, &function, sizeof(function));
        }
    }
    if (cpp_demangle == NULL) {
        return false;
    }
    name = cpp_demangle(symbol, NULL, NULL, &status);
    if (status != 0 || name == NULL) {
        free(name);
        return false;
    }
    out_text(out, name);
    free(name);
    return true;
}

void demangle(const char *symbol, char *ret_name, size_t size)
{
    struct out out = { .text = ret_name, .size = size };

    il_assert(size > 0);
    ret_name[0] = '\0';
    if (strncmp(symbol, "_ZN", 3) == 0 && demangle_legacy(symbol, &out)) {
        return;
    }
    out.length = 0;
    if (strncmp(symbol, "_R", 2) == 0 && demangle_v0(symbol, &out)) {
        return;
    }
    out.length = 0;
    if (strncmp(symbol, "_Z", 2) == 0 && demangle_cpp(symbol, &out)) {
        return;
    }
    out.length = 0;
    out_text(&out, symbol);
}
