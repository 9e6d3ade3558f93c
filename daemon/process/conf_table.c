/* conf_table.c - every key of the configuration: its place, default, bounds and documentation. The checks, the command
 * line, --help and the sample file come from here. */
#include "config.h"

#include <stddef.h>
#include <string.h>

#include "daemon/process/conf_private.h"

#define MEMBER(m) offsetof(struct conf, m)
#define DAY       86400
#define KIB       G_GINT64_CONSTANT(1024)
#define MIB       (1024 * KIB)
#define GIB       (1024 * MIB)

/* A row of each type: TEXT-like ones have a form, numbers have bounds. OPTION rows are on the command line too. */
#define TEXT(sec, key, m, def, frm, doc)                                                                               \
    {                                                                                                                  \
        sec, key, CONF_TEXT, MEMBER(m), def, 0, 0, frm, NULL, doc                                                      \
    }
#define TEXT_OPTION(sec, key, m, def, frm, arg, doc)                                                                   \
    {                                                                                                                  \
        sec, key, CONF_TEXT, MEMBER(m), def, 0, 0, frm, arg, doc                                                       \
    }
#define PATH(sec, key, m, def, doc)                                                                                    \
    {                                                                                                                  \
        sec, key, CONF_PATH, MEMBER(m), def, 0, 0, FORM_ANY, NULL, doc                                                 \
    }
#define PATH_OPTION(sec, key, m, def, frm, arg, doc)                                                                   \
    {                                                                                                                  \
        sec, key, CONF_PATH, MEMBER(m), def, 0, 0, frm, arg, doc                                                       \
    }
#define LIST(sec, key, m, def, frm, doc)                                                                               \
    {                                                                                                                  \
        sec, key, CONF_LIST, MEMBER(m), def, 0, 0, frm, NULL, doc                                                      \
    }
#define LIST_OPTION(sec, key, m, def, frm, arg, doc)                                                                   \
    {                                                                                                                  \
        sec, key, CONF_LIST, MEMBER(m), def, 0, 0, frm, arg, doc                                                       \
    }
#define BOOL(sec, key, m, def, doc)                                                                                    \
    {                                                                                                                  \
        sec, key, CONF_BOOL, MEMBER(m), def, 0, 0, FORM_ANY, NULL, doc                                                 \
    }
#define INT(sec, key, m, def, lo, hi, doc)                                                                             \
    {                                                                                                                  \
        sec, key, CONF_INT, MEMBER(m), def, lo, hi, FORM_ANY, NULL, doc                                                \
    }
#define SIZE(sec, key, m, def, lo, hi, doc)                                                                            \
    {                                                                                                                  \
        sec, key, CONF_SIZE, MEMBER(m), def, lo, hi, FORM_ANY, NULL, doc                                               \
    }

/* clang-format off */
const struct conf_row conf_rows[] = {
    {"daemon", "backend", CONF_BACKEND, MEMBER(backend), "xen", 0, 0, FORM_ANY, "xen|sim",
     "What runs the domains: Xen, or a simulation that needs no Xen."},
    PATH_OPTION("daemon", "state-dir", state_dir, "/var/lib/xenapid", FORM_NOT_EMPTY, "DIR",
     "The objects' database and the certificate that was made at first start; of the user below, mode 0700."),
    PATH_OPTION("daemon", "runtime-dir", runtime_dir, "/run/xenapid", FORM_NOT_EMPTY, "DIR",
     "Sockets; made anew at each boot."),
    TEXT_OPTION("daemon", "user", user, "xenapid", FORM_NAME, "NAME",
     "The user that the process facing the network runs as. Not root. Ignored when xenapid itself is not started by root."),
    PATH("daemon", "helper-dir", helper_dir, "",
     "Where xenapid-front and the helpers are; empty: where they were installed or built."),
    LIST_OPTION("daemon", "listen-https", listen_https, "[::]:443", FORM_ADDRESSES, "ADDR:PORT",
     "HTTPS: addresses and ports. [::]:443 is IPv4 and IPv6; port 0 lets the system choose. The default holds only when "
     "neither listen-https nor listen-http is given; empty: none."),
    LIST_OPTION("daemon", "listen-http", listen_http, "", FORM_ADDRESSES, "ADDR:PORT",
     "Plain HTTP, which shows passwords to the network: loopback addresses only, unless allow-plain-http-remote is yes."),
    LIST_OPTION("daemon", "listen-unix", listen_unix, "/run/xenapid/xenapid.sock", FORM_PATHS, "PATH",
     "HTTP on UNIX sockets, for programs on this host; by default xenapid.sock in runtime-dir. Empty: none."),
    BOOL("daemon", "allow-plain-http-remote", allow_plain_http_remote, "no",
     "Allows listen-http on addresses that other hosts can reach."),
    TEXT("daemon", "unix-owner", unix_owner, "", FORM_ANY, "Owner of the UNIX sockets; empty: the user above."),
    TEXT("daemon", "unix-group", unix_group, "", FORM_ANY, "Group of the UNIX sockets; empty: the user's own."),
    {"daemon", "unix-mode", CONF_OCTAL, MEMBER(unix_mode), "0660", 0, 0777, FORM_ANY, NULL,
     "Mode of the UNIX sockets. Who may connect still has to log in, except root."},
    PATH_OPTION("daemon", "tls-cert", tls_cert, "", FORM_ANY, "FILE",
     "PEM certificate chain, readable by the user above; empty: one is made in state-dir. Read again at SIGHUP."),
    PATH_OPTION("daemon", "tls-key", tls_key, "", FORM_ANY, "FILE", "PEM private key of tls-cert."),
    TEXT("daemon", "tls-priority", tls_priority, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE",
         FORM_NOT_EMPTY, "GnuTLS priority string: protocol versions and ciphers."),
    TEXT_OPTION("daemon", "pam-service", pam_service, "xenapid", FORM_NAME, "NAME", "The PAM service that checks logins."),
    PATH_OPTION("daemon", "pam-confdir", pam_confdir, "", FORM_ANY, "DIR",
     "Where the PAM service's file is; empty: the system's place (/etc/pam.d)."),
    {"daemon", "log-level", CONF_LOG_LEVEL, MEMBER(log_level), "info", 0, 0, FORM_ANY, "error|warning|info|debug",
     "The least important lines that are logged."},
    INT("daemon", "http-threads", http_threads, "0", 0, 64, "Threads of each listener; 0: one a CPU, at most 8."),
    INT("daemon", "stop-timeout", stop_timeout, "10", 0, 3600,
        "Seconds to finish at SIGTERM what is in flight; then it is dropped."),
    LIST("daemon", "cors-origins", cors_origins, "*", FORM_ANY,
         "Web origins whose pages may call the API from a browser; * is any (a session is never in a cookie that a browser "
         "sends by itself); empty: none."),
    BOOL("daemon", "templates", templates, "yes",
         "A new pool has templates of common guests. Those that are there stay when this becomes no."),

    INT("limits", "connections", connections, "4096", 1, 1000000, "Open connections in all."),
    INT("limits", "connections-per-address", connections_per_address, "512", 1, 1000000,
        "Open connections of one address."),
    INT("limits", "idle-timeout", idle_timeout, "300", 1, DAY, "Seconds that a connection may be silent between calls."),
    INT("limits", "header-timeout", header_timeout, "20", 1, 3600, "Seconds for a request's header to arrive."),
    INT("limits", "body-timeout", body_timeout, "60", 1, DAY, "Seconds for a call's body to arrive."),
    SIZE("limits", "body-size-login", body_size_login, "64K", KIB, GIB, "Bytes of a call that has no session yet."),
    SIZE("limits", "body-size", body_size, "4M", KIB, GIB, "Bytes of a call with a session."),
    INT("limits", "depth", depth, "32", 4, 1000, "Nesting of structures in a call."),
    INT("limits", "elements", elements, "200000", 100, 100000000, "Values in a call."),
    SIZE("limits", "string-length", string_length, "16M", KIB, GIB, "Bytes of one string in a call."),
    INT("limits", "gzip-min-size", gzip_min_size, "4096", 0, G_MAXINT,
        "Bytes from which an answer is compressed for a client that can read it; 0: never."),

    INT("tasks", "workers", workers, "32", 1, 1024, "Long operations at once."),
    INT("tasks", "max-pending", max_pending, "1000", 1, 1000000, "Operations that run or wait, in all."),
    INT("tasks", "max-pending-per-session", max_pending_per_session, "200", 1, 1000000, "The same of one session."),
    INT("tasks", "keep-finished", keep_finished, "3900", 0, 365 * DAY, "Seconds that a finished task stays to be asked for."),
    INT("tasks", "clean-shutdown-timeout", clean_shutdown_timeout, "1200", 1, DAY,
        "Seconds that a guest has to obey a clean shutdown or reboot."),

    INT("sessions", "idle-timeout", session_idle_timeout, "86400", 10, 365 * DAY, "Seconds after which an unused session ends."),
    INT("sessions", "per-user", sessions_per_user, "500", 1, 1000000,
        "Sessions of one user and originator; the oldest gives way."),
    INT("sessions", "total", sessions_total, "5000", 1, 1000000, "Sessions in all."),
    INT("sessions", "login-timeout", login_timeout, "15", 1, 600, "Seconds for the check of one login."),
    INT("sessions", "logins-at-once", logins_at_once, "16", 1, 1024, "Logins that are checked at the same time."),
    INT("sessions", "login-failure-delay-ms", login_failure_delay_ms, "1000", 0, 60000,
        "Milliseconds that every failed login takes at least, so that its cause cannot be told from the time."),
    INT("sessions", "login-failures-before-slow", login_failures_before_slow, "5", 1, 1000,
        "Failures of one address or user after which the delay doubles each time."),
    INT("sessions", "login-delay-max", login_delay_max, "30", 1, 3600, "Seconds to which it grows at most."),

    LIST("roles", "admin-groups", admin_groups, "root", FORM_ANY,
         "Groups whose members are pool-admin without being made a subject."),
    BOOL("roles", "unix-root-is-admin", unix_root_is_admin, "yes",
         "Root needs no password on the UNIX socket."),

    LIST("nbd", "listen", nbd_listen, "[::]:10809", FORM_ADDRESSES,
         "Where disks are offered over NBD while a network has the purpose nbd or insecure_nbd, and at that network's "
         "addresses and on loopback only. Empty: never."),
    INT("nbd", "connections", nbd_connections, "32", 1, 4096, "NBD connections at once; each has a server process of its own."),

    PATH("storage", "sm-dir", storage_sm_dir, "/opt/xensource/sm",
         "Directory of storage drivers that are one executable each (NAMESR), called with XML-RPC; empty: none."),
    PATH("storage", "plugin-dir", storage_plugin_dir, "/usr/libexec/xapi-storage-script",
         "Directory whose folders volume and datapath hold storage drivers that are a directory of executables each, called "
         "with JSON; empty: none."),

    INT("events", "batch-ms", event_batch_ms, "5", 0, 1000,
        "Milliseconds between two times that watchers are woken, at least; tasks wake them at once."),
    INT("events", "tombstones", tombstones, "100000", 100, 100000000,
        "Deletions that are remembered for watchers that come late."),

    INT("sim", "vms", sim_vms, "0", 0, 1000000, "Running domains that the simulation begins with."),
    INT("sim", "cpus", sim_cpus, "8", 1, 4096, "Physical CPUs."),
    SIZE("sim", "memory", sim_memory, "65536", 256, GIB, "MiB of memory."),
    INT("sim", "start-ms", sim_start_ms, "500", 0, 3600000, "Milliseconds that a start takes."),
    INT("sim", "shutdown-ms", sim_shutdown_ms, "1000", 0, 3600000, "Milliseconds that a clean shutdown takes."),
    INT("sim", "reboot-ms", sim_reboot_ms, "1500", 0, 3600000, "Milliseconds that a clean reboot takes."),
    INT("sim", "suspend-ms", sim_suspend_ms, "800", 0, 3600000, "Milliseconds that suspend and resume take."),
    INT("sim", "plug-ms", sim_plug_ms, "50", 0, 3600000, "Milliseconds that plugging a device takes."),
    BOOL("sim", "metrics", sim_metrics, "yes", "CPU, memory and I/O figures move."),
    PATH("sim", "storage-dir", sim_storage_dir, "", "Directory of the default file storage; empty: STATE-DIR/sr."),
    INT("sim", "jitter", sim_jitter, "10", 0, 100, "Percent by which these durations vary."),
};
/* clang-format on */

const gsize n_conf_rows = G_N_ELEMENTS(conf_rows);

const struct conf_row *conf_find_row(const char *section, const char *key)
{
    for (gsize i = 0; i < n_conf_rows; i++) {
        if (strcmp(conf_rows[i].section, section) == 0 && strcmp(conf_rows[i].key, key) == 0)
            return &conf_rows[i];
    }
    return NULL;
}

char *conf_allowed(const struct conf_row *row)
{
    switch (row->type) {
    case CONF_TEXT:
        if (row->form == FORM_NAME)
            return g_strdup("a name of letters, digits and . _ - @");
        return g_strdup(row->form == FORM_NOT_EMPTY ? "text, not empty" : "text");
    case CONF_PATH:
        return g_strdup(row->form == FORM_NOT_EMPTY ? "a path, not empty" : "a path");
    case CONF_LIST:
        if (row->form == FORM_ADDRESSES)
            return g_strdup("addresses like 127.0.0.1:8443, [::1]:8443 or :443, separated by ';'");
        return g_strdup(row->form == FORM_PATHS ? "paths of at most 107 bytes, separated by ';'"
                                                : "words separated by ';'");
    case CONF_BOOL:
        return g_strdup("yes or no");
    case CONF_INT:
        return g_strdup_printf("a whole number from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT, row->min, row->max);
    case CONF_SIZE:
        return g_strdup_printf("a whole number, with K, M or G if you like, from %" G_GINT64_FORMAT
                               " to %" G_GINT64_FORMAT,
                               row->min, row->max);
    case CONF_OCTAL:
        return g_strdup("an octal mode from 0 to 0777");
    case CONF_BACKEND:
        return g_strdup("xen or sim");
    case CONF_LOG_LEVEL:
        return g_strdup("error, warning, info or debug");
    }
    return g_strdup("?");
}

/* Appends text as comment lines of at most 100 columns. */
static void put_comment(GString *out, const char *text)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    gsize column = 0;
    for (char **w = words; *w; w++) {
        if (column > 0 && column + strlen(*w) > 97) {
            g_string_append_c(out, '\n');
            column = 0;
        }
        g_string_append(out, column == 0 ? "# " : " ");
        g_string_append(out, *w);
        column += strlen(*w) + 1;
    }
    g_string_append_c(out, '\n');
}

char *conf_sample(void)
{
    GString *out =
        g_string_new("# xenapid.conf - configuration of xenapid(8); see xenapid.conf(5). Every key is shown "
                     "with its\n# default. SIGHUP reads it again. The user that xenapid runs as must be able "
                     "to read this file.\n");
    const char *section = "";
    for (gsize i = 0; i < n_conf_rows; i++) {
        const struct conf_row *row = &conf_rows[i];
        if (strcmp(section, row->section) != 0)
            g_string_append_printf(out, "\n[%s]\n", section = row->section);
        g_string_append_c(out, '\n');
        put_comment(out, row->doc);
        if (row->type == CONF_INT || row->type == CONF_SIZE || row->type == CONF_BOOL || row->type == CONF_BACKEND ||
            row->type == CONF_LOG_LEVEL || row->type == CONF_OCTAL) {
            g_autofree char *allowed = conf_allowed(row);
            g_string_append_printf(out, "# (%s)\n", allowed);
        }
        g_string_append_printf(out, "#%s=%s\n", row->key, row->otherwise);
    }
    return g_string_free(out, FALSE);
}
