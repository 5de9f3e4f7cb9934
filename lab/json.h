/* json.h: writing JSON to a stream, with commas and indentation as they should be.
 *
 * A name is NULL in an array and at the top. Thread: one at a time. */
#ifndef LAB_JSON_H
#define LAB_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    unsigned depth;
    bool has_item; /* something stands before, at this depth */
};

void json_init(struct json *json, FILE *out);
void json_object_begin(struct json *json, const char *name);
void json_object_end(struct json *json);
void json_array_begin(struct json *json, const char *name);
void json_array_end(struct json *json);
void json_string(struct json *json, const char *name, const char *value); /* NULL: null */
void json_number(struct json *json, const char *name, uint64_t value);
void json_real(struct json *json, const char *name, double value); /* finite */
void json_bool(struct json *json, const char *name, bool value);

#endif
