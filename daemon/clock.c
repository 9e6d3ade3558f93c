/* clock.c - the timer thread: a GLib main context that runs nothing but timeouts. */
#include "daemon/clock.h"

/* One callback that is due later. id doubles as the key in `timers`. */
struct timer {
    guint64 id;
    clock_fn *fn;
    void *data;
    gboolean repeats;
    GSource *source;
};

static GMutex lock;
static GHashTable *timers; /* id -> struct timer *, under lock */
static guint64 last_id;
static GMainContext *context;
static GMainLoop *loop;
static GThread *thread;

static void timer_free(void *data)
{
    struct timer *t = data;
    g_source_destroy(t->source);
    g_source_unref(t->source);
    g_free(t);
}

/* Runs a timer that is still wanted. It leaves the table before it runs, so that clock_cancel tells the truth. */
static gboolean fire(void *data)
{
    guint64 id = *(guint64 *) data;
    clock_fn *fn = NULL;
    void *fn_data = NULL;
    gboolean repeats = FALSE;

    g_mutex_lock(&lock);
    struct timer *t = g_hash_table_lookup(timers, &id);
    if (t) {
        fn = t->fn;
        fn_data = t->data;
        repeats = t->repeats;
        if (!repeats)
            g_hash_table_remove(timers, &id);
    }
    g_mutex_unlock(&lock);
    if (fn)
        fn(fn_data);
    return repeats ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static void *clock_thread(G_GNUC_UNUSED void *data)
{
    g_main_context_push_thread_default(context);
    g_main_loop_run(loop);
    g_main_context_pop_thread_default(context);
    return NULL;
}

void clock_init(void)
{
    context = g_main_context_new();
    loop = g_main_loop_new(context, FALSE);
    timers = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, timer_free);
    thread = g_thread_new("clock", clock_thread, NULL);
}

static gboolean quit_loop(G_GNUC_UNUSED void *data)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

void clock_stop(void)
{
    if (!thread)
        return;
    g_main_context_invoke_full(context, G_PRIORITY_HIGH, quit_loop, NULL, NULL);
    g_thread_join(thread);
    thread = NULL;
    g_mutex_lock(&lock);
    g_clear_pointer(&timers, g_hash_table_unref);
    g_mutex_unlock(&lock);
    g_clear_pointer(&loop, g_main_loop_unref);
    g_clear_pointer(&context, g_main_context_unref);
}

static guint64 clock_add(guint ms, clock_fn *fn, void *data, gboolean repeats)
{
    struct timer *t = g_new0(struct timer, 1);

    t->fn = fn;
    t->data = data;
    t->repeats = repeats;
    t->source = g_timeout_source_new(ms);
    g_mutex_lock(&lock);
    if (!timers) { /* stopped: nothing is due any more */
        g_mutex_unlock(&lock);
        g_source_unref(t->source);
        g_free(t);
        return G_MAXUINT64;
    }
    t->id = ++last_id;
    guint64 id = t->id;
    g_source_set_callback(t->source, fire, g_memdup2(&id, sizeof id), g_free);
    g_hash_table_insert(timers, &t->id, t);
    g_source_attach(t->source, context);
    g_mutex_unlock(&lock);
    return id;
}

guint64 clock_after(guint ms, clock_fn *fn, void *data)
{
    return clock_add(ms, fn, data, FALSE);
}

guint64 clock_every(guint ms, clock_fn *fn, void *data)
{
    return clock_add(ms, fn, data, TRUE);
}

gboolean clock_cancel(guint64 id)
{
    g_mutex_lock(&lock);
    gboolean cancelled = timers && g_hash_table_remove(timers, &id);
    g_mutex_unlock(&lock);
    return cancelled;
}
