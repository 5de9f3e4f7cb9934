/* user.c: the smallest program of a user: it includes public headers, calls the library, and is
 * built with what pkg-config says. */
#include <interloop/error.h>
#include <interloop/log.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
    il_set_log(NULL, NULL);
    if (strcmp(il_code_name(IL_OK), "IL_OK") != 0) {
        fprintf(stderr, "il_code_name(IL_OK) is %s\n", il_code_name(IL_OK));
        return 1;
    }
    return 0;
}
