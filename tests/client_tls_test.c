/* client_tls_test.c: all that client_test.c demands of the client, over TLS. */
#define CLIENT_TEST_TLS 1
#include "client_test.c"
