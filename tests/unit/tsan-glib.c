/* tsan-glib.c - GLib's locks over pthread's, in builds with the thread sanitizer only: it knows pthread's, but takes
 * GLib's own, which are made of futexes, for no locks at all. */
#include <glib.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#endif

#ifdef UNDER_TSAN
#include <errno.h>
#include <pthread.h>
#include <time.h>

static pthread_mutex_t *mutex_of(GMutex *m)
{
    pthread_mutex_t *p = g_atomic_pointer_get(&m->p);
    if (p != NULL)
        return p;
    p = g_new(pthread_mutex_t, 1);
    pthread_mutex_init(p, NULL);
    if (g_atomic_pointer_compare_and_exchange(&m->p, NULL, p))
        return p;
    pthread_mutex_destroy(p);
    g_free(p);
    return g_atomic_pointer_get(&m->p);
}

static pthread_cond_t *cond_of(GCond *c)
{
    pthread_cond_t *p = g_atomic_pointer_get(&c->p);
    if (p != NULL)
        return p;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    p = g_new(pthread_cond_t, 1);
    pthread_cond_init(p, &attr);
    pthread_condattr_destroy(&attr);
    if (g_atomic_pointer_compare_and_exchange(&c->p, NULL, p))
        return p;
    pthread_cond_destroy(p);
    g_free(p);
    return g_atomic_pointer_get(&c->p);
}

void g_mutex_init(GMutex *m)
{
    m->p = NULL;
}

void g_mutex_clear(GMutex *m)
{
    if (m->p != NULL)
        pthread_mutex_destroy(m->p);
    g_free(m->p);
    m->p = NULL;
}

void g_mutex_lock(GMutex *m)
{
    pthread_mutex_lock(mutex_of(m));
}

gboolean g_mutex_trylock(GMutex *m)
{
    return pthread_mutex_trylock(mutex_of(m)) == 0;
}

void g_mutex_unlock(GMutex *m)
{
    pthread_mutex_unlock(mutex_of(m));
}

void g_cond_init(GCond *c)
{
    c->p = NULL;
}

void g_cond_clear(GCond *c)
{
    if (c->p != NULL)
        pthread_cond_destroy(c->p);
    g_free(c->p);
    c->p = NULL;
}

void g_cond_wait(GCond *c, GMutex *m)
{
    pthread_cond_wait(cond_of(c), mutex_of(m));
}

gboolean g_cond_wait_until(GCond *c, GMutex *m, gint64 end_time)
{
    struct timespec end = {end_time / G_USEC_PER_SEC, end_time % G_USEC_PER_SEC * 1000};
    return pthread_cond_timedwait(cond_of(c), mutex_of(m), &end) != ETIMEDOUT;
}

void g_cond_signal(GCond *c)
{
    pthread_cond_signal(cond_of(c));
}

void g_cond_broadcast(GCond *c)
{
    pthread_cond_broadcast(cond_of(c));
}

gpointer g_once_impl(GOnce *once, GThreadFunc func, gpointer arg)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    if (once->status != G_ONCE_STATUS_READY) {
        once->retval = func(arg);
        g_atomic_int_set(&once->status, G_ONCE_STATUS_READY);
    }
    pthread_mutex_unlock(&lock);
    return once->retval;
}
#endif
