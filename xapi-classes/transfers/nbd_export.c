/* nbd_export.c - the image behind an NBD connection: who may read it, its opening by the backend, its end. */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "auth/session.h"
#include "daemon/task.h"
#include "daemon/task_private.h"
#include "xapi-classes/transfers/nbd_server.h"
#include "xapi-classes/vm/operation.h"
#include "xapi-classes/storage/storage.h"
#include "xenbackend/backend.h"

#define OPEN_MS 60000

/* "/UUID?session_id=SESSION"; the session is NULL for others. */
static struct session *parse_name(const char *name, char uuid[UUID_SIZE])
{
    const char *query = strchr(name, '?');
    while (*name == '/')
        name++;
    if (query == NULL || query < name || (gsize) (query - name) != UUID_SIZE - 1)
        return NULL;
    g_strlcpy(uuid, name, UUID_SIZE);
    g_auto(GStrv) parts = g_strsplit(query + 1, "&", 8);
    for (char **p = parts; *p != NULL; p++)
        if (g_str_has_prefix(*p, "session_id="))
            return session_find(*p + strlen("session_id="));
    return NULL;
}

/* The same words for every reason: they are for strangers, too. */
static struct session *find_session(const char *name, char uuid[UUID_SIZE], char **why)
{
    struct session *s = parse_name(name, uuid);
    if (s != NULL && !s->local_only && session_has_role(s, ROLE_vm_admin))
        return s;
    session_unref(s);
    *why = g_strdup("The name holds no session that may read disks");
    return NULL;
}

static char *words(struct fault *f)
{
    char *text = fault_text(f);
    fault_clear(f);
    return text;
}

/* The disk's operation and its task, until nbd_release. */
static gboolean hold(struct nbd_connection *c, const struct record *vdi, const char *user, struct fault *f)
{
    struct txn *t = txn_begin(the_store());
    if (!operation_check(t, CLASS_VDI, vdi->ref, "copy", f)) {
        txn_abort(t);
        return FALSE;
    }
    g_strlcpy(c->vdi, vdi->ref, sizeof c->vdi);
    g_strlcpy(c->task, task_object_create(t, "nbd", user), sizeof c->task);
    txn_put_key(t, CLASS_VDI, vdi->ref, F_VDI_current_operations, c->task, "copy");
    txn_commit(t);
    return TRUE;
}

static void let_go(struct nbd_connection *c)
{
    static const struct fault none = FAULT_INIT;
    struct txn *t = txn_begin(the_store());
    const struct record *task = txn_get(t, CLASS_task, c->task);
    if (txn_get(t, CLASS_VDI, c->vdi) != NULL)
        txn_remove_key(t, CLASS_VDI, c->vdi, F_VDI_current_operations, c->task);
    if (task != NULL && strcmp(record_str(task, F_task_status), "pending") == 0)
        task_object_finish(t, c->task, NULL, &none);
    txn_commit(t);
    *c->task = *c->vdi = '\0';
}

static int ask_image(const struct record *sr, const struct record *vdi, struct fault *f)
{
    int fds[WIRE_MAX_FDS], n = 0;
    struct peer_options options = {.timeout_ms = OPEN_MS, .got_fds = fds, .n_got_fds = &n};
    g_autoptr(value) params = storage_params(record_str(sr, F_SR_uuid), record_str(vdi, F_VDI_uuid));
    g_autoptr(value) answer = backend_call("vdi.open", params, &options, f);
    for (int i = answer != NULL ? 1 : 0; i < n; i++)
        close(fds[i]);
    if (answer != NULL && n == 0)
        fault_set(f, "INTERNAL_ERROR", "the backend gave no descriptor", NULL);
    return answer != NULL && n > 0 ? fds[0] : -1;
}

static gboolean open_held(struct nbd_connection *c, const struct record *vdi, struct fault *f)
{
    g_autoptr(record) sr = storage_attached_sr(record_str(vdi, F_VDI_SR), f);
    int fd = sr != NULL ? ask_image(sr, vdi, f) : -1;
    if (fd < 0)
        return FALSE;
    nbd_stream_init(&c->image, fd);
    return TRUE;
}

gboolean nbd_open(struct nbd_connection *c, const char *export_name, char **why)
{
    char uuid[UUID_SIZE];
    struct fault f = FAULT_INIT;
    struct session *s = find_session(export_name, uuid, why);
    if (s == NULL)
        return FALSE;
    g_autoptr(record) vdi = store_get_by_uuid(the_store(), CLASS_VDI, uuid);
    c->session = s;
    if (vdi == NULL)
        fault_set(&f, "UUID_INVALID", "VDI", uuid, NULL);
    else if (hold(c, vdi, s->user, &f) && open_held(c, vdi, &f))
        return TRUE;
    *why = words(&f);
    g_info("NBD: %s does not get the disk %s: %s", c->address, uuid, *why);
    nbd_release(c);
    return FALSE;
}

void nbd_release(struct nbd_connection *c)
{
    if (c->image.fd >= 0)
        close(c->image.fd);
    c->image.fd = -1;
    if (*c->task != '\0')
        let_go(c);
    g_clear_pointer(&c->session, session_unref);
}
