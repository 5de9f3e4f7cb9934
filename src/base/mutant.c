/* mutant.c: which of the known bugs is switched on. In no build but that of the explorer's tests.
 *
 * Threads: set before there are any. */
#include "base/mutant.h"

enum il_mutant il_mutant_on = IL_MUTANT_NONE;
