/* event.c - event.from and the older event.register and event.next: walks of the store's changes, and who waits. */
#include <math.h>
#include "daemon/event.h"
#include "daemon/clock.h"
#include "auth/session.h"
#include "xapi-classes/handlers.h"

#define MAX_TIMEOUT_S     3600.0
#define NEXT_TIMEOUT_S    30.0 /* event.next waits no longer, and then answers no events */
#define SWEEP_EVERY_MS    2000
#define MAX_SUBSCRIPTIONS 4096

/* What a caller wants to hear of. */
struct subscription {
    gboolean all;
    guint64 classes[CLASS_WORDS];        /* whole classes */
    guint64 object_classes[CLASS_WORDS]; /* classes of which single objects are wanted */
    GHashTable *objects;                 /* their references, or NULL */
};

/* A caller that waits. Under `lock`, in `watchers`. */
struct watcher {
    struct call *call;
    struct subscription want;
    guint64 since;
    gint64 deadline; /* monotonic microseconds */
    gboolean next;   /* event.next: another form of answer, and the session keeps the place */
    struct value *answer;
};

static GMutex lock;
static GCond changed_cond;
static GPtrArray *watchers;          /* struct watcher * */
static guint64 changed[CLASS_WORDS]; /* classes that changed since the last round */
static gboolean stopping;
static gint64 last_round; /* when, in monotonic microseconds */
static gint64 epoch;      /* distinguishes this run's generations from another's */
static GThread *thread;

/* ---- subscriptions ---- */

static void bit_set(guint64 *words, int i)
{
    words[i / 64] |= G_GUINT64_CONSTANT(1) << (i % 64);
}

static gboolean bit_get(const guint64 *words, int i)
{
    return words[i / 64] >> (i % 64) & 1;
}

static void subscription_clear(struct subscription *s)
{
    g_clear_pointer(&s->objects, g_hash_table_unref);
}

static gboolean is_told(const struct class *class)
{
    return !(class->flags & NO_EVENTS) && (class->flags & (OBJECT | STORED));
}

/* One class name: "*", "vm", "VM". Names that are not known match nothing: newer clients know more classes. */
static void want_class(struct subscription *s, const char *name)
{
    const struct class *class = class_by_name(name);
    if (strcmp(name, "*") == 0)
        s->all = TRUE;
    else if (class && is_told(class))
        bit_set(s->classes, class->id);
}

static gboolean want_object(struct subscription *s, const char *text, const char *slash, struct fault *f)
{
    g_autofree char *name = g_strndup(text, slash - text);
    const struct class *class = class_by_name(name);

    if (!*name || !slash[1] || strchr(slash + 1, '/'))
        return fault_set(f, "EVENT_SUBSCRIPTION_PARSE_FAILURE", text, NULL);
    if (strcmp(slash + 1, "*") == 0) {
        want_class(s, name);
        return TRUE;
    }
    if (class && is_told(class)) {
        bit_set(s->object_classes, class->id);
        if (!s->objects)
            s->objects = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_hash_table_add(s->objects, g_strdup(slash + 1));
    }
    return TRUE;
}

static gboolean subscription_parse(struct value *classes, struct subscription *s, struct fault *f)
{
    if (value_count(classes) > MAX_SUBSCRIPTIONS)
        return fault_set(f, "EVENT_SUBSCRIPTION_PARSE_FAILURE", "too many subscriptions", NULL);
    for (gsize i = 0; i < value_count(classes); i++) {
        const char *text = value_str(value_at(classes, i));
        const char *slash = strchr(text, '/');
        if (!*text)
            return fault_set(f, "EVENT_SUBSCRIPTION_PARSE_FAILURE", text, NULL);
        if (!slash)
            want_class(s, text);
        else if (!want_object(s, text, slash, f))
            return FALSE;
    }
    return TRUE;
}

static gboolean wants(const struct subscription *s, const struct store_change *c)
{
    if (!is_told(c->class))
        return FALSE;
    if (s->all || bit_get(s->classes, c->class->id))
        return TRUE;
    return s->objects && bit_get(s->object_classes, c->class->id) && g_hash_table_contains(s->objects, c->ref);
}

static gboolean wants_any(const struct subscription *s, const guint64 *classes)
{
    for (int i = 0; i < (int) CLASS_WORDS; i++) {
        if (classes[i] && (s->all || classes[i] & (s->classes[i] | s->object_classes[i])))
            return TRUE;
    }
    return FALSE;
}

/* ---- tokens ---- */

static struct value *token_value(guint64 generation)
{
    return value_printf(NULL, "%020" G_GINT64_FORMAT ",%020" G_GUINT64_FORMAT, epoch, generation);
}

/* Digits alone, up to a terminator. */
static gboolean number_parse(const char **p, char end, guint64 *n)
{
    char *after;
    if (!g_ascii_isdigit(**p))
        return FALSE;
    *n = g_ascii_strtoull(*p, &after, 10);
    if (*after != end)
        return FALSE;
    *p = after + 1;
    return TRUE;
}

static gboolean token_parse(const char *text, guint64 *since, struct fault *f)
{
    const char *p = text;
    guint64 of_epoch, generation;

    *since = 0;
    if (!*text)
        return TRUE;
    if (!number_parse(&p, ',', &of_epoch) || !number_parse(&p, '\0', &generation))
        return fault_set(f, "EVENT_FROM_TOKEN_PARSE_FAILURE", text, NULL);
    if (of_epoch != (guint64) epoch || generation > store_generation(the_store()) ||
        (generation && generation < store_oldest_tombstone(the_store())))
        return fault_set(f, "EVENTS_LOST", NULL);
    *since = generation;
    return TRUE;
}

/* ---- answers ---- */

struct collection {
    const struct subscription *want;
    guint64 since;
    gboolean next;
    struct value_builder events;
};

static void collect(const struct store_change *c, void *data)
{
    struct collection *col = data;
    struct value_builder e;

    if (!wants(col->want, c) || (!c->record && col->since == 0))
        return;
    value_builder_map(&e, NULL, 7);
    value_builder_put(&e, "id", value_printf(NULL, "%" G_GUINT64_FORMAT, c->generation));
    value_builder_put(&e, "timestamp", value_datetime(NULL, g_get_real_time() / G_USEC_PER_SEC));
    value_builder_put_string(&e, "class", c->class->lower_name);
    value_builder_put_string(&e, "operation", !c->record ? "del" : c->created > col->since ? "add" : "mod");
    value_builder_put_string(&e, "ref", c->ref);
    if (col->next)
        value_builder_put_string(&e, "obj_uuid", c->uuid);
    if (c->record)
        value_builder_put(&e, "snapshot", record_value(c->record));
    value_builder_add(&col->events, value_builder_end(&e));
}

static struct value *ref_counts(const struct subscription *s)
{
    struct value_builder counts;

    value_builder_map(&counts, NULL, N_CLASSES);
    for (int i = 0; i < N_CLASSES; i++) {
        const struct class *class = class_by_id(i);
        if (is_told(class) && (s->all || bit_get(s->classes, i) || bit_get(s->object_classes, i)))
            value_builder_put(&counts, class->lower_name, value_i4(NULL, (gint32) store_count(the_store(), i)));
    }
    return value_builder_end(&counts);
}

/* What changed since; *generation says up to where. NULL when there is nothing and empty is not wanted. */
static struct value *walk(const struct subscription *s, guint64 since, gboolean next, gboolean empty_too,
                          guint64 *generation)
{
    struct collection col = {s, since, next, {0}};

    value_builder_set(&col.events, NULL, 0);
    *generation = store_walk(the_store(), since, collect, &col);
    if (col.events.n == 0 && !empty_too) {
        value_builder_clear(&col.events);
        return NULL;
    }
    struct value *events = value_builder_end(&col.events);
    if (next)
        return events;
    struct value_builder batch;
    value_builder_map(&batch, NULL, 3);
    value_builder_put(&batch, "events", events);
    value_builder_put(&batch, "valid_ref_counts", ref_counts(s));
    value_builder_put(&batch, "token", token_value(*generation));
    return value_builder_end(&batch);
}

static void remember_place(struct session *s, guint64 generation)
{
    g_mutex_lock(&s->lock);
    s->event_generation = generation;
    g_mutex_unlock(&s->lock);
}

/* ---- waiting ---- */

static void watcher_free(struct watcher *w)
{
    subscription_clear(&w->want);
    g_free(w);
}

/* Works out w's answer if it has something to hear, if its time is up, or if nobody listens. FALSE: it goes on waiting.
 */
static gboolean watcher_try(struct watcher *w, gint64 now)
{
    gboolean late = now >= w->deadline || stopping || call_is_abandoned(w->call);
    guint64 generation;

    if (!g_atomic_int_get(&w->call->session->valid)) {
        call_fail(w->call, "SESSION_INVALID", w->call->session->ref, NULL);
        return TRUE;
    }
    if (w->since < store_oldest_tombstone(the_store())) { /* so much was deleted since it began to wait */
        call_fail(w->call, "EVENTS_LOST", NULL);
        return TRUE;
    }
    w->answer = walk(&w->want, w->since, w->next, late, &generation);
    if (!w->answer) {
        w->since = MAX(w->since, generation);
        return FALSE;
    }
    if (w->next)
        remember_place(w->call->session, generation);
    return TRUE;
}

/* Takes those out that are answered: of the classes that changed, or whose time is up. Under the lock. */
static GPtrArray *take_answered(const guint64 *classes)
{
    gint64 now = g_get_monotonic_time();
    GPtrArray *answered = g_ptr_array_new();

    for (guint i = 0; i < watchers->len;) {
        struct watcher *w = watchers->pdata[i];
        gboolean due =
            now >= w->deadline || stopping || call_is_abandoned(w->call) || !g_atomic_int_get(&w->call->session->valid);
        if ((due || wants_any(&w->want, classes)) && watcher_try(w, now))
            g_ptr_array_add(answered, g_ptr_array_remove_index_fast(watchers, i));
        else
            i++;
    }
    return answered;
}

/* Without the lock: what follows an answer may be the client's next call. Takes over answered. */
static void send_answers(GPtrArray *answered)
{
    for (guint i = 0; i < answered->len; i++) {
        struct watcher *w = answered->pdata[i];
        call_complete(w->call, w->answer);
        watcher_free(w);
    }
    g_ptr_array_unref(answered);
}

static gint64 next_deadline(void)
{
    gint64 soonest = g_get_monotonic_time() + SWEEP_EVERY_MS * 1000;
    for (guint i = 0; i < watchers->len; i++)
        soonest = MIN(soonest, ((struct watcher *) watchers->pdata[i])->deadline);
    return soonest;
}

static gboolean any_changed(void)
{
    for (int i = 0; i < (int) CLASS_WORDS; i++) {
        if (changed[i])
            return TRUE;
    }
    return FALSE;
}

/* Lets a burst of commits become one batch, unless a task changed: somebody waits for that. What comes after a quiet
 * moment is told at once. */
static void let_gather(void)
{
    gint64 until = last_round + the_conf()->event_batch_ms * 1000;
    while (!stopping && !bit_get(changed, CLASS_task)) {
        if (!g_cond_wait_until(&changed_cond, &lock, until))
            break;
    }
}

static void *event_thread(G_GNUC_UNUSED void *data)
{
    g_mutex_lock(&lock);
    while (!stopping) {
        if (!any_changed())
            g_cond_wait_until(&changed_cond, &lock, next_deadline());
        if (any_changed()) {
            let_gather();
            last_round = g_get_monotonic_time();
        }
        guint64 now[CLASS_WORDS];
        memcpy(now, changed, sizeof now);
        memset(changed, 0, sizeof changed);
        GPtrArray *answered = take_answered(now);
        g_mutex_unlock(&lock);
        send_answers(answered);
        g_mutex_lock(&lock);
    }
    GPtrArray *rest = take_answered(changed); /* everybody is due now */
    g_mutex_unlock(&lock);
    send_answers(rest);
    return NULL;
}

/* The store's news, on a thread of the store's. */
static void notify(const guint64 words[CLASS_WORDS], G_GNUC_UNUSED void *data)
{
    g_mutex_lock(&lock);
    for (int i = 0; i < (int) CLASS_WORDS; i++)
        changed[i] |= words[i];
    if (watchers->len)
        g_cond_signal(&changed_cond);
    else
        memset(changed, 0, sizeof changed);
    g_mutex_unlock(&lock);
}

/* Answers now if there is something since, else when there is. Takes over want. */
static struct value *answer_or_wait(struct call *c, struct subscription *want, guint64 since, double timeout,
                                    gboolean next)
{
    guint64 generation;

    if (!(timeout > 0)) /* also NaN */
        timeout = 0;
    g_mutex_lock(&lock); /* from the walk to the list nothing is missed: news wait for this lock */
    struct value *answer = walk(want, since, next, timeout == 0 || stopping, &generation);
    if (answer) {
        g_mutex_unlock(&lock);
        subscription_clear(want);
        if (next)
            remember_place(c->session, generation);
        return answer;
    }
    struct watcher *w = g_new0(struct watcher, 1);
    w->call = call_defer(c);
    w->want = *want;
    w->since = MAX(since, generation);
    w->deadline = g_get_monotonic_time() + (gint64) (fmin(timeout, MAX_TIMEOUT_S) * G_USEC_PER_SEC);
    w->next = next;
    g_ptr_array_add(watchers, w);
    g_cond_signal(&changed_cond); /* its deadline may be the next */
    g_mutex_unlock(&lock);
    return CALL_DEFERRED;
}

void events_init(void)
{
    watchers = g_ptr_array_new();
    epoch = g_get_real_time();
    stopping = FALSE;
    store_set_notify(the_store(), notify, NULL);
    thread = g_thread_new("events", event_thread, NULL);
}

void events_stop(void)
{
    g_mutex_lock(&lock);
    stopping = TRUE;
    g_cond_signal(&changed_cond);
    g_mutex_unlock(&lock);
    g_thread_join(thread);
}

void events_session_gone(G_GNUC_UNUSED struct session *s)
{
    guint64 nothing[CLASS_WORDS] = {0};

    g_mutex_lock(&lock);
    GPtrArray *answered = take_answered(nothing); /* those of sessions that are no longer valid are due */
    g_mutex_unlock(&lock);
    send_answers(answered);
}

/* ---- the messages ---- */

struct value *event_from(struct call *c)
{
    struct subscription want = {0};
    guint64 since;

    if (!token_parse(call_str(c, 1), &since, &c->fault) || !subscription_parse(call_arg(c, 0), &want, &c->fault)) {
        subscription_clear(&want);
        return NULL;
    }
    return answer_or_wait(c, &want, since, call_float(c, 2), FALSE);
}

struct value *event_register(struct call *c)
{
    struct value *classes = call_arg(c, 0);
    struct session *s = c->session;

    g_mutex_lock(&s->lock);
    if (!s->registered) {
        s->registered = TRUE;
        s->event_generation = store_generation(the_store());
        s->classes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    }
    if (value_count(classes) == 0) /* the older API's way to say all */
        g_hash_table_add(s->classes, g_strdup("*"));
    for (gsize i = 0; i < value_count(classes) && g_hash_table_size(s->classes) < MAX_SUBSCRIPTIONS; i++)
        g_hash_table_add(s->classes, g_ascii_strdown(value_str(value_at(classes, i)), -1));
    g_mutex_unlock(&s->lock);
    return value_void();
}

struct value *event_unregister(struct call *c)
{
    struct value *classes = call_arg(c, 0);
    struct session *s = c->session;

    g_mutex_lock(&s->lock);
    if (s->classes && value_count(classes) == 0)
        g_hash_table_remove_all(s->classes);
    for (gsize i = 0; s->classes && i < value_count(classes); i++) {
        g_autofree char *name = g_ascii_strdown(value_str(value_at(classes, i)), -1);
        g_hash_table_remove(s->classes, name);
    }
    if (s->classes && g_hash_table_size(s->classes) == 0) {
        s->registered = FALSE;
        g_clear_pointer(&s->classes, g_hash_table_unref);
    }
    g_mutex_unlock(&s->lock);
    return value_void();
}

struct value *event_next(struct call *c)
{
    struct subscription want = {0};
    struct session *s = c->session;

    g_mutex_lock(&s->lock);
    gboolean registered = s->registered;
    guint64 since = s->event_generation;
    if (registered) {
        GHashTableIter it;
        void *name;
        g_hash_table_iter_init(&it, s->classes);
        while (g_hash_table_iter_next(&it, &name, NULL))
            want_class(&want, name);
    }
    g_mutex_unlock(&s->lock);
    if (!registered)
        return call_fail(c, "SESSION_NOT_REGISTERED", s->ref, NULL);
    if (since < store_oldest_tombstone(the_store())) {
        remember_place(s, store_generation(the_store()));
        return call_fail(c, "EVENTS_LOST", NULL);
    }
    return answer_or_wait(c, &want, since, NEXT_TIMEOUT_S, TRUE);
}

struct value *event_inject(struct call *c)
{
    const struct class *class = class_by_name(call_str(c, 0));
    struct value *token = token_value(store_generation(the_store()));
    struct txn *t = txn_begin(the_store());

    if (!class || !is_told(class) || !txn_get(t, class->id, call_str(c, 1))) {
        txn_abort(t);
        value_unref(token);
        return call_fail(c, "HANDLE_INVALID", call_str(c, 0), call_str(c, 1), NULL);
    }
    txn_touch(t, class->id, call_str(c, 1));
    call_commit(c, t);
    return token;
}

struct value *event_get_current_id(G_GNUC_UNUSED struct call *c)
{
    return value_int(NULL, (gint64) store_generation(the_store()));
}
