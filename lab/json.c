/* json.c: writing JSON. Owns: nothing. Threads: one at a time. */
#include "lab/json.h"

#define JSON_INDENT 2

void json_init(struct json *json, FILE *out)
{
    *json = (struct json){ .out = out };
}

static void put_text(struct json *json, const char *text)
{
    fputc('"', json->out);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\') {
            fprintf(json->out, "\\%c", c);
        } else if (c < 0x20 || c == 0x7f) {
            fprintf(json->out, "\\u%04x", c);
        } else {
            fputc(c, json->out);
        }
    }
    fputc('"', json->out);
}

static void put_line(struct json *json)
{
    fprintf(json->out, "\n%*s", (int)(json->depth * JSON_INDENT), "");
}

static void begin_item(struct json *json, const char *name)
{
    if (json->has_item) {
        fputc(',', json->out);
    }
    if (json->depth > 0) {
        put_line(json);
    }
    json->has_item = true;
    if (name != NULL) {
        put_text(json, name);
        fputs(": ", json->out);
    }
}

static void open_bracket(struct json *json, const char *name, char bracket)
{
    begin_item(json, name);
    fputc(bracket, json->out);
    json->depth++;
    json->has_item = false;
}

static void close_bracket(struct json *json, char bracket)
{
    json->depth--;
    if (json->has_item) {
        put_line(json);
    }
    fputc(bracket, json->out);
    json->has_item = true;
    if (json->depth == 0) {
        fputc('\n', json->out);
    }
}

void json_object_begin(struct json *json, const char *name)
{
    open_bracket(json, name, '{');
}

void json_object_end(struct json *json)
{
    close_bracket(json, '}');
}

void json_array_begin(struct json *json, const char *name)
{
    open_bracket(json, name, '[');
}

void json_array_end(struct json *json)
{
    close_bracket(json, ']');
}

void json_string(struct json *json, const char *name, const char *value)
{
    begin_item(json, name);
    if (value == NULL) {
        fputs("null", json->out);
    } else {
        put_text(json, value);
    }
}

void json_number(struct json *json, const char *name, uint64_t value)
{
    begin_item(json, name);
    fprintf(json->out, "%llu", (unsigned long long)value);
}

void json_real(struct json *json, const char *name, double value)
{
    begin_item(json, name);
    fprintf(json->out, "%.10g", value);
}

void json_bool(struct json *json, const char *name, bool value)
{
    begin_item(json, name);
    fputs(value ? "true" : "false", json->out);
}
