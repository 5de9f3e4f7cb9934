/* stress_blocking.c: stress.c, with tasks and callbacks that block their threads at random. */
#define STRESS_BLOCKING
#include "tests/stress.c"
