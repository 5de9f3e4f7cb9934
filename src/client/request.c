/* request.c: what the user wants sent. A request is plain data: no thread, no loop. */
#include "client/client.h"

enum il_code il_request_new(const char *method, const char *url, struct il_request **ret_request,
                            struct il_error *err)
{
    struct il_request *request;
    enum il_code code;

    if (method == NULL || url == NULL || ret_request == NULL) {
        return il_fail(err, IL_EINVAL, "il_request_new: %s is NULL",
                       method == NULL ? "method"
                       : url == NULL  ? "url"
                                      : "ret_request");
    }
    if (strcmp(method, "CONNECT") == 0) {
        return il_fail(err, IL_EREQUEST,
                       "CONNECT asks a proxy for a tunnel, and this client has "
                       "no use for one");
    }
    if (!http_is_token(method, strlen(method)) || strlen(method) > H1_METHOD_SIZE_MAX) {
        char text[96];

        return il_fail(err, IL_EREQUEST, "the method '%s' is not a token of at most %d bytes",
                       il_escape(text, sizeof(text), method, strlen(method)), H1_METHOD_SIZE_MAX);
    }
    request = il_calloc(1, sizeof(*request));
    if (request == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a request");
    }
    headers_init(&request->headers);
    il_bytes_init(&request->body);
    code = url_parse(url, &request->url, err);
    if (code == IL_OK && request->url.userinfo != NULL) {
        code = il_fail(err, IL_EURL,
                       "a user name in a URL is not sent; take it out and set the "
                       "header Authorization");
    }
    if (code == IL_OK && (request->method = il_strdup(method)) == NULL) {
        code = il_fail(err, IL_ENOMEM, "no memory for a request");
    }
    if (code != IL_OK) {
        il_request_free(request);
        return code;
    }
    *ret_request = request;
    return IL_OK;
}

enum il_code request_copy(const struct il_request *request, struct il_request **ret_copy,
                          struct il_error *err)
{
    struct il_request *copy = il_calloc(1, sizeof(*copy));
    size_t body_size = il_bytes_size(&request->body);

    il_assert(request->source == NULL);
    if (copy == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a copy of a request");
    }
    headers_init(&copy->headers);
    il_bytes_init(&copy->body);
    copy->body_kind = request->body_kind;
    memcpy(copy->timeout_ms, request->timeout_ms, sizeof(copy->timeout_ms));
    copy->has_timeouts = request->has_timeouts;
    copy->tls = request->tls != NULL ? il_tls_ref(request->tls) : NULL;
    if (url_copy(&request->url, &copy->url) != IL_OK ||
        (copy->method = il_strdup(request->method)) == NULL ||
        (request->address != NULL && (copy->address = il_strdup(request->address)) == NULL) ||
        headers_copy(&copy->headers, &request->headers) != IL_OK ||
        (body_size > 0 &&
         il_bytes_append(&copy->body, il_bytes_data(&request->body), body_size) != IL_OK)) {
        il_request_free(copy);
        return il_fail(err, IL_ENOMEM, "no memory for a copy of a request, its body of %zu bytes",
                       body_size);
    }
    *ret_copy = copy;
    return IL_OK;
}

void il_request_free(struct il_request *request)
{
    if (request == NULL) {
        return;
    }
    il_free(request->method);
    il_free(request->address);
    (void)il_tls_unref(request->tls);
    url_deinit(&request->url);
    headers_deinit(&request->headers);
    il_bytes_deinit(&request->body);
    il_free(request);
}

enum il_code il_request_add_header(struct il_request *request, const char *name, const char *value,
                                   struct il_error *err)
{
    if (request == NULL || name == NULL || value == NULL) {
        return il_fail(err, IL_EINVAL, "il_request_add_header: an argument is NULL");
    }
    return headers_add(&request->headers, name, value, err);
}

enum il_code il_request_set_tls(struct il_request *request, struct il_tls *tls)
{
    if (request == NULL) {
        return IL_EINVAL;
    }
    tls = tls != NULL ? il_tls_ref(tls) : NULL;
    (void)il_tls_unref(request->tls);
    request->tls = tls;
    return IL_OK;
}

enum il_code il_request_set_address(struct il_request *request, const char *address,
                                    struct il_error *err)
{
    struct net_address parsed;
    char *copy = NULL;

    if (request == NULL) {
        return il_fail(err, IL_EINVAL, "il_request_set_address: request is NULL");
    }
    if (address != NULL) {
        char text[64];

        if (!net_address_parse(address, &parsed)) {
            return il_fail(err, IL_EINVAL, "'%s' is not an IPv4 or IPv6 address",
                           il_escape(text, sizeof(text), address, strlen(address)));
        }
        copy = il_strdup(net_address_text(&parsed, text)); /* one spelling for one address */
        if (copy == NULL) {
            return il_fail(err, IL_ENOMEM, "no memory for an address");
        }
    }
    il_free(request->address);
    request->address = copy;
    return IL_OK;
}

enum il_code il_request_set_body(struct il_request *request, const void *bytes, size_t size,
                                 struct il_error *err)
{
    if (request == NULL || (bytes == NULL && size > 0)) {
        return il_fail(err, IL_EINVAL, "il_request_set_body: an argument is NULL");
    }
    if (il_bytes_reserve(&request->body, size) != IL_OK) {
        return il_fail(err, IL_ENOMEM, "no memory for a body of %zu bytes", size);
    }
    il_bytes_truncate(&request->body, 0);
    if (size > 0) {
        memcpy(il_bytes_tail(&request->body), bytes, size);
        il_bytes_added(&request->body, size);
    }
    request->source = NULL;
    request->body_kind = H1_BODY_SIZED;
    return IL_OK;
}

enum il_code il_request_set_body_source(struct il_request *request, il_body_fn *read, void *arg,
                                        uint64_t length, struct il_error *err)
{
    if (request == NULL || read == NULL) {
        return il_fail(err, IL_EINVAL, "il_request_set_body_source: an argument is NULL");
    }
    il_bytes_truncate(&request->body, 0);
    request->source = read;
    request->source_arg = arg;
    request->source_length = length;
    request->body_kind = length == IL_LENGTH_UNKNOWN ? H1_BODY_CHUNKED : H1_BODY_SIZED;
    return IL_OK;
}

enum il_code il_request_set_timeout_ms(struct il_request *request, enum il_phase phase,
                                       uint64_t timeout_ms)
{
    switch (phase) {
    case IL_PHASE_POOL_WAIT:
    case IL_PHASE_RESOLVE:
    case IL_PHASE_CONNECT:
    case IL_PHASE_TLS:
    case IL_PHASE_WRITE:
    case IL_PHASE_FIRST_BYTE:
    case IL_PHASE_READ:
    case IL_PHASE_TOTAL:
        break;
    default:
        return IL_EINVAL;
    }
    if (request == NULL) {
        return IL_EINVAL;
    }
    request->timeout_ms[phase] = timeout_ms;
    request->has_timeouts = true;
    return IL_OK;
}

bool request_is_idempotent(const struct il_request *request)
{
    static const char *const idempotent[] = { "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE" };

    for (size_t i = 0; i < il_array_count(idempotent); i++) {
        if (strcmp(request->method, idempotent[i]) == 0) {
            return true;
        }
    }
    return false;
}

struct h1_request_head request_head(const struct il_request *request)
{
    return (struct h1_request_head){
        .method = request->method,
        .url = &request->url,
        .headers = &request->headers,
        .target_form = H1_TARGET_ORIGIN,
        .body_kind = request->body_kind,
        .body_size =
            request->source != NULL ? request->source_length : il_bytes_size(&request->body),
    };
}

enum il_code request_check(const struct il_request *request, struct il_error *err)
{
    struct h1_request_head head;
    struct h1_request_seen seen;

    if (request->headers.count == 0) { /* all else was looked at when it was set */
        return IL_OK;
    }
    head = request_head(request);
    return h1_request_check(&head, &seen, err);
}
