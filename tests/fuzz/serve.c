/* serve.c: fuzz target for the lab's server, which is also `interloop serve`: whatever a client
 * sends it, in HTTP/1.1 or HTTP/2.
 *
 * One server for all inputs. Each is sent whole over a connection of its own, which then ends. What
 * must hold: the server goes on, and answers the next client at once. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lab/server.h"
#include "tests/fuzz/fuzz.h"

enum { INPUT_SIZE_MAX = 16 * 1024, ANSWER_TIME_S = 60 };

static const char question[] = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
static struct lab_server *server;
static int witness = -1; /* a connection of a client that behaves */

static int connect_to_server(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(lab_server_port(server)) };
    const struct timeval limit = { .tv_sec = ANSWER_TIME_S };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    FUZZ_CHECK(fd >= 0);
    FUZZ_CHECK(connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
    FUZZ_CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0);
    return fd;
}

/* Close at once: what is not yet read is of no more interest, and no port stays in use. */
static void hang_up(int fd)
{
    const struct linger linger = { .l_onoff = 1, .l_linger = 0 };

    FUZZ_CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0);
    close(fd);
}

static void witness_is_answered(void)
{
    char answer[1024];
    size_t size = 0;

    FUZZ_CHECK(send(witness, question, sizeof(question) - 1, MSG_NOSIGNAL) ==
               (ssize_t)sizeof(question) - 1);
    while (size < 6 || memcmp(answer + size - 6, "hello\n", 6) != 0) {
        ssize_t got = recv(witness, answer + size, sizeof(answer) - size, 0);

        FUZZ_CHECK(got > 0);
        size += (size_t)got;
    }
    FUZZ_CHECK(memcmp(answer, "HTTP/1.1 200 ", 13) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct il_error err;
    int fd;

    if (size > INPUT_SIZE_MAX) {
        return 0;
    }
    if (server == NULL) {
        FUZZ_CHECK(lab_server_start(NULL, &server, &err) == IL_OK);
        witness = connect_to_server();
    }
    fd = connect_to_server();
    if (send(fd, data, size, MSG_NOSIGNAL) < 0) {
        FUZZ_CHECK(errno == EPIPE || errno == ECONNRESET); /* it has had enough */
    }
    witness_is_answered();
    hang_up(fd);
    return 0;
}
