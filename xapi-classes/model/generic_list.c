/* generic_list.c - get_all_records of a large class in one piece, for as long as nothing of the class changes: clients
 * that fill their caches at the same time share it, and it is sent from where it lies. It takes as much memory again as
 * the records' own bytes; so there is none before the second who asks, few at once, and none that nobody asks for. */
#include "daemon/call.h"
#include "daemon/clock.h"
#include "daemon/codec/codec.h"
#include "xapi-classes/model/generic_list.h"

#define LEAST_RECORDS 64
#define MOST_LIVE     2 /* of a class: a client that reads slowly keeps its bytes alive */
#define IDLE_MS       5000

/* Held by a list and by its bytes, which may outlive it in a reply. */
struct life {
    gint *live;
};

struct list {
    gint refs;
    struct life *life;
    GPtrArray *records;
    GMutex lock;
    GBytes *bytes[N_WIRE_FORMATS]; /* under its lock; made when first wanted */
};

/* What is known of a class; under `lock`. */
struct slot {
    guint64 version; /* of the class, of which the members below tell */
    guint asked;
    gint64 last; /* monotonic microseconds: when it was asked for */
    struct list *list;
    gint live; /* atomic: how many exist, of other versions too */
};

static GMutex lock;
static struct slot slots[N_CLASSES];

static void life_end(void *data)
{
    g_atomic_int_dec_and_test(((struct life *) data)->live);
}

static void life_drop(struct life *life)
{
    g_atomic_rc_box_release_full(life, life_end);
}

static struct list *list_new(enum class_id class)
{
    struct list *l = g_new0(struct list, 1);
    l->refs = 1;
    l->life = g_atomic_rc_box_new0(struct life);
    l->life->live = &slots[class].live;
    l->records = store_all(the_store(), class);
    g_mutex_init(&l->lock);
    g_atomic_int_inc(&slots[class].live);
    return l;
}

static void list_unref(void *data)
{
    struct list *l = data;
    if (!l || !g_atomic_int_dec_and_test(&l->refs))
        return;
    for (int i = 0; i < N_WIRE_FORMATS; i++)
        g_clear_pointer(&l->bytes[i], g_bytes_unref);
    g_ptr_array_unref(l->records);
    g_mutex_clear(&l->lock);
    life_drop(l->life);
    g_free(l);
}

/* ---- as a value ---- */

struct living_bytes {
    GBytes *bytes;
    struct life *life;
};

static void living_bytes_free(void *data)
{
    struct living_bytes *b = data;
    g_bytes_unref(b->bytes);
    life_drop(b->life);
    g_free(b);
}

static GBytes *living_bytes(GBytes *bytes, struct life *life)
{
    struct living_bytes *b = g_new(struct living_bytes, 1);
    *b = (struct living_bytes){bytes, g_atomic_rc_box_acquire(life)};
    gsize len;
    const void *data = g_bytes_get_data(bytes, &len);
    return g_bytes_new_with_free_func(data, len, living_bytes_free, b);
}

static GBytes *list_bytes(void *data, enum wire_format format)
{
    struct list *l = data;
    g_mutex_lock(&l->lock);
    if (!l->bytes[format]) {
        g_autoptr(value) all = generic_records_of(l->records, NULL);
        l->bytes[format] = living_bytes(codec_value_bytes(format, all), l->life);
    }
    GBytes *bytes = l->bytes[format];
    g_mutex_unlock(&l->lock);
    return bytes;
}

static struct value *list_value(void *data)
{
    return generic_records_of(((struct list *) data)->records, NULL);
}

/* ---- the lists that are kept ---- */

/* Those that are out of date, and those for which nobody has asked for a while. */
static void sweep(G_GNUC_UNUSED void *data)
{
    gint64 before = g_get_monotonic_time() - IDLE_MS * 1000;
    for (int i = 0; i < N_CLASSES; i++) {
        struct slot *slot = &slots[i];
        struct list *gone = NULL;
        g_mutex_lock(&lock);
        if (slot->list && (slot->last < before || slot->version != store_class_version(the_store(), i))) {
            gone = g_steal_pointer(&slot->list);
            slot->asked = 0;
        }
        g_mutex_unlock(&lock);
        list_unref(gone);
    }
}

/* Under the lock. A list that is out of date is put into *gone, to be dropped without it. */
static struct list *current(enum class_id class, struct list **gone)
{
    struct slot *slot = &slots[class];
    /* Read before the records are: these may be newer than it says, but never older. */
    guint64 version = store_class_version(the_store(), class);
    if (slot->version != version) {
        *gone = g_steal_pointer(&slot->list);
        slot->asked = 0;
        slot->version = version;
    }
    slot->last = g_get_monotonic_time();
    if (!slot->list && slot->asked++ > 0 && g_atomic_int_get(&slot->live) < MOST_LIVE)
        slot->list = list_new(class);
    return slot->list;
}

struct value *generic_list(enum class_id class)
{
    static const struct value_blob_ops ops = {list_bytes, list_value, list_unref};
    static gsize once;
    struct list *gone = NULL;

    if (store_count(the_store(), class) < LEAST_RECORDS)
        return NULL;
    if (g_once_init_enter(&once)) {
        clock_every(IDLE_MS, sweep, NULL);
        g_once_init_leave(&once, 1);
    }
    g_mutex_lock(&lock);
    struct list *l = current(class, &gone);
    if (l)
        g_atomic_int_inc(&l->refs);
    g_mutex_unlock(&lock);
    list_unref(gone);
    return l ? value_blob(&ops, l) : NULL;
}
