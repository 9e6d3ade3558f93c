/* task_queue.c - which task runs next: sessions in turn, objects one task at a time, a bounded pool of workers. */
#include <string.h>

#include "daemon/task_private.h"

/* The pending tasks of one session, oldest first. It stands in `ring` while it has any. */
struct turn {
    char *session;
    GQueue tasks;
    guint alive; /* pending and running */
};

static GMutex lock;
static GCond wake_worker, task_ended;
static GHashTable *turns; /* session uuid -> struct turn * */
static GQueue ring;       /* struct turn * with pending tasks, next in turn first */
static GHashTable *busy;  /* references of objects that a task runs on */
static GHashTable *live;  /* task reference -> struct task *, pending and running */
static guint n_workers, n_idle, n_pending, n_running;
static gboolean stopping;
static task_run_fn *run_task;

static void turn_free(void *data)
{
    struct turn *turn = data;
    g_free(turn->session);
    g_free(turn);
}

void queue_init(task_run_fn *run)
{
    run_task = run;
    stopping = FALSE;
    turns = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, turn_free);
    busy = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    live = g_hash_table_new(g_str_hash, g_str_equal);
    g_queue_init(&ring);
}

static struct turn *turn_of(const char *session)
{
    struct turn *turn = g_hash_table_lookup(turns, session);
    if (!turn) {
        turn = g_new0(struct turn, 1);
        turn->session = g_strdup(session);
        g_queue_init(&turn->tasks);
        g_hash_table_insert(turns, turn->session, turn);
    }
    return turn;
}

static gboolean goes_alone(const struct task *t)
{
    return t->object && !(t->work.call.msg && t->work.call.msg->over);
}

/* The first task of a turn whose object is free, taken out of the queue. */
static struct task *take_from(struct turn *turn)
{
    for (GList *l = turn->tasks.head; l; l = l->next) {
        struct task *t = l->data;
        if (goes_alone(t) && g_hash_table_contains(busy, t->object))
            continue;
        g_queue_delete_link(&turn->tasks, l);
        return t;
    }
    return NULL;
}

/* The next task, marked as running; NULL when none can run now. The session served goes to the end of the ring. */
static struct task *take_next(void)
{
    for (GList *l = ring.head; l; l = l->next) {
        struct turn *turn = l->data;
        struct task *t = take_from(turn);
        if (!t)
            continue;
        g_queue_unlink(&ring, l);
        if (g_queue_is_empty(&turn->tasks))
            g_list_free_1(l);
        else
            g_queue_push_tail_link(&ring, l);
        if (goes_alone(t))
            g_hash_table_add(busy, g_strdup(t->object));
        t->state = TASK_RUNNING;
        n_pending--;
        n_running++;
        return t;
    }
    return NULL;
}

/* t is over, in whatever way: forgets it under the lock. */
static void forget(struct task *t)
{
    struct turn *turn = g_hash_table_lookup(turns, t->session);

    t->state = TASK_DONE;
    g_hash_table_remove(live, t->ref);
    if (turn && --turn->alive == 0)
        g_hash_table_remove(turns, t->session);
    g_cond_broadcast(&task_ended);
}

static void *worker(G_GNUC_UNUSED void *data)
{
    g_mutex_lock(&lock);
    for (;;) {
        struct task *t = stopping ? NULL : take_next();
        if (!t) {
            n_idle++;
            g_cond_wait(&wake_worker, &lock);
            n_idle--;
            continue;
        }
        g_mutex_unlock(&lock);
        run_task(t);
        g_mutex_lock(&lock);
        n_running--;
        if (goes_alone(t) && g_hash_table_remove(busy, t->object))
            g_cond_broadcast(&wake_worker); /* what waited for this object may run now */
        forget(t);
        g_mutex_unlock(&lock);
        task_unref(t);
        g_mutex_lock(&lock);
    }
    return NULL;
}

gboolean queue_has_room(const char *session, struct fault *f)
{
    const struct conf *conf = the_conf();

    g_mutex_lock(&lock);
    struct turn *turn = g_hash_table_lookup(turns, session);
    gboolean room = !stopping && n_pending < (guint) conf->max_pending &&
                    (!turn || !*session || turn->alive < (guint) conf->max_pending_per_session);
    g_mutex_unlock(&lock);
    return room || fault_set(f, "TOO_MANY_PENDING_TASKS", NULL);
}

void queue_push(struct task *t)
{
    g_mutex_lock(&lock);
    struct turn *turn = turn_of(t->session);
    if (g_queue_is_empty(&turn->tasks))
        g_queue_push_tail(&ring, turn);
    g_queue_push_tail(&turn->tasks, task_ref(t));
    turn->alive++;
    g_hash_table_insert(live, t->ref, t);
    n_pending++;
    if (n_pending > n_idle && n_workers < (guint) the_conf()->workers) {
        n_workers++;
        g_thread_unref(g_thread_new("worker", worker, NULL));
    }
    g_cond_signal(&wake_worker);
    g_mutex_unlock(&lock);
}

struct task *queue_find(const char *ref)
{
    g_mutex_lock(&lock);
    struct task *t = ref ? g_hash_table_lookup(live, ref) : NULL;
    if (t)
        task_ref(t);
    g_mutex_unlock(&lock);
    return t;
}

gboolean queue_cancel(struct task *t)
{
    gboolean was_pending = FALSE;

    g_mutex_lock(&lock);
    g_atomic_int_set(&t->cancelled, 1);
    if (t->state == TASK_PENDING) {
        struct turn *turn = g_hash_table_lookup(turns, t->session);
        was_pending = turn && g_queue_remove(&turn->tasks, t);
        if (was_pending) {
            n_pending--;
            if (g_queue_is_empty(&turn->tasks))
                g_queue_remove(&ring, turn);
            forget(t);
        }
    }
    g_mutex_unlock(&lock);
    return was_pending; /* the queue's reference is now the caller's */
}

guint queue_count(const char *session)
{
    g_mutex_lock(&lock);
    struct turn *turn = g_hash_table_lookup(turns, session);
    guint n = turn ? turn->alive : 0;
    g_mutex_unlock(&lock);
    return n;
}

struct value *queue_refs(const char *session)
{
    struct value_builder b;
    GHashTableIter iter;
    void *value;
    value_builder_set(&b, NULL, 8);
    g_mutex_lock(&lock);
    g_hash_table_iter_init(&iter, live);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct task *t = value;
        if (strcmp(t->session, session) == 0)
            value_builder_add_string(&b, t->ref);
    }
    g_mutex_unlock(&lock);
    return value_builder_end(&b);
}

guint queue_stop(gint64 deadline_ms)
{
    g_mutex_lock(&lock);
    stopping = TRUE;
    while (n_running > 0) {
        if (!g_cond_wait_until(&task_ended, &lock, deadline_ms * 1000))
            break;
    }
    guint left = n_running;
    g_mutex_unlock(&lock);
    return left;
}
