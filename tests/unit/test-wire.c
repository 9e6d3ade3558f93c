/* test-wire.c - the wire between processes, and calls to a helper over it. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/process/peer.h"

static void make_pair(struct wire **a, struct wire **b)
{
    int fds[2];
    g_assert_true(wire_pair(fds));
    *a = wire_new(fds[0]);
    *b = wire_new(fds[1]);
}

static struct value *one_member(const char *key, struct value *v)
{
    struct value_builder b;
    value_builder_map(&b, NULL, 1);
    value_builder_put(&b, key, v);
    return value_builder_end(&b);
}

static void send_raw(struct wire *w, const char *text)
{
    g_assert_cmpint(send(wire_fd(w), text, strlen(text), 0), ==, (ssize_t) strlen(text));
}

/* ---- the wire ---- */

static void test_messages(void)
{
    struct wire *a, *b;
    struct wire_message m;
    struct fault f = FAULT_INIT;
    make_pair(&a, &b);
    g_autoptr(value) params = one_member("text", value_string(NULL, "a\nb \"\xc3\xa9\""));
    g_assert_cmpint(wire_read(b, &m, 0), ==, 0);
    g_assert_true(wire_request(a, 7, "hello", params, NULL, 0));
    g_assert_true(wire_notify(a, "news", NULL, NULL, 0));
    g_assert_true(wire_answer(a, 8, params, NULL, 0));
    g_assert_true(wire_answer(a, 9, NULL, NULL, 0));
    fault_set(&f, "VM_BAD_POWER_STATE", "x", "y", NULL);
    g_assert_true(wire_answer_fault(a, 10, &f));
    fault_clear(&f);

    g_assert_cmpint(wire_read(b, &m, 1000), ==, 1);
    g_assert_cmpint(m.id, ==, 7);
    g_assert_cmpstr(m.method, ==, "hello");
    g_assert_cmpstr(value_get_str(m.params, "text", ""), ==, "a\nb \"\xc3\xa9\"");
    wire_message_clear(&m);
    g_assert_cmpint(wire_read(b, &m, 1000), ==, 1);
    g_assert_cmpint(m.id, ==, -1);
    g_assert_cmpstr(m.method, ==, "news");
    g_assert_nonnull(m.params);
    wire_message_clear(&m);
    g_assert_cmpint(wire_read(b, &m, 1000), ==, 1);
    g_assert_null(m.method);
    g_assert_cmpint(m.id, ==, 8);
    g_assert_cmpint(value_count(m.result), ==, 1);
    wire_message_clear(&m);
    g_assert_cmpint(wire_read(b, &m, 1000), ==, 1);
    g_assert_nonnull(m.result);
    g_assert_cmpstr(value_str(m.result), ==, "");
    wire_message_clear(&m);
    g_assert_cmpint(wire_read(b, &m, 1000), ==, 1);
    g_assert_null(m.result);
    g_assert_cmpstr(m.fault.code, ==, "VM_BAD_POWER_STATE");
    g_assert_cmpstr(m.fault.params[1], ==, "y");
    wire_message_clear(&m);
    wire_free(a);
    g_assert_cmpint(wire_read(b, &m, 1000), ==, -1);
    g_assert_false(wire_notify(b, "x", NULL, NULL, 0));
    wire_free(b);
}

static int count_fds(void)
{
    int n = 0;
    g_autoptr(GDir) d = g_dir_open("/proc/self/fd", 0, NULL);
    while (g_dir_read_name(d))
        n++;
    return n;
}

static void test_fds(void)
{
    struct wire *a, *b;
    struct wire_message m;
    int pipes[2], fds[WIRE_MAX_FDS], before = count_fds();
    char text[8] = "";
    make_pair(&a, &b);
    g_assert_cmpint(pipe(pipes), ==, 0);
    for (int i = 0; i < WIRE_MAX_FDS; i++)
        fds[i] = pipes[1];
    /* Several messages at once: each gets its own descriptors. */
    g_assert_true(wire_notify(a, "none", NULL, NULL, 0));
    g_assert_true(wire_request(a, 1, "all", NULL, fds, WIRE_MAX_FDS));
    g_assert_true(wire_notify(a, "none", NULL, NULL, 0));
    g_assert_true(wire_answer(a, 2, NULL, pipes, 2));
    g_assert_true(wire_request(a, 3, "all", NULL, fds, WIRE_MAX_FDS));
    const int expected[] = {0, WIRE_MAX_FDS, 0, 2, WIRE_MAX_FDS};
    for (gsize i = 0; i < G_N_ELEMENTS(expected); i++) {
        g_assert_cmpint(wire_read(b, &m, 1000), ==, 1);
        g_assert_cmpint(m.n_fds, ==, expected[i]);
        for (int j = 0; j < m.n_fds; j++)
            g_assert_cmpint(fcntl(m.fds[j], F_GETFD), ==, FD_CLOEXEC);
        if (i == 3) {
            g_assert_cmpint(write(m.fds[1], "moin", 4), ==, 4);
            g_assert_cmpint(read(pipes[0], text, sizeof text), ==, 4);
            close(m.fds[0]);
            m.fds[0] = -1;
        }
        wire_message_clear(&m);
    }
    /* Descriptors that no message claims are closed with the wire. */
    g_assert_true(wire_notify(a, "more", NULL, fds, 3));
    g_assert_cmpint(wire_read(b, &m, 1000), ==, 1);
    wire_message_clear(&m);
    close(pipes[0]);
    close(pipes[1]);
    wire_free(a);
    wire_free(b);
    g_assert_cmpint(count_fds(), ==, before);
}

static void test_garbage(void)
{
    static const char *const garbage[] = {
        "\n",
        "moin\n",
        "[]\n",
        "{}\n",
        "{\"id\":1}\n",
        "{\"id\":\"1\",\"method\":\"m\"}\n",
        "{\"id\":-1,\"method\":\"m\"}\n",
        "{\"id\":1.5,\"method\":\"m\"}\n",
        "{\"id\":1,\"method\":\"m\",\"params\":[]}\n",
        "{\"id\":1,\"method\":\"m\",\"params\":{},\"fds\":1}\n",
        "{\"id\":1,\"method\":\"m\",\"params\":{},\"fds\":-1}\n",
        "{\"id\":1,\"method\":\"m\",\"params\":{},\"fds\":99999999999}\n",
        "{\"id\":1,\"error\":7}\n",
        "{\"id\":1,\"error\":{\"code\":1}}\n",
        "{\"result\":\"\"}\n",
        "{\"id\":1,\"method\":\"m\",\"params\":{\"a\":1,\"a\":2}}\n",
        "{\"id\":1,\"method\":\"m\"} {\"id\":2,\"method\":\"m\"}\n",
        "\xff\xfe\n",
    };
    for (gsize i = 0; i < G_N_ELEMENTS(garbage); i++) {
        struct wire *a, *b;
        struct wire_message m;
        make_pair(&a, &b);
        send_raw(a, garbage[i]);
        errno = 0;
        if (wire_read(b, &m, 1000) != -1 || errno != EPROTO)
            g_error("taken for a message: %s", garbage[i]);
        g_assert_null(m.method);
        wire_free(a);
        wire_free(b);
    }
}

/* What another implementation might send is read; an unfinished line is waited for. */
static void test_leniency(void)
{
    struct wire *a, *b;
    struct wire_message m;
    make_pair(&a, &b);
    send_raw(a, " { \"method\" : \"m\", \"id\" : 3, \"extra\": [1] }\r\n{\"jsonrpc\":\"2.0\",\"met");
    g_assert_cmpint(wire_read(b, &m, 1000), ==, 1);
    g_assert_cmpstr(m.method, ==, "m");
    g_assert_cmpint(m.id, ==, 3);
    wire_message_clear(&m);
    g_assert_cmpint(wire_read(b, &m, 20), ==, 0);
    send_raw(a, "hod\":\"n\"}");
    g_assert_cmpint(wire_read(b, &m, 20), ==, 0);
    send_raw(a, "\n{\"id\":1,\"result\":null}\n");
    g_assert_cmpint(wire_read(b, &m, 1000), ==, 1);
    g_assert_cmpstr(m.method, ==, "n");
    wire_message_clear(&m);
    g_assert_cmpint(wire_read(b, &m, 1000), ==, 1);
    g_assert_nonnull(m.result);
    wire_message_clear(&m);
    send_raw(a, "{\"id\":1,");
    wire_free(a);
    g_assert_cmpint(wire_read(b, &m, 1000), ==, -1);
    wire_free(b);
}

static void *send_huge(void *data)
{
    g_autofree char *text = g_malloc(WIRE_MAX_LINE + 1024);
    memset(text, 'x', WIRE_MAX_LINE + 1024);
    g_autoptr(value) good = one_member("text", value_string_len(NULL, text, WIRE_MAX_LINE - 1024));
    g_autoptr(value) bad = one_member("text", value_string_len(NULL, text, WIRE_MAX_LINE));
    g_assert_true(wire_notify(data, "huge", good, NULL, 0));
    /* What is too large is refused by the sender, and the wire lives on. */
    g_assert_false(wire_notify(data, "huge", bad, NULL, 0));
    g_assert_cmpint(errno, ==, EMSGSIZE);
    g_assert_true(wire_answer(data, 5, bad, NULL, 0));
    /* A peer that does not keep to it is cut off. */
    for (int i = 0; i < 2; i++) {
        gsize sent = 0;
        while (sent < WIRE_MAX_LINE) {
            ssize_t n = send(wire_fd(data), text, WIRE_MAX_LINE - sent, MSG_NOSIGNAL);
            if (n < 0)
                return NULL;
            sent += (gsize) n;
        }
    }
    return NULL;
}

static void test_huge(void)
{
    struct wire *a, *b;
    struct wire_message m;
    make_pair(&a, &b);
    GThread *sender = g_thread_new("sender", send_huge, a);
    g_assert_cmpint(wire_read(b, &m, 20000), ==, 1);
    g_assert_cmpint(strlen(value_get_str(m.params, "text", "")), ==, WIRE_MAX_LINE - 1024);
    wire_message_clear(&m);
    g_assert_cmpint(wire_read(b, &m, 20000), ==, 1);
    g_assert_cmpint(m.id, ==, 5);
    g_assert_cmpstr(m.fault.code, ==, "INTERNAL_ERROR");
    wire_message_clear(&m);
    errno = 0;
    g_assert_cmpint(wire_read(b, &m, 20000), ==, -1);
    g_assert_cmpint(errno, ==, EPROTO);
    wire_free(b);
    g_thread_join(sender);
    wire_free(a);
}

static void *send_many(void *data)
{
    for (int i = 0; i < 2000; i++)
        g_assert_true(wire_request(data, i, "m", NULL, NULL, 0));
    return NULL;
}

static void test_threads(void)
{
    struct wire *a, *b;
    struct wire_message m;
    GThread *t[4];
    make_pair(&a, &b);
    for (int i = 0; i < 4; i++)
        t[i] = g_thread_new("sender", send_many, a);
    for (int i = 0; i < 4 * 2000; i++) {
        g_assert_cmpint(wire_read(b, &m, 5000), ==, 1);
        wire_message_clear(&m);
    }
    for (int i = 0; i < 4; i++)
        g_thread_join(t[i]);
    wire_free(a);
    wire_free(b);
}

/* ---- peers: against a small helper on a thread ---- */

struct toy {
    struct wire *wire;
    GThread *thread;
    gint cancels;
    gboolean dies; /* at the first request */
};

static void toy_request(struct toy *t, struct wire_message *m, gint64 *held)
{
    struct fault f = FAULT_INIT;
    if (strcmp(m->method, "echo") == 0) {
        wire_answer(t->wire, m->id, m->params, m->fds, m->n_fds);
    } else if (strcmp(m->method, "fail") == 0) {
        fault_set(&f, "TOY_BROKEN", "wheel", NULL);
        wire_answer_fault(t->wire, m->id, &f);
        fault_clear(&f);
    } else if (strcmp(m->method, "steps") == 0) {
        for (int i = 1; i <= 4; i++) {
            struct value_builder b;
            value_builder_map(&b, NULL, 2);
            value_builder_put(&b, "id", value_int(NULL, m->id));
            value_builder_put(&b, "fraction", value_float(NULL, i / 4.0));
            g_autoptr(value) params = value_builder_end(&b);
            wire_notify(t->wire, "progress", params, NULL, 0);
        }
        wire_notify(t->wire, "news", m->params, NULL, 0);
        wire_answer(t->wire, m->id, NULL, NULL, 0);
    } else if (strcmp(m->method, "hold") == 0) {
        *held = m->id; /* no answer before a cancel */
    }
}

static void *run_toy(void *data)
{
    struct toy *t = data;
    struct wire_message m;
    gint64 held = -1;
    while (wire_read(t->wire, &m, -1) > 0) {
        gboolean end = t->dies;
        if (!end && m.id >= 0) {
            toy_request(t, &m, &held);
        } else if (strcmp(m.method, "cancel") == 0) {
            struct fault f = FAULT_INIT;
            g_atomic_int_inc(&t->cancels);
            fault_set(&f, "TASK_CANCELLED", "", NULL);
            if (value_as_int(value_get(m.params, "id")) == held)
                wire_answer_fault(t->wire, held, &f);
            fault_clear(&f);
        }
        wire_message_clear(&m);
        if (end)
            break;
    }
    shutdown(wire_fd(t->wire), SHUT_RDWR);
    return NULL;
}

static void toy_start(struct toy *t, struct peer *p, gboolean dies)
{
    int fds[2];
    g_assert_true(wire_pair(fds));
    *t = (struct toy){.wire = wire_new(fds[0]), .dies = dies};
    t->thread = g_thread_new("toy", run_toy, t);
    peer_connect(p, fds[1]);
}

static void toy_end(struct toy *t)
{
    shutdown(wire_fd(t->wire), SHUT_RDWR);
    g_thread_join(t->thread);
    wire_free(t->wire);
}

static void assert_fault(struct fault *f, const char *code, const char *text)
{
    g_assert_cmpstr(f->code, ==, code);
    g_assert_nonnull(f->params);
    if (!strstr(f->params[0], text))
        g_error("%s is not about \"%s\"", f->params[0], text);
    fault_clear(f);
}

static void on_fraction(double fraction, void *data)
{
    g_assert_cmpfloat(fraction, >, *(double *) data);
    *(double *) data = fraction;
}

static void on_news(const char *method, struct value *params, void *data)
{
    g_assert_cmpstr(method, ==, "news");
    g_assert_cmpint(value_count(params), ==, 1);
    g_atomic_int_inc((gint *) data);
}

static void test_calls(void)
{
    gint news = 0;
    double fraction = 0;
    struct toy toy;
    struct fault f = FAULT_INIT;
    struct peer *p = peer_new("toy", on_news, NULL, &news);
    toy_start(&toy, p, FALSE);
    g_autoptr(value) params = one_member("a", value_int(NULL, 5));
    int got[WIRE_MAX_FDS], n_got = -1, sent[2] = {0, 1};
    struct peer_options o = {.send_fds = sent, .n_send_fds = 2, .got_fds = got, .n_got_fds = &n_got};
    g_autoptr(value) echo = peer_call(p, "echo", params, &o, &f);
    g_assert_null(f.code);
    g_assert_true(value_equal(echo, params));
    g_assert_cmpint(n_got, ==, 2);
    close(got[0]);
    close(got[1]);

    g_assert_null(peer_call(p, "fail", NULL, NULL, &f));
    assert_fault(&f, "TOY_BROKEN", "wheel");

    struct peer_options with_progress = {.progress = on_fraction, .data = &fraction};
    g_autoptr(value) none = peer_call(p, "steps", params, &with_progress, &f);
    g_assert_nonnull(none);
    g_assert_cmpfloat(fraction, ==, 1.0);
    g_assert_cmpint(g_atomic_int_get(&news), ==, 1);
    toy_end(&toy);
    peer_free(p);
}

static void test_timeout(void)
{
    struct toy toy;
    struct fault f = FAULT_INIT;
    struct peer *p = peer_new("toy", NULL, NULL, NULL);
    toy_start(&toy, p, FALSE);
    struct peer_options o = {.timeout_ms = 50};
    g_assert_null(peer_call(p, "hold", NULL, &o, &f));
    assert_fault(&f, "INTERNAL_ERROR", "in time");
    /* The late answer harms nobody. */
    g_autoptr(value) echo = peer_call(p, "echo", NULL, NULL, &f);
    g_assert_nonnull(echo);
    g_assert_cmpint(g_atomic_int_get(&toy.cancels), ==, 1);
    toy_end(&toy);
    peer_free(p);
}

struct canceller {
    struct peer *peer;
    gint flag;
};

static void *cancel_soon(void *data)
{
    struct canceller *c = data;
    g_usleep(50000);
    g_atomic_int_set(&c->flag, 1);
    peer_poke(c->peer);
    return NULL;
}

static void test_cancel(void)
{
    struct toy toy;
    struct fault f = FAULT_INIT;
    struct canceller c = {peer_new("toy", NULL, NULL, NULL), 0};
    struct peer_options o = {.timeout_ms = -1, .cancel = &c.flag};
    toy_start(&toy, c.peer, FALSE);
    GThread *t = g_thread_new("canceller", cancel_soon, &c);
    g_assert_null(peer_call(c.peer, "hold", NULL, &o, &f));
    assert_fault(&f, "TASK_CANCELLED", "");
    g_thread_join(t);
    toy_end(&toy);
    peer_free(c.peer);
}

static void on_state(gboolean up, void *data)
{
    gint *ups = data;
    g_atomic_int_add(ups, up ? 1 : 100);
}

/* It dies during a call: that call fails. The next one waits for the new helper and gets its answer. */
static void test_death(void)
{
    gint states = 0;
    struct toy first, second;
    struct fault f = FAULT_INIT;
    struct peer *p = peer_new("toy", NULL, on_state, &states);
    toy_start(&first, p, TRUE);
    g_assert_null(peer_call(p, "echo", NULL, NULL, &f));
    assert_fault(&f, "INTERNAL_ERROR", "toy: the helper died");
    toy_end(&first);
    struct canceller c = {p, 0};
    GThread *t = g_thread_new("poker", cancel_soon, &c);
    g_usleep(1000);
    struct peer_options brief = {.timeout_ms = 30};
    g_assert_null(peer_call(p, "echo", NULL, &brief, &f));
    assert_fault(&f, "INTERNAL_ERROR", "not there");
    g_thread_join(t);
    toy_start(&second, p, FALSE);
    g_autoptr(value) echo = peer_call(p, "echo", NULL, NULL, &f);
    g_assert_nonnull(echo);
    g_assert_true(peer_is_up(p));
    toy_end(&second);
    peer_free(p);
    g_assert_cmpint(states, ==, 202);
}

static void *call_later(void *data)
{
    struct fault f = FAULT_INIT;
    struct value *v = peer_call(data, "echo", NULL, NULL, &f);
    fault_clear(&f);
    return v;
}

static void test_waits_for_helper(void)
{
    struct toy toy;
    struct peer *p = peer_new("toy", NULL, NULL, NULL);
    GThread *t = g_thread_new("caller", call_later, p);
    g_usleep(50000);
    toy_start(&toy, p, FALSE);
    g_autoptr(value) v = g_thread_join(t);
    g_assert_nonnull(v);
    toy_end(&toy);
    peer_free(p);
}

/* A new helper while the old one still lives: what was under way fails, what follows goes to the new one. */
static void test_replace(void)
{
    struct toy first, second;
    struct fault f = FAULT_INIT;
    struct peer *p = peer_new("toy", NULL, NULL, NULL);
    toy_start(&first, p, FALSE);
    while (!peer_is_up(p))
        g_usleep(1000);
    GThread *t = g_thread_new("caller", call_later, p);
    value_unref(g_thread_join(t));
    toy_start(&second, p, FALSE);
    for (int i = 0; i < 50; i++) {
        value_unref(peer_call(p, "echo", NULL, NULL, &f));
        fault_clear(&f); /* the change itself may cost one */
    }
    g_autoptr(value) last = peer_call(p, "echo", NULL, NULL, &f);
    g_assert_nonnull(last);
    toy_end(&first);
    toy_end(&second);
    peer_free(p);
}

struct done {
    gint count;
    char *code;
};

static void on_done(struct value *result, const struct fault *f, void *data)
{
    struct done *d = data;
    g_free(d->code);
    d->code = g_strdup(result ? "fine" : f->code);
    g_atomic_int_inc(&d->count);
}

static void wait_done(struct done *d, int count)
{
    for (int i = 0; i < 2000 && g_atomic_int_get(&d->count) < count; i++)
        g_usleep(1000);
    g_assert_cmpint(g_atomic_int_get(&d->count), ==, count);
}

static void test_async(void)
{
    struct toy toy;
    struct done d = {0, NULL};
    struct peer *p = peer_new("toy", NULL, NULL, NULL);
    peer_call_async(p, "echo", NULL, 0, on_done, &d);
    g_assert_cmpint(d.count, ==, 1);
    g_assert_cmpstr(d.code, ==, "INTERNAL_ERROR");
    toy_start(&toy, p, FALSE);
    while (!peer_is_up(p))
        g_usleep(1000);
    peer_call_async(p, "echo", NULL, 0, on_done, &d);
    wait_done(&d, 2);
    g_assert_cmpstr(d.code, ==, "fine");
    peer_call_async(p, "hold", NULL, 50, on_done, &d);
    wait_done(&d, 3);
    g_assert_cmpstr(d.code, ==, "INTERNAL_ERROR");
    peer_call_async(p, "hold", NULL, -1, on_done, &d);
    peer_call_async(p, "hold", NULL, 60000, on_done, &d);
    toy_end(&toy);
    wait_done(&d, 5);
    peer_free(p);
    g_free(d.code);
}

static void *call_many(void *data)
{
    for (int i = 0; i < 500; i++) {
        struct fault f = FAULT_INIT;
        g_autoptr(value) params = one_member("n", value_int(NULL, i));
        g_autoptr(value) v = peer_call(data, "echo", params, NULL, &f);
        g_assert_true(v && value_equal(v, params));
    }
    return NULL;
}

static void test_many_callers(void)
{
    struct toy toy;
    GThread *t[8];
    struct peer *p = peer_new("toy", NULL, NULL, NULL);
    toy_start(&toy, p, FALSE);
    for (int i = 0; i < 8; i++)
        t[i] = g_thread_new("caller", call_many, p);
    for (int i = 0; i < 8; i++)
        g_thread_join(t[i]);
    toy_end(&toy);
    peer_free(p);
}

/* A helper that sends garbage is cut off. */
static void test_garbage_helper(void)
{
    int fds[2];
    struct fault f = FAULT_INIT;
    struct peer_options brief = {.timeout_ms = 2000};
    struct peer *p = peer_new("toy", NULL, NULL, NULL);
    g_assert_true(wire_pair(fds));
    g_assert_cmpint(write(fds[0], "moin\n", 5), ==, 5);
    g_test_expect_message("xenapid", G_LOG_LEVEL_WARNING, "*no message*");
    peer_connect(p, fds[1]);
    g_assert_null(peer_call(p, "echo", NULL, &brief, &f));
    g_assert_cmpstr(f.code, ==, "INTERNAL_ERROR");
    fault_clear(&f);
    g_assert_false(peer_is_up(p));
    g_test_assert_expected_messages();
    close(fds[0]);
    peer_free(p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/wire/messages", test_messages);
    g_test_add_func("/wire/fds", test_fds);
    g_test_add_func("/wire/garbage", test_garbage);
    g_test_add_func("/wire/leniency", test_leniency);
    g_test_add_func("/wire/huge", test_huge);
    g_test_add_func("/wire/threads", test_threads);
    g_test_add_func("/peer/calls", test_calls);
    g_test_add_func("/peer/timeout", test_timeout);
    g_test_add_func("/peer/cancel", test_cancel);
    g_test_add_func("/peer/death", test_death);
    g_test_add_func("/peer/waits-for-helper", test_waits_for_helper);
    g_test_add_func("/peer/replace", test_replace);
    g_test_add_func("/peer/async", test_async);
    g_test_add_func("/peer/many-callers", test_many_callers);
    g_test_add_func("/peer/garbage-helper", test_garbage_helper);
    return g_test_run();
}
