/* xen_watch.c - the thread that owns the watches of xenstore: what changes there, or in the hypervisor's list, becomes
 * news for the front and wakes those who wait for a guest. */
#include "config.h"
#include "xenbackend/xen/xen.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define USAGE_PERIOD (5 * G_TIME_SPAN_SECOND)
/* A domain is made paused, and nobody says when it is let go: after a new one that is, so often and for so long. */
#define SETTLE_PERIOD (250 * G_TIME_SPAN_MILLISECOND)
#define SETTLE_TIME   (5 * G_TIME_SPAN_SECOND)
#define GUEST_PERIOD  G_TIME_SPAN_SECOND /* what a guest says of itself is told at most this often */
#define TELL_PATIENCE (5 * G_TIME_SPAN_SECOND)
#define TOKEN_LIST    "list"

struct watched {
    int domid;
    char uuid[UUID_TEXT_SIZE];
    const char *reason;  /* why it has shut down, when last seen */
    struct value *state; /* as it was told; NULL: not yet */
    struct value *guest;
    gint64 guest_told;
    guint32 flags; /* the hypervisor's, when last seen */
    guint32 pool;
    gboolean look, look_guest;
    gboolean again; /* to be told even if it is what was told */
};

static struct {
    struct xs_handle *xs; /* the watches' own: answers do not wait behind events */
    int wake;             /* an eventfd: pokes */
    GHashTable *domains;  /* domid -> struct watched: the thread's alone */
    gboolean list;        /* the list is to be read again: the thread's alone, */
    gint64 settled;       /* and often until then */
    GMutex lock;          /* of all below */
    GCond happened;
    guint64 moment;
    GArray *pokes;        /* domids */
    guint64 asked, told;  /* pokes so far, and those of them that were looked at */
    GHashTable *expected; /* uuid -> reason */
    gboolean tell_again;
} watch = {.wake = -1};

/* ---- for other threads ---- */

static void wake_thread(void)
{
    guint64 one = 1;
    if (write(watch.wake, &one, sizeof one) < 0 && errno != EAGAIN)
        g_warning("eventfd: %s", g_strerror(errno));
}

/* Before the thread is there everything is still to be told. 0: so it is. */
static guint64 poke(int domid)
{
    if (watch.wake < 0)
        return 0;
    g_mutex_lock(&watch.lock);
    g_array_append_val(watch.pokes, domid);
    guint64 number = ++watch.asked;
    g_mutex_unlock(&watch.lock);
    wake_thread();
    return number;
}

void xen_watch_poke(int domid)
{
    poke(domid);
}

void xen_watch_tell(int domid)
{
    guint64 number = poke(domid);
    gint64 until = g_get_monotonic_time() + TELL_PATIENCE;
    g_mutex_lock(&watch.lock);
    while (watch.told < number && g_cond_wait_until(&watch.happened, &watch.lock, until))
        ;
    g_mutex_unlock(&watch.lock);
}

void xen_watch_tell_again(void)
{
    g_mutex_lock(&watch.lock);
    watch.tell_again = TRUE;
    g_mutex_unlock(&watch.lock);
    wake_thread();
}

void xen_watch_expect(const char *uuid, const char *reason)
{
    g_mutex_lock(&watch.lock);
    g_hash_table_replace(watch.expected, g_strdup(uuid), (char *) reason);
    g_mutex_unlock(&watch.lock);
}

guint64 xen_watch_moment(void)
{
    g_mutex_lock(&watch.lock);
    guint64 moment = watch.moment;
    g_mutex_unlock(&watch.lock);
    return moment;
}

void xen_watch_wake(void)
{
    g_mutex_lock(&watch.lock);
    watch.moment++;
    g_cond_broadcast(&watch.happened);
    g_mutex_unlock(&watch.lock);
}

gboolean xen_watch_wait(struct helper_request *req, guint64 moment, gint64 deadline)
{
    gboolean in_time = TRUE;
    g_mutex_lock(&watch.lock);
    while (in_time && watch.moment == moment && !helper_cancelled(req))
        in_time = g_cond_wait_until(&watch.happened, &watch.lock, deadline);
    g_mutex_unlock(&watch.lock);
    return !helper_cancelled(req);
}

/* ---- one domain ---- */

static void watched_free(void *data)
{
    struct watched *w = data;
    value_unref(w->state);
    value_unref(w->guest);
    g_free(w);
}

static void set_watch(int domid, gboolean on)
{
    char path[64], token[16];
    /* Below domain 0 are all the backends: only its memory is of interest. */
    g_snprintf(path, sizeof path, domid == 0 ? "/local/domain/%d/memory" : "/local/domain/%d", domid);
    g_snprintf(token, sizeof token, "%d", domid);
    if (on ? !xs_watch(watch.xs, path, token) : !xs_unwatch(watch.xs, path, token))
        g_debug("watch on %s: %s", path, g_strerror(errno));
}

static void tell_state(struct watched *w)
{
    struct xen_domain d;
    w->look = FALSE;
    if (!xen_domain_by_id(w->domid, &d) || d.power == XEN_DYING) {
        watch.list = TRUE;
        return;
    }
    w->reason = d.reason;
    w->flags = d.info.flags;
    w->pool = d.info.cpupool;
    if (xen_is_building(w->domid))
        return;
    if (w->pool != 0)
        xen_pools_tell(); /* first what the state speaks of */
    g_autoptr(value) state = xen_state(&d, FALSE);
    if (w->state != NULL && !w->again && value_equal(state, w->state))
        return;
    w->again = FALSE;
    value_unref(w->state);
    w->state = g_steal_pointer(&state);
    g_autoptr(value) all = xen_state(&d, TRUE);
    helper_notify("domain.changed", all, NULL, 0);
}

static void tell_guest(struct watched *w, gint64 now)
{
    w->look_guest = FALSE;
    if (w->state == NULL) /* not shown yet */
        return;
    g_autoptr(value) guest = xen_guest_metrics(w->domid, w->uuid);
    if (guest == NULL || (w->guest != NULL && value_equal(guest, w->guest)))
        return;
    value_unref(w->guest);
    w->guest = value_ref(guest);
    w->guest_told = now;
    helper_notify("domain.guest", guest, NULL, 0);
}

static const char *why_gone(const struct watched *w)
{
    g_mutex_lock(&watch.lock);
    const char *reason = g_hash_table_lookup(watch.expected, w->uuid);
    g_hash_table_remove(watch.expected, w->uuid);
    g_mutex_unlock(&watch.lock);
    /* What the guest did by itself says more than that it was cleared away then. */
    if (w->reason != NULL && *w->reason != '\0' && (reason == NULL || strcmp(reason, "destroyed") == 0))
        return w->reason;
    return reason != NULL ? reason : "destroyed";
}

static void tell_gone(const struct watched *w)
{
    struct value_builder b;
    const char *reason = why_gone(w);
    if (w->state == NULL)
        return;
    value_builder_map(&b, NULL, 3);
    value_builder_put_string(&b, "uuid", w->uuid);
    value_builder_put(&b, "domid", value_int(NULL, w->domid));
    value_builder_put_string(&b, "reason", reason);
    g_autoptr(value) params = value_builder_end(&b);
    helper_notify("domain.gone", params, NULL, 0);
}

/* ---- the list ---- */

static void meet(const struct xen_domain *d)
{
    struct watched *w = g_new0(struct watched, 1);
    w->domid = d->domid;
    w->reason = "";
    g_strlcpy(w->uuid, d->uuid, sizeof w->uuid);
    w->look = w->look_guest = TRUE;
    g_hash_table_insert(watch.domains, GINT_TO_POINTER(d->domid), w);
    set_watch(d->domid, TRUE);
}

static gboolean is_listed(const GArray *all, const struct watched *w)
{
    for (guint i = 0; i < all->len; i++) {
        const struct xen_domain *d = &g_array_index(all, struct xen_domain, i);
        if (d->domid == w->domid)
            return d->power != XEN_DYING && strcmp(d->uuid, w->uuid) == 0;
    }
    return FALSE;
}

static gboolean part_from_gone(const GArray *all)
{
    gboolean changed = FALSE;
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, watch.domains);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct watched *w = value;
        if (is_listed(all, w))
            continue;
        set_watch(w->domid, FALSE);
        tell_gone(w);
        xen_filter_forget_later(w->domid);
        g_hash_table_iter_remove(&iter);
        changed = TRUE;
    }
    return changed;
}

static void read_list(void)
{
    const guint32 telling = XEN_DOMINF_paused | XEN_DOMINF_shutdown | XEN_DOMINF_dying |
                            (guint32) XEN_DOMINF_shutdownmask << XEN_DOMINF_shutdownshift;
    g_autoptr(GArray) all = xen_domains();
    watch.list = FALSE;
    if (all == NULL)
        return;
    gboolean changed = part_from_gone(all);
    for (guint i = 0; i < all->len; i++) {
        const struct xen_domain *d = &g_array_index(all, struct xen_domain, i);
        struct watched *w = g_hash_table_lookup(watch.domains, GINT_TO_POINTER(d->domid));
        if (w == NULL && d->power != XEN_DYING) {
            meet(d);
            changed = TRUE;
            if ((d->info.flags & XEN_DOMINF_paused) != 0)
                watch.settled = g_get_monotonic_time() + SETTLE_TIME;
        } else if (w != NULL && (((w->flags ^ d->info.flags) & telling) != 0 || w->pool != d->info.cpupool)) {
            w->look = TRUE;
        }
    }
    if (changed) {
        g_autoptr(value) host = xen_usage_host();
        helper_notify("host.changed", host, NULL, 0);
    }
}

/* ---- events ---- */

/* The first member of a path below a domain's own says what is to be looked at. */
static void on_domain_event(const char *path, const char *token)
{
    static const char *const guest[] = {"data", "attr", NULL};
    static const char *const state[] = {"device", "memory", "name", "console", "serial", "xenapid", "control", NULL};
    struct watched *w = g_hash_table_lookup(watch.domains, GINT_TO_POINTER(atoi(token)));
    int skip = 0;
    if (w == NULL)
        return;
    if (sscanf(path, "/local/domain/%*d/%n", &skip) != 0 || skip == 0) { /* the domain's root */
        w->look = w->look_guest = TRUE;
        return;
    }
    g_autofree char *member = g_strndup(path + skip, strcspn(path + skip, "/"));
    w->look = w->look || g_strv_contains(state, member);
    w->look_guest = w->look_guest || g_strv_contains(guest, member) || g_str_has_prefix(path + skip, "control/feature");
}

static gboolean take_events(void)
{
    gboolean any = FALSE;
    char **event;
    while ((event = xs_check_watch(watch.xs)) != NULL) {
        any = TRUE;
        if (strcmp(event[XS_WATCH_TOKEN], TOKEN_LIST) == 0)
            watch.list = TRUE;
        else
            on_domain_event(event[XS_WATCH_PATH], event[XS_WATCH_TOKEN]);
        free(event);
    }
    return any;
}

static void forget_told(void)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, watch.domains);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct watched *w = value;
        g_clear_pointer(&w->guest, value_unref);
        w->look = w->look_guest = w->again = TRUE;
    }
}

/* Answers how many pokes were taken so far. */
static guint64 take_pokes(void)
{
    guint64 count;
    if (read(watch.wake, &count, sizeof count) < 0)
        return 0;
    g_mutex_lock(&watch.lock);
    guint64 asked = watch.asked;
    g_autoptr(GArray) pokes = watch.pokes;
    gboolean again = watch.tell_again;
    watch.pokes = g_array_new(FALSE, FALSE, sizeof(int));
    watch.tell_again = FALSE;
    g_mutex_unlock(&watch.lock);
    for (guint i = 0; i < pokes->len; i++) {
        struct watched *w = g_hash_table_lookup(watch.domains, GINT_TO_POINTER(g_array_index(pokes, int, i)));
        if (w != NULL)
            w->look = TRUE;
        else
            watch.list = TRUE;
    }
    if (again)
        forget_told();
    return asked;
}

/* Looks at all that is to be looked at; answers when the next look at a guest is due. */
static gint64 look(gint64 now)
{
    gint64 next = G_MAXINT64;
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, watch.domains);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct watched *w = value;
        if (w->look)
            tell_state(w);
        if (w->look_guest && now >= w->guest_told + GUEST_PERIOD)
            tell_guest(w, now);
        else if (w->look_guest)
            next = MIN(next, w->guest_told + GUEST_PERIOD);
    }
    return next;
}

/* ---- the thread ---- */

/* Without xenstore nothing can be known or done, and its connections do not heal: the next process begins anew. */
static void check_xenstore(void)
{
    g_autofree char *name = xen_read("/local/domain/0/name");
    if (name == NULL && errno != ENOENT) {
        g_critical(
            "xenstored is gone (%s), and a new one does not know this host's domains: guests go on, but nothing can "
            "be done with them. Shut them down from inside, then reboot this host",
            g_strerror(errno));
        _exit(1);
    }
}

static void wait_for_events(gint64 until)
{
    struct pollfd p[2] = {{xs_fileno(watch.xs), POLLIN, 0}, {watch.wake, POLLIN, 0}};
    gint64 left = until - g_get_monotonic_time();
    int timeout = left <= 0 ? 0 : (int) MIN(left / 1000 + 1, 3600 * 1000);
    if (poll(p, G_N_ELEMENTS(p), timeout) < 0 && errno != EINTR)
        g_warning("poll: %s", g_strerror(errno));
}

static void tell_waiting(guint64 asked)
{
    g_mutex_lock(&watch.lock);
    watch.told = MAX(watch.told, asked);
    watch.moment++;
    g_cond_broadcast(&watch.happened);
    g_mutex_unlock(&watch.lock);
}

static void *watch_thread(void *data G_GNUC_UNUSED)
{
    gint64 usage_due = g_get_monotonic_time() + USAGE_PERIOD, next;
    for (;;) {
        gint64 now = g_get_monotonic_time();
        gboolean any = take_events();
        guint64 asked = take_pokes();
        if (g_get_monotonic_time() >= usage_due) {
            check_xenstore();
            xen_usage_tell();
            xen_ionice_look();
            xen_pools_tell();
            watch.list = TRUE; /* a pause or a move by another toolstack is said by nobody */
            usage_due = g_get_monotonic_time() + USAGE_PERIOD;
        }
        if (watch.list || now < watch.settled)
            read_list();
        next = look(g_get_monotonic_time());
        if (now < watch.settled)
            next = MIN(next, now + SETTLE_PERIOD);
        if (watch.list) /* one of them has gone */
            read_list();
        if (any || asked > 0)
            tell_waiting(asked);
        if (!watch.list)
            wait_for_events(MIN(next, usage_due));
    }
    return NULL;
}

gboolean xen_watch_start(void)
{
    watch.xs = xen_store_open();
    watch.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    watch.domains = g_hash_table_new_full(NULL, NULL, NULL, watched_free);
    watch.pokes = g_array_new(FALSE, FALSE, sizeof(int));
    watch.expected = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    watch.list = TRUE;
    if (watch.xs == NULL || !xs_watch(watch.xs, "@introduceDomain", TOKEN_LIST) ||
        !xs_watch(watch.xs, "@releaseDomain", TOKEN_LIST)) {
        g_critical("xenstore cannot be watched: %s", g_strerror(errno));
        return FALSE;
    }
    g_thread_unref(g_thread_new("watch", watch_thread, NULL));
    return TRUE;
}
