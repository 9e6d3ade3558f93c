/* session.c - the table of sessions: begin, look up, give way, expire, end. See session.h. */
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "auth/roles.h"
#include "auth/session_private.h"
#include "daemon/clock.h"
#include "daemon/event.h"
#include "daemon/process/log.h"
#include "daemon/task.h"

#define SWEEP_SECONDS 60
/* What a client calls itself is kept as long as its session. */
#define ORIGINATOR_MAX 255

static GRWLock lock;
static GHashTable *sessions; /* ref -> struct session, one reference each */
static guint64 sweeper;

gint64 auth_clock_offset_ms;

gint64 auth_now_ms(void)
{
    return g_get_monotonic_time() / 1000 + __atomic_load_n(&auth_clock_offset_ms, __ATOMIC_RELAXED);
}

static gint64 wall_clock(void)
{
    return g_get_real_time() / G_USEC_PER_SEC + __atomic_load_n(&auth_clock_offset_ms, __ATOMIC_RELAXED) / 1000;
}

static gint64 active_at(const struct session *s)
{
    return __atomic_load_n(&s->last_active, __ATOMIC_RELAXED);
}

static void set_active(struct session *s, gint64 now)
{
    __atomic_store_n(&s->last_active, now, __ATOMIC_RELAXED);
}

gint64 session_last_active(const struct session *s)
{
    return wall_clock() - (auth_now_ms() - active_at(s)) / 1000;
}

const char *session_subject_identifier(const struct session *s)
{
    return s->identity->sid && !s->local_superuser ? s->identity->sid : "";
}

/* ---- one session ---- */

struct session *session_ref(struct session *s)
{
    g_atomic_int_inc(&s->refs);
    return s;
}

void session_unref(struct session *s)
{
    if (!s || !g_atomic_int_dec_and_test(&s->refs))
        return;
    g_free(s->user);
    g_free(s->originator);
    g_free(s->address);
    g_free(s->subject);
    g_clear_pointer(&s->classes, g_hash_table_unref);
    identity_clear(s->identity);
    g_free(s->identity);
    g_mutex_clear(&s->lock);
    explicit_bzero(s->ref, sizeof s->ref);
    g_free(s);
}

/* Whoever knows it is logged in: it comes from the kernel's generator and nowhere else. */
static void make_ref(char ref[REF_SIZE])
{
    guint8 b[16];
    if (getrandom(b, sizeof b, 0) != sizeof b)
        g_error("getrandom: %s", g_strerror(errno));
    g_snprintf(ref, REF_SIZE, "OpaqueRef:%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
               b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
    explicit_bzero(b, sizeof b);
}

static char *shorten(const char *text)
{
    const char *end;
    gsize len = strlen(text);
    if (len <= ORIGINATOR_MAX)
        return g_strdup(text);
    g_utf8_validate(text, ORIGINATOR_MAX, &end); /* not through the middle of a character */
    return g_strndup(text, end - text);
}

static struct session *session_new(struct identity *id, const struct access *a, const char *originator,
                                   const struct origin *origin)
{
    struct session *s = g_new0(struct session, 1);
    s->refs = 1;
    make_ref(s->ref);
    uuid_generate_text(s->uuid);
    s->user = g_strdup(id->user ? id->user : "");
    s->originator = shorten(originator ? originator : origin->user_agent ? origin->user_agent : "");
    s->address = g_strdup(origin->address);
    s->subject = g_strdup(a->subject);
    s->local_superuser = a->local_superuser;
    s->roles = a->roles;
    s->last_active = s->stored_active = auth_now_ms();
    s->began = wall_clock();
    s->valid = 1;
    g_mutex_init(&s->lock);
    s->identity = g_memdup2(id, sizeof *id);
    memset(id, 0, sizeof *id);
    return s;
}

/* ---- its record ---- */

static char *this_host(struct txn *t)
{
    g_autoptr(GPtrArray) hosts = txn_all(t, CLASS_host);
    return g_strdup(hosts->len ? ((struct record *) g_ptr_array_index(hosts, 0))->ref : NULL_REF);
}

static void put_record(struct txn *t, const struct session *s)
{
    g_autofree char *host = this_host(t);
    const char *ref = s->ref;
    txn_create(t, CLASS_session, ref, s->uuid);
    txn_set_str(t, CLASS_session, ref, F_session_this_host, host);
    txn_set_time(t, CLASS_session, ref, F_session_last_active, s->began);
    txn_set_time(t, CLASS_session, ref, F_session_validation_time, s->began);
    txn_set_bool(t, CLASS_session, ref, F_session_is_local_superuser, s->local_superuser);
    txn_set_str(t, CLASS_session, ref, F_session_subject, s->subject);
    txn_set_str(t, CLASS_session, ref, F_session_auth_user_sid, session_subject_identifier(s));
    txn_set_str(t, CLASS_session, ref, F_session_auth_user_name, s->user);
    txn_set_str(t, CLASS_session, ref, F_session_originator, s->originator);
    if (!s->local_superuser)
        txn_set(t, CLASS_session, ref, F_session_rbac_permissions, roles_permission_names(s->roles));
}

static void drop_record(struct txn *t, const struct session *s)
{
    if (txn_get(t, CLASS_session, s->ref))
        txn_destroy(t, CLASS_session, s->ref);
}

/* ---- looking up ---- */

struct session *session_peek(const char *ref)
{
    g_rw_lock_reader_lock(&lock);
    struct session *s = ref && sessions ? g_hash_table_lookup(sessions, ref) : NULL;
    if (s)
        session_ref(s);
    g_rw_lock_reader_unlock(&lock);
    return s;
}

/* Under the lock. Somebody beside the table works for it. */
static gboolean in_use(const struct session *s)
{
    return g_atomic_int_get(&s->refs) > 1 + g_atomic_int_get(&s->observers) || task_count_for_session(s->uuid) > 0;
}

static gboolean has_expired(const struct session *s, gint64 now)
{
    return now - active_at(s) > 1000 * (gint64) the_conf()->session_idle_timeout && !in_use(s);
}

struct session *session_find(const char *ref)
{
    gint64 now = auth_now_ms();
    g_rw_lock_reader_lock(&lock);
    struct session *s = ref && sessions ? g_hash_table_lookup(sessions, ref) : NULL;
    if (s && has_expired(s, now)) /* the sweep has not come to it yet */
        s = NULL;
    if (s) {
        session_ref(s);
        set_active(s, now);
    }
    g_rw_lock_reader_unlock(&lock);
    return s;
}

/* In this order: for a moment it looks used, never the other way round. */
static void stop_observing(void *data)
{
    struct session *s = data;
    g_atomic_int_add(&s->observers, -1);
    session_unref(s);
}

GPtrArray *sessions_all(void)
{
    GPtrArray *all = g_ptr_array_new_with_free_func(stop_observing);
    GHashTableIter iter;
    gpointer next;
    g_rw_lock_reader_lock(&lock);
    g_hash_table_iter_init(&iter, sessions);
    while (g_hash_table_iter_next(&iter, NULL, &next)) {
        struct session *s = session_ref(next);
        g_atomic_int_inc(&s->observers);
        g_ptr_array_add(all, s);
    }
    g_rw_lock_reader_unlock(&lock);
    return all;
}

/* ---- who gives way: all under the write lock ---- */

static gboolean same_user(const struct session *a, const struct session *b)
{
    return strcmp(a->user, b->user) == 0 && a->local_superuser == b->local_superuser;
}

static gboolean same_group(const struct session *a, const struct session *b)
{
    return same_user(a, b) && strcmp(a->originator, b->originator) == 0;
}

typedef gboolean like_fn(const struct session *a, const struct session *b);

static guint count_like(const struct session *s, like_fn *like)
{
    GHashTableIter iter;
    gpointer other;
    guint n = 0;
    g_hash_table_iter_init(&iter, sessions);
    while (g_hash_table_iter_next(&iter, NULL, &other))
        n += like(other, s);
    return n;
}

/* The one that was active least recently among those like s that nobody works for. */
static struct session *idlest_like(const struct session *s, like_fn *like)
{
    GHashTableIter iter;
    gpointer other;
    struct session *found = NULL;
    g_hash_table_iter_init(&iter, sessions);
    while (g_hash_table_iter_next(&iter, NULL, &other))
        if (like(other, s) && (!found || active_at(other) < active_at(found)) && !in_use(other))
            found = other;
    return found;
}

/* Somebody of the user who has the most sessions: one user's flood does not put others out. */
static struct session *idlest_of_the_greediest(void)
{
    g_autoptr(GHashTable) counts = g_hash_table_new(g_str_hash, g_str_equal);
    GHashTableIter iter;
    gpointer other, n;
    struct session *found = NULL;
    guint most = 0;
    g_hash_table_iter_init(&iter, sessions);
    while (g_hash_table_iter_next(&iter, NULL, &other)) {
        const char *user = ((struct session *) other)->user;
        n = g_hash_table_lookup(counts, user);
        g_hash_table_insert(counts, (char *) user, GUINT_TO_POINTER(GPOINTER_TO_UINT(n) + 1));
    }
    g_hash_table_iter_init(&iter, sessions);
    while (g_hash_table_iter_next(&iter, NULL, &other)) {
        struct session *s = other;
        guint count = GPOINTER_TO_UINT(g_hash_table_lookup(counts, s->user));
        if (count < most || (count == most && found && active_at(s) >= active_at(found)) || in_use(s))
            continue;
        found = s;
        most = count;
    }
    return found;
}

/* Takes it out of the table: the caller has the table's reference now. */
static struct session *take_out(struct session *s)
{
    g_atomic_int_set(&s->valid, 0);
    g_hash_table_steal(sessions, s->ref);
    return s;
}

/* Makes room for s; what gave way is added to gone. FALSE when nobody can. */
static gboolean make_room(const struct session *s, GPtrArray *gone)
{
    const struct conf *conf = the_conf();
    struct session *victim;
    while (count_like(s, same_group) >= (guint) conf->sessions_per_user) {
        if (!(victim = idlest_like(s, same_group)))
            return FALSE;
        g_ptr_array_add(gone, take_out(victim));
    }
    while (g_hash_table_size(sessions) >= (guint) conf->sessions_total) {
        if (!(victim = idlest_like(s, same_group)) && !(victim = idlest_like(s, same_user)) &&
            !(victim = idlest_of_the_greediest()))
            return FALSE;
        g_ptr_array_add(gone, take_out(victim));
    }
    return TRUE;
}

/* ---- begin and end ---- */

/* After they were taken out of the table. Unrefs them. */
static void bury(GPtrArray *gone, struct txn *t, const char *why)
{
    for (guint i = 0; i < gone->len; i++)
        drop_record(t, g_ptr_array_index(gone, i));
    txn_commit(t);
    for (guint i = 0; i < gone->len; i++) {
        struct session *s = g_ptr_array_index(gone, i);
        g_autofree char *user = log_escape(s->user);
        g_message("session %s of %s ended: %s", s->uuid, user, why);
        events_session_gone(s);
    }
}

struct session *session_create(struct identity *id, const struct access *a, const char *originator,
                               const struct origin *origin, gboolean local_only, struct fault *f)
{
    g_autoptr(GPtrArray) gone = g_ptr_array_new_with_free_func((GDestroyNotify) session_unref);
    struct session *s = session_new(id, a, originator, origin);
    s->local_only = local_only;
    g_rw_lock_writer_lock(&lock);
    gboolean room = make_room(s, gone);
    if (room)
        g_hash_table_insert(sessions, s->ref, session_ref(s));
    g_rw_lock_writer_unlock(&lock);
    struct txn *t = txn_begin(the_store());
    if (room && g_atomic_int_get(&s->valid)) /* whoever has ended it already comes after us for its record */
        put_record(t, s);
    bury(gone, t, "gave way to a new one of the same user");
    if (room)
        return s;
    session_unref(s);
    fault_set(f, "TOO_BUSY", NULL);
    return NULL;
}

struct session *session_for_drivers(void)
{
    static GMutex making;
    static struct session *drivers;
    struct identity id = {.user = g_strdup(""), .sid = g_strdup(""), .uid = (gint64) geteuid(), .peer = TRUE};
    struct access a = {.local_superuser = TRUE, .roles = roles_reached(ROLE_local_root), .subject = NULL_REF};
    const struct origin origin = {.address = "unix", .is_unix = TRUE};

    g_mutex_lock(&making);
    if (drivers && !g_atomic_int_get(&drivers->valid))
        g_clear_pointer(&drivers, session_unref);
    if (!drivers && (drivers = session_create(&id, &a, "storage drivers", &origin, FALSE, NULL)))
        drivers->of_drivers = TRUE;
    struct session *s = drivers ? session_ref(drivers) : NULL;
    g_mutex_unlock(&making);
    identity_clear(&id);
    return s;
}

static void end_all(GPtrArray *gone, const char *why)
{
    if (gone->len)
        bury(gone, txn_begin(the_store()), why);
}

static void end_for(struct session *s, const char *why)
{
    g_autoptr(GPtrArray) gone = g_ptr_array_new_with_free_func((GDestroyNotify) session_unref);
    g_rw_lock_writer_lock(&lock);
    if (g_hash_table_lookup(sessions, s->ref) == s)
        g_ptr_array_add(gone, take_out(s));
    g_rw_lock_writer_unlock(&lock);
    end_all(gone, why);
}

void session_end(struct session *s)
{
    end_for(s, "logged out");
}

/* ---- roles that changed ---- */

static void note_access(const struct session *s)
{
    struct txn *t = txn_begin(the_store());
    if (txn_get(t, CLASS_session, s->ref)) {
        txn_set(t, CLASS_session, s->ref, F_session_rbac_permissions, roles_permission_names(session_roles(s)));
        txn_set_time(t, CLASS_session, s->ref, F_session_validation_time, wall_clock());
    }
    txn_commit(t);
}

void session_recheck(struct session *s, GHashTable *subjects)
{
    struct access now;
    if (s->of_drivers)
        return;
    access_resolve(s->identity, subjects, &now);
    if (now.roles == session_roles(s))
        return;
    if (!now.roles || (s->local_only && !(now.roles & ROLE_BIT(ROLE_pool_admin)))) {
        end_for(s, "its user has no role any more");
        return;
    }
    __atomic_store_n(&s->roles, now.roles, __ATOMIC_RELAXED);
    note_access(s);
}

void sessions_recheck(void)
{
    g_autoptr(GHashTable) subjects = access_subjects();
    g_autoptr(GPtrArray) all = sessions_all();
    for (guint i = 0; i < all->len; i++)
        session_recheck(g_ptr_array_index(all, i), subjects);
}

/* ---- expiry ---- */

static void write_activity(void)
{
    g_autoptr(GPtrArray) all = sessions_all();
    struct txn *t = txn_begin(the_store());
    for (guint i = 0; i < all->len; i++) {
        struct session *s = g_ptr_array_index(all, i);
        gint64 active = active_at(s);
        if (active - s->stored_active < 1000 * SWEEP_SECONDS || !txn_get(t, CLASS_session, s->ref))
            continue;
        s->stored_active = active;
        txn_set_time(t, CLASS_session, s->ref, F_session_last_active, session_last_active(s));
    }
    txn_commit(t);
}

/* Work that goes on counts as activity. */
static gboolean is_due(struct session *s, gint64 now)
{
    if (in_use(s))
        set_active(s, now);
    return has_expired(s, now);
}

static void expire(void)
{
    g_autoptr(GPtrArray) gone = g_ptr_array_new_with_free_func((GDestroyNotify) session_unref);
    GHashTableIter iter;
    gpointer s;
    gint64 now = auth_now_ms();
    g_rw_lock_writer_lock(&lock);
    g_hash_table_iter_init(&iter, sessions);
    while (g_hash_table_iter_next(&iter, NULL, &s)) {
        if (!is_due(s, now))
            continue;
        g_atomic_int_set(&((struct session *) s)->valid, 0);
        g_hash_table_iter_steal(&iter);
        g_ptr_array_add(gone, s);
    }
    g_rw_lock_writer_unlock(&lock);
    end_all(gone, "was idle for too long");
}

void sessions_sweep(G_GNUC_UNUSED void *data)
{
    expire();
    sessions_recheck();
    write_activity();
}

void sessions_init(void)
{
    sessions = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify) session_unref);
    int seconds = CLAMP(the_conf()->session_idle_timeout / 4, 1, SWEEP_SECONDS);
    sweeper = clock_every(seconds * 1000, sessions_sweep, NULL);
}

void sessions_stop(void)
{
    if (sweeper)
        clock_cancel(sweeper);
    sweeper = 0;
}
