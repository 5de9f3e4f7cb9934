/* server_script.c: the steps that an answer is made of, and how they become bytes.
 *
 * A behaviour writes a script; the connection runs it. Steps that make bytes are turned into them
 * here, as far as there is room; the others (waits, gates, closing) are the connection's to act on.
 * Owns: nothing. Threads: the server's; the pattern and the hash are pure, for any thread. */
#include <stdio.h>

#include "lab/server_inside.h"

#define HEADER_LINE_SIZE 38 /* "X-Filler-00000001: vvvvvvvvvvvvvvvvv\r\n" */
#define CHUNK_FRAME_MAX  16 /* "2000\r\n" before and "\r\n" after, and room to spare */

_Static_assert(CHUNK_MAX + CHUNK_FRAME_MAX <= CONN_OUT_SIZE, "a whole chunk fits at once");

/* ---- what both sides know ---- */

/* The splitmix64 finalizer: eight bytes of the pattern at a time, in any order. */
static uint64_t pattern_word(uint64_t seed, uint64_t index)
{
    uint64_t z = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) + index * UINT64_C(0xd1342543de82ef95);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return (z & UINT64_C(0x3f3f3f3f3f3f3f3f)) + UINT64_C(0x3030303030303030); /* '0' to 'o' */
}

void lab_pattern_fill(char *data, size_t size, uint64_t seed, uint64_t offset)
{
    while (size > 0) {
        uint64_t word = pattern_word(seed, offset / 8);
        size_t skip = offset % 8;
        size_t part = il_min_u64(8 - skip, size);

        memcpy(data, (const char *)&word + skip, part);
        data += part;
        size -= part;
        offset += part;
    }
}

bool lab_pattern_matches(const char *data, size_t size, uint64_t seed, uint64_t offset)
{
    char want[1024];

    while (size > 0) {
        size_t part = il_min_u64(size, sizeof(want));

        lab_pattern_fill(want, part, seed, offset);
        if (memcmp(data, want, part) != 0) {
            return false;
        }
        data += part;
        size -= part;
        offset += part;
    }
    return true;
}

uint64_t lab_hash(uint64_t hash, const void *data, size_t size)
{
    const unsigned char *bytes = data;

    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* ---- scripts ---- */

void script_clear(struct script *script)
{
    script->count = 0;
    script->at = 0;
    script->done = 0;
}

bool script_is_over(const struct script *script)
{
    return script->at == script->count;
}

struct step *script_current(struct script *script)
{
    return script_is_over(script) ? NULL : &script->steps[script->at];
}

void script_next(struct script *script)
{
    il_assert(script->at < script->count);
    script->at++;
    script->done = 0;
}

struct step *script_add(struct script *script, enum step_kind kind)
{
    struct step *step;

    il_assert(script->count < SCRIPT_STEPS_MAX);
    step = &script->steps[script->count++];
    *step = (struct step){ .kind = kind, .repeat = 1 };
    return step;
}

bool step_makes_bytes(const struct step *step)
{
    return step->kind <= STEP_BODY;
}

static size_t script_fill_bytes(struct script *script, const struct step *step, char *data,
                                size_t room)
{
    uint64_t at = script->done % step->length;
    size_t part = il_min_u64(step->length - at, room);

    memcpy(data, step->bytes + at, part);
    script->done += part;
    return part;
}

static size_t script_fill_headers(struct script *script, char *data, size_t room)
{
    char line[64];

    if (room < HEADER_LINE_SIZE) {
        return 0;
    }
    (void)snprintf(line, sizeof(line), "X-Filler-%08u: vvvvvvvvvvvvvvvvv\r\n",
                   (unsigned)(script->done % 100000000));
    memcpy(data, line, HEADER_LINE_SIZE);
    script->done++;
    return HEADER_LINE_SIZE;
}

static size_t script_fill_body(struct script *script, const struct step *step, char *data,
                               size_t room)
{
    uint64_t left = step->length - script->done;
    uint64_t from = step->from + script->done;
    size_t part, frame;

    if (step->chunk == 0) {
        part = il_min_u64(left, room);
        lab_pattern_fill(data, part, step->seed, from);
        script->done += part;
        return part;
    }
    part = il_min_u64(left, step->chunk);
    if (room < part + CHUNK_FRAME_MAX) {
        return 0;
    }
    frame = (size_t)snprintf(data, room, "%zx\r\n", part);
    lab_pattern_fill(data + frame, part, step->seed, from);
    memcpy(data + frame + part, "\r\n", 2);
    script->done += part;
    return frame + part + 2;
}

static uint64_t step_size(const struct step *step)
{
    return step->kind == STEP_BYTES ? step->length * step->repeat : step->length;
}

size_t script_fill(struct script *script, char *data, size_t room, bool *ret_is_complete)
{
    const struct step *step = script_current(script);
    size_t filled = 0;

    il_assert(step != NULL && step_makes_bytes(step));
    while (script->done < step_size(step)) {
        size_t part = 0;

        switch (step->kind) {
        case STEP_BYTES:
            part = script_fill_bytes(script, step, data + filled, room - filled);
            break;
        case STEP_FILL:
            part = il_min_u64(step->length - script->done, room - filled);
            memset(data + filled, step->bytes[0], part);
            script->done += part;
            break;
        case STEP_HEADERS:
            part = script_fill_headers(script, data + filled, room - filled);
            break;
        case STEP_BODY:
            part = script_fill_body(script, step, data + filled, room - filled);
            break;
        default:
            il_assert(!"a step that makes bytes");
        }
        if (part == 0) {
            break; /* no room for more */
        }
        filled += part;
    }
    *ret_is_complete = script->done == step_size(step);
    return filled;
}
