/* chaos_step.c: the steps of a script: what the library is asked for, and what must come of it.
 *
 * Owns: nothing beyond a step. Threads: the script's; callbacks run on their call's loop. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/chaos.h"

#define UPLOAD_PIECE 600

static void may_fail(enum il_code code)
{
    (void)code; /* both answers are fine */
}

/* ---- judging errors ---- */

/* What may have happened to a step. */
struct excuse {
    const char *who, *what;
    bool is_cancelled, is_ended; /* its task, its runtime */
    bool has_limit;
    bool is_unsafe; /* not sent again when an idle connection turns out to be closed */
    bool is_late;
};

static void chaos_error(struct chaos *chaos, const struct excuse *excuse, enum il_code code,
                        const struct il_error *err)
{
    struct result *result = chaos->world->result;

    stage_mutex_lock(chaos->world->mutex);
    if (result->verdict < LAB_ERROR ||
        (excuse->is_late && !result->is_certain && result->verdict == LAB_ERROR)) {
        result->verdict = LAB_ERROR;
        result->is_certain = excuse->is_late;
        result->error = err != NULL ? *err : (struct il_error){ 0 };
        result->error.code = code;
        (void)snprintf(result->note, sizeof(result->note), "%s, step %s: %s: %.150s%s", excuse->who,
                       excuse->what, il_code_name(code), err != NULL ? err->message : "",
                       excuse->is_late ? " (when the faults had stopped)" : "");
    }
    stage_mutex_unlock(chaos->world->mutex);
}

static bool is_excused(const struct excuse *excuse, enum il_code code)
{
    switch (code) {
    case IL_ECANCELED:
        return excuse->is_cancelled;
    case IL_ESHUTDOWN:
        return excuse->is_ended;
    case IL_ETIMEDOUT:
        return excuse->has_limit;
    case IL_EPEERCLOSED:
        return excuse->is_unsafe;
    default:
        return false;
    }
}

static void judge(struct chaos *chaos, const struct excuse *excuse, enum il_code code,
                  const struct il_error *err)
{
    if (code != IL_OK && !is_excused(excuse, code)) {
        chaos_error(chaos, excuse, code, err);
    }
}

static bool script_is_ended(const struct chaos_script *script)
{
    return script->runtime != NULL && atomic_load(&script->runtime->is_ending);
}

bool chaos_judge_error(struct chaos_script *script, const struct chaos_step *step,
                       enum il_code code, const struct il_error *err)
{
    struct excuse excuse = {
        .who = script->name,
        .what = chaos_step_name(step->kind),
        .is_cancelled = atomic_load(&script->is_cancelled),
        .is_ended = script_is_ended(script),
        .has_limit = step->limit_ms > 0,
        .is_unsafe = step->kind == CHAOS_POST || step->kind == CHAOS_UPLOAD,
        .is_late = script->plan->is_late,
    };

    judge(script->chaos, &excuse, code, err);
    return !(code == IL_ECANCELED || code == IL_ESHUTDOWN);
}

/* ---- requests ---- */

/* Each step asks for something of its own: "/id/c3-5". */
static void step_token(const struct chaos_script *script, const struct chaos_step *step,
                       char *token, size_t size)
{
    (void)snprintf(token, size, "c%u-%u", script->index, (unsigned)(step - script->plan->steps));
}

static void request_set_limits(struct il_request *request, const struct chaos_step *step)
{
    uint64_t total_ms = step->limit_ms > 0 ? step->limit_ms : IL_NO_LIMIT;

    for (int phase = IL_PHASE_POOL_WAIT; phase <= IL_PHASE_TOTAL; phase++) {
        /* IL_EINVAL for the phases that have no limit */
        (void)il_request_set_timeout_ms(request, (enum il_phase)phase,
                                        phase == IL_PHASE_TOTAL ? total_ms : IL_NO_LIMIT);
    }
}

static enum il_code request_make(struct chaos *chaos, const char *method, const char *path,
                                 const struct chaos_step *step, struct il_request **ret_request,
                                 struct il_error *err)
{
    bool is_own = chaos->clients[step->client] != NULL; /* else the solution's way */
    const char *scheme = is_own ? (step->is_tls ? "https" : "http") : world_scheme(chaos->world);
    char url[WORLD_TARGET_SIZE];
    enum il_code code;

    (void)snprintf(url, sizeof(url), "%s://127.0.0.1:%u%s%s", scheme,
                   stage_server_port(chaos->world->server), path,
                   !is_own || !step->is_to_end ? ""
                   : strchr(path, '?') != NULL ? "&until=close"
                                               : "?until=close");
    code = il_request_new(method, url, ret_request, err);
    if (code == IL_OK) {
        request_set_limits(*ret_request, step);
    }
    if (code == IL_OK && is_own && step->is_other_tls) {
        code = il_request_set_tls(*ret_request, chaos->tls[1]);
    }
    return code;
}

/* As the solution sends: its clients as they are, or its way of handing requests over. */
static enum il_code request_send(struct chaos *chaos, struct actor *actor,
                                 const struct chaos_step *step, const struct il_request *request,
                                 bool is_streaming, struct il_response **ret_response,
                                 struct il_error *err)
{
    struct il_client *client = chaos->clients[step->client];

    if (client == NULL) {
        return chaos->world->solution->send(chaos->world, actor, request, is_streaming,
                                            ret_response, err);
    }
    return is_streaming ? il_send_streaming(client, request, ret_response, err)
                        : il_send(client, request, ret_response, err);
}

/* Did it come over a connection such as was asked for? */
static void check_connection(struct chaos *chaos, const struct chaos_step *step,
                             const struct il_response *response)
{
    bool is_own = chaos->clients[step->client] != NULL;
    bool wants_tls = is_own ? step->is_tls : chaos->world->tls != NULL;
    struct il_tls_info info = { .is_verified = false };
    bool has_tls = il_response_tls(response, &info);
    bool is_h2 = il_response_http_version(response) == 20;

    if (has_tls != wants_tls) {
        chaos_wrong(chaos, "asked with%s TLS and served with%s", wants_tls ? "" : "out",
                    has_tls ? "" : "out");
    } else if (has_tls && info.is_verified != !(is_own && step->is_other_tls)) {
        chaos_wrong(chaos, "served over a connection with other TLS settings");
    } else if (has_tls && is_h2 != (strcmp(info.protocol, "h2") == 0)) {
        chaos_wrong(chaos, "agreed on '%s' and spoke HTTP/%d", info.protocol,
                    il_response_http_version(response));
    }
}

static void check_token(struct chaos *chaos, const struct chaos_step *step,
                        const struct il_response *response, const char *token)
{
    size_t size;
    const char *body = il_response_body(response, &size);

    check_connection(chaos, step, response);
    if (il_response_status(response) != 200 || size != strlen(token) ||
        memcmp(body, token, size) != 0) {
        chaos_wrong(chaos, "asked for \"%s\" and got %d with \"%.40s\" (%zu bytes)", token,
                    il_response_status(response), body, size);
    }
}

/* A body that is made piece by piece; now and then it takes its time. */
struct upload {
    unsigned left, piece_count;
};

static enum il_code upload_read(void *arg, void *buffer, size_t size, size_t *ret_size)
{
    struct upload *upload = arg;
    size_t part = size < UPLOAD_PIECE ? size : UPLOAD_PIECE;

    part = part < upload->left ? part : upload->left;
    memset(buffer, 'u', part);
    upload->left -= (unsigned)part;
    *ret_size = part;
    return ++upload->piece_count % 3 == 0 ? il_yield() : IL_OK;
}

static bool do_request(struct chaos_script *script, const struct chaos_step *step)
{
    struct actor *actor = script->runtime != NULL ? &script->runtime->actor : NULL;
    struct upload upload = { .left = 3000 };
    struct il_response *response = NULL;
    struct il_request *request = NULL;
    struct il_error err = { 0 };
    char token[16], path[24];
    enum il_code code;

    step_token(script, step, token, sizeof(token));
    (void)snprintf(path, sizeof(path), "/id/%s", token);
    code = request_make(script->chaos, step->kind == CHAOS_GET ? "GET" : "POST", path, step,
                        &request, &err);
    if (code == IL_OK && step->kind == CHAOS_POST) {
        code = il_request_set_body(request, token, strlen(token), &err);
    } else if (code == IL_OK && step->kind == CHAOS_UPLOAD) {
        code = il_request_set_body_source(
            request, upload_read, &upload,
            step->ms % 2 == 0 ? (uint64_t)upload.left : IL_LENGTH_UNKNOWN, &err);
    }
    if (code == IL_OK) {
        code = request_send(script->chaos, actor, step, request, false, &response, &err);
    }
    if (code == IL_OK) {
        check_token(script->chaos, step, response, token);
    }
    il_response_free(response);
    il_request_free(request);
    return chaos_judge_error(script, step, code, &err);
}

/* ---- streams ---- */

struct message {
    struct chaos *chaos;
    struct il_response *response; /* NULL: none goes along */
    unsigned seed;
    uint64_t size;
};

/* Read to the end, or half of it. */
static enum il_code stream_read(struct chaos *chaos, struct il_response *response, unsigned seed,
                                uint64_t size, bool is_half, struct il_error *err)
{
    bool is_right = il_response_status(response) == 200;
    uint64_t offset = 0;
    size_t got = 0;

    do {
        char piece[CHAOS_PIECE_SIZE];
        enum il_code code = il_response_read(response, piece, sizeof(piece), &got, err);

        if (code != IL_OK) {
            return code;
        }
        is_right = is_right && stage_pattern_matches(piece, got, seed, offset);
        offset += got;
    } while (got > 0 && !(is_half && offset > size / 2));
    if (!is_right || (got == 0 && offset != size)) {
        chaos_wrong(chaos, "asked for %llu bytes of pattern %u and got %llu%s",
                    (unsigned long long)size, seed, (unsigned long long)offset,
                    is_right ? ", taken for the whole" : ", and not those");
    }
    return IL_OK;
}

static enum il_code stream_open(struct chaos_script *script, const struct chaos_step *step,
                                unsigned *ret_seed, struct il_response **ret_response,
                                struct il_error *err)
{
    struct actor *actor = script->runtime != NULL ? &script->runtime->actor : NULL;
    struct il_request *request = NULL;
    char path[WORLD_PATH_SIZE];
    enum il_code code;

    *ret_seed = script->index * CHAOS_STEPS_MAX + (unsigned)(step - script->plan->steps);
    (void)snprintf(path, sizeof(path), "/bytes/%u?seed=%u", step->number, *ret_seed);
    code = request_make(script->chaos, "GET", path, step, &request, err);
    if (code == IL_OK) {
        code = request_send(script->chaos, actor, step, request, true, ret_response, err);
    }
    il_request_free(request);
    if (code == IL_OK) {
        check_connection(script->chaos, step, *ret_response);
    }
    return code;
}

static bool do_stream(struct chaos_script *script, const struct chaos_step *step)
{
    struct il_response *response = NULL;
    struct il_error err = { 0 };
    unsigned seed = 0;
    enum il_code code = stream_open(script, step, &seed, &response, &err);

    if (code == IL_OK) {
        code = stream_read(script->chaos, response, seed, step->number,
                           step->kind == CHAOS_STREAM_END, &err);
    }
    il_response_free(response);
    return chaos_judge_error(script, step, code, &err);
}

/* ---- the channel ---- */

static void message_discard(struct message *message)
{
    il_response_free(message->response);
    free(message);
}

void chaos_message_free(void *arg)
{
    struct message *message = arg;

    atomic_fetch_add(&message->chaos->freed_count, 1);
    message_discard(message);
}

static bool do_send(struct chaos_script *script, const struct chaos_step *step)
{
    struct chaos *chaos = script->chaos;
    struct message *message = calloc(1, sizeof(*message));
    struct il_error err = { 0 };
    enum il_code code = IL_OK;

    if (message == NULL) {
        return true; /* the machine's memory is out, not the library's */
    }
    message->chaos = chaos;
    message->size = step->number;
    if (step->number > 0) {
        code = stream_open(script, step, &message->seed, &message->response, &err);
    }
    if (code == IL_OK) {
        code = il_channel_send(chaos->channel, message, IL_FOREVER, &err);
        if (code == IL_OK) {
            atomic_fetch_add(&chaos->sent_count, 1);
            return true;
        }
    }
    message_discard(message);
    return code == IL_ECLOSED || chaos_judge_error(script, step, code, &err);
}

static bool do_receive(struct chaos_script *script, const struct chaos_step *step)
{
    struct chaos *chaos = script->chaos;
    struct il_error err = { 0 };
    void *value = NULL;
    enum il_code code = il_channel_receive(chaos->channel, IL_FOREVER, &value, &err);
    /* the limit is the sender's, who set it when it sent the request */
    struct chaos_step judged_as = { .kind = CHAOS_RECEIVE, .limit_ms = 1 };
    struct message *message = value;

    if (code != IL_OK) {
        return code == IL_ECLOSED || chaos_judge_error(script, step, code, &err);
    }
    atomic_fetch_add(&chaos->received_count, 1);
    if (message->response != NULL) {
        code = stream_read(chaos, message->response, message->seed, message->size, false, &err);
    }
    message_discard(message);
    return chaos_judge_error(script, &judged_as, code, &err);
}

/* ---- calls ---- */

static void call_on_done(void *arg, enum il_code code, struct il_response *response,
                         const struct il_error *err)
{
    struct chaos_call *call = arg;
    struct chaos *chaos = call->script->chaos;
    struct excuse excuse = { .who = call->script->name,
                             .what = "call",
                             .is_cancelled = call->may_be_cancelled,
                             .is_ended = atomic_load(&call->home->is_ending),
                             .has_limit = call->has_limit };
    struct il_oneshot_sender *sender = call->sender;

    if (atomic_fetch_add(&call->done_count, 1) > 0) {
        chaos_wrong(chaos, "the call for \"%s\" was completed twice", call->token);
        return;
    }
    if (code == IL_OK) {
        check_token(chaos, call->step, response, call->token);
    }
    il_response_free(response);
    judge(chaos, &excuse, code, err);
    may_fail(il_oneshot_send(sender, call, NULL, NULL)); /* who waits may be gone */
    il_oneshot_sender_free(sender);
}

/* A runtime for the call to live on; NULL: there is none. */
static struct chaos_runtime *call_home(struct chaos_script *script)
{
    struct chaos_runtime *home = script->runtime;

    if (home == NULL) {
        home = &script->chaos->runtimes[script->index % script->chaos->plan.runtime_count];
    }
    return home->actor.runtime != NULL ? home : NULL;
}

static enum il_code call_start(struct chaos_script *script, const struct chaos_step *step,
                               struct chaos_runtime *home, struct chaos_call *call,
                               struct il_call **ret_call, struct il_error *err)
{
    struct il_call_options options = IL_CALL_OPTIONS_INIT;
    struct il_request *request = NULL;
    char path[24];
    enum il_code code;

    step_token(script, step, call->token, sizeof(call->token));
    (void)snprintf(path, sizeof(path), "/id/%.16s", call->token);
    code = request_make(script->chaos, "GET", path, step, &request, err);
    if (code != IL_OK) {
        return code;
    }
    options.runtime = home->actor.runtime;
    options.on_done = call_on_done;
    options.arg = call;
    code = il_call_start(script->chaos->clients[step->client], request, &options, ret_call, err);
    if (code != IL_OK) {
        il_request_free(request);
    }
    return code;
}

static bool do_call(struct chaos_script *script, const struct chaos_step *step)
{
    struct chaos *chaos = script->chaos;
    struct chaos_runtime *home = call_home(script);
    struct il_oneshot_receiver *receiver = NULL;
    struct il_call *handle = NULL;
    struct il_error err = { 0 };
    struct chaos_call *call;
    void *value = NULL;
    enum il_code code;

    if (home == NULL) {
        return true;
    }
    call = &chaos->calls[atomic_fetch_add(&chaos->call_count, 1)];
    call->script = script;
    call->home = home;
    call->step = step;
    call->may_be_cancelled = step->kind == CHAOS_CALL_END;
    call->has_limit = step->limit_ms > 0;
    code = il_oneshot_new(&call->sender, &receiver, &err);
    if (code != IL_OK) {
        return chaos_judge_error(script, step, code, &err);
    }
    code = call_start(script, step, home, call, &handle, &err);
    if (code == IL_OK) {
        atomic_store(&call->is_started, true);
        if (step->kind == CHAOS_CALL_END) {
            (void)il_sleep_ms(step->ms); /* cancelled or not: we go on */
            il_call_cancel(handle);
        }
        code = il_oneshot_receive(receiver, IL_FOREVER, &value, &err);
        handle = il_call_unref(handle);
    } else {
        bool is_home_gone = code == IL_ESHUTDOWN && atomic_load(&home->is_ending);

        il_oneshot_sender_free(call->sender);
        il_oneshot_receiver_free(receiver);
        return (is_home_gone && home != script->runtime) ||
               chaos_judge_error(script, step, code, &err);
    }
    il_oneshot_receiver_free(receiver);
    return chaos_judge_error(script, step, code, &err);
}

/* ---- other runtimes ---- */

struct inner {
    struct chaos_script *script;
    struct chaos_runtime *runtime;
    const struct chaos_step *step;
    bool has_run;
};

static void inner_main(void *arg)
{
    struct inner *inner = arg;
    struct chaos *chaos = inner->script->chaos;
    struct excuse excuse = { .who = inner->script->name,
                             .what = "block-on",
                             .has_limit = inner->step->limit_ms > 0 };
    struct il_response *response = NULL;
    struct il_request *request = NULL;
    struct il_error err = { 0 };
    char token[16], path[24];
    enum il_code code;

    inner->has_run = true;
    step_token(inner->script, inner->step, token, sizeof(token));
    (void)snprintf(path, sizeof(path), "/id/%s", token);
    code = request_make(chaos, "GET", path, inner->step, &request, &err);
    if (code == IL_OK) {
        code = request_send(chaos, &inner->runtime->actor, inner->step, request, false, &response,
                            &err);
    }
    if (code == IL_OK) {
        check_token(chaos, inner->step, response, token);
    }
    il_response_free(response);
    il_request_free(request);
    /* who waits for us takes us along when it is cancelled, or its runtime is ended */
    excuse.is_cancelled =
        atomic_load(&inner->script->is_cancelled) || script_is_ended(inner->script);
    excuse.is_ended = atomic_load(&inner->runtime->is_ending);
    judge(chaos, &excuse, code, &err);
}

static bool do_block_on(struct chaos_script *script, const struct chaos_step *step)
{
    struct chaos_runtime *runtime = &script->chaos->runtimes[step->number];
    struct inner inner = { .script = script, .runtime = runtime, .step = step };
    struct il_error err = { 0 };
    enum il_code code;

    if (runtime->actor.runtime == NULL) {
        return true;
    }
    code = il_block_on(runtime->actor.runtime, inner_main, &inner, &err);
    if ((code == IL_OK) != inner.has_run) {
        chaos_wrong(script->chaos, "il_block_on said %s, and its function has%s run",
                    il_code_name(code), inner.has_run ? "" : " not");
    }
    if (code == IL_ESHUTDOWN && atomic_load(&runtime->is_ending)) {
        return true; /* the other runtime has ended */
    }
    return chaos_judge_error(script, step, code, &err);
}

/* ---- locks and permits ---- */

static bool do_semaphore(struct chaos_script *script, const struct chaos_step *step)
{
    struct il_semaphore *semaphore = script->chaos->semaphore;
    struct il_error err = { 0 };
    enum il_code code = il_semaphore_acquire(semaphore, step->number, IL_FOREVER, &err);

    if (code == IL_OK) {
        code = il_sleep_ms(step->ms);
        if (il_semaphore_release(semaphore, step->number, &err) != IL_OK) {
            chaos_wrong(script->chaos, "permits cannot be given back: %s", err.message);
        }
    }
    return chaos_judge_error(script, step, code, &err);
}

static bool do_mutex(struct chaos_script *script, const struct chaos_step *step)
{
    struct chaos *chaos = script->chaos;
    struct il_error err = { 0 };
    enum il_code code = il_mutex_lock(chaos->lock, IL_FOREVER, &err);

    if (code == IL_OK) {
        if (atomic_fetch_add(&chaos->lock_holder_count, 1) != 0) {
            chaos_wrong(chaos, "two hold the mutex at the same time");
        }
        code = il_sleep_ms(step->ms);
        atomic_fetch_sub(&chaos->lock_holder_count, 1);
        if (il_mutex_unlock(chaos->lock, &err) != IL_OK) {
            chaos_wrong(chaos, "the mutex cannot be unlocked by its holder: %s", err.message);
        }
    }
    return chaos_judge_error(script, step, code, &err);
}

/* ---- each other ---- */

static void do_tell(struct chaos_script *script)
{
    if (script->sender != NULL && !script->has_told) {
        script->has_told = true;
        may_fail(il_oneshot_send(script->sender, script, NULL, NULL)); /* wanted or not */
    }
}

static bool do_hear(struct chaos_script *script, const struct chaos_step *step)
{
    struct chaos_script *other = &script->chaos->scripts[step->number];
    struct il_error err = { 0 };
    void *value = NULL;
    enum il_code code;

    if (other->receiver == NULL || atomic_exchange(&other->is_receiver_taken, true)) {
        return true;
    }
    code = il_oneshot_receive(other->receiver, IL_FOREVER, &value, &err);
    if (code == IL_OK && value != other) {
        chaos_wrong(script->chaos, "the oneshot of %s brought something else", other->name);
    }
    return code == IL_ECLOSED || chaos_judge_error(script, step, code, &err);
}

static struct il_task *script_task(struct chaos_script *script)
{
    struct il_task *task;

    stage_mutex_lock(script->chaos->mutex);
    task = script->task != NULL ? il_task_ref(script->task) : NULL;
    stage_mutex_unlock(script->chaos->mutex);
    return task;
}

static bool do_join(struct chaos_script *script, const struct chaos_step *step)
{
    struct chaos_script *other = &script->chaos->scripts[step->number];
    struct il_task *task = script_task(other);
    struct il_error err = { 0 };
    enum il_code code;

    if (task == NULL) {
        return true; /* not begun, or a plain thread */
    }
    code = il_task_join(task, IL_FOREVER, &err);
    if (code == IL_OK && !atomic_load(&other->is_finished)) {
        chaos_wrong(script->chaos, "%s was joined and is not finished", other->name);
    }
    (void)il_task_unref(task);
    return chaos_judge_error(script, step, code, &err);
}

static void do_cancel(struct chaos_script *script, const struct chaos_step *step)
{
    struct chaos_script *other = &script->chaos->scripts[step->number];
    struct il_task *task = script_task(other);

    if (task != NULL) {
        atomic_store(&other->is_cancelled, true);
        il_task_cancel(task);
        (void)il_task_unref(task);
    }
}

bool chaos_step_do(struct chaos_script *script, const struct chaos_step *step)
{
    switch (step->kind) {
    case CHAOS_GET:
    case CHAOS_POST:
    case CHAOS_UPLOAD:
        return do_request(script, step);
    case CHAOS_STREAM:
    case CHAOS_STREAM_END:
        return do_stream(script, step);
    case CHAOS_CALL:
    case CHAOS_CALL_END:
        return do_call(script, step);
    case CHAOS_BLOCK_ON:
        return do_block_on(script, step);
    case CHAOS_SLEEP:
        return chaos_judge_error(script, step, il_sleep_ms(step->ms), NULL);
    case CHAOS_YIELD:
        return chaos_judge_error(script, step, il_yield(), NULL);
    case CHAOS_BLOCK:
        stage_sleep_ms(step->ms);
        return true;
    case CHAOS_SEMAPHORE:
        return do_semaphore(script, step);
    case CHAOS_MUTEX:
        return do_mutex(script, step);
    case CHAOS_SEND:
        return do_send(script, step);
    case CHAOS_RECEIVE:
        return do_receive(script, step);
    case CHAOS_TELL:
        do_tell(script);
        return true;
    case CHAOS_HEAR:
        return do_hear(script, step);
    case CHAOS_JOIN:
        return do_join(script, step);
    case CHAOS_CANCEL:
        do_cancel(script, step);
        return true;
    case CHAOS_CLOSE_IDLE:
        if (script->chaos->clients[step->client] != NULL) {
            il_client_close_idle(script->chaos->clients[step->client]);
        }
        return true;
    }
    return true;
}
