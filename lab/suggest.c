/* suggest.c: "did you mean ...?". Owns: nothing. Threads: any. */
#include <stdio.h>
#include <string.h>

#include "lab/reproduce.h"

#define SUGGEST_SIZE_MAX 32 /* of a name that is compared */

/* How many letters must be changed, added or left out. */
static unsigned distance(const char *from, const char *to)
{
    unsigned row[SUGGEST_SIZE_MAX + 1];
    size_t from_size = strlen(from), to_size = strlen(to);

    if (from_size > SUGGEST_SIZE_MAX || to_size > SUGGEST_SIZE_MAX) {
        return SUGGEST_SIZE_MAX;
    }
    for (size_t k = 0; k <= to_size; k++) {
        row[k] = (unsigned)k;
    }
    for (size_t i = 1; i <= from_size; i++) {
        unsigned diagonal = row[0];

        row[0] = (unsigned)i;
        for (size_t k = 1; k <= to_size; k++) {
            unsigned change = diagonal + (from[i - 1] != to[k - 1]);
            unsigned other = (row[k] < row[k - 1] ? row[k] : row[k - 1]) + 1;

            diagonal = row[k];
            row[k] = change < other ? change : other;
        }
    }
    return row[to_size];
}

void suggest(const char *command, const char *kind, const char *given,
             const char *(*name_at)(unsigned index))
{
    const char *best = NULL;
    unsigned best_distance = 0;

    fprintf(stderr, "%s: there is no %s '%.64s'", command, kind, given);
    for (unsigned i = 0; name_at(i) != NULL; i++) {
        unsigned this_distance = distance(given, name_at(i));

        if (best == NULL || this_distance < best_distance) {
            best = name_at(i);
            best_distance = this_distance;
        }
    }
    if (best != NULL && best_distance <= 1 + strlen(best) / 3) {
        fprintf(stderr, "; did you mean '%s'?\n", best);
        return;
    }
    fprintf(stderr, "; there are:");
    for (unsigned i = 0; name_at(i) != NULL; i++) {
        fprintf(stderr, "%s %s", i > 0 ? "," : "", name_at(i));
    }
    fprintf(stderr, "\n");
}
