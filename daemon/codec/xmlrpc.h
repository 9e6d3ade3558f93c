/* xmlrpc.h - XML-RPC as Xen-API clients speak it (http://xmlrpc.com/spec.md and the deviations below).
 *
 * Read with libxml2's SAX2 parser: no DTD, no entities but the five of XML, no network; a document with a DOCTYPE is
 * malformed. Input integers may come as <int>, <i4>, <i8>, <string> or untyped text: a scalar that is not <boolean>,
 * <double>, <dateTime.iso8601>, <int>, <i4>, <i8>, <nil/> is a VALUE_STRING and the dispatcher converts it by the
 * parameter's type. <base64> is decoded only if the bytes are valid UTF-8 without NUL, otherwise malformed.
 * Characters that XML 1.0 does not allow are dropped when writing. Written without any white space between elements,
 * Status before Value, one XML declaration: C clients depend on each of these. */
#ifndef XENAPID_XMLRPC_H
#define XENAPID_XMLRPC_H

#include "daemon/codec/codec.h"

/* Reads a whole <methodCall>. Fills req (its memory is in a) and answers req->result. */
enum parse_result xmlrpc_parse_request(struct arena *a, const char *text, gsize len, const struct codec_limits *limits,
                                       struct rpc_request *req);
/* Reads one "<value>...</value>" (a task's result): NULL when it is not one. Heap value. */
struct value *xmlrpc_parse_value(const char *text, gsize len);

/* <methodResponse> with the struct {Status: "Success", Value: v}. */
void xmlrpc_put_success(struct reply *r, struct value *v);
/* <methodResponse> with the struct {Status: "Failure", ErrorDescription: [code, params...]}. */
void xmlrpc_put_failure(struct reply *r, const struct fault *f);
/* <methodResponse> with v itself: system.listMethods and its kin. */
void xmlrpc_put_bare(struct reply *r, struct value *v);
/* <methodResponse><fault>: what could not be read as a call at all. */
void xmlrpc_put_fault(struct reply *r, int code, const char *text);
/* The struct {Status, Value} or {Status, ErrorDescription} as a value: what system.multicall puts in its array. */
struct value *xmlrpc_status_value(struct arena *a, struct value *v, const struct fault *f);
/* "<value>...</value>" of v, the form of task.result; the caller frees it. */
char *xmlrpc_value_text(struct value *v);

#endif
