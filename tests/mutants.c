/* mutants.c: `interloop explore` on a library in which one of the known bugs of base/mutant.h is
 * switched on. explore_mutants.py sees whether it is found.
 *
 *   mutants --list            name and description of each
 *   mutants NAME [options]    as interloop explore; the name "none" switches none on
 *
 * Owns: nothing. Threads: as interloop explore. */
#include <stdio.h>
#include <string.h>

#include "base/mutant.h"
#include "lab/explore.h"

struct mutant {
    const char *name, *does;
};

#define MUTANT(name, text, does) [IL_MUTANT_##name] = { text, does },
static const struct mutant mutants[] = { [IL_MUTANT_NONE] = { "none", "no bug is switched on" },
                                         IL_MUTANTS_LIST(MUTANT) };

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 1; i < LAB_COUNT(mutants); i++) {
            printf("%s\t%s\n", mutants[i].name, mutants[i].does);
        }
        return 0;
    }
    for (size_t i = 0; argc > 1 && i < LAB_COUNT(mutants); i++) {
        if (strcmp(argv[1], mutants[i].name) == 0) {
            il_mutant_on = (enum il_mutant)i;
            return explore_main(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "usage: mutants --list | NAME [options of interloop explore]\n");
    return 2;
}
