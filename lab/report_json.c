/* report_json.c: results for machines. Owns: nothing. Threads: one at a time. */
#include "lab/report_json.h"
#include "lab/json.h"

static void put_link(struct json *json, const struct il_watch_link *link)
{
    json_object_begin(json, NULL);
    json_string(json, "what", link->what);
    json_string(json, "who", link->who);
    json_string(json, "state", link->state);
    json_number(json, "since_ms", link->since_ms);
    json_string(json, "detail", link->detail);
    json_object_end(json);
}

static void put_run(struct json *json, const struct result *run)
{
    bool has_error = run->error.code != IL_OK;

    json_object_begin(json, NULL);
    json_string(json, "verdict", lab_verdict_name(run->verdict));
    json_number(json, "elapsed_ms", run->elapsed_ms);
    json_number(json, "requests", run->request_count);
    json_string(json, "error", has_error ? il_code_name(run->error.code) : NULL);
    json_array_begin(json, "proof");
    for (unsigned i = 0; i < run->link_count; i++) {
        put_link(json, &run->links[i]);
    }
    json_array_end(json);
    json_string(json, "error_text", has_error ? run->error.message : NULL);
    json_string(json, "note", run->note[0] != '\0' ? run->note : NULL);
    json_string(json, "broken", run->is_broken ? run->broken : NULL);
    json_object_end(json);
}

static void put_cell(struct json *json, const struct cell *cell)
{
    const struct expectation *expectation = catalogue_expectation(cell->cause, cell->solution);

    json_object_begin(json, NULL);
    json_string(json, "cause", catalogue_cause(cell->cause)->name);
    json_string(json, "solution", catalogue_solution(cell->solution)->name);
    json_string(json, "verdict", lab_verdict_name(cell->verdict));
    json_string(json, "expected", lab_verdict_name(expectation->verdict));
    json_bool(json, "as_expected", cell->is_as_expected);
    json_array_begin(json, "runs");
    for (unsigned i = 0; i < cell->run_count; i++) {
        put_run(json, &cell->runs[i]);
    }
    json_array_end(json);
    json_object_end(json);
}

void report_matrix_json(FILE *out, const struct matrix *matrix)
{
    struct json json;

    json_init(&json, out);
    json_object_begin(&json, NULL);
    json_string(&json, "version", LAB_VERSION);
    json_array_begin(&json, "cells");
    for (size_t i = 0; i < matrix->cell_count; i++) {
        put_cell(&json, &matrix->cells[i]);
    }
    json_array_end(&json);
    json_object_end(&json);
}

void report_list_json(FILE *out)
{
    struct json json;

    json_init(&json, out);
    json_object_begin(&json, NULL);
    json_string(&json, "version", LAB_VERSION);
    json_array_begin(&json, "causes");
    for (size_t i = 0; i < catalogue_cause_count(); i++) {
        json_object_begin(&json, NULL);
        json_string(&json, "name", catalogue_cause(i)->name);
        json_string(&json, "summary", catalogue_cause(i)->summary);
        json_object_end(&json);
    }
    json_array_end(&json);
    json_array_begin(&json, "solutions");
    for (size_t i = 0; i < catalogue_solution_count(); i++) {
        json_object_begin(&json, NULL);
        json_string(&json, "name", catalogue_solution(i)->name);
        json_string(&json, "summary", catalogue_solution(i)->summary);
        json_object_end(&json);
    }
    json_array_end(&json);
    json_array_begin(&json, "expected");
    for (size_t i = 0; i < catalogue_cause_count(); i++) {
        for (size_t k = 0; k < catalogue_solution_count(); k++) {
            const struct expectation *expectation = catalogue_expectation(i, k);

            json_object_begin(&json, NULL);
            json_string(&json, "cause", catalogue_cause(i)->name);
            json_string(&json, "solution", catalogue_solution(k)->name);
            json_string(&json, "verdict", lab_verdict_name(expectation->verdict));
            json_string(&json, "reason", expectation->reason);
            json_object_end(&json);
        }
    }
    json_array_end(&json);
    json_object_end(&json);
}
