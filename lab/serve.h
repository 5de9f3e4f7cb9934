/* serve.h: `interloop serve`, the lab's server on its own. */
#ifndef LAB_SERVE_H
#define LAB_SERVE_H

/* Run the command; argv[0] is "serve". Prints where it listens, then serves until SIGINT or
 * SIGTERM. Returns the exit status: 0 ended as asked, 2 wrong usage, 3 could not serve. Changes the
 * calling thread's signal mask while it runs; call it from the main thread, before others start. */
int serve_main(int argc, char **argv);

#endif
