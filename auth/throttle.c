/* throttle.c - a bounded table of who failed to log in how often; counts decay. See throttle.h. */
#include <arpa/inet.h>
#include <math.h>
#include <string.h>

#include "auth/session_private.h"
#include "auth/throttle.h"

#define HALF_LIFE_MS (5 * 60 * 1000)
#define TRUST_MS     (24 * 60 * 60 * 1000)
#define KEY_SIZE     192

/* Of a source ("s:..."), a user ("u:...") or a user at a source ("p:..."). */
struct entry {
    double failures;
    gint64 updated; /* milliseconds */
    gint64 trusted; /* until then: the right password was given by this user at this source not long ago */
};

static GMutex lock;
static GHashTable *entries;

static double failures_now(const struct entry *e, gint64 now)
{
    return e->failures * exp2(-(double) (now - e->updated) / HALF_LIFE_MS);
}

/* What is least worth keeping goes: few failures, long ago, nobody trusted. */
static void make_room(gint64 now)
{
    GHashTableIter iter;
    gpointer key, value, worst = NULL;
    double least = G_MAXDOUBLE;
    if (g_hash_table_size(entries) < THROTTLE_ENTRIES)
        return;
    g_hash_table_iter_init(&iter, entries);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        const struct entry *e = value;
        double worth = failures_now(e, now) + (e->trusted > now ? 2 : 0);
        if (worth < least) {
            least = worth;
            worst = key;
        }
    }
    g_hash_table_remove(entries, worst);
}

static struct entry *entry_of(const char *key, gint64 now)
{
    if (!entries)
        entries = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    struct entry *e = g_hash_table_lookup(entries, key);
    if (e)
        return e;
    make_room(now);
    e = g_new0(struct entry, 1);
    e->updated = now;
    g_hash_table_insert(entries, g_strdup(key), e);
    return e;
}

static const struct entry *look_up(const char *key)
{
    return entries ? g_hash_table_lookup(entries, key) : NULL;
}

/* Names that differ only far behind share an entry: nothing a client sends may make the table large. */
static void user_key(char key[KEY_SIZE], const char *user)
{
    g_snprintf(key, KEY_SIZE, "u:%s", user);
}

static void source_key(char key[KEY_SIZE], const char *source)
{
    g_snprintf(key, KEY_SIZE, "s:%s", source);
}

static void pair_key(char key[KEY_SIZE], const char *source, const char *user)
{
    g_snprintf(key, KEY_SIZE, "p:%s %s", source, user);
}

void throttle_source(const struct origin *origin, char source[SOURCE_SIZE])
{
    struct in6_addr in6;
    if (origin->is_unix) {
        g_snprintf(source, SOURCE_SIZE, "unix:%u", origin->uid_known ? origin->uid : G_MAXUINT);
    } else if (origin->address && inet_pton(AF_INET6, origin->address, &in6) == 1 && !IN6_IS_ADDR_V4MAPPED(&in6)) {
        memset(in6.s6_addr + 8, 0, 8);
        inet_ntop(AF_INET6, &in6, source, SOURCE_SIZE);
    } else {
        g_strlcpy(source, origin->address ? origin->address : "", SOURCE_SIZE);
    }
}

/* ---- waiting ---- */

static guint wait_for(const struct entry *e, gint64 now)
{
    const struct conf *conf = the_conf();
    int over = e ? (int) round(failures_now(e, now)) - conf->login_failures_before_slow : -1;
    if (over < 0)
        return 0;
    double wait = ldexp(conf->login_failure_delay_ms, MIN(over, 30) + 1);
    return (guint) MIN(wait, 1000.0 * conf->login_delay_max);
}

/* Guessing somebody's password from elsewhere must not keep that user out: where the right password was given lately,
 * only this user's own failures there count. */
static gboolean is_trusted(const struct entry *pair, gint64 now)
{
    return pair && pair->trusted > now && failures_now(pair, now) < the_conf()->login_failures_before_slow;
}

guint throttle_wait(const char *source, const char *user)
{
    char key[KEY_SIZE];
    gint64 now = auth_now_ms();
    guint wait = 0;
    g_mutex_lock(&lock);
    pair_key(key, source, user);
    if (!is_trusted(look_up(key), now)) {
        source_key(key, source);
        wait = wait_for(look_up(key), now);
        user_key(key, user);
        wait = MAX(wait, wait_for(look_up(key), now));
    }
    g_mutex_unlock(&lock);
    return wait;
}

/* ---- counting ---- */

static struct entry *count(const char *key, gint64 now)
{
    struct entry *e = entry_of(key, now);
    e->failures = failures_now(e, now) + 1;
    e->updated = now;
    return e;
}

void throttle_failed(const char *source, const char *user)
{
    char key[KEY_SIZE];
    gint64 now = auth_now_ms();
    g_mutex_lock(&lock);
    source_key(key, source);
    count(key, now);
    user_key(key, user);
    count(key, now);
    pair_key(key, source, user);
    if (look_up(key))
        count(key, now);
    g_mutex_unlock(&lock);
}

void throttle_succeeded(const char *source, const char *user)
{
    char key[KEY_SIZE];
    gint64 now = auth_now_ms();
    g_mutex_lock(&lock);
    pair_key(key, source, user);
    struct entry *e = entry_of(key, now);
    e->failures = 0;
    e->updated = now;
    e->trusted = now + TRUST_MS;
    g_mutex_unlock(&lock);
}

guint throttle_size(void)
{
    g_mutex_lock(&lock);
    guint n = entries ? g_hash_table_size(entries) : 0;
    g_mutex_unlock(&lock);
    return n;
}

void throttle_forget_all(void)
{
    g_mutex_lock(&lock);
    g_clear_pointer(&entries, g_hash_table_destroy);
    g_mutex_unlock(&lock);
}
