/* reproduce.h: `interloop reproduce` and `interloop explain`. */
#ifndef LAB_REPRODUCE_H
#define LAB_REPRODUCE_H

/* Run the command; argv[0] is its name. Prints to stdout (results) and stderr (progress, what went
 * wrong). Returns the exit status: 0 every cell as expected, 1 not, 2 wrong usage, 3 could not do
 * it. Thread: the process's only one: runs are played in child processes. */
int reproduce_main(int argc, char **argv);
int explain_main(int argc, char **argv);

/* Print "interloop NAME: there is no KIND 'GIVEN'", with the nearest of the `names` as a
 * suggestion, for both commands and the command line as a whole. `name_at` gives the names, NULL
 * after the last. */
void suggest(const char *command, const char *kind, const char *given,
             const char *(*name_at)(unsigned index));

#endif
