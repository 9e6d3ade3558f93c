/* xen_qmp.c - disks that a device model serves, switched from one file to another while the guest writes (QMP).
 *
 * The socket is the one that libxl uses. It takes one client at a time and lets the next one wait, so we and libxl,
 * which comes and goes with each command, only have to be quick. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/codec/jsonrpc.h"

#define TIMEOUT    (30 * G_TIME_SPAN_SECOND)
#define MAX_ANSWER ((gsize) 16 << 20)

struct qmp {
    int fd;
    GString *in; /* what was read behind the last answer */
    gint64 until;
};

static void qmp_close(struct qmp *q)
{
    if (q->fd >= 0)
        close(q->fd);
    if (q->in != NULL)
        g_string_free(q->in, TRUE);
}
typedef struct qmp qmp;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(qmp, qmp_close)

static gboolean model_fault(const char *text, struct fault *f)
{
    g_autofree char *words = g_strdup_printf("the device model: %s", text);
    return fault_set(f, "SR_BACKEND_FAILURE", "5", "", words, NULL);
}

static gboolean wait_for(const struct qmp *q, short events)
{
    struct pollfd p = {.fd = q->fd, .events = events};
    gint64 left = (q->until - g_get_monotonic_time()) / 1000;
    return left > 0 && (poll(&p, 1, (int) left) > 0 || errno == EINTR);
}

static gboolean send_text(struct qmp *q, const char *text, struct fault *f)
{
    for (gsize len = strlen(text); len > 0;) {
        gssize n = send(q->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            text += n;
            len -= (gsize) n;
        } else if (n < 0 && errno != EINTR && (errno != EAGAIN || !wait_for(q, POLLOUT))) {
            return model_fault(errno == EAGAIN ? "does not listen" : g_strerror(errno), f);
        }
    }
    return TRUE;
}

/* The next line; NULL with f set. Heap. */
static char *read_line(struct qmp *q, struct fault *f)
{
    char buffer[65536];
    const char *end;
    while ((end = memchr(q->in->str, '\n', q->in->len)) == NULL) {
        gssize n = recv(q->fd, buffer, sizeof buffer, MSG_DONTWAIT);
        if (n > 0 && q->in->len < MAX_ANSWER) {
            g_string_append_len(q->in, buffer, n);
        } else if (n >= 0 || (errno != EINTR && (errno != EAGAIN || !wait_for(q, POLLIN)))) {
            model_fault(n >= 0 ? "hung up" : errno == EAGAIN ? "does not answer" : g_strerror(errno), f);
            return NULL;
        }
    }
    char *line = g_strndup(q->in->str, (gsize) (end - q->in->str));
    g_string_erase(q->in, 0, end - q->in->str + 1);
    return line;
}

/* What the command returns; NULL with f set. arguments (may be NULL) are taken over. */
static struct value *ask(struct qmp *q, const char *command, struct value *arguments, struct fault *f)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 2);
    value_builder_put_string(&b, "execute", command);
    if (arguments != NULL)
        value_builder_put(&b, "arguments", arguments);
    g_autoptr(value) request = value_builder_end(&b);
    g_autofree char *json = json_text(request), *text = g_strconcat(json, "\n", NULL);
    if (!send_text(q, text, f))
        return NULL;
    for (;;) { /* events and the greeting come in between */
        g_autofree char *line = read_line(q, f);
        g_autoptr(value) answer = line != NULL ? json_parse(NULL, line, strlen(line), NULL, NULL) : NULL;
        if (line == NULL)
            return NULL;
        struct value *result = value_get(answer, "return"), *error = value_get(answer, "error");
        if (result != NULL)
            return value_ref(result);
        if (answer == NULL || error != NULL) {
            model_fault(value_get_str(error, "desc", "said what nobody understands"), f);
            return NULL;
        }
    }
}

/* When it answers, the commands of those who were there before have been carried out, or never will be. */
static gboolean qmp_open(struct qmp *q, int domid, struct fault *f)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    g_snprintf(to.sun_path, sizeof to.sun_path, "/var/run/xen/qmp-libxl-%d", domid);
    q->until = g_get_monotonic_time() + TIMEOUT;
    q->in = g_string_new(NULL);
    q->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (q->fd < 0 || connect(q->fd, (struct sockaddr *) &to, sizeof to) < 0)
        return model_fault(g_strerror(errno), f);
    g_autoptr(value) ready = ask(q, "qmp_capabilities", NULL, f);
    return ready != NULL;
}

/* ---- which disks ---- */

/* Does the process have the file open that this name stands for? */
static gboolean has_open(const char *pid, const char *path)
{
    g_autofree char *name = g_strdup_printf("/proc/%s/fd", pid);
    struct stat wanted, st;
    DIR *dir = stat(path, &wanted) == 0 ? opendir(name) : NULL;
    gboolean found = FALSE;
    for (struct dirent *e; dir != NULL && !found && (e = readdir(dir)) != NULL;)
        found = fstatat(dirfd(dir), e->d_name, &st, 0) == 0 && st.st_dev == wanted.st_dev && st.st_ino == wanted.st_ino;
    if (dir != NULL)
        closedir(dir);
    return found;
}

/* A node that is switched to gets a name that begins so: 25 characters of the 31 that QEMU lets it have. */
static char *own_prefix(const char *path)
{
    g_autofree char *file = g_path_get_basename(path);
    g_auto(GStrv) parts = g_strsplit(file, "-", -1);
    g_autofree char *uuid = g_strjoinv("", parts);
    return g_strdup_printf("v%.24s-", uuid);
}

/* The name of the node that the model made for the disk when it was plugged. Heap; NULL when it has none. */
static char *first_node(int domid, const char *path)
{
    g_auto(GStrv) devices = xen_list("/local/domain/0/backend/qdisk/%d", domid);
    g_autofree char *wanted = g_strconcat("qcow2:", path, NULL);
    for (guint i = 0; devices[i] != NULL; i++) {
        g_autofree char *params = xen_read("/local/domain/0/backend/qdisk/%d/%s/params", domid, devices[i]);
        g_autofree char *dev = xen_read("/local/domain/0/backend/qdisk/%d/%s/dev", domid, devices[i]);
        if (g_strcmp0(params, wanted) == 0 && dev != NULL)
            return g_strconcat(dev, "-qcow2", NULL);
    }
    return NULL;
}

/* An HVM guest's disk is there once more, as hardware, under a name that says nothing: of that the model is asked which
 * file it has open; what lies below one that it was switched to is read-only. */
static gboolean serves(const struct value *node, const char *path)
{
    g_autofree char *file = g_path_get_basename(path), *name = g_strconcat("/", file, NULL);
    return strcmp(value_get_str(node, "drv", ""), "qcow2") == 0 && !value_as_bool(value_get(node, "ro")) &&
           strstr(value_get_str(node, "file", ""), name) != NULL;
}

/* The image's locks stay off, as they are for what libxl lets the model open. */
static char *image_to_open(const char *path)
{
    struct value_builder image, file;
    value_builder_map(&file, NULL, 3);
    value_builder_put_string(&file, "driver", "file");
    value_builder_put_string(&file, "filename", path);
    value_builder_put_string(&file, "locking", "off");
    value_builder_map(&image, NULL, 2);
    value_builder_put_string(&image, "driver", "qcow2");
    value_builder_put(&image, "file", value_builder_end(&file));
    g_autoptr(value) v = value_builder_end(&image);
    g_autofree char *json = json_text(v);
    return g_strconcat("json:", json, NULL);
}

static void add_action(struct value_builder *actions, const char *node, const char *path)
{
    g_autofree char *file = image_to_open(path), *prefix = own_prefix(path);
    g_autofree char *name = g_strdup_printf("%s%05x", prefix, g_random_int() & 0xfffff);
    struct value_builder action, data;
    value_builder_map(&data, NULL, 5);
    value_builder_put_string(&data, "node-name", node);
    value_builder_put_string(&data, "snapshot-node-name", name);
    value_builder_put_string(&data, "snapshot-file", file);
    value_builder_put_string(&data, "mode", "existing");
    value_builder_put_string(&data, "format", "qcow2");
    value_builder_map(&action, NULL, 2);
    value_builder_put_string(&action, "type", "blockdev-snapshot-sync");
    value_builder_put(&action, "data", value_builder_end(&data));
    value_builder_add(actions, value_builder_end(&action));
}

/* What the model says of its disks: the topmost node of each, and, of an HVM guest's, all nodes with their files. The
 * files are not asked for where names do: QEMU 7.2 refuses to tell about an image that it does not write to any more
 * and that has a dirty bitmap. */
struct disks {
    struct value *tops, *nodes;
};

static void disks_clear(struct disks *k)
{
    value_unref(k->tops);
    value_unref(k->nodes);
}
typedef struct disks disks;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(disks, disks_clear)

static gboolean ask_disks(struct qmp *q, gboolean hvm, struct disks *k, struct fault *f)
{
    struct value_builder b;
    k->tops = ask(q, "query-blockstats", NULL, f);
    if (!hvm || k->tops == NULL)
        return k->tops != NULL;
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, "flat", value_bool(TRUE)); /* otherwise each comes with all that lies below it */
    k->nodes = ask(q, "query-named-block-nodes", value_builder_end(&b), f);
    return k->nodes != NULL;
}

static gboolean add_actions(struct value_builder *actions, const struct disks *k, int domid, const char *path,
                            struct fault *f)
{
    g_autofree char *prefix = own_prefix(path), *first = first_node(domid, path);
    gsize before = actions->n;
    for (gsize i = 0; k->nodes == NULL && i < value_count(k->tops); i++) {
        const char *node = value_get_str(value_at(k->tops, i), "node-name", "");
        if (g_strcmp0(node, first) == 0 || g_str_has_prefix(node, prefix))
            add_action(actions, node, path);
    }
    for (gsize i = 0; i < value_count(k->nodes); i++)
        if (serves(value_at(k->nodes, i), path))
            add_action(actions, value_get_str(value_at(k->nodes, i), "node-name", ""), path);
    g_autofree char *text = g_strdup_printf("does not have %s", path);
    return actions->n > before || model_fault(text, f);
}

/* In one transaction: all disks or none, and while it runs no request of the guest is served. */
gboolean xen_switch_over(const char *domain, char *const *paths, struct fault *f)
{
    g_auto(qmp) q = {.fd = -1};
    g_auto(disks) k = {NULL, NULL};
    struct xen_domain d;
    if (!xen_domain_by_uuid(domain, &d))
        return TRUE;
    g_autofree char *pid = xen_read("/local/domain/%d/image/device-model-pid", d.domid);
    if (pid == NULL)
        return model_fault("there is none", f);
    if (!qmp_open(&q, d.domid, f) || !ask_disks(&q, strcmp(xen_type(&d), "hvm") == 0, &k, f))
        return FALSE;
    struct value_builder actions, arguments;
    gboolean found = TRUE;
    value_builder_set(&actions, NULL, 2);
    for (guint i = 0; found && paths[i] != NULL; i++)
        found = has_open(pid, paths[i]) || add_actions(&actions, &k, d.domid, paths[i], f);
    if (!found || actions.n == 0) {
        value_builder_clear(&actions);
        return found;
    }
    value_builder_map(&arguments, NULL, 1);
    value_builder_put(&arguments, "actions", value_builder_end(&actions));
    g_autoptr(value) done = ask(&q, "transaction", value_builder_end(&arguments), f);
    return done != NULL;
}
