/* conf.h - the configuration: /etc/xenapid/xenapid.conf (a GLib key file) and the command line, which wins.
 *
 * Read once at start by the supervisor and again at SIGHUP; the front and the helpers read the same file with the same
 * command line. Every key, its section, default, bounds and one line of documentation is a row in conf_table.c: the
 * checks, the sample file and the man page's table come from there. A bad key or value names file, line, key and what
 * is allowed. */
#ifndef XENAPID_CONF_H
#define XENAPID_CONF_H

#include <glib.h>

enum backend_kind { BACKEND_XEN, BACKEND_SIM };
enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

struct conf {
    char *config_file; /* NULL: none was read */
    /* [daemon] */
    enum backend_kind backend;
    char *state_dir, *runtime_dir, *user, *helper_dir;
    GStrv listen_https, listen_http, listen_unix; /* "ADDR:PORT", "[::1]:PORT", paths */
    gboolean allow_plain_http_remote;             /* plain HTTP on other addresses than loopback */
    char *unix_owner, *unix_group;                /* of UNIX sockets; "" keeps */
    int unix_mode;                                /* octal, 0660 */
    char *tls_cert, *tls_key;                     /* "" makes one in state_dir */
    char *tls_priority;                           /* GnuTLS priority string */
    char *pam_service, *pam_confdir;              /* confdir "" means the system's */
    enum log_level log_level;
    int http_threads;   /* per listener; 0: one per CPU, at most 8 */
    int stop_timeout;   /* seconds to finish what is in flight at SIGTERM */
    GStrv cors_origins; /* "*" or origins */
    gboolean templates; /* a new pool has some */
    /* [limits] */
    int connections, connections_per_address;
    int idle_timeout, header_timeout, body_timeout; /* seconds */
    gint64 body_size_login, body_size;              /* bytes, before and after login */
    int depth, elements;
    gint64 string_length;
    int gzip_min_size; /* bytes; 0: never compress */
    /* [tasks] */
    int workers, max_pending, max_pending_per_session;
    int keep_finished;          /* seconds */
    int clean_shutdown_timeout; /* seconds a guest has to obey */
    /* [sessions] */
    int session_idle_timeout; /* seconds */
    int sessions_per_user;    /* per (user, originator) */
    int sessions_total;
    int login_timeout; /* seconds for one PAM conversation */
    int logins_at_once;
    int login_failure_delay_ms;     /* every failed login takes at least this long */
    int login_failures_before_slow; /* per source and per user; then the delay doubles up to login_delay_max */
    int login_delay_max;            /* seconds */
    /* [roles] */
    GStrv admin_groups; /* members are pool-admin; default root, sudo, wheel? no: "root" */
    gboolean unix_root_is_admin;
    /* [nbd] */
    GStrv nbd_listen;
    int nbd_connections;
    /* [storage] */
    char *storage_sm_dir, *storage_plugin_dir; /* "": none */
    /* [events] */
    int event_batch_ms;
    int tombstones;
    /* [sim] */
    int sim_vms, sim_cpus;
    gint64 sim_memory; /* MiB */
    int sim_start_ms, sim_shutdown_ms, sim_reboot_ms, sim_suspend_ms, sim_plug_ms;
    gboolean sim_metrics;  /* utilisation that moves */
    char *sim_storage_dir; /* of the default file SR; "" is STATE/sr */
    int sim_jitter;        /* percent by which durations vary */
};

/* The options of the command line; on --help or a bad option prints and answers the exit status through *status. */
struct conf *conf_from_args(int *argc, char ***argv, int *status, gboolean *check_only, gboolean *describe_api,
                            gboolean *version);
/* Reads the file again with the same command line; NULL with *error set. */
struct conf *conf_reload(const struct conf *old, GError **error);
void conf_free(struct conf *c);
/* The command line that c was made with, paths made absolute, to hand on to a child, which reads the same file: a
 * NULL-terminated vector without argv[0]; free with g_strfreev. conf_from_args reads it back to the same. */
GStrv conf_to_args(const struct conf *c);
/* The commented sample file; the caller frees. */
char *conf_sample(void);

typedef struct conf conf;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(conf, conf_free)

/* A TCP listener's address: "127.0.0.1:8443", "[::]:443", ":443" (all). FALSE with a message in *why (static). */
gboolean listen_address_parse(const char *text, char **host, int *port, const char **why);

#endif
