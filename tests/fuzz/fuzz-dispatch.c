/* fuzz-dispatch.c - any body through the whole dispatcher, over a store in memory, with helpers that refuse everything.
 *
 * An input's first byte says what follows: an even one, a body for both protocols, in which @s and @r stand for the
 * sessions of an admin and of a reader, @V @H @P @N @I for objects that exist; an odd one, a call that is made up from
 * the bytes: a message out of all, then arguments of the types that it takes. The objects are put back as they were
 * after each input, so that an input does the same whenever it runs. */
#include <libxml/parser.h>
#include <stdlib.h>
#include <string.h>

#include "auth/session_private.h"
#include "daemon/clock.h"
#include "daemon/dispatch.h"
#include "daemon/event.h"
#include "daemon/codec/jsonrpc.h"
#include "daemon/process/peer.h"
#include "daemon/task.h"
#include "daemon/codec/wire.h"
#include "xapi-classes/start.h"
#include "xenbackend/backend.h"

int LLVMFuzzerTestOneInput(const guint8 *data, size_t size);

static const char host_info[] =
    "{\"hostname\":\"fuzz\",\"address\":\"192.0.2.1\",\"memory_total\":68719476736,\"memory_free\":60000000000,"
    "\"memory_overhead\":0,\"cpus\":[{\"number\":0,\"vendor\":\"v\",\"speed\":1000,\"modelname\":\"m\",\"stepping\":1,"
    "\"model\":1,\"family\":6,\"flags\":\"\",\"features\":\"\",\"socket\":0,\"core\":0,\"node\":0}],\"cpu_sockets\":1,"
    "\"threads_per_core\":1,\"software_version\":{\"xen\":\"4.17\"},\"capabilities\":[\"hvm-3.0-x86_64\"],"
    "\"scheduler\":\"credit2\",\"boot_time\":0,\"chipset\":{\"iommu\":false},\"bios\":{},\"interfaces\":[{\"device\":"
    "\"eth0\",\"mac\":\"02:00:00:00:00:01\",\"mtu\":1500,\"carrier\":true,\"speed\":1000,\"bridge\":\"xenbr0\",\"ip\":"
    "\"192.0.2.1\",\"netmask\":\"255.255.255.0\",\"gateway\":\"192.0.2.254\",\"physical\":true}],\"dom0\":{\"uuid\":"
    "\"00000000-0000-0000-0000-000000000000\",\"memory\":1073741824,\"vcpus\":1}}";

static const struct origin origin = {.address = "192.0.2.9", .user_agent = "fuzz"};
static struct session *admin, *reader;
static GPtrArray *world; /* the records that are put back */
static GHashTable *in_world;

static void check(gboolean ok, const char *what, const char *text)
{
    if (!ok) {
        g_printerr("%s: %s\n", what, text);
        abort(); /* libFuzzer keeps the input then */
    }
}

/* ---- helpers that refuse ---- */

static void *refuse(void *data)
{
    struct wire *w = wire_new(GPOINTER_TO_INT(data));
    struct wire_message m = {0};
    struct fault f = FAULT_INIT;
    while (wire_read(w, &m, -1) == 1) {
        fault_set(&f, "NOT_IMPLEMENTED", m.method ? m.method : "", NULL);
        if (m.method && m.id >= 0)
            wire_answer_fault(w, m.id, &f);
        wire_message_clear(&m);
    }
    wire_free(w);
    return NULL;
}

static int refusing_helper(void)
{
    int fds[2];
    check(wire_pair(fds), "socketpair", g_strerror(errno));
    g_thread_unref(g_thread_new("refuse", refuse, GINT_TO_POINTER(fds[1])));
    return fds[0];
}

/* ---- the world ---- */

static struct session *new_session(gboolean is_admin)
{
    struct fault f = FAULT_INIT;
    struct identity id = {.user = g_strdup(is_admin ? "root" : "reader"), .uid = is_admin ? 0 : 1000};
    struct access a = {.local_superuser = is_admin, .roles = is_admin ? G_MAXUINT64 : 1 << ROLE_read_only};
    id.sid = g_strconcat("u:", id.user, NULL);
    g_strlcpy(a.subject, NULL_REF, sizeof a.subject);
    struct session *s = session_create(&id, &a, "fuzz", &origin, FALSE, &f);
    check(s != NULL, "no session", f.code ? f.code : "");
    return s;
}

static gboolean is_restored(const struct class *class)
{
    return class->flags & (OBJECT | STORED) && class->id != CLASS_session && class->id != CLASS_role;
}

static void remember_world(void)
{
    world = g_ptr_array_new();
    in_world = g_hash_table_new(g_str_hash, g_str_equal);
    for (int i = 0; i < N_CLASSES; i++) {
        if (!is_restored(class_by_id(i)))
            continue;
        g_autoptr(GPtrArray) all = store_all(the_store(), i);
        for (guint k = 0; k < all->len; k++) {
            struct record *r = record_ref(all->pdata[k]);
            g_ptr_array_add(world, r);
            g_hash_table_add(in_world, (void *) r->ref);
        }
    }
}

static void restore_object(struct txn *t, struct record *was)
{
    const struct class *class = was->class;
    struct record *is = txn_get(t, class->id, was->ref);
    if (is == was)
        return;
    if (!is)
        txn_create(t, class->id, was->ref, record_str(was, class->uuid_field));
    for (int i = 0; i < class->n_fields; i++)
        if (!class->fields[i].mirrors && i != class->uuid_field)
            txn_set(t, class->id, was->ref, i, value_ref(was->fields[i]));
}

static void restore_world(void)
{
    struct txn *t = txn_begin(the_store());
    for (int i = 0; i < N_CLASSES; i++) {
        if (!is_restored(class_by_id(i)))
            continue;
        g_autoptr(GPtrArray) all = txn_all(t, i);
        for (guint k = 0; k < all->len; k++) {
            const char *ref = ((struct record *) all->pdata[k])->ref;
            if (!g_hash_table_contains(in_world, ref))
                txn_destroy(t, i, ref);
        }
    }
    for (guint i = 0; i < world->len; i++)
        restore_object(t, world->pdata[i]);
    txn_commit(t);
}

static const char *first_of(enum class_id class)
{
    for (guint i = world->len; i > 0; i--) { /* the last VM is no control domain */
        struct record *r = world->pdata[i - 1];
        if (r->class->id == class)
            return r->ref;
    }
    return NULL_REF;
}

static void quiet(G_GNUC_UNUSED const char *domain, G_GNUC_UNUSED GLogLevelFlags level, G_GNUC_UNUSED const char *text,
                  G_GNUC_UNUSED void *data)
{
}

static void set_up(void)
{
    char *argv[] = {(char *) "xenapid", NULL}, **v = argv;
    int argc = 1, status;
    gboolean check_only, describe, version;
    struct conf *conf = conf_from_args(&argc, &v, &status, &check_only, &describe, &version);
    conf->backend = BACKEND_SIM;
    conf->sim_vms = 2;
    conf->login_failure_delay_ms = 0;
    conf->workers = 4;
    g_log_set_default_handler(quiet, NULL);
    g_log_set_handler("xenapid", G_LOG_LEVEL_MASK & ~(G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_ERROR), quiet, NULL);
    front_set_conf(conf);
    model_init();
    front_set_store(store_open(NULL, NULL));
    clock_init();
    tasks_init();
    events_init();
    roles_start();
    sessions_init();
    struct peer *auth = peer_new("auth", NULL, NULL, NULL);
    auth_set_helper(auth);
    peer_connect(auth, refusing_helper());
    backend_init(classes_notify, NULL, NULL);
    backend_connect(refusing_helper());

    g_autoptr(value) info = json_parse(NULL, host_info, strlen(host_info), NULL, NULL);
    host_update(info);
    sim_fill();
    admin = new_session(TRUE);
    reader = new_session(FALSE);
    remember_world();
}

/* ---- one exchange ---- */

struct outcome {
    GMutex lock;
    GCond cond;
    gboolean done;
};

static void on_done(G_GNUC_UNUSED struct exchange *x, void *data)
{
    struct outcome *o = data;
    g_mutex_lock(&o->lock);
    o->done = TRUE;
    g_cond_signal(&o->cond);
    g_mutex_unlock(&o->lock);
}

static gboolean is_working(void)
{
    return task_count_for_session(admin->uuid) > 0 || task_count_for_session(reader->uuid) > 0;
}

/* Waits while a task works for it; who waits for events or for a login is given up. */
static gboolean wait_for(struct outcome *o)
{
    gint64 end = g_get_monotonic_time() + 2 * G_TIME_SPAN_SECOND;
    g_mutex_lock(&o->lock);
    do
        g_cond_wait_until(&o->cond, &o->lock, g_get_monotonic_time() + G_TIME_SPAN_MILLISECOND);
    while (!o->done && is_working() && g_get_monotonic_time() < end);
    gboolean done = o->done;
    g_mutex_unlock(&o->lock);
    return done;
}

static void check_reply(enum exchange_protocol protocol, struct reply *r)
{
    static const struct codec_limits generous = {.depth = 1000, .elements = G_MAXUINT, .string_length = G_MAXSIZE};
    g_autofree char *text = reply_text(r);
    gsize len = reply_length(r);
    if (protocol == PROTOCOL_JSON) {
        g_autoptr(value) v = json_parse(NULL, text, len, &generous, NULL);
        check(v != NULL, "a reply that is not JSON", text);
        return;
    }
    xmlDoc *doc = xmlReadMemory(text, (int) len, NULL, NULL, XML_PARSE_NONET | XML_PARSE_HUGE | XML_PARSE_NOERROR);
    check(doc != NULL, "a reply that is not XML", text);
    check(strcmp((const char *) xmlDocGetRootElement(doc)->name, "methodResponse") == 0, "no methodResponse", text);
    xmlFreeDoc(doc);
}

static void run(enum exchange_protocol protocol, const char *body, gsize len)
{
    struct outcome o = {.done = FALSE};
    gboolean finished;
    g_mutex_init(&o.lock);
    g_cond_init(&o.cond);
    struct exchange *x = exchange_run(protocol, body, len, &origin, on_done, &o, &finished);
    if (!finished)
        finished = wait_for(&o);
    exchange_abandon(x);
    if (finished && exchange_reply(x))
        check_reply(protocol, exchange_reply(x));
    exchange_unref(x);
    g_mutex_clear(&o.lock);
    g_cond_clear(&o.cond);
    events_session_gone(admin);
    events_session_gone(reader);
}

/* ---- bodies ---- */

static const char *meaning(char c)
{
    switch (c) {
    case 's':
        return admin->ref;
    case 'r':
        return reader->ref;
    case 'V':
        return first_of(CLASS_VM);
    case 'H':
        return first_of(CLASS_host);
    case 'P':
        return first_of(CLASS_pool);
    case 'N':
        return first_of(CLASS_network);
    case 'I':
        return first_of(CLASS_VIF);
    default:
        return NULL;
    }
}

static void run_body(const guint8 *data, gsize size)
{
    g_autoptr(GString) body = g_string_new(NULL);
    for (gsize i = 0; i < size; i++) {
        const char *word = data[i] == '@' && i + 1 < size ? meaning((char) data[i + 1]) : NULL;
        if (word) {
            g_string_append(body, word);
            i++;
        } else {
            g_string_append_c(body, (char) data[i]);
        }
    }
    run(PROTOCOL_XML, body->str, body->len);
    run(PROTOCOL_JSON, body->str, body->len);
}

/* ---- calls made up from bytes ---- */

struct bytes {
    const guint8 *p, *end;
};

static guint take(struct bytes *b)
{
    return b->p < b->end ? *b->p++ : 0;
}

static struct value *make(struct bytes *b, const struct type *t, int depth);

static struct value *make_string(struct bytes *b)
{
    static const char *const words[] = {"",
                                        "x",
                                        "0",
                                        "true",
                                        "field \"name_label\"=\"x\"",
                                        "OpaqueRef:NULL",
                                        "vm",
                                        "*",
                                        "/dev",
                                        "\xc3\xa9<&>\"\n",
                                        "halted",
                                        "192.0.2.1",
                                        "memory",
                                        "name",
                                        "vm/x",
                                        "02:00:00:00:00:02"};
    guint n = take(b);
    if (n < 128)
        return value_string(NULL, words[n % G_N_ELEMENTS(words)]);
    gsize len = MIN((gsize) n % 32, (gsize) (b->end - b->p));
    g_autofree char *text = g_utf8_make_valid((const char *) b->p, (gssize) len);
    b->p += len;
    return value_string(NULL, text);
}

static struct value *make_int(struct bytes *b)
{
    static const gint64 numbers[] = {0, 1, -1, 2, G_MAXINT64, G_MININT64, G_MAXUINT32, 1 << 28};
    guint n = take(b);
    return value_int(NULL, n < 128 ? numbers[n % G_N_ELEMENTS(numbers)] : (gint64) take(b) * (1 << 20));
}

static struct value *make_enum(struct bytes *b, const struct enum_type *e)
{
    guint n = g_strv_length((char **) e->values), i = take(b) % (n + 1);
    return value_string(NULL, i < n ? e->values[i] : "bogus");
}

static struct value *make_ref(struct bytes *b, enum class_id class)
{
    guint n = take(b);
    if (n >= 240)
        return value_string(NULL, n & 1 ? NULL_REF : "OpaqueRef:bogus");
    if (class == CLASS_NONE)
        class = n % N_CLASSES;
    if (class == CLASS_session)
        return value_string(NULL, admin->ref);
    g_autoptr(GPtrArray) all = store_all(the_store(), class);
    return value_string(NULL, all->len ? ((struct record *) all->pdata[n % all->len])->ref : NULL_REF);
}

/* The fields that a bit says, of the first types that come; the rest is left out. */
static struct value *make_record(struct bytes *b, enum class_id id, int depth)
{
    const struct class *class = class_by_id(id);
    struct value_builder m;
    value_builder_map(&m, NULL, 8);
    for (int i = 0; i < class->n_fields; i++)
        if (take(b) & 1)
            value_builder_put(&m, class->fields[i].name, make(b, class->fields[i].type, depth + 1));
    return value_builder_end(&m);
}

static struct value *make_set(struct bytes *b, const struct type *elem, int depth)
{
    struct value_builder s;
    guint n = take(b) % 4;
    value_builder_set(&s, NULL, n);
    for (guint i = 0; i < n; i++)
        value_builder_add(&s, make(b, elem, depth + 1));
    return value_builder_end(&s);
}

static struct value *make_map(struct bytes *b, const struct type *t, int depth)
{
    struct value_builder m;
    g_autoptr(value) key = make(b, t->key, depth + 1);
    value_builder_map(&m, NULL, 1);
    if (take(b) & 1)
        value_builder_put(&m, key->type == VALUE_STRING ? value_str(key) : "0", make(b, t->elem, depth + 1));
    return value_builder_end(&m);
}

static struct value *make(struct bytes *b, const struct type *t, int depth)
{
    if (depth > 4 || take(b) == 255)
        return make_string(b); /* of the wrong type, mostly */
    switch (t->kind) {
    case TYPE_INT:
        return make_int(b);
    case TYPE_FLOAT:
        return value_float(NULL, take(b) / 16.0);
    case TYPE_BOOL:
        return value_bool(take(b) & 1);
    case TYPE_DATETIME:
        return value_datetime(NULL, take(b) * 10000000);
    case TYPE_ENUM:
        return make_enum(b, t->enumeration);
    case TYPE_REF:
        return make_ref(b, t->class);
    case TYPE_RECORD:
        return make_record(b, t->class, depth);
    case TYPE_SET:
    case TYPE_OPTION:
        return make_set(b, t->elem, depth);
    case TYPE_MAP:
        return make_map(b, t, depth);
    default:
        return make_string(b);
    }
}

static void put_json(struct reply *r, const char *name, struct value **args, int n)
{
    g_autofree char *head = g_strdup_printf("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\",\"params\":[", name);
    reply_put(r, head, strlen(head));
    for (int i = 0; i < n; i++) {
        if (i > 0)
            reply_put(r, ",", 1);
        codec_put_value(r, WIRE_JSON, args[i]);
    }
    reply_put(r, "]}", 2);
}

static void put_xml(struct reply *r, const char *name, struct value **args, int n)
{
    static const char tail[] = "</params></methodCall>";
    g_autofree char *head = g_strdup_printf("<methodCall><methodName>%s</methodName><params>", name);
    reply_put(r, head, strlen(head));
    for (int i = 0; i < n; i++) {
        reply_put(r, "<param>", 7);
        codec_put_value(r, WIRE_XML, args[i]);
        reply_put(r, "</param>", 8);
    }
    reply_put(r, tail, strlen(tail));
}

static void run_call(struct bytes b)
{
    gsize n;
    const struct message *const *all = message_all(&n);
    guint how = take(&b), number = take(&b) << 8;
    const struct message *m = all[(number | take(&b)) % n];
    g_autofree char *name = g_strconcat(how & 2 ? "Async." : "", m->full_name, NULL);
    struct value *args[32];
    int k = 0;
    if (!m->no_session)
        args[k++] = value_string(NULL, how & 4 ? reader->ref : admin->ref);
    for (int i = 0; i < m->n_params && k < (int) G_N_ELEMENTS(args); i++)
        args[k++] = make(&b, m->params[i].type, 0);

    struct reply *body = reply_new();
    if (how & 1)
        put_json(body, name, args, k);
    else
        put_xml(body, name, args, k);
    g_autofree char *text = reply_text(body);
    run(how & 1 ? PROTOCOL_JSON : PROTOCOL_XML, text, reply_length(body));
    reply_free(body);
    while (k > 0)
        value_unref(args[--k]);
}

int LLVMFuzzerTestOneInput(const guint8 *data, size_t size)
{
    if (!world)
        set_up();
    guint64 before = store_generation(the_store());
    if (size > 0 && data[0] & 1)
        run_call((struct bytes){data + 1, data + size});
    else if (size > 0)
        run_body(data + 1, size - 1);
    for (int i = 0; i < 2000 && is_working(); i++)
        g_usleep(1000);
    if (store_generation(the_store()) != before)
        restore_world();
    if (!g_atomic_int_get(&admin->valid)) {
        session_unref(admin);
        admin = new_session(TRUE);
    }
    if (!g_atomic_int_get(&reader->valid)) {
        session_unref(reader);
        reader = new_session(FALSE);
    }
    return 0;
}
