/* verdict.c: the words for how a request came out. Owns: nothing. Threads: any. */
#include "lab/result.h"

static const struct {
    const char *name, *meaning;
} words[LAB_VERDICT_COUNT] = {
    [LAB_OK] = { "ok", "every answer came, whole and in time" },
    [LAB_SLOW] = { "slow", "late, but every wait ended at a live party" },
    [LAB_ERROR] = { "error", "a clear error instead of an answer, in time" },
    [LAB_STARVED] = { "starved", "waits for a party stuck in user code; goes on if that returns" },
    [LAB_HUNG] = { "hung", "waits for something that will never act" },
    [LAB_WRONG] = { "wrong", "a truncated or foreign answer was taken for a success" },
};

const char *lab_verdict_name(enum lab_verdict verdict)
{
    return (unsigned)verdict < LAB_VERDICT_COUNT ? words[verdict].name : "?";
}

const char *lab_verdict_meaning(enum lab_verdict verdict)
{
    return (unsigned)verdict < LAB_VERDICT_COUNT ? words[verdict].meaning : "?";
}
