/* operation_private.h - what the files of operations share among themselves. */
#ifndef XENAPID_OPERATION_PRIVATE_H
#define XENAPID_OPERATION_PRIVATE_H

#include "xapi-classes/vm/operation.h"

typedef gboolean operation_check_fn(struct txn *t, const struct record *r, const char *op, struct fault *f);
operation_check_fn vbd_check, vif_check, vdi_check, sr_check, appliance_check;
gboolean host_check(const struct record *host, const char *op, struct fault *f);

/* OTHER_OPERATION_IN_PROGRESS when the object has any. */
gboolean operation_check_exclusive(const struct record *r, struct fault *f);
/* The names whose bits are set in mask, as a shared set; names points to the first of them, each stride bytes further
 * than the one before. */
struct value *operation_set(const char *const *names, gsize stride, guint64 mask);

#endif
