/* jsonrpc.h - JSON (RFC 8259) and JSON-RPC 1.0 and 2.0, for clients and for the helpers' sockets.
 *
 * The reader builds values straight into an arena under the caller's limits. A number without fraction and exponent
 * that fits 64 bits is VALUE_INT, any other VALUE_FLOAT; true/false VALUE_BOOL; null VALUE_VOID; arrays and objects
 * SET and MAP (a key that comes twice is malformed). Invalid UTF-8, lone surrogates and U+0000 in strings are
 * malformed. Written: ints as numbers, floats with their fraction (0.5, 1.0 as 1.0: "%.17g" shortest that reads back,
 * always with
 * '.' or 'e'), datetimes as "20240101T00:00:00Z", VOID as "". NaN and infinities never appear. */
#ifndef XENAPID_JSONRPC_H
#define XENAPID_JSONRPC_H

#include "daemon/codec/codec.h"

/* Any JSON text. NULL with *error (static or in a; error may be NULL) when malformed. With a NULL arena: heap value. */
struct value *json_parse(struct arena *a, const char *text, gsize len, const struct codec_limits *limits,
                         const char **error);
/* Compact JSON text of v; the caller frees it. */
char *json_text(struct value *v);

/* A request or a batch of them (*batch says which). *reqs and all it holds are in a. PARSE_MALFORMED when the text is
 * not JSON, PARSE_INVALID for an empty batch; otherwise PARSE_OK, and each request has its own result. */
enum parse_result jsonrpc_parse(struct arena *a, const char *text, gsize len, const struct codec_limits *limits,
                                struct rpc_request **reqs, gsize *n_reqs, gboolean *batch);

/* Replies, for the request's version and id. 2.0: no "error" member on success, no "result" on failure; the error is
 * {"code":1,"message":CODE,"data":[params]}. 1.0: both members, error is [CODE, params...]. */
void jsonrpc_put_success(struct reply *r, const struct rpc_request *req, struct value *v);
void jsonrpc_put_failure(struct reply *r, const struct rpc_request *req, const struct fault *f);
/* A protocol error of 2.0 (-32700 parse error, -32600 invalid request, ...); 1.0 gets [text]. req may be NULL (id
 * null). */
void jsonrpc_put_error(struct reply *r, const struct rpc_request *req, int code, const char *text);

#endif
