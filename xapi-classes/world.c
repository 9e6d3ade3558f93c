/* world.c - notifications of the backend to those who follow them up. */
#include "xapi-classes/world.h"

#include <string.h>

static const struct {
    const char *method;
    world_fn *fn;
} notifications[] = {
    {"domain.changed", world_domain_changed}, {"domain.gone", world_domain_gone},
    {"domain.guest", world_domain_guest},     {"domain.usage", world_domain_usage},
    {"pool.changed", world_pool_changed},
};

void world_notify(const char *method, struct value *params)
{
    for (gsize i = 0; i < G_N_ELEMENTS(notifications); i++) {
        if (strcmp(notifications[i].method, method) == 0) {
            notifications[i].fn(params);
            return;
        }
    }
}
