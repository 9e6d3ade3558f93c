/* storage_plugin.h - storage drivers that a site adds: executables that are run for each operation, in the two forms
 * that exist (docs/storage.md): one executable "NAMESR" that takes an XML-RPC call as its argument (storage_smapi1.c),
 * and a directory of executables "Volume.create", ... that take JSON (storage_smapi3.c). storage_plugin.c finds them
 * and is the driver that storage.c sees; the two forms are tables of what it needs. */
#ifndef XENAPID_STORAGE_PLUGIN_H
#define XENAPID_STORAGE_PLUGIN_H

#include "xenbackend/storage/storage.h"

struct plugin_sr;
struct plugin_volume;

/* A driver that was found. It lives until the process ends. */
struct plugin {
    struct storage_driver driver; /* what storage.c sees */
    const struct plugin_ops *ops;
    char *path;       /* the executable, or the directory */
    gboolean old_api; /* smapi3: version 3.0, whose calls have the URI beside them */
};

/* An image as the plugin names it. */
struct plugin_volume {
    char uuid[STORAGE_UUID_LEN + 1];
    char *location; /* the plugin's own name for it */
    char *ref;      /* the API's; NULL when it is not known */
    char *uri;      /* smapi3: where it is open, NULL when it is not */
    char *path;     /* where it is open; NULL when it is not */
    const char *format;
    gboolean maybe_open; /* an earlier process may have opened it */
    gboolean writable;
};

/* An attached SR. */
struct plugin_sr {
    struct plugin *plugin;
    char uuid[STORAGE_UUID_LEN + 1];
    char *handle; /* smapi3: what SR.attach answered */
    struct value *device_config;
    GMutex opening;        /* held while one volume is opened or closed */
    GMutex lock;           /* guards the rest */
    GHashTable *volumes;   /* uuid -> struct plugin_volume */
    struct value *context; /* {host_ref, session_ref, sr_ref} of who attached it */
};

/* Each answers FALSE (or NULL) with f set. context is a map {host_ref, session_ref, sr_ref, subtask_of}, each of which
 * may be absent. */
struct plugin_ops {
    gboolean keeps_records; /* it tells the API itself what is there (storage.h) */
    gboolean (*query)(struct plugin *p, struct fault *f);
    /* *new_config: what the PBD's device_config is from now on, or NULL as it was. */
    gboolean (*sr_create)(struct plugin *p, const char *uuid, struct value *config, gint64 size,
                          struct value **new_config, struct fault *f);
    gboolean (*sr_destroy)(struct plugin *p, const char *uuid, struct value *config, struct fault *f);
    gboolean (*sr_probe)(struct plugin *p, struct value *config, struct value_builder *srs, struct fault *f);
    gboolean (*sr_attach)(struct plugin_sr *s, struct fault *f);
    gboolean (*sr_detach)(struct plugin_sr *s, struct fault *f);
    gboolean (*scan)(struct plugin_sr *s, GPtrArray *vdis, struct fault *f);
    gboolean (*stat)(struct plugin_sr *s, struct storage_space *space, struct fault *f);
    gboolean (*create)(struct plugin_sr *s, gint64 size, const char *type, struct value *sm_config,
                       struct storage_vdi *out, struct fault *f);
    gboolean (*destroy)(struct plugin_sr *s, struct plugin_volume *v, struct fault *f);
    gboolean (*derive)(struct plugin_sr *s, struct plugin_volume *v, gboolean snapshot, const struct storage_job *job,
                       struct storage_vdi *out, struct fault *f);
    gboolean (*resize)(struct plugin_sr *s, struct plugin_volume *v, gint64 size, struct fault *f);
    gboolean (*describe)(struct plugin_sr *s, struct plugin_volume *v, struct storage_vdi *out, struct fault *f);
    /* Sets v->path and v->format (and v->uri). */
    gboolean (*open)(struct plugin_sr *s, struct plugin_volume *v, gboolean writable, struct fault *f);
    gboolean (*close)(struct plugin_sr *s, struct plugin_volume *v, struct fault *f);
};
extern const struct plugin_ops plugin_smapi1, plugin_smapi3;

#define PLUGIN_QUERY_S 20
#define PLUGIN_LIMIT_S 600
#define PLUGIN_LONG_S  (24 * 3600) /* what copies */

/* Looks again at what is installed. */
void plugins_look(void);
/* The driver of that type; NULL when there is none. */
const struct storage_driver *plugin_find(const char *type);
/* Those that are there now; the caller unrefs the array. */
GPtrArray *plugins_all(void);
/* What sr.create's answer says of the device_config: NULL or a map, taken by the caller. */
struct value *plugin_take_config(void);

/* A string of the request that runs on this thread, of SR s (which may be NULL): "host_ref", "session_ref", "sr_ref",
 * "subtask_of"; NULL when it is not known. Copy. */
char *plugin_context(struct plugin_sr *s, const char *key);
/* The executable is a file that only we and root can change. */
gboolean plugin_is_safe(const char *path);
/* Registers capabilities ("VDI_CREATE", "VDI_RESET_ON_BOOT/2") and the functions that follow from them. */
void plugin_set_capabilities(struct plugin *p, const char *const *capabilities);

#endif
