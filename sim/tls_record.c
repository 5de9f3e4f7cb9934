/* tls_record.c: the records of the simulated TLS, as bytes. No state. */
#include <string.h>

#include "sim/tls.h"

static void put_number(char *at, uint32_t number, unsigned size)
{
    while (size > 0) {
        at[--size] = (char)number;
        number >>= 8;
    }
}

static uint32_t get_number(const char *at, unsigned size)
{
    uint32_t number = 0;

    for (unsigned i = 0; i < size; i++) {
        number = number << 8 | (unsigned char)at[i];
    }
    return number;
}

size_t sim_tls_put(char *to, enum sim_tls_kind kind, uint32_t sequence, const void *payload,
                   size_t size)
{
    to[0] = (char)kind;
    put_number(to + 1, 0x0303, 2);
    put_number(to + 3, (uint32_t)size + 4, 2);
    put_number(to + 5, sequence, 4);
    if (size > 0) {
        memmove(to + SIM_TLS_HEAD_SIZE, payload, size);
    }
    return SIM_TLS_HEAD_SIZE + size;
}

size_t sim_tls_look(const char *bytes, size_t size, struct sim_tls_record *ret_record)
{
    size_t length;

    if (size > 0 && (bytes[0] < SIM_TLS_ALERT || bytes[0] > SIM_TLS_DATA)) {
        return SIZE_MAX;
    }
    if (size < SIM_TLS_HEAD_SIZE) {
        return 0;
    }
    length = get_number(bytes + 3, 2);
    if (get_number(bytes + 1, 2) != 0x0303 || length < 4 || length > SIM_TLS_PAYLOAD_MAX + 4) {
        return SIZE_MAX;
    }
    if (size < 5 + length) {
        return 0;
    }
    *ret_record = (struct sim_tls_record){ .kind = (uint8_t)bytes[0],
                                           .sequence = get_number(bytes + 5, 4),
                                           .payload = bytes + SIM_TLS_HEAD_SIZE,
                                           .size = length - 4 };
    return 5 + length;
}

char *sim_tls_put_text(char *at, const char *text)
{
    size_t length = strlen(text);

    *at = (char)length;
    memcpy(at + 1, text, length);
    return at + 1 + length;
}

const char *sim_tls_get_text(const char *at, const char *end, char *text, size_t size)
{
    size_t length = at < end ? (unsigned char)*at : size;

    if (length >= size || (size_t)(end - at) < 1 + length) {
        return NULL;
    }
    memcpy(text, at + 1, length);
    text[length] = '\0';
    return at + 1 + length;
}
