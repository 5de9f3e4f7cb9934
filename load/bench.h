/* bench.h: `interloop bench`, load from several runtimes at once. */
#ifndef LOAD_BENCH_H
#define LOAD_BENCH_H

/* Run the command; argv[0] is its name. Prints the report to stdout, progress and what went wrong
 * to stderr. Returns the exit status: 0 every request was answered, 1 not, 2 wrong usage, 3 could
 * not do it. While it runs SIGINT and SIGTERM end the run, with a report. Thread: the process's
 * first, before there are others. */
int bench_main(int argc, char **argv);

#endif
