/* test-conf.c - the configuration: defaults, the file's complaints, the command line, what is handed to children. */
#include "config.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/process/conf_private.h"

#define BEGIN_KEYS ".\\\" begin keys\n"
#define END_KEYS   ".\\\" end keys\n"

static char *dir;

static char *write_conf(const char *text)
{
    char *file = g_build_filename(dir, "xenapid.conf", NULL);
    g_assert_true(g_file_set_contents(file, text, -1, NULL));
    return file;
}

static struct conf *load_text(const char *text, GError **error)
{
    char *none[] = {NULL};
    g_autofree char *file = write_conf(text);
    struct conf_whole *w = conf_whole_new();
    if (conf_load(w, file, none, error))
        return &w->conf;
    conf_free(&w->conf);
    return NULL;
}

/* The text is refused; the message has each of the words (ended by NULL). */
static void assert_refused(const char *text, ...)
{
    va_list words;
    const char *word;
    g_autoptr(GError) error = NULL;
    struct conf *c = load_text(text, &error);
    g_assert_null(c);
    g_assert_nonnull(error);
    g_test_message("%s", error->message);
    va_start(words, text);
    while ((word = va_arg(words, const char *))) {
        if (!strstr(error->message, word))
            g_error("\"%s\" does not say \"%s\"", error->message, word);
    }
    va_end(words);
}

static struct conf *from_args(int *status, const char *const *options)
{
    g_autoptr(GPtrArray) args = g_ptr_array_new();
    gboolean check, describe, version;
    g_ptr_array_add(args, (char *) "xenapid");
    for (const char *const *o = options; *o; o++)
        g_ptr_array_add(args, (char *) *o);
    int argc = (int) args->len;
    g_ptr_array_add(args, NULL);
    char **argv = (char **) args->pdata;
    return conf_from_args(&argc, &argv, status, &check, &describe, &version);
}

static void test_defaults(void)
{
    g_autoptr(conf) c = load_text("", NULL);
    g_assert_nonnull(c);
    g_assert_cmpint(c->backend, ==, BACKEND_XEN);
    g_assert_cmpstr(c->state_dir, ==, "/var/lib/xenapid");
    g_assert_cmpstr(c->listen_https[0], ==, "[::]:443");
    g_assert_null(c->listen_http[0]);
    g_assert_cmpstr(c->listen_unix[0], ==, "/run/xenapid/xenapid.sock");
    g_assert_cmpint(c->unix_mode, ==, 0660);
    g_assert_cmpint(c->connections, ==, 4096);
    g_assert_cmpint(c->connections_per_address, ==, 512);
    g_assert_cmpint(c->body_size, ==, 4 * 1024 * 1024);
    g_assert_cmpint(c->body_size_login, ==, 65536);
    g_assert_cmpint(c->string_length, ==, 16 * 1024 * 1024);
    g_assert_cmpint(c->keep_finished, ==, 3900);
    g_assert_cmpstr(c->admin_groups[0], ==, "root");
    g_assert_true(c->unix_root_is_admin);
    g_assert_cmpstr(c->sim_storage_dir, ==, "/var/lib/xenapid/sr");
}

static void test_values(void)
{
    g_autoptr(conf) c = load_text("# a comment\n[daemon]\n listen-http = 127.0.0.1:80 ; [::1]:8080 ;\n"
                                  "backend=sim\nunix-mode=0600\nlog-level=debug\n; another\n"
                                  "cors-origins=\n[limits]\nbody-size=2M\n[sim]\nmetrics=no\n[daemon]\n"
                                  "runtime-dir=/tmp/x/\n",
                                  NULL);
    g_assert_nonnull(c);
    g_assert_cmpint(g_strv_length(c->listen_http), ==, 2);
    g_assert_cmpstr(c->listen_http[1], ==, "[::1]:8080");
    g_assert_null(c->listen_https[0]);
    g_assert_cmpint(c->backend, ==, BACKEND_SIM);
    g_assert_cmpint(c->unix_mode, ==, 0600);
    g_assert_cmpint(c->log_level, ==, LOG_DEBUG);
    g_assert_null(c->cors_origins[0]);
    g_assert_cmpint(c->body_size, ==, 2 * 1024 * 1024);
    g_assert_false(c->sim_metrics);
    g_assert_cmpstr(c->runtime_dir, ==, "/tmp/x");
    g_assert_cmpstr(c->listen_unix[0], ==, "/tmp/x/xenapid.sock");
}

static void test_refused(void)
{
    assert_refused("[tasks]\n\nworkers=many\n", "xenapid.conf:3", "[tasks] workers", "\"many\"", "from 1 to 1024",
                   NULL);
    assert_refused("[tasks]\nworkers=0\n", ":2:", "workers", "from 1 to 1024", NULL);
    assert_refused("[tasks]\nworkers=99999999999999999999\n", ":2:", "workers", "from 1 to 1024", NULL);
    assert_refused("[tasks]\nworkers=4 threads\n", ":2:", "workers", NULL);
    assert_refused("[limits]\nbody-size=4X\n", ":2:", "body-size", "K, M or G", NULL);
    assert_refused("[limits]\nbody-size=9000000000G\n", ":2:", "body-size", NULL);
    assert_refused("[daemon]\nbackend=kvm\n", ":2:", "backend", "\"kvm\"", "xen or sim", NULL);
    assert_refused("[daemon]\nlog-level=loud\n", ":2:", "error, warning, info or debug", NULL);
    assert_refused("[daemon]\nunix-mode=0888\n", ":2:", "unix-mode", "octal", NULL);
    assert_refused("[daemon]\nallow-plain-http-remote=maybe\n", ":2:", "yes or no", NULL);
    assert_refused("[daemon]\nuser=\n", ":2:", "user", NULL);
    assert_refused("[daemon]\npam-service=../shadow\n", ":2:", "pam-service", "a name", NULL);
    assert_refused("[daemon]\nstate-dir=\n", ":2:", "state-dir", "not empty", NULL);
    assert_refused("[daemon]\nlisten-https=1.2.3.4\n", ":2:", "listen-https", "port is missing", NULL);
    assert_refused("[daemon]\nlisten-https=::1:443\n", ":2:", "brackets", NULL);
    assert_refused("[daemon]\nlisten-https=example.org:443\n", ":2:", "not an IP address", NULL);
    assert_refused("[daemon]\nlisten-https=[::1]:65536\n", ":2:", "0 to 65535", NULL);
    assert_refused("[demon]\n", ":1:", "[demon]", "daemon, limits", NULL);
    assert_refused("[daemon]\nworkers=3\n", ":2:", "[daemon] has no key workers", "state-dir", NULL);
    assert_refused("workers=3\n", ":1:", "before the first", NULL);
    assert_refused("[daemon\n", ":1:", "]", NULL);
    assert_refused("[daemon]\nnonsense\n", ":2:", "nonsense", NULL);
    assert_refused("[sim]\ncpus=3\ncpus=4\n", ":3:", "cpus", "line 2", NULL);
    assert_refused("[sim]\n# \xff\n", ":2:", "UTF-8", NULL);
}

static void test_together(void)
{
    assert_refused("[daemon]\nlisten-http=127.0.0.1:1;0.0.0.0:80\n", ":2:", "listen-http", "0.0.0.0:80",
                   "allow-plain-http-remote", NULL);
    assert_refused("[daemon]\nlisten-http=[::]:80\n", ":2:", "listen-http", NULL);
    assert_refused("[daemon]\ntls-cert=/a\n", ":2:", "tls-cert", "both", NULL);
    assert_refused("[limits]\nbody-size=2K\n", ":2:", "body-size-login", NULL);
    g_autoptr(conf) c = load_text("[daemon]\nlisten-http=0.0.0.0:80\nallow-plain-http-remote=yes\n", NULL);
    g_assert_nonnull(c);
}

static void test_addresses(void)
{
    static const struct {
        const char *text, *host;
        int port;
    } good[] = {{"127.0.0.1:8443", "127.0.0.1", 8443},
                {"[::1]:443", "::1", 443},
                {":80", "::", 80},
                {"*:80", "::", 80},
                {"localhost:0", "127.0.0.1", 0},
                {"[fe80::1%eth0]:1", "fe80::1%eth0", 1}};
    static const char *const bad[] = {"",          "80",          "a:",      "1.2.3:80",      "[::1]",
                                      "[::1]x:80", "[zz]:80",     "::1:80",  "1.2.3.4:-1",    "1.2.3.4:80a",
                                      "[]:1",      "[1.2.3.4]:1", "[::1:80", "1.2.3.4:999999"};
    for (gsize i = 0; i < G_N_ELEMENTS(good) + G_N_ELEMENTS(bad); i++) {
        gboolean want = i < G_N_ELEMENTS(good);
        const char *text = want ? good[i].text : bad[i - G_N_ELEMENTS(good)], *why = NULL;
        g_autofree char *host = NULL;
        int port = -1;
        if (listen_address_parse(text, &host, &port, &why) != want)
            g_error("%s: %s", text, why);
        g_assert_true(want == !why);
        if (want) {
            g_assert_cmpstr(host, ==, good[i].host);
            g_assert_cmpint(port, ==, good[i].port);
        }
    }
}

static void test_command_line(void)
{
    int status = -1;
    g_autofree char *file = write_conf("[daemon]\nlog-level=warning\nlisten-https=1.2.3.4:1\nuser=u\n[sim]\ncpus=3\n");
    g_autofree char *config = g_strdup_printf("--config=%s", file);
    const char *options[] = {config,
                             "--backend",
                             "sim",
                             "--listen-https=127.0.0.1:1",
                             "--listen-https",
                             "[::1]:2",
                             "--state-dir=/s//t",
                             "--log-level",
                             "debug",
                             NULL};
    g_autoptr(conf) c = from_args(&status, options);
    g_assert_nonnull(c);
    g_assert_cmpint(status, ==, 0);
    g_assert_cmpint(c->log_level, ==, LOG_DEBUG);
    g_assert_cmpint(g_strv_length(c->listen_https), ==, 2);
    g_assert_cmpstr(c->listen_https[0], ==, "127.0.0.1:1");
    g_assert_cmpstr(c->user, ==, "u");
    g_assert_cmpstr(c->state_dir, ==, "/s/t");
    g_assert_cmpint(c->sim_cpus, ==, 3);

    /* A child reads back the same. */
    g_auto(GStrv) handed = conf_to_args(c);
    g_autoptr(conf) child = from_args(&status, (const char *const *) handed);
    g_assert_nonnull(child);
    for (gsize i = 0; i < n_conf_rows; i++) {
        const void *a = (char *) c + conf_rows[i].offset, *b = (char *) child + conf_rows[i].offset;
        if (conf_rows[i].type == CONF_TEXT || conf_rows[i].type == CONF_PATH)
            g_assert_cmpstr(*(char *const *) a, ==, *(char *const *) b);
        else if (conf_rows[i].type == CONF_LIST)
            g_assert_true(g_strv_equal(*(const char *const *const *) a, *(const char *const *const *) b));
        else
            g_assert_cmpmem(a, conf_rows[i].type == CONF_SIZE ? 8 : 4, b, conf_rows[i].type == CONF_SIZE ? 8 : 4);
    }
}

static void test_reload(void)
{
    int status;
    g_autoptr(GError) error = NULL;
    g_autofree char *file = write_conf("[tasks]\nworkers=3\n");
    g_autofree char *config = g_strdup_printf("--config=%s", file);
    const char *options[] = {config, "--user=me", NULL};
    g_autoptr(conf) c = from_args(&status, options);
    g_assert_nonnull(c);
    g_free(write_conf("[tasks]\nworkers=5\n[daemon]\nuser=other\n"));
    g_autoptr(conf) again = conf_reload(c, &error);
    g_assert_no_error(error);
    g_assert_cmpint(again->workers, ==, 5);
    g_assert_cmpstr(again->user, ==, "me");
    g_free(write_conf("[tasks]\nworkers=x\n"));
    g_assert_null(conf_reload(again, &error));
    g_assert_nonnull(strstr(error->message, ":2:"));
}

static char *read_source(const char *name)
{
    g_autofree char *path = g_build_filename(SOURCES, name, NULL);
    char *text = NULL;
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return text;
}

/* The file in the source tree says what the table says. With XENAPID_WRITE it is made to. */
static void assert_file(const char *name, const char *wanted)
{
    if (g_getenv("XENAPID_WRITE")) {
        g_autofree char *path = g_build_filename(SOURCES, name, NULL);
        g_assert_true(g_file_set_contents(path, wanted, -1, NULL));
    }
    g_autofree char *text = read_source(name);
    if (strcmp(text, wanted) != 0)
        g_error("%s is not what conf_table.c says: XENAPID_WRITE=1 tests/unit/test-conf makes it so", name);
}

static void run_bad_option(const char *const *options, const char *says)
{
    if (g_test_subprocess()) {
        int status = -1;
        struct conf *c = from_args(&status, options);
        g_assert_null(c);
        _exit(status);
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_stderr(says);
    g_assert_false(g_test_trap_has_passed());
}

static void test_bad_option(void)
{
    const char *options[] = {"--listen-http=10.0.0.1:80", NULL};
    run_bad_option(options, "*--listen-http: *10.0.0.1:80*allow-plain-http-remote*");
}

static void test_unknown_option(void)
{
    const char *options[] = {"--colour", NULL};
    run_bad_option(options, "*--colour*");
}

static void test_missing_file(void)
{
    const char *options[] = {"--config=/nonexistent/x.conf", NULL};
    run_bad_option(options, "*/nonexistent/x.conf*No such file*");
}

static void test_extra_word(void)
{
    const char *options[] = {"start", NULL};
    run_bad_option(options, "*\"start\"*");
}

/* The sample is all defaults; with every comment sign taken away it still is. */
static void test_sample(void)
{
    g_autofree char *sample = conf_sample();
    g_autoptr(GString) active = g_string_new(NULL);
    g_auto(GStrv) lines = g_strsplit(sample, "\n", -1);
    for (char **l = lines; *l; l++) {
        gboolean key = **l == '#' && (*l)[1] != ' ';
        g_string_append_printf(active, "%s\n", key ? *l + 1 : *l);
        g_assert_cmpuint(strlen(*l), <=, 120);
    }
    g_autoptr(GError) error = NULL;
    g_autoptr(conf) c = load_text(active->str, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(c->listen_https[0], ==, "[::]:443");
    g_autoptr(conf) plain = load_text(sample, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(plain->listen_unix[0], ==, c->listen_unix[0]);
    assert_file("etc/xenapid.conf", sample);
}

/* ---- the manual page ---- */

static void put_mdoc_text(GString *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\\')
            g_string_append(out, "\\e");
        else
            g_string_append_c(out, *p);
        /* A sentence ends its line. */
        if (strchr(".:;", *p) && p[1] == ' ' && *p == '.') {
            g_string_append_c(out, '\n');
            p++;
        }
    }
    g_string_append_c(out, '\n');
}

static char *manual_keys(void)
{
    GString *out = g_string_new(BEGIN_KEYS);
    const char *section = "";
    for (gsize i = 0; i < n_conf_rows; i++) {
        const struct conf_row *row = &conf_rows[i];
        if (strcmp(section, row->section) != 0) {
            g_string_append_printf(out, "%s.Ss [%s]\n.Bl -tag -width Ds\n", i ? ".El\n" : "", row->section);
            section = row->section;
        }
        g_autofree char *allowed = conf_allowed(row);
        g_string_append_printf(out, ".It Cm %s\n", row->key);
        put_mdoc_text(out, row->doc);
        g_string_append_printf(out, ".br\nAllowed: %s.\n", allowed);
        if (*row->otherwise)
            g_string_append_printf(out, "Default: %s\n", row->otherwise);
        else
            g_string_append(out, "Default: empty.\n");
    }
    g_string_append(out, ".El\n" END_KEYS);
    return g_string_free(out, FALSE);
}

static void test_manual(void)
{
    g_autofree char *keys = manual_keys(), *text = read_source("docs/xenapid.conf.5");
    char *begin = strstr(text, BEGIN_KEYS), *end = strstr(text, END_KEYS);
    g_assert_true(begin && end && begin < end);
    g_autofree char *before = g_strndup(text, (gsize) (begin - text));
    g_autofree char *wanted = g_strconcat(before, keys, end + strlen(END_KEYS), NULL);
    assert_file("docs/xenapid.conf.5", wanted);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_set_prgname("xenapid");
    dir = g_dir_make_tmp("xenapid-conf-XXXXXX", NULL);
    g_test_add_func("/conf/defaults", test_defaults);
    g_test_add_func("/conf/values", test_values);
    g_test_add_func("/conf/refused", test_refused);
    g_test_add_func("/conf/together", test_together);
    g_test_add_func("/conf/addresses", test_addresses);
    g_test_add_func("/conf/command-line", test_command_line);
    g_test_add_func("/conf/reload", test_reload);
    g_test_add_func("/conf/bad-option", test_bad_option);
    g_test_add_func("/conf/unknown-option", test_unknown_option);
    g_test_add_func("/conf/missing-file", test_missing_file);
    g_test_add_func("/conf/extra-word", test_extra_word);
    g_test_add_func("/conf/sample", test_sample);
    g_test_add_func("/conf/manual", test_manual);
    int status = g_test_run();
    g_autofree char *file = g_build_filename(dir, "xenapid.conf", NULL);
    g_unlink(file);
    g_rmdir(dir);
    g_free(dir);
    return status;
}
