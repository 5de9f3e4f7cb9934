/* dns.c: fuzz target for the part of a DNS answer that we read ourselves: whether a server refuses,
 * and which question. All else of it is c-ares's.
 *
 * What must hold: nothing is read beyond the packet; and a refusal is noted with a question exactly
 * if the packet repeats that question's name and type behind its header. */
#include <arpa/nameser.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "net/dns_inside.h"
#include "tests/fuzz/fuzz.h"

static const char *const names[] = { "a", "a.test", "www.a.test", "b.test" };

/* The question as it stands in a packet. Returns its size. */
static size_t question_write(const char *name, unsigned type, unsigned char *out)
{
    unsigned char *at = out;

    for (;;) {
        size_t label = strcspn(name, ".");

        *at++ = (unsigned char)label;
        memcpy(at, name, label);
        at += label;
        if (name[label] == '\0') {
            break;
        }
        name += label + 1;
    }
    *at++ = 0;
    *at++ = (unsigned char)(type >> 8);
    *at++ = (unsigned char)type;
    return (size_t)(at - out);
}

static bool repeats(const uint8_t *data, size_t size, const struct dns_ask *ask)
{
    unsigned char question[64];
    size_t length = question_write(ask->name, ask->type == DNS_AAAA ? ns_t_aaaa : ns_t_a, question);

    if (size < NS_HFIXEDSZ || size - NS_HFIXEDSZ < length) {
        return false;
    }
    data += NS_HFIXEDSZ;
    for (size_t at = 0; question[at] != 0; at += question[at] + 1u) {
        if (data[at] != question[at] ||
            strncasecmp((const char *)data + at + 1, (const char *)question + at + 1,
                        question[at]) != 0) {
            return false;
        }
    }
    return memcmp(data + length - 3, question + length - 3, 3) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dns_ask asks[2 * il_array_count(names)];
    struct dns dns = { .ref_count = 1 };

    memset(asks, 0, sizeof(asks));
    il_list_init(&dns.asked);
    for (size_t i = 0; i < il_array_count(asks); i++) {
        il_list_init(&asks[i].link);
        asks[i].type = i % 2 == 0 ? DNS_AAAA : DNS_A;
        (void)snprintf(asks[i].name, sizeof(asks[i].name), "%s", names[i / 2]);
        il_list_push_back(&dns.asked, &asks[i].link);
    }
    dns_note_refusal(&dns, data, size);
    for (size_t i = 0; i < il_array_count(asks); i++) {
        unsigned code = size > 3 ? data[3] & 15u : 0;
        bool is_refusal = code == ns_r_servfail || code == ns_r_notimpl || code == ns_r_refused;
        unsigned wanted = is_refusal && repeats(data, size, &asks[i]) ? code : 0;

        FUZZ_CHECK((unsigned)asks[i].rcode == wanted);
        il_list_unlink(&asks[i].link);
    }
    return 0;
}
