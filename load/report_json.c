/* report_json.c: the report for programs; docs/bench.md says what it holds. Owns: nothing.
 * Threads: one at a time. */
#include "lab/json.h"

#include "report.h"

#define REPORT_JSON_VERSION 1

static void put_settings(struct json *json, const struct bench_options *options)
{
    json_object_begin(json, "settings");
    json_string(json, "method", options->method);
    json_string(json, "url", options->url);
    json_number(json, "connections", options->connections);
    json_number(json, "runtimes", options->runtimes);
    json_string(json, "clients", options->has_own_clients ? "each" : "one");
    json_real(json, "rate", options->rate);
    json_number(json, "duration_ns", options->duration_ns);
    json_number(json, "requests", options->requests);
    json_number(json, "warm_up_ns", options->warm_up_ns);
    json_number(json, "timeout_ms", options->timeout_ms);
    json_number(json, "body_bytes", options->body_size);
    json_bool(json, "keep_alive", !options->no_keep_alive);
    json_object_end(json);
}

static void put_statuses(struct json *json, const struct tally *tally)
{
    char name[16];

    json_object_begin(json, "statuses");
    for (int status = 0; status < TALLY_STATUS_MAX; status++) {
        if (tally->statuses[status] > 0) {
            (void)snprintf(name, sizeof(name), "%d", status);
            json_number(json, status == TALLY_STATUS_ODD ? "other" : name, tally->statuses[status]);
        }
    }
    json_object_end(json);
}

static void put_protocols(struct json *json, const struct tally *tally)
{
    json_object_begin(json, "protocols");
    if (tally->answered > tally->http_2) {
        json_number(json, "HTTP/1.1", tally->answered - tally->http_2);
    }
    if (tally->http_2 > 0) {
        json_number(json, "HTTP/2", tally->http_2);
    }
    json_object_end(json);
}

static void put_errors(struct json *json, const struct tally *tally)
{
    json_array_begin(json, "errors");
    for (unsigned i = 0; i < tally->shared.kind_count; i++) {
        const struct tally_kind *kind = &tally->shared.kinds[i];

        json_object_begin(json, NULL);
        json_string(json, "code", il_code_name(kind->code));
        json_string(json, "phase",
                    kind->phase != IL_PHASE_NONE ? il_phase_name(kind->phase) : NULL);
        json_number(json, "count", kind->count);
        json_string(json, "message", kind->message);
        json_object_end(json);
    }
    json_array_end(json);
    json_number(json, "errors_of_other_kinds", tally->shared.other_count);
}

static void put_requests(struct json *json, const struct run_result *result)
{
    const struct tally *tally = &result->tally;

    json_number(json, "answered", tally->answered);
    json_number(json, "failed", tally->failed);
    json_number(json, "unfinished", tally->unfinished);
    json_number(json, "unsent", tally->unsent);
    json_real(json, "answers_per_second", report_per_second(result, tally->in_time));
    json_number(json, "body_bytes", tally->body_bytes);
    put_statuses(json, tally);
    put_protocols(json, tally);
    put_errors(json, tally);
}

static void put_costs(struct json *json, const struct run_result *result)
{
    json_object_begin(json, "connections");
    json_number(json, "opened", result->connections_opened);
    json_number(json, "reused", result->reuses);
    json_number(json, "moved", result->moves);
    json_number(json, "retried", result->retries);
    json_object_end(json);
    json_object_begin(json, "cpu");
    json_number(json, "user_us", result->user_us);
    json_number(json, "system_us", result->system_us);
    json_object_end(json);
}

static void put_latencies(struct json *json, const struct histogram *latencies)
{
    struct report_bar bars[REPORT_BARS_MAX];
    unsigned count = report_make_bars(latencies, bars);

    json_object_begin(json, "latency_ns");
    json_number(json, "count", latencies->count);
    json_number(json, "min", histogram_min(latencies));
    json_number(json, "mean", histogram_mean(latencies));
    for (size_t i = 0; i < REPORT_PERCENTILE_COUNT; i++) {
        json_number(json, report_percentiles[i].name,
                    histogram_percentile(latencies, report_percentiles[i].percent));
    }
    json_number(json, "max", latencies->max_ns);
    json_object_end(json);
    json_array_begin(json, "histogram");
    for (unsigned i = 0; i < count; i++) {
        json_object_begin(json, NULL);
        json_number(json, "from_ns", bars[i].from_ns);
        json_number(json, "to_ns", bars[i].to_ns);
        json_number(json, "count", bars[i].count);
        json_object_end(json);
    }
    json_array_end(json);
}

static void put_parts(struct json *json, const struct tally *tally)
{
    json_object_begin(json, "parts_ns");
    for (size_t i = 0; i < TALLY_PART_COUNT; i++) {
        const struct tally_part_time *part = &tally->parts[i];

        json_object_begin(json, report_part_names[i]);
        json_number(json, "count", part->count);
        json_number(json, "mean", part->count > 0 ? part->sum_ns / part->count : 0);
        json_number(json, "max", part->max_ns);
        json_object_end(json);
    }
    json_object_end(json);
}

void bench_report_json(FILE *out, const struct bench_options *options,
                       const struct run_result *result)
{
    struct json json;

    json_init(&json, out);
    json_object_begin(&json, NULL);
    json_number(&json, "version", REPORT_JSON_VERSION);
    put_settings(&json, options);
    json_bool(&json, "interrupted", result->is_interrupted);
    json_bool(&json, "good", report_is_good(result));
    json_number(&json, "elapsed_ns", result->elapsed_ns);
    put_requests(&json, result);
    put_costs(&json, result);
    put_latencies(&json, &result->tally.latencies);
    put_parts(&json, &result->tally);
    json_object_end(&json);
}
