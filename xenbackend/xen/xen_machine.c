/* xen_machine.c - the machine as a whole, through what manages it: systemd, open-iscsi, rsyslog. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <errno.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "xenbackend/run.h"

#define TOOL_SECONDS  30
#define INITIATORNAME "/etc/iscsi/initiatorname.iscsi"
#define RSYSLOG_DIR   "/etc/rsyslog.d"
#define RSYSLOG_FILE  RSYSLOG_DIR "/90-xenapid.conf"
#define LABEL_CHARS   G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS

static struct value *answer(gboolean done)
{
    return done ? value_empty_map() : NULL;
}

/* What the tool says is what is wrong. */
static gboolean run(const char *const *argv, struct fault *f)
{
    struct run_options o = {.timeout_s = TOOL_SECONDS};
    struct fault of_tool = FAULT_INIT;
    if (run_tool(argv, &o, NULL, &of_tool))
        return TRUE;
    guint n = of_tool.params != NULL ? g_strv_length(of_tool.params) : 0;
    g_autofree char *text = g_strdup_printf("%s: %s", argv[0], n > 0 ? of_tool.params[n - 1] : "");
    fault_clear(&of_tool);
    return fault_set(f, "OPERATION_NOT_ALLOWED", g_strstrip(text), NULL);
}

/* systemd answers at once and then stops everything, us too. */
struct value *xen_host_reboot(struct helper_request *req G_GNUC_UNUSED, struct fault *f)
{
    return answer(run((const char *const[]){"systemctl", "reboot", NULL}, f));
}

struct value *xen_host_shutdown(struct helper_request *req G_GNUC_UNUSED, struct fault *f)
{
    return answer(run((const char *const[]){"systemctl", "poweroff", NULL}, f));
}

/* Every byte is one of allowed, and the first is no dash, which a tool could take for an option. */
static gboolean check_text(const char *name, const char *text, const char *allowed, gsize most, struct fault *f)
{
    gsize len = strlen(text);
    return (len > 0 && len <= most && *text != '-' && strspn(text, allowed) == len) ||
           fault_set(f, "INVALID_VALUE", name, text, NULL);
}

/* In a unit with ProtectHostname= a change is not seen. */
static char *hostname;
static GMutex hostname_lock;

char *xen_host_name(void)
{
    struct utsname os;
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&hostname_lock);
    uname(&os);
    return g_strdup(hostname != NULL ? hostname : os.nodename);
}

struct value *xen_host_set_hostname(struct helper_request *req, struct fault *f)
{
    const char *name = value_get_str(req->params, "hostname", "");
    if (!check_text("hostname", name, LABEL_CHARS "-.", 64, f) ||
        !run((const char *const[]){"hostnamectl", "set-hostname", name, NULL}, f))
        return NULL;
    g_mutex_lock(&hostname_lock);
    g_free(hostname);
    hostname = g_strdup(name);
    g_mutex_unlock(&hostname_lock);
    return value_empty_map();
}

static gboolean write_file(const char *path, const char *text, int mode, struct fault *f)
{
    g_autoptr(GError) error = NULL;
    if (g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, mode,
                                 &error))
        return TRUE;
    return fault_set(f, "OPERATION_NOT_ALLOWED", error->message, NULL);
}

/* Sessions that are there keep the old name; iscsid reads the file again with the next one. */
struct value *xen_host_set_iscsi_iqn(struct helper_request *req, struct fault *f)
{
    const char *iqn = value_get_str(req->params, "iqn", "");
    g_autofree char *text = g_strdup_printf("InitiatorName=%s\n", iqn);
    return answer(check_text("iqn", iqn, LABEL_CHARS "-.:", 223, f) && write_file(INITIATORNAME, text, 0600, f));
}

/* "" sends nothing any more. */
struct value *xen_host_set_syslog(struct helper_request *req, struct fault *f)
{
    const char *to = value_get_str(req->params, "destination", "");
    g_autofree char *text = g_strdup_printf("# Made by xenapid: host.syslog_reconfigure\n*.* @%s\n", to);
    if (*to != '\0' && !check_text("syslog_destination", to, LABEL_CHARS "-.:[]", 255, f))
        return NULL;
    if (!g_file_test(RSYSLOG_DIR, G_FILE_TEST_IS_DIR)) {
        if (*to != '\0')
            fault_set(f, "OPERATION_NOT_ALLOWED", RSYSLOG_DIR " is not there: rsyslog is not installed", NULL);
        return answer(*to == '\0');
    }
    if (*to != '\0' ? !write_file(RSYSLOG_FILE, text, 0644, f) : (unlink(RSYSLOG_FILE) != 0 && errno != ENOENT)) {
        if (f->code == NULL)
            fault_set(f, "OPERATION_NOT_ALLOWED", g_strerror(errno), NULL);
        return NULL;
    }
    return answer(run((const char *const[]){"systemctl", "try-restart", "rsyslog.service", NULL}, f));
}

char *xen_host_iscsi_iqn(void)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = g_file_get_contents(INITIATORNAME, &text, NULL, NULL) ? g_strsplit(text, "\n", -1) : NULL;
    for (guint i = 0; lines != NULL && lines[i] != NULL; i++)
        if (g_str_has_prefix(lines[i], "InitiatorName="))
            return g_strstrip(g_strdup(lines[i] + strlen("InitiatorName=")));
    return NULL;
}
