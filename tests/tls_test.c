/* tls_test.c: https over real sockets: who is accepted, what is resumed, whose connection is used.
 */
#include <openssl/conf.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <unistd.h>

#include "net/tls_inside.h"
#include "tests/tls_check.h"

/* ---- who is accepted ---- */

TEST(https_request_is_answered_and_its_connection_reused)
{
    struct il_client_stats stats;
    struct il_response *response;
    struct il_tls_info info;

    for (int driver = 0; driver < 2; driver++) {
        tls_server_start(NULL, NULL);
        tls_client_start((enum il_driver)driver, NULL);
        for (int i = 0; i < 5; i++) {
            CHECK_OK(il_get(client, tls_url("127.0.0.1", "/id/abc"), &response, &err));
            CHECK_STR(il_response_body(response, NULL), "abc");
            CHECK(il_response_tls(response, &info));
            CHECK_STR(info.version, "TLSv1.3");
            CHECK_STR(info.protocol, "http/1.1");
            CHECK_STR(info.subject, "CN=localhost");
            CHECK_STR(info.issuer, "CN=Test CA");
            CHECK_CONTAINS(info.public_key, "sha256//");
            CHECK(info.is_verified);
            CHECK(!info.is_resumed);
            il_response_free(response);
        }
        il_client_stats(client, &stats);
        CHECK_EQ(stats.connections_total, 1);
        CHECK_EQ(stats.reuses_total, 4);
        tls_stop();
    }
}

struct verdict {
    const char *what;
    struct lab_certificate_options certificate;
    const char *host;
    const char *error; /* part of the message; NULL: accepted */
};

#define NAMES(text)                                                                                \
    {                                                                                              \
        .alternative_names = (text)                                                                \
    }

static const struct verdict verdicts[] = {
    { "a name", NAMES("DNS:www.a.example"), "www.a.example", NULL },
    { "a name in capitals", NAMES("DNS:WWW.A.example"), "www.a.EXAMPLE", NULL },
    { "a final dot", NAMES("DNS:www.a.example"), "www.a.example.", NULL },
    { "another name", NAMES("DNS:www.a.example"), "a.example", "X509_V_ERR_HOSTNAME_MISMATCH" },
    { "other names told", NAMES("DNS:www.a.example,IP:192.0.2.1"), "b.example",
      "it is for www.a.example, 192.0.2.1" },
    { "a wildcard", NAMES("DNS:*.a.example"), "www.a.example", NULL },
    { "a wildcard is one label", NAMES("DNS:*.a.example"), "x.www.a.example", "HOSTNAME_MISMATCH" },
    { "a wildcard is not none", NAMES("DNS:*.a.example"), "a.example", "HOSTNAME_MISMATCH" },
    { "a part of a label", NAMES("DNS:w*.a.example"), "www.a.example", "HOSTNAME_MISMATCH" },
    { "a wildcard in the middle", NAMES("DNS:www.*.example"), "www.a.example",
      "HOSTNAME_MISMATCH" },
    { "a wildcard for all", NAMES("DNS:*"), "localhost", "HOSTNAME_MISMATCH" },
    { "common name only",
      { .common_name = "www.a.example", .alternative_names = "none" },
      "www.a.example",
      "HOSTNAME_MISMATCH" },
    { "an address", NAMES("IP:127.0.0.1"), "127.0.0.1", NULL },
    { "an IPv6 address", NAMES("IP:::1"), "[::1]", NULL },
    { "another address", NAMES("IP:127.0.0.2"), "127.0.0.1", "X509_V_ERR_IP_ADDRESS_MISMATCH" },
    { "an address as a name", NAMES("DNS:127.0.0.1"), "127.0.0.1", "IP_ADDRESS_MISMATCH" },
    { "a wildcard for addresses", NAMES("DNS:*.0.0.1"), "127.0.0.1", "IP_ADDRESS_MISMATCH" },
    { "expired",
      { .begins_s = -7200, .ends_s = -3600 },
      "localhost",
      "X509_V_ERR_CERT_HAS_EXPIRED" },
    { "not yet valid", { .begins_s = 3600 }, "localhost", "X509_V_ERR_CERT_NOT_YET_VALID" },
    { "self-signed",
      { .is_self_signed = true },
      "localhost",
      "X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT" },
    { "not for servers", { .usage = "clientAuth" }, "localhost", "X509_V_ERR_INVALID_PURPOSE" },
};

TEST(certificates_are_accepted_or_refused_with_the_reason)
{
    for (size_t i = 0; i < il_array_count(verdicts); i++) {
        const struct verdict *verdict = &verdicts[i];
        enum il_code code;

        tls_server_start(&verdict->certificate, NULL);
        tls_client_start(IL_DRIVER_CALLER, NULL);
        code = tls_get_code(NULL, verdict->host);
        if ((code == IL_OK) != (verdict->error == NULL)) {
            check_fail(__FILE__, __LINE__, "%s: %s %s", verdict->what, il_code_name(code),
                       code == IL_OK ? "" : err.message);
        }
        if (code != IL_OK) {
            CHECK_EQ(code, IL_ECERT);
            CHECK_EQ(err.phase, IL_PHASE_TLS);
            CHECK_CONTAINS(err.message, verdict->error);
            CHECK_CONTAINS(err.message, "depth 0, subject 'CN=");
            CHECK(lab_server_wait_requests(server, NULL, 0, lab_in_ms(1)));
        }
        tls_stop();
    }
}

TEST(unknown_ca_is_refused_by_the_system_s_settings_and_by_those_of_another_ca)
{
    struct lab_authority *other;
    struct il_tls_options options = IL_TLS_OPTIONS_INIT;
    struct il_tls *trusting_other;
    struct il_client_options plain = IL_CLIENT_OPTIONS_INIT;

    tls_server_start(NULL, NULL);
    CHECK_OK(il_client_new(&plain, &client, &err)); /* the system's CAs */
    CHECK_EQ(tls_get_code(NULL, "localhost"), IL_ECERT);
    CHECK_CONTAINS(err.message, "X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY");
    CHECK_CONTAINS(err.message, "issuer 'CN=Test CA'");
    CHECK_OK(lab_authority_new("Other CA", &other, &err));
    options.ca_pem = lab_authority_pem(other);
    options.ca_pem_size = strlen(lab_authority_pem(other));
    trusting_other = tls_new(&options);
    CHECK_EQ(tls_get_code(trusting_other, "localhost"), IL_ECERT);
    trusting_other = il_tls_unref(trusting_other);
    lab_authority_free(other);
    tls_stop();
}

/* Write `text` to a new file; the name is the caller's to free, the file to remove. */
static char *file_with(const char *text)
{
    char *name = strdup("/tmp/interloop-tls-XXXXXX");
    int fd = mkstemp(name);

    CHECK(fd >= 0);
    CHECK_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return name;
}

TEST(ca_comes_from_memory_a_file_or_a_directory)
{
    char directory[] = "/tmp/interloop-tls-ca-XXXXXX", link[96];
    struct il_tls_options options = IL_TLS_OPTIONS_INIT;
    struct il_tls *by_file, *by_directory;
    X509 *ca;
    BIO *bio;
    char *file;

    tls_server_start(NULL, NULL);
    tls_client_start(IL_DRIVER_CALLER, NULL); /* memory */
    CHECK_OK(tls_get_code(NULL, "localhost"));
    file = file_with(lab_authority_pem(authority));
    options.ca_file = file;
    by_file = tls_new(&options);
    CHECK_OK(tls_get_code(by_file, "localhost"));
    bio = BIO_new_mem_buf(lab_authority_pem(authority), -1);
    ca = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    CHECK(ca != NULL && mkdtemp(directory) != NULL);
    snprintf(link, sizeof(link), "%s/%08lx.0", directory, X509_subject_name_hash(ca));
    CHECK_EQ(symlink(file, link), 0);
    options.ca_file = NULL;
    options.ca_directory = directory;
    by_directory = tls_new(&options);
    CHECK_OK(tls_get_code(by_directory, "localhost"));
    X509_free(ca);
    BIO_free(bio);
    unlink(link);
    rmdir(directory);
    unlink(file);
    free(file);
    by_file = il_tls_unref(by_file);
    by_directory = il_tls_unref(by_directory);
    tls_stop();
}

TEST(verification_is_off_only_where_the_switch_says_so)
{
    const struct lab_certificate_options bad = { .is_self_signed = true, .ends_s = -60 };
    struct il_tls_options options = IL_TLS_OPTIONS_INIT;
    struct il_response *response;
    struct il_tls_info info;
    struct il_tls *insecure;

    tls_server_start(&bad, NULL);
    tls_client_start(IL_DRIVER_CALLER, NULL);
    options.insecure_no_verification = true;
    insecure = tls_new(&options);
    CHECK_OK(tls_get_from(insecure, "wrong.example", "/hello", &response));
    CHECK(il_response_tls(response, &info));
    CHECK(!info.is_verified);
    il_response_free(response);
    CHECK_EQ(tls_get_code(NULL, "wrong.example"), IL_ECERT); /* not over that connection */
    insecure = il_tls_unref(insecure);
    tls_stop();
}

TEST(pinned_public_key_is_demanded_also_without_verification_and_of_resumed_sessions)
{
    struct il_tls_options options = tls_trusting();
    char pins[160];
    struct il_response *response;
    struct il_tls_info info;
    struct il_tls *pinned, *wrong;

    tls_server_start(NULL, NULL);
    tls_client_start(IL_DRIVER_CALLER, NULL);
    CHECK_OK(tls_get_from(NULL, "localhost", "/hello", &response));
    CHECK(il_response_tls(response, &info));
    il_response_free(response);
    options.pins = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    options.insecure_no_verification = true;
    wrong = tls_new(&options);
    CHECK_EQ(tls_get_code(wrong, "localhost"), IL_ECERT);
    CHECK_CONTAINS(err.message, "has none of the 1 pin:");
    snprintf(pins, sizeof(pins), "%s;%s", options.pins, info.public_key);
    options.pins = pins;
    options.insecure_no_verification = false;
    pinned = tls_new(&options);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(tls_get_from(pinned, "localhost", "/hello?n=1", &response));
        CHECK(il_response_tls(response, &info));
        CHECK_EQ(info.is_resumed, i > 0);
        il_response_free(response);
        il_client_close_idle(client);
    }
    wrong = il_tls_unref(wrong);
    pinned = il_tls_unref(pinned);
    tls_stop();
}

TEST(wrong_settings_are_refused_at_once_with_the_reason)
{
    static const char garbage[] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    struct lab_certificate one, two;
    static const struct lab_certificate_options usual;
    struct il_tls *tls;

    authority_start();
    CHECK_OK(lab_authority_issue(authority, &usual, &one, &err));
    CHECK_OK(lab_authority_issue(authority, &usual, &two, &err));
#define REFUSED(part, ...)                                                                         \
    do {                                                                                           \
        struct il_tls_options options = { .size = sizeof(options), __VA_ARGS__ };                  \
        CHECK(il_tls_new(&options, &tls, &err) != IL_OK);                                          \
        CHECK_CONTAINS(err.message, part);                                                         \
    } while (0)
    REFUSED("cannot read ca_file '/none/ca.pem': No such file", .ca_file = "/none/ca.pem");
    REFUSED("cannot read ca_directory '/none': No such file", .ca_directory = "/none");
    REFUSED("ca_directory '/dev/null' is not a directory", .ca_directory = "/dev/null");
    REFUSED("ca_pem holds no certificate", .ca_pem = "nothing", .ca_pem_size = 7);
    REFUSED("ca_file '/dev/null' holds no certificate", .ca_file = "/dev/null");
    REFUSED("certificate 1 of ca_pem is damaged", .ca_pem = garbage,
            .ca_pem_size = sizeof(garbage) - 1);
    REFUSED("pins: 'sha256//x' is not", .pins = "sha256//x");
    REFUSED("pins: '' is not", .pins = "");
    REFUSED("want IL_TLS_1_2", .version_min = IL_TLS_1_3, .version_max = IL_TLS_1_2);
    REFUSED("want IL_TLS_1_2", .version_min = (enum il_tls_version)11);
    REFUSED("no private key", .certificate_pem = one.pem, .certificate_pem_size = strlen(one.pem));
    REFUSED("does not belong", .certificate_pem = one.pem, .certificate_pem_size = strlen(one.pem),
            .key_pem = two.key_pem, .key_pem_size = strlen(two.key_pem));
    REFUSED("key_pem without certificate_file", .key_pem = two.key_pem,
            .key_pem_size = strlen(two.key_pem));
    REFUSED("cannot read key_file '/none'", .certificate_pem = one.pem,
            .certificate_pem_size = strlen(one.pem), .key_file = "/none");
    REFUSED("certificate_file '/dev/null' and certificate_pem are both given",
            .certificate_pem = one.pem, .certificate_pem_size = strlen(one.pem),
            .certificate_file = "/dev/null");
    REFUSED("cannot write key_log_file", .key_log_file = "/nonexistent/keys");
#undef REFUSED
    lab_certificate_deinit(&one);
    lab_certificate_deinit(&two);
    lab_authority_free(authority);
}

/* ---- versions and protocols ---- */

TEST(tls_1_2_and_1_3_are_spoken_and_1_1_is_not)
{
    static const int versions[] = { 11, 12, 13 };

    for (size_t i = 0; i < il_array_count(versions); i++) {
        struct lab_server_tls tls = { .version = versions[i] };
        struct il_tls_options only_12 = tls_trusting();
        struct il_response *response;
        struct il_tls_info info;
        struct il_tls *old;

        tls_server_start(NULL, &tls);
        tls_client_start(IL_DRIVER_CALLER, NULL);
        if (versions[i] == 11) {
            CHECK_EQ(tls_get_code(NULL, "localhost"), IL_ETLS);
            CHECK_CONTAINS(err.message, "protocol version");
        } else {
            CHECK_OK(tls_get_from(NULL, "localhost", "/hello", &response));
            CHECK(il_response_tls(response, &info));
            CHECK_STR(info.version, versions[i] == 12 ? "TLSv1.2" : "TLSv1.3");
            il_response_free(response);
        }
        only_12.version_max = IL_TLS_1_2;
        old = tls_new(&only_12);
        CHECK_EQ(tls_get_code(old, "localhost"), versions[i] == 12 ? IL_OK : IL_ETLS);
        old = il_tls_unref(old);
        tls_stop();
    }
}

/* OpenSSL reads its configuration once in a process. */
static void check_with_configuration(const char *line, int refused_version)
{
    struct lab_server_tls tls = { .version = refused_version };
    struct il_tls_options asked = tls_trusting();
    char text[256], *path;
    struct il_tls *own;

    (void)snprintf(text, sizeof(text),
                   "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n%s\n", line);
    path = file_with(text);
    CHECK(OPENSSL_init_ssl(0, NULL) == 1 && CONF_modules_load_file(path, NULL, 0) == 1);
    unlink(path);
    free(path);
    tls_server_start(NULL, &tls);
    tls_client_start(IL_DRIVER_CALLER, NULL);
    CHECK_EQ(tls_get_code(NULL, "localhost"), IL_ETLS);
    CHECK_CONTAINS(err.message, "protocol version");
    asked.version_min = asked.version_max = refused_version == 12 ? IL_TLS_1_2 : IL_TLS_1_3;
    own = tls_new(&asked);
    CHECK_OK(tls_get_code(own, "localhost"));
    own = il_tls_unref(own);
    if (refused_version == 12) { /* one bound alone moves the other */
        asked.version_min = IL_TLS_DEFAULT;
    } else {
        asked.version_max = IL_TLS_DEFAULT;
    }
    own = tls_new(&asked);
    CHECK_OK(tls_get_code(own, "localhost"));
    own = il_tls_unref(own);
    tls_stop();
}

TEST(version_below_the_systems_minimum_is_not_spoken_unless_asked_for)
{
    check_with_configuration("MinProtocol = TLSv1.3", 12);
}

TEST(version_above_the_systems_maximum_is_not_spoken_unless_asked_for)
{
    check_with_configuration("MaxProtocol = TLSv1.2", 13);
}

TEST(protocol_that_was_not_offered_is_refused_and_none_is_http_1)
{
    static const struct {
        enum il_http_version version;
        const char *alpn;
        bool is_strict;
        enum il_code code;
        const char *words;
    } cases[] = {
        { IL_HTTP_AUTO, "http/1.1", false, IL_OK, NULL },
        { IL_HTTP_AUTO, "http/1.1", true, IL_OK, NULL },
        { IL_HTTP_AUTO, "", false, IL_OK, NULL },
        { IL_HTTP_AUTO, "imap", false, IL_ETLS, "chose a protocol that was not offered (ALPN)" },
        { IL_HTTP_AUTO, "imap", true, IL_ETLS, "speaks none of the protocols offered (ALPN)" },
        { IL_HTTP_2_PRIOR_KNOWLEDGE, "h2,http/1.1", true, IL_OK, NULL },
        { IL_HTTP_2_PRIOR_KNOWLEDGE, "", false, IL_EPROTOCOL, "chose no protocol by ALPN" },
        { IL_HTTP_2_PRIOR_KNOWLEDGE, "http/1.1", false, IL_EPROTOCOL,
          "chose a protocol that was not offered (ALPN)" },
        { IL_HTTP_2_PRIOR_KNOWLEDGE, "http/1.1", true, IL_EPROTOCOL,
          "speaks none of the protocols offered (ALPN)" },
    };

    for (size_t i = 0; i < il_array_count(cases); i++) {
        struct lab_server_tls server_tls = { .alpn = cases[i].alpn,
                                             .is_alpn_strict = cases[i].is_strict };
        struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
        struct il_tls_options trusting = tls_trusting();
        struct il_tls *tls = tls_new(&trusting);

        tls_server_start(NULL, &server_tls);
        options.http_version = cases[i].version;
        options.tls = tls;
        CHECK_OK(il_client_new(&options, &client, &err));
        tls = il_tls_unref(tls);
        CHECK_EQ(tls_get_code(NULL, "localhost"), cases[i].code);
        if (cases[i].words != NULL) {
            CHECK_CONTAINS(err.message, cases[i].words);
        }
        tls_stop();
    }
}

TEST(systems_ca_file_is_read_by_who_verifies_only)
{
    static const struct il_tls_options usual = IL_TLS_OPTIONS_INIT;
    struct il_tls_options insecure = usual;
    struct il_tls *verifying, *careless;
    char *file;

    tls_server_start(NULL, NULL);
    tls_client_start(IL_DRIVER_CALLER, NULL);
    file = file_with(lab_authority_pem(authority));
    CHECK_EQ(setenv("SSL_CERT_FILE", file, 1), 0);
    insecure.insecure_no_verification = true;
    verifying = tls_new(&usual);
    careless = tls_new(&insecure);
    CHECK_OK(tls_get_code(verifying, "localhost"));
    CHECK_OK(tls_get_code(careless, "localhost"));
    CHECK(verifying->is_system_file_read);
    CHECK(!careless->is_system_file_read);
    verifying = il_tls_unref(verifying);
    careless = il_tls_unref(careless);
    unlink(file);
    free(file);
    tls_stop();
}

/* ---- client certificates ---- */

TEST(server_that_wants_a_certificate_gets_ours_or_the_error_says_so)
{
    static const int versions[] = { 12, 13 };
    const struct lab_certificate_options for_client = { .common_name = "somebody",
                                                        .usage = "clientAuth" };

    for (size_t i = 0; i < il_array_count(versions); i++) {
        struct il_tls_options options = tls_trusting();
        struct lab_server_tls demands = { .client_ca_pem = lab_authority_pem(authority),
                                          .version = versions[i] };
        struct lab_certificate mine;
        struct il_tls *tls;
        char *file;

        tls_server_start(NULL, &demands);
        tls_client_start(IL_DRIVER_CALLER, NULL);
        CHECK_EQ(tls_get_code(NULL, "localhost"), IL_ETLS);
        if (versions[i] == 13) {
            CHECK_CONTAINS(err.message, "certificate required");
        }
        CHECK_OK(lab_authority_issue(authority, &for_client, &mine, &err));
        file = file_with(mine.key_pem);
        options.certificate_pem = mine.pem;
        options.certificate_pem_size = strlen(mine.pem);
        options.key_file = file;
        tls = tls_new(&options);
        CHECK_OK(tls_get_code(tls, "localhost"));
        unlink(file);
        free(file);
        tls = il_tls_unref(tls);
        lab_certificate_deinit(&mine);
        tls_stop();
    }
}

TEST(encrypted_key_is_opened_by_its_password_only)
{
    static const struct lab_certificate_options for_client = { .usage = "clientAuth" };
    struct il_tls_options options = tls_trusting();
    struct lab_certificate mine;
    struct il_tls *tls;
    EVP_PKEY *key;
    BIO *plain, *encrypted;
    char *pem;

    CHECK_OK(lab_authority_issue(authority, &for_client, &mine, &err));
    plain = BIO_new_mem_buf(mine.key_pem, -1);
    key = PEM_read_bio_PrivateKey(plain, NULL, NULL, NULL);
    encrypted = BIO_new(BIO_s_mem());
    CHECK_EQ(
        PEM_write_bio_PKCS8PrivateKey(encrypted, key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL),
        1);
    options.certificate_pem = mine.pem;
    options.certificate_pem_size = strlen(mine.pem);
    options.key_pem_size = (size_t)BIO_get_mem_data(encrypted, &pem);
    options.key_pem = pem;
    CHECK_EQ(il_tls_new(&options, &tls, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "key_password");
    options.key_password = "wrong";
    CHECK_EQ(il_tls_new(&options, &tls, &err), IL_EINVAL);
    options.key_password = "secret";
    tls = tls_new(&options);
    tls = il_tls_unref(tls);
    EVP_PKEY_free(key);
    BIO_free(plain);
    BIO_free(encrypted);
    lab_certificate_deinit(&mine);
    lab_authority_free(authority);
}

/* ---- sessions ---- */

static bool was_resumed(struct il_tls *tls, const char *host)
{
    struct il_response *response;
    struct il_tls_info info;

    il_client_close_idle(client);
    CHECK_OK(tls_get_from(tls, host, "/hello", &response));
    CHECK(il_response_tls(response, &info));
    il_response_free(response);
    return info.is_resumed;
}

TEST(session_is_resumed_under_the_same_settings_and_host_only)
{
    static const int versions[] = { 12, 13 };
    const struct lab_certificate_options names = NAMES("DNS:a.example,DNS:b.example");

    for (size_t i = 0; i < il_array_count(versions); i++) {
        struct lab_server_tls server_tls = { .version = versions[i] };
        struct il_tls_options options = tls_trusting();
        struct il_tls *mine, *same, *other, *never;

        tls_server_start(&names, &server_tls);
        tls_client_start(IL_DRIVER_CALLER, NULL);
        mine = tls_new(&options);
        same = tls_new(&options);
        options.and_system_ca = true;
        other = tls_new(&options);
        options.no_resumption = true;
        never = tls_new(&options);
        CHECK(!was_resumed(mine, "a.example"));
        CHECK(was_resumed(mine, "a.example"));
        CHECK(was_resumed(mine, "a.example"));
        CHECK(!was_resumed(mine, "b.example")); /* another host */
        CHECK(!was_resumed(other, "a.example"));
        CHECK(!was_resumed(same, "a.example")); /* sessions belong to one il_tls */
        CHECK(!was_resumed(never, "a.example"));
        CHECK(!was_resumed(never, "a.example"));
        CHECK(was_resumed(mine, "a.example"));
        mine = il_tls_unref(mine);
        same = il_tls_unref(same);
        other = il_tls_unref(other);
        never = il_tls_unref(never);
        tls_stop();
    }
}

/* ---- whose connection ---- */

struct flip {
    const char *what;
    void (*flip)(struct il_tls_options *options);
};

static struct lab_certificate flip_certificate, flip_certificate_2;
static char *flip_file;

static void flip_ca_pem(struct il_tls_options *o)
{
    o->ca_pem = flip_certificate.pem;
    o->ca_pem_size = strlen(flip_certificate.pem);
}
static void flip_ca_file(struct il_tls_options *o)
{
    o->ca_file = flip_file;
}
static void flip_ca_directory(struct il_tls_options *o)
{
    o->ca_directory = "/tmp";
}
static void flip_system(struct il_tls_options *o)
{
    o->and_system_ca = true;
}
static void flip_insecure(struct il_tls_options *o)
{
    o->insecure_no_verification = true;
}
static void flip_pins(struct il_tls_options *o)
{
    o->pins = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
}
static void flip_certificate_1(struct il_tls_options *o)
{
    o->certificate_pem = flip_certificate.pem;
    o->certificate_pem_size = strlen(flip_certificate.pem);
    o->key_pem = flip_certificate.key_pem;
    o->key_pem_size = strlen(flip_certificate.key_pem);
}
static void flip_certificate_other(struct il_tls_options *o)
{
    o->certificate_pem = flip_certificate_2.pem;
    o->certificate_pem_size = strlen(flip_certificate_2.pem);
    o->key_pem = flip_certificate_2.key_pem;
    o->key_pem_size = strlen(flip_certificate_2.key_pem);
}
/* The same certificate and the same key, but for a line that means nothing: each counts by itself.
 */
static void flip_certificate_alone(struct il_tls_options *o)
{
    static char longer[8192];

    flip_certificate_1(o);
    o->certificate_pem_size =
        (size_t)snprintf(longer, sizeof(longer), "%s\n", flip_certificate.pem);
    o->certificate_pem = longer;
}
static void flip_key_alone(struct il_tls_options *o)
{
    static char longer[8192];

    flip_certificate_1(o);
    o->key_pem_size = (size_t)snprintf(longer, sizeof(longer), "%s\n", flip_certificate.key_pem);
    o->key_pem = longer;
}
static void flip_key_password(struct il_tls_options *o)
{
    flip_certificate_1(o);
    o->key_password = "not needed";
}
static void flip_version_min(struct il_tls_options *o)
{
    o->version_min = IL_TLS_1_3;
}
static void flip_version_max(struct il_tls_options *o)
{
    o->version_max = IL_TLS_1_2;
}
static void flip_no_resumption(struct il_tls_options *o)
{
    o->no_resumption = true;
}
static void flip_key_log(struct il_tls_options *o)
{
    o->key_log_file = "/dev/null";
}
static void flip_nothing(struct il_tls_options *o)
{
}

static const struct flip flips[] = {
    { "nothing", flip_nothing },
    { "ca_pem", flip_ca_pem },
    { "ca_file", flip_ca_file },
    { "ca_directory", flip_ca_directory },
    { "and_system_ca", flip_system },
    { "insecure_no_verification", flip_insecure },
    { "pins", flip_pins },
    { "certificate and key", flip_certificate_1 },
    { "another certificate and key", flip_certificate_other },
    { "certificate", flip_certificate_alone },
    { "key", flip_key_alone },
    { "key_password", flip_key_password },
    { "version_min", flip_version_min },
    { "version_max", flip_version_max },
    { "no_resumption", flip_no_resumption },
    { "key_log_file", flip_key_log },
};

/* A new setting wants a line above, and one in tls_settings.c that makes it part of the identity.
 */
_Static_assert(sizeof(struct il_tls_options) == 136, "every field of il_tls_options is flipped");

TEST(each_setting_alone_makes_another_identity)
{
    static const struct lab_certificate_options for_client = { .usage = "clientAuth" };
    struct il_tls *made[il_array_count(flips)];
    struct il_tls *again;

    authority_start();
    CHECK_OK(lab_authority_issue(authority, &for_client, &flip_certificate, &err));
    CHECK_OK(lab_authority_issue(authority, &for_client, &flip_certificate_2, &err));
    flip_file = file_with(flip_certificate_2.pem);
    for (size_t i = 0; i < il_array_count(flips); i++) {
        struct il_tls_options options = tls_trusting();

        flips[i].flip(&options);
        made[i] = tls_new(&options);
        again = tls_new(&options);
        CHECK(memcmp(tls_identity(made[i]), tls_identity(again), TLS_IDENTITY_SIZE) == 0);
        again = il_tls_unref(again);
        for (size_t j = 0; j < i; j++) {
            if (memcmp(tls_identity(made[i]), tls_identity(made[j]), TLS_IDENTITY_SIZE) == 0) {
                check_fail(__FILE__, __LINE__, "'%s' makes no other identity than '%s'",
                           flips[i].what, flips[j].what);
            }
        }
    }
    for (size_t i = 0; i < il_array_count(flips); i++) {
        made[i] = il_tls_unref(made[i]);
    }
    unlink(flip_file);
    free(flip_file);
    lab_certificate_deinit(&flip_certificate);
    lab_certificate_deinit(&flip_certificate_2);
    lab_authority_free(authority);
}

static uint64_t connection_of(const char *scheme, const char *host, unsigned port,
                              const char *address, struct il_tls *tls)
{
    char text[128];
    struct il_request *request;
    struct il_response *response;
    struct il_response_timing timing;

    snprintf(text, sizeof(text), "%s://%s:%u/hello", scheme, host, port);
    CHECK_OK(il_request_new("GET", text, &request, &err));
    CHECK_OK(il_request_set_address(request, address, &err));
    CHECK_OK(il_request_set_tls(request, tls));
    CHECK_OK(il_send(client, request, &response, &err));
    il_response_timing(response, &timing);
    il_response_free(response);
    il_request_free(request);
    return timing.connection_id;
}

/* Each row differs from the first in one field of struct pool_identity; is_absolute: below. */
_Static_assert(sizeof(struct pool_identity) == 40, "every field of pool_identity is flipped");

TEST(each_field_of_the_identity_alone_demands_another_connection)
{
    const struct lab_certificate_options names = NAMES("DNS:a.example,DNS:b.example,IP:127.0.0.1");
    struct il_tls_options options = tls_trusting();
    struct lab_server *second, *plain;
    struct il_tls *flipped, *same;
    uint64_t seen[8];
    unsigned port, second_port;
    size_t count = 0;

    tls_server_start(&names, NULL);
    second = server;
    second_port = lab_server_port(second);
    tls_server_start(&names, NULL);
    port = lab_server_port(server);
    CHECK_OK(lab_server_start(NULL, &plain, &err));
    tls_client_start(IL_DRIVER_CALLER, &options);
    same = tls_new(&options);
    options.version_max = IL_TLS_1_2;
    flipped = tls_new(&options);
    seen[count++] = connection_of("https", "a.example", port, "127.0.0.1", NULL);
    seen[count++] = connection_of("https", "b.example", port, "127.0.0.1", NULL);        /* host */
    seen[count++] = connection_of("https", "a.example", second_port, "127.0.0.1", NULL); /* port */
    seen[count++] = connection_of("https", "a.example", port, "127.0.0.1", flipped);     /* tls */
    seen[count++] = connection_of("https", "127.0.0.1", port, NULL, NULL);
    seen[count++] = connection_of("https", "127.0.0.1", port, "127.0.0.1", NULL); /* address */
    seen[count++] = connection_of("http", "a.example", lab_server_port(plain), "127.0.0.1", NULL);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            CHECK(seen[i] != seen[j]);
        }
    }
    CHECK_EQ(connection_of("https", "a.example", port, "127.0.0.1", NULL), seen[0]);
    CHECK_EQ(connection_of("https", "A.EXAMPLE.", port, "127.0.0.1", NULL), seen[0]);
    CHECK_EQ(connection_of("https", "a.example", port, "127.0.0.1", same), seen[0]);
    CHECK_EQ(connection_of("https", "a.example", port, "127.0.0.1", flipped), seen[3]);
    CHECK_EQ(connection_of("http", "a.example", lab_server_port(plain), "127.0.0.1", NULL),
             seen[6]);
    same = il_tls_unref(same);
    flipped = il_tls_unref(flipped);
    tls_stop();
    lab_server_stop(second);
    lab_server_stop(plain);
}

/* The scheme alone: the same host, port and address. */
TEST(http_request_does_not_use_an_https_connection)
{
    struct pool_identity http = { .scheme = URL_HTTP, .host = "a.example", .port = 443 };
    struct pool_identity https = http;
    static const uint8_t digest[TLS_IDENTITY_SIZE];

    https.scheme = URL_HTTPS;
    CHECK(!identity_equals(&http, &https));
    CHECK(identity_hash(&http) != identity_hash(&https));
    http.tls = digest;
    CHECK(!identity_equals(&http, &https));
    https.tls = digest;
    CHECK(!identity_equals(&http, &https));
    http.scheme = URL_HTTPS;
    CHECK(identity_equals(&http, &https));
}

/* The final dot alone: where a name is asked for, it may lead to another host. */
TEST(host_with_a_final_dot_has_another_identity_where_it_is_asked_for)
{
    struct pool_identity relative = { .scheme = URL_HTTP, .host = "a", .port = 80 };
    struct pool_identity absolute = relative;

    CHECK(identity_equals(&relative, &absolute));
    absolute.is_absolute = true;
    CHECK(!identity_equals(&relative, &absolute));
    CHECK(identity_hash(&relative) != identity_hash(&absolute));
}

/* ---- the end of a stream ---- */

TEST(body_that_ends_with_the_connection_wants_close_notify_and_others_do_not)
{
    for (int driver = 0; driver < 2; driver++) {
        for (int is_cut = 0; is_cut < 2; is_cut++) {
            struct lab_server_tls tls = { .is_cut = is_cut };
            struct il_response *response;
            enum il_code code;
            size_t size;

            tls_server_start(NULL, &tls);
            tls_client_start((enum il_driver)driver, NULL);
            code = tls_get_from(NULL, "localhost", "/bytes/50000?close=1", &response);
            if (is_cut) {
                CHECK_EQ(code, IL_EPEERCLOSED);
                CHECK_CONTAINS(err.message, "close_notify");
            } else {
                CHECK_OK(code);
                (void)il_response_body(response, &size);
                CHECK_EQ(size, 50000);
                il_response_free(response);
            }
            CHECK_OK(tls_get_from(NULL, "localhost", "/close-after", &response));
            il_response_free(response);
            tls_stop();
        }
    }
}

TEST(server_that_does_not_speak_tls_is_told_from_one_that_does)
{
    struct lab_server *plain;
    struct il_request *request;
    struct il_response *response;
    char text[64];

    tls_server_start(NULL, NULL);
    tls_client_start(IL_DRIVER_CALLER, NULL);
    CHECK_OK(lab_server_start(NULL, &plain, &err));
    snprintf(text, sizeof(text), "https://127.0.0.1:%u/", lab_server_port(plain));
    CHECK_OK(il_request_new("GET", text, &request, &err));
    CHECK_EQ(il_send(client, request, &response, &err), IL_ETLS);
    CHECK_CONTAINS(err.message, "does the server speak TLS there? (wrong version number)");
    CHECK_EQ(err.phase, IL_PHASE_TLS);
    il_request_free(request);
    tls_stop();
    lab_server_stop(plain);
}
