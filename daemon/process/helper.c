/* helper.c - the loop of a helper process: reads requests from the front's wire, runs each on a pool thread, sends the
 * answers, and takes a new wire from the supervisor when the front was replaced. See helper.h. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/process/helper.h"
#include "daemon/process/log.h"

#define DEFAULT_THREADS 64
#define PROGRESS_STEP   0.005

/* A front's wire. Requests hold it, so that an answer never goes to another front than the one that asked. */
struct link {
    gint refs;
    guint serial; /* 1 for the first */
    struct wire *wire;
    GHashTable *requests; /* id -> struct work, under the lock */
};

struct work {
    struct helper_request req; /* first: handlers hold a pointer to it */
    char *method;
    helper_fn *fn;
    struct link *link;
    double progress;
    gboolean answered; /* under the lock: it was given up */
    GCond cancelled;
    void (*on_cancel)(void *data);
    void *on_cancel_data;
};

/* One helper a process: its state. The lock guards what is below it, and every work's cancellation. */
static struct {
    const struct helper_options *options;
    struct conf *conf;
    GThreadPool *pool;
    struct wire *control; /* NULL: not started by a supervisor */
    int terminate;        /* an eventfd that SIGTERM writes */
    GMutex lock;
    GHashTable *works;    /* all under way, of this front and of earlier ones */
    struct link *link;    /* NULL: no front */
    struct fault refusal; /* without a code: none */
    gboolean (*spared)(const char *method);
} helper;

static struct link *link_new(int fd)
{
    static guint serial; /* only the reading thread makes links */
    struct link *l = g_new0(struct link, 1);
    l->refs = 1;
    l->serial = ++serial;
    l->wire = wire_new(fd);
    l->requests = g_hash_table_new(g_int64_hash, g_int64_equal);
    return l;
}

static struct link *link_ref(struct link *l)
{
    g_atomic_int_inc(&l->refs);
    return l;
}

static void link_unref(struct link *l)
{
    if (!l || !g_atomic_int_dec_and_test(&l->refs))
        return;
    wire_free(l->wire);
    g_hash_table_unref(l->requests);
    g_free(l);
}

static struct link *link_get(void)
{
    g_mutex_lock(&helper.lock);
    struct link *l = helper.link ? link_ref(helper.link) : NULL;
    g_mutex_unlock(&helper.lock);
    return l;
}

/* ---- what handlers call ---- */

gboolean helper_front_is_there(guint front)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&helper.lock);
    return helper.link ? helper.link->serial == front : front == 0;
}

void helper_notify(const char *method, struct value *params, const int *fds, int n_fds)
{
    struct link *l = link_get();
    if (l)
        wire_notify(l->wire, method, params, fds, n_fds);
    link_unref(l);
}

void helper_progress(struct helper_request *req, double fraction)
{
    struct work *work = (struct work *) req;
    fraction = CLAMP(fraction, 0.0, 1.0);
    if (fraction < work->progress + PROGRESS_STEP && fraction < 1.0)
        return;
    work->progress = fraction;
    struct value_builder b;
    value_builder_map(&b, NULL, 2);
    value_builder_put(&b, "id", value_int(NULL, req->id));
    value_builder_put(&b, "fraction", value_float(NULL, fraction));
    g_autoptr(value) params = value_builder_end(&b);
    wire_notify(work->link->wire, "progress", params, NULL, 0);
}

static _Thread_local struct helper_request *current;

struct helper_request *helper_current(void)
{
    return current;
}

gboolean helper_cancelled(struct helper_request *req)
{
    return g_atomic_int_get(&req->cancel) != 0;
}

gboolean helper_sleep(struct helper_request *req, guint64 ms)
{
    struct work *work = (struct work *) req;
    gint64 until = g_get_monotonic_time() + (gint64) ms * G_TIME_SPAN_MILLISECOND;
    g_mutex_lock(&helper.lock);
    while (!helper_cancelled(req) && g_cond_wait_until(&work->cancelled, &helper.lock, until))
        ;
    g_mutex_unlock(&helper.lock);
    return !helper_cancelled(req);
}

void helper_on_cancel(struct helper_request *req, void (*fn)(void *data), void *data)
{
    struct work *work = (struct work *) req;
    g_mutex_lock(&helper.lock);
    if (helper_cancelled(req)) {
        fn(data);
    } else {
        work->on_cancel = fn;
        work->on_cancel_data = data;
    }
    g_mutex_unlock(&helper.lock);
}

void helper_off_cancel(struct helper_request *req)
{
    struct work *work = (struct work *) req;
    g_mutex_lock(&helper.lock);
    work->on_cancel = NULL;
    g_mutex_unlock(&helper.lock);
}

/* With the lock held. */
static void cancel(struct work *work)
{
    if (helper_cancelled(&work->req))
        return;
    g_atomic_int_set(&work->req.cancel, 1);
    g_cond_broadcast(&work->cancelled);
    if (work->on_cancel)
        work->on_cancel(work->on_cancel_data);
    work->on_cancel = NULL;
}

/* ---- refusing ---- */

struct refused {
    struct link *link;
    gint64 id;
};

/* With the lock held. */
static GArray *give_up_works(void)
{
    GArray *all = g_array_new(FALSE, FALSE, sizeof(struct refused));
    GHashTableIter i;
    void *key;
    if (!helper.works) /* not begun yet */
        return all;
    g_hash_table_iter_init(&i, helper.works);
    while (g_hash_table_iter_next(&i, &key, NULL)) {
        struct work *work = key;
        if (work->answered || helper.spared(work->method))
            continue;
        struct refused one = {link_ref(work->link), work->req.id};
        work->answered = TRUE;
        g_array_append_val(all, one);
        cancel(work);
    }
    return all;
}

void helper_refuse(const struct fault *why, gboolean (*spared)(const char *method))
{
    g_mutex_lock(&helper.lock);
    fault_clear(&helper.refusal);
    fault_setv(&helper.refusal, why->code, (const char *const *) why->params);
    helper.spared = spared;
    g_autoptr(GArray) all = give_up_works();
    g_mutex_unlock(&helper.lock);
    for (guint i = 0; i < all->len; i++) {
        const struct refused *one = &g_array_index(all, struct refused, i);
        wire_answer_fault(one->link->wire, one->id, why);
        link_unref(one->link);
    }
}

void helper_accept(void)
{
    g_mutex_lock(&helper.lock);
    fault_clear(&helper.refusal);
    g_mutex_unlock(&helper.lock);
}

/* TRUE with f set when this method is refused. With the lock held. */
static gboolean is_refused(const char *method, struct fault *f)
{
    if (helper.refusal.code == NULL || helper.spared(method))
        return FALSE;
    fault_setv(f, helper.refusal.code, (const char *const *) helper.refusal.params);
    return TRUE;
}

/* ---- requests ---- */

static void close_all(int *fds, int n)
{
    for (int i = 0; i < n; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
}

static void work_free(struct work *work)
{
    close_all(work->req.fds, work->req.n_fds);
    close_all(work->req.answer_fds, work->req.n_answer_fds);
    value_unref(work->req.params);
    g_cond_clear(&work->cancelled);
    g_free(work->method);
    link_unref(work->link);
    g_free(work);
}

/* Was it cancelled before it began? The lock orders what the reader wrote before what this thread reads, where the
 * pool's own locks are not seen (the thread sanitizer). */
static gboolean was_cancelled(struct work *work)
{
    g_mutex_lock(&helper.lock);
    gboolean cancelled = helper_cancelled(&work->req);
    g_mutex_unlock(&helper.lock);
    return cancelled;
}

/* On a pool thread. */
static void run(void *data, void *user_data)
{
    (void) user_data;
    struct work *work = data;
    struct fault fault = FAULT_INIT;
    gboolean cancelled = was_cancelled(work);
    struct log_context context = {.method = work->method, .request_id = work->req.id};
    const struct log_context *before = log_push(&context);
    g_autoptr(value) result = NULL;
    if (cancelled)
        fault_set(&fault, "TASK_CANCELLED", "", NULL);
    else {
        current = &work->req;
        result = work->fn(&work->req, &fault);
        current = NULL;
    }

    g_mutex_lock(&helper.lock);
    g_hash_table_remove(work->link->requests, &work->req.id);
    g_hash_table_remove(helper.works, work);
    gboolean answered = work->answered;
    g_mutex_unlock(&helper.lock);
    if (answered)
        g_debug("%s ended after it had been given up", work->method);
    else if (!result && fault.code)
        wire_answer_fault(work->link->wire, work->req.id, &fault);
    else
        wire_answer(work->link->wire, work->req.id, result, work->req.answer_fds, work->req.n_answer_fds);
    fault_clear(&fault);
    log_push(before);
    work_free(work);
}

static helper_fn *find_method(const char *name)
{
    for (const struct helper_method *m = helper.options->methods; m->name; m++) {
        if (strcmp(m->name, name) == 0)
            return m->fn;
    }
    return NULL;
}

static void refuse_with(struct link *l, gint64 id, struct fault *f)
{
    wire_answer_fault(l->wire, id, f);
    fault_clear(f);
}

static void refuse(struct link *l, gint64 id, const char *code, const char *text)
{
    struct fault f = FAULT_INIT;
    fault_set(&f, code, text, NULL);
    refuse_with(l, id, &f);
}

static void on_cancel_message(struct link *l, struct value *params)
{
    gint64 id = value_as_int(value_get(params, "id"));
    g_mutex_lock(&helper.lock);
    struct work *work = g_hash_table_lookup(l->requests, &id);
    if (work)
        cancel(work);
    g_mutex_unlock(&helper.lock);
}

static void on_request(struct link *l, struct wire_message *m)
{
    helper_fn *fn = find_method(m->method);
    if (!fn) {
        g_autofree char *name = log_escape(m->method);
        refuse(l, m->id, "MESSAGE_METHOD_UNKNOWN", name);
        return;
    }
    struct work *work = g_new0(struct work, 1);
    work->method = g_steal_pointer(&m->method);
    work->fn = fn;
    work->link = link_ref(l);
    work->progress = -1;
    g_cond_init(&work->cancelled);
    work->req.id = m->id;
    work->req.method = work->method;
    work->req.params = g_steal_pointer(&m->params);
    work->req.data = helper.options->data;
    work->req.front = l->serial;
    memcpy(work->req.fds, m->fds, sizeof m->fds);
    work->req.n_fds = m->n_fds;
    m->n_fds = 0;

    struct fault why = FAULT_INIT;
    g_mutex_lock(&helper.lock);
    if (!is_refused(work->method, &why) && g_hash_table_contains(l->requests, &work->req.id))
        fault_set(&why, "INTERNAL_ERROR", "a request with this id is under way", NULL);
    if (!why.code) {
        g_hash_table_insert(l->requests, &work->req.id, work);
        g_hash_table_add(helper.works, work);
    }
    g_mutex_unlock(&helper.lock);
    if (why.code) {
        refuse_with(l, work->req.id, &why);
        work_free(work);
        return;
    }
    g_thread_pool_push(helper.pool, work, NULL);
}

/* ---- the wires ---- */

static void disconnect(void)
{
    g_mutex_lock(&helper.lock);
    struct link *old = g_steal_pointer(&helper.link);
    g_mutex_unlock(&helper.lock);
    link_unref(old);
}

static void connect_wire(int fd)
{
    disconnect();
    struct link *l = link_new(fd);
    g_mutex_lock(&helper.lock);
    helper.link = l;
    g_mutex_unlock(&helper.lock);
    if (helper.options->connected)
        helper.options->connected(helper.options->data);
}

/* Reads what the front has sent. FALSE when the helper is to end. */
static gboolean read_front(void)
{
    struct wire_message m;
    int got;
    while ((got = wire_read(helper.link->wire, &m, 0)) > 0) {
        if (m.method && m.id < 0 && strcmp(m.method, "cancel") == 0)
            on_cancel_message(helper.link, m.params);
        else if (m.method && m.id >= 0)
            on_request(helper.link, &m);
        wire_message_clear(&m);
    }
    if (got == 0)
        return TRUE;
    if (errno == EPROTO)
        g_warning("the front sent what is no message");
    else
        g_info("the front has gone");
    disconnect();
    return helper.control != NULL;
}

static void reload(void)
{
    g_autoptr(GError) error = NULL;
    struct conf *c = conf_reload(helper.conf, &error);
    if (!c) {
        g_warning("the configuration stays as it was: %s", error->message);
        return;
    }
    log_set_level(c->log_level);
    if (helper.options->reload)
        helper.options->reload(c, helper.options->data);
    conf_free(helper.conf);
    helper.conf = c;
}

static gboolean read_control(void)
{
    struct wire_message m;
    int got;
    gboolean go_on = TRUE;
    while (go_on && (got = wire_read(helper.control, &m, 0)) > 0) {
        const char *method = m.method ? m.method : "";
        if (strcmp(method, "wire") == 0 && m.n_fds == 1) {
            connect_wire(m.fds[0]);
            m.fds[0] = -1;
        } else if (strcmp(method, "reload") == 0) {
            reload();
        } else if (strcmp(method, "stop") == 0) {
            go_on = FALSE;
        }
        wire_message_clear(&m);
    }
    return go_on && got == 0;
}

/* FALSE when it was told to end, TRUE when it has nobody left to work for. */
static gboolean loop(void)
{
    for (;;) {
        struct pollfd p[3] = {
            {helper.terminate, POLLIN, 0},
            {helper.control ? wire_fd(helper.control) : -1, POLLIN, 0},
            {helper.link ? wire_fd(helper.link->wire) : -1, POLLIN, 0},
        };
        if (poll(p, G_N_ELEMENTS(p), -1) < 0 && errno != EINTR) {
            g_critical("poll: %s", g_strerror(errno));
            return FALSE;
        }
        if (p[0].revents > 0)
            return FALSE;
        if (p[1].revents > 0 && !read_control())
            return FALSE;
        /* The control wire may have replaced the link: what poll said is then about the old one, but reading does not
         * block, so it does no harm. */
        if (p[2].revents > 0 && helper.link && !read_front())
            return TRUE;
    }
}

/* ---- the process ---- */

static gboolean is_socket(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

static int fd_from_env(const char *name)
{
    const char *text = g_getenv(name);
    int fd = text ? atoi(text) : -1;
    g_unsetenv(name);
    if (fd < 0 || !is_socket(fd))
        return -1;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
}

static int find_wire(void)
{
    int fd = fd_from_env("XENAPID_WIRE_FD");
    for (int i = 3; fd < 0 && !helper.control && i >= 0; i -= 3) {
        if (is_socket(i))
            fd = i;
    }
    if (fd >= 0)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
}

static void on_terminate(int signal_number)
{
    int saved = errno;
    guint64 one = 1;
    (void) signal_number;
    if (write(helper.terminate, &one, sizeof one) < 0)
        _exit(1);
    errno = saved;
}

static void on_hangup(int signal_number)
{
    (void) signal_number;
}

/* Handlers, not a mask and not SIG_IGN: what a handler of a request executes must not inherit deaf ears. The
 * configuration is read again when the supervisor says so, so a hangup that reaches everyone is none of ours. */
static void catch_signals(void)
{
    struct sigaction terminate = {.sa_handler = on_terminate, .sa_flags = SA_RESTART};
    struct sigaction hangup = {.sa_handler = on_hangup, .sa_flags = SA_RESTART};
    helper.terminate = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sigaction(SIGTERM, &terminate, NULL);
    sigaction(SIGINT, &terminate, NULL);
    sigaction(SIGHUP, &hangup, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void cancel_all(void)
{
    GHashTableIter i;
    void *work;
    g_mutex_lock(&helper.lock);
    g_hash_table_iter_init(&i, helper.works);
    while (g_hash_table_iter_next(&i, &work, NULL))
        cancel(work);
    g_mutex_unlock(&helper.lock);
}

/* Waits for what is under way; the supervisor's patience is its limit. */
static void end(void)
{
    if (helper.options->stop)
        helper.options->stop(helper.options->data);
    g_thread_pool_free(helper.pool, FALSE, TRUE);
    disconnect();
    g_hash_table_unref(g_steal_pointer(&helper.works));
    wire_free(g_steal_pointer(&helper.control));
    conf_free(g_steal_pointer(&helper.conf));
}

int helper_main(int argc, char **argv, const struct helper_options *o,
                gboolean (*prepare)(const struct conf *c, void *data))
{
    int status = 0;
    gboolean check_only, describe_api, version;
    helper.options = o;
    helper.conf = conf_from_args(&argc, &argv, &status, &check_only, &describe_api, &version);
    if (!helper.conf)
        return status;
    log_init(o->program, helper.conf->log_level);
    catch_signals();
    int control = fd_from_env("XENAPID_CONTROL_FD");
    if (control >= 0)
        helper.control = wire_new(control);
    int fd = find_wire();
    if (fd < 0 && !helper.control) {
        g_critical("%s is started by xenapid; by hand, give it a socket: socat - EXEC:%s", o->program, o->program);
        return 2;
    }
    if (prepare && !prepare(helper.conf, o->data))
        return 1;
    helper.works = g_hash_table_new(NULL, NULL);
    helper.pool = g_thread_pool_new(run, NULL, o->max_threads > 0 ? o->max_threads : DEFAULT_THREADS, FALSE, NULL);
    if (fd >= 0)
        connect_wire(fd);
    /* A developer at the other end may have closed only one direction: the answers still go out. */
    if (!loop())
        cancel_all();
    end();
    return 0;
}
