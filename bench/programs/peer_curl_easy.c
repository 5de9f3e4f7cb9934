/* peer_curl_easy.c: libcurl's blocking interface, one request after another. Threads: one. */
#include "peer_curl.h"

int main(int argc, char **argv)
{
    struct bench_options options;
    struct bench_plan plan;
    struct transfer transfer;

    bench_parse(&options, argc, argv);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    transfer_init(&transfer, &options);
    plan_init(&plan, &options);
    while (plan_wait_next(&plan, &transfer.due_ns)) {
        transfer_reset(&transfer, &options);
        transfer_check(&transfer, curl_easy_perform(transfer.easy));
        plan_complete(&plan, transfer.due_ns, transfer.body_bytes);
    }
    plan_print(&plan);
    transfer_deinit(&transfer);
    curl_global_cleanup();
    return 0;
}
