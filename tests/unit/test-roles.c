/* test-roles.c - roles: by message and key, where they come from, how they end; the classes session, subject, role. */
#include <string.h>

#include "auth/roles.h"
#include "daemon/codec/jsonrpc.h"
#include "tests/unit/auth-fixture.h"
#include "xapi-classes/handlers.h"

/* ---- roles ---- */

static void check(const struct session *s, const char *message, const char *key, const char *denied)
{
    struct fault f = FAULT_INIT;
    gboolean allowed = session_allows(s, message_lookup(message), key, &f);
    g_assert_cmpint(allowed, ==, denied == NULL);
    if (denied) {
        g_assert_cmpstr(f.code, ==, "RBAC_PERMISSION_DENIED");
        g_assert_cmpstr(f.params[0], ==, denied);
        g_assert_cmpuint(g_strv_length(f.params), ==, 2);
    }
    fault_clear(&f);
}

static struct session *log_in_as(const char *role)
{
    remove_subjects();
    g_free(add_subject("u:alice", role));
    return log_in("alice", role);
}

static void test_roles(void)
{
    auth_begin();
    config->sessions_per_user = config->sessions_total = 100;
    struct session *s = log_in_as("read-only");
    check(s, "VM.get_name_label", NULL, NULL);
    check(s, "VM.start", NULL, "vm.start");
    check(s, "VM.add_to_other_config", "anything", "vm.add_to_other_config");
    session_unref(s);
    s = log_in_as("vm-operator");
    check(s, "VM.start", NULL, NULL);
    check(s, "VM.destroy", NULL, "vm.destroy");
    check(s, "VM.add_to_other_config", "folder", NULL);
    check(s, "VM.remove_from_other_config", "XenCenter.CustomFields.colour", NULL);
    check(s, "VM.add_to_other_config", "anything", "vm.add_to_other_config");
    check(s, "secret.get_value", NULL, "secret.get_value");
    session_unref(s);
    s = log_in_as("read-only");
    check(s, "VM.add_to_other_config", "folder", "vm.add_to_other_config/key:folder");
    session_unref(s);
    s = log_in_as("pool-operator");
    check(s, "secret.get_value", NULL, NULL);
    check(s, "subject.create", NULL, "subject.create");
    session_unref(s);
    s = log_in_as("pool-admin");
    check(s, "subject.create", NULL, NULL);
    check(s, "session.change_password", NULL, "session.change_password");
    session_unref(s);
    s = log_in("root", "");
    check(s, "session.change_password", NULL, NULL);
    session_unref(s);
}

static void test_client_cert(void)
{
    auth_begin();
    struct session s = {.roles = ROLES_CLIENT_CERT};
    check(&s, "VM.get_name_label", NULL, NULL);
    check(&s, "VM.start", NULL, "vm.start");
}

static void test_role_sources(void)
{
    auth_begin();
    g_free(add_subject("g:staff", "vm-operator"));
    g_free(add_subject("u:bob", "read-only"));
    struct session *s = log_in("bob", ""); /* the union of both */
    g_assert_true(session_has_role(s, ROLE_vm_operator));
    g_assert_false(session_has_role(s, ROLE_vm_admin));
    session_unref(s);
    s = log_in("admin", "");
    g_assert_true(session_has_role(s, ROLE_pool_admin));
    g_assert_false(session_has_role(s, ROLE_local_root));
    g_assert_false(s->local_superuser);
    session_unref(s);
}

static void test_revocation(void)
{
    auth_begin();
    g_autofree char *staff = add_subject("g:staff", "vm-operator");
    g_autofree char *bob = add_subject("u:bob", "pool-admin");
    struct session *s = log_in("bob", "");
    g_assert_true(session_has_role(s, ROLE_pool_admin));
    struct txn *t = txn_begin(the_store());
    txn_destroy(t, CLASS_subject, bob);
    txn_commit(t);
    sessions_recheck();
    g_assert_false(session_has_role(s, ROLE_pool_admin));
    g_assert_true(session_has_role(s, ROLE_vm_operator));
    g_autoptr(record) r = store_get(the_store(), CLASS_session, s->ref);
    g_assert_false(value_contains(record_field(r, F_session_rbac_permissions), "pool-admin"));
    t = txn_begin(the_store());
    txn_destroy(t, CLASS_subject, staff);
    txn_commit(t);
    sessions_recheck();
    g_assert_false(lives(s->ref));
    session_unref(s);
}

static void test_local_only(void)
{
    auth_begin();
    struct outcome o;
    outcome_init(&o);
    session_login_local("root", "right", NULL, &remote, outcome_done, &o);
    outcome_wait(&o);
    g_assert_nonnull(o.session);
    check(o.session, "session.local_logout", NULL, NULL);
    check(o.session, "session.get_uuid", NULL, NULL);
    check(o.session, "pool.emergency_transition_to_master", NULL, NULL);
    check(o.session, "VM.start", NULL, "vm.start");
    check(o.session, "VM.get_all_records", NULL, "vm.get_all_records");
    outcome_clear(&o);
    g_free(add_subject("u:alice", "pool-operator"));
    outcome_init(&o);
    session_login_local("alice", "right", NULL, &remote, outcome_done, &o);
    outcome_wait(&o);
    g_assert_cmpstr(o.fault.code, ==, "SESSION_AUTHORIZATION_FAILED");
    outcome_clear(&o);
}

/* ---- permissions ---- */

static void test_permissions(void)
{
    char ref[REF_SIZE];
    gsize n;
    enum role r;
    permissions_all(&n);
    g_assert_cmpuint(n, >, 1500);
    role_ref_of_name("pool-admin", ref);
    g_assert_cmpstr(ref, ==, "OpaqueRef:0165f154-ba3e-034e-6b27-5d271af109ba");
    g_assert_true(role_of_ref(ref, &r) && r == ROLE_pool_admin);
    g_assert_false(role_of_ref("OpaqueRef:NULL", &r));
    const struct permission *p = permission_by_name("vm.start");
    g_assert_cmpint(p->role, ==, ROLE_vm_operator);
    role_ref_of_name("vm.start", ref);
    g_assert_true(permission_by_ref(ref) == p);
    g_assert_true(permission_by_uuid(ref + 10) == p);
    ref[20] = ref[20] == '0' ? '1' : '0';
    g_assert_null(permission_by_ref(ref));
    g_assert_null(permission_by_name("vm.fly"));
    g_assert_null(permission_by_name("session.change_password")); /* no role has it */
    g_assert_null(permission_by_uuid(""));
    g_assert_nonnull(permission_by_name("vm.add_to_other_config/key:folder"));
    g_assert_true(permission_in(p, roles_reached(ROLE_vm_admin)));
    g_assert_false(permission_in(p, roles_reached(ROLE_read_only)));
    g_autoptr(value) names = roles_permission_names(roles_reached(ROLE_read_only));
    g_autoptr(value) again = roles_permission_names(roles_reached(ROLE_read_only));
    g_assert_true(names == again);
    for (r = ROLE_read_only; r <= ROLE_pool_admin; r++) { /* clients take one without subroles for a permission */
        role_ref_of_name(role_name(r), ref);
        g_autoptr(record) role = store_get(the_store(), CLASS_role, ref);
        g_assert_cmpstr(record_str(role, F_role_name_label), ==, role_name(r));
        g_assert_cmpuint(value_count(record_field(role, F_role_subroles)), >, 0);
    }
}

/* ---- the messages ---- */

static char *run_as(struct session *s, const char *name, const char *json)
{
    g_autoptr(arena) a = arena_new();
    struct value *given = json_parse(a, json, strlen(json), NULL, NULL);
    struct value *args[8] = {NULL};
    struct call c = {.msg = message_lookup(name), .args = args, .arena = a, .session = s, .origin = &remote};
    for (gsize i = 0; i < value_count(given); i++) {
        args[i] = type_convert(a, c.msg->params[i].type, value_at(given, i), c.msg->params[i].name, &c.fault);
        g_assert_nonnull(args[i]);
    }
    g_autoptr(value) result = c.msg->handler(&c);
    char *text = result ? json_text(result) : fault_text(&c.fault);
    fault_clear(&c.fault);
    return text;
}

static void assert_run(struct session *s, const char *name, const char *json, const char *wanted)
{
    g_autofree char *got = run_as(s, name, json);
    g_assert_cmpstr(got, ==, wanted);
}

static void test_others_sessions(void)
{
    auth_begin();
    g_free(add_subject("u:alice", "pool-operator"));
    struct session *alice = log_in("alice", ""), *root = log_in("root", "");
    g_autofree char *of_root = g_strdup_printf("[\"%s\"]", root->ref),
                    *of_alice = g_strdup_printf("[\"%s\"]", alice->ref);
    g_autofree char *no = g_strdup_printf("HANDLE_INVALID [session, %s]", root->ref);
    g_autofree char *uuid = g_strdup_printf("\"%s\"", root->uuid), *own = g_strdup_printf("\"%s\"", alice->uuid);
    g_autofree char *by_uuid = g_strdup_printf("[%s]", uuid), *by_own = g_strdup_printf("[%s]", own);
    g_autofree char *no_uuid = g_strdup_printf("UUID_INVALID [session, %s]", root->uuid);
    g_autofree char *own_ref = g_strdup_printf("\"%s\"", alice->ref), *root_ref = g_strdup_printf("\"%s\"", root->ref);
    assert_run(alice, "session.get_uuid", of_root, no);
    assert_run(alice, "session.get_record", of_root, no);
    assert_run(alice, "session.get_by_uuid", by_uuid, no_uuid);
    assert_run(alice, "session.get_uuid", of_alice, own);
    assert_run(alice, "session.get_by_uuid", by_own, own_ref);
    assert_run(root, "session.get_uuid", of_alice, own);
    assert_run(root, "session.get_by_uuid", by_uuid, root_ref);
    assert_run(root, "session.get_all_subject_identifiers", "[]", "[\"u:alice\"]");
    assert_run(alice, "session.logout_subject_identifier", "[\"u:alice\"]", "\"\"");
    g_assert_true(lives(alice->ref)); /* not the caller's own */
    assert_run(root, "session.logout_subject_identifier", "[\"\"]", "\"\"");
    g_assert_true(lives(root->ref));
    assert_run(root, "session.logout_subject_identifier", "[\"u:alice\"]", "\"\"");
    g_assert_false(lives(alice->ref));
    session_unref(alice);
    session_unref(root);
}

static void test_subject_messages(void)
{
    auth_begin();
    struct session *root = log_in("root", "");
    char power[REF_SIZE], admin[REF_SIZE];
    role_ref_of_name("vm-power-admin", power);
    role_ref_of_name("pool-admin", admin);
    assert_run(root, "subject.create", "[{\"subject_identifier\":\"alice\"}]", "SUBJECT_CANNOT_BE_RESOLVED []");
    g_autofree char *quoted = run_as(root, "subject.create", "[{\"subject_identifier\":\"u:alice\"}]");
    g_autofree char *ref = g_strndup(quoted + 1, strlen(quoted) - 2);
    assert_run(root, "subject.create", "[{\"subject_identifier\":\"u:alice\"}]", "SUBJECT_ALREADY_EXISTS []");
    struct session *alice = log_in("alice", "");
    g_assert_true(session_has_role(alice, ROLE_pool_admin)); /* the API's default */
    g_autofree char *add = g_strdup_printf("[\"%s\",\"%s\"]", ref, power);
    g_autofree char *remove = g_strdup_printf("[\"%s\",\"%s\"]", ref, admin);
    g_autofree char *bad = g_strdup_printf("[\"%s\",\"OpaqueRef:none\"]", ref);
    g_autofree char *self = g_strdup_printf("[\"%s\"]", ref);
    assert_run(root, "subject.add_to_roles", add, "\"\"");
    assert_run(root, "subject.add_to_roles", add, "ROLE_ALREADY_EXISTS []");
    assert_run(root, "subject.add_to_roles", bad, "ROLE_NOT_FOUND []");
    assert_run(root, "subject.remove_from_roles", remove, "\"\"");
    assert_run(root, "subject.remove_from_roles", remove, "ROLE_NOT_FOUND []");
    g_assert_false(session_has_role(alice, ROLE_pool_operator));
    g_assert_true(session_has_role(alice, ROLE_vm_power_admin));
    g_autofree char *names = run_as(root, "subject.get_permissions_name_label", self);
    g_assert_nonnull(strstr(names, "\"vm.start\""));
    g_assert_null(strstr(names, "\"subject.create\""));
    assert_run(root, "subject.destroy", self, "\"\"");
    g_assert_false(lives(alice->ref));
    session_unref(alice);
    session_unref(root);
}

static void test_role_messages(void)
{
    auth_begin();
    struct session *root = log_in("root", "");
    char start[REF_SIZE], operator[REF_SIZE], admin[REF_SIZE];
    role_ref_of_name("vm.start", start);
    role_ref_of_name("vm-operator", operator);
    role_ref_of_name("pool-admin", admin);
    g_autofree char *of_start = g_strdup_printf("[\"%s\"]", start), *start_set = g_strdup(of_start);
    g_autofree char *of_operator = g_strdup_printf("[\"%s\"]", operator);
    assert_run(root, "role.get_name_label", of_start, "\"vm.start\"");
    assert_run(root, "role.get_subroles", of_start, "[]");
    assert_run(root, "role.get_by_name_label", "[\"vm.start\"]", start_set);
    assert_run(root, "role.get_by_name_label", "[\"pool-admin\"]",
               "[\"OpaqueRef:0165f154-ba3e-034e-6b27-5d271af109ba\"]");
    assert_run(root, "role.get_permissions_name_label", of_start, "[\"vm.start\"]");
    assert_run(root, "role.get_name_label", "[\"OpaqueRef:x\"]", "HANDLE_INVALID [role, OpaqueRef:x]");
    assert_run(root, "role.get_permissions", "[\"OpaqueRef:x\"]", "HANDLE_INVALID [role, OpaqueRef:x]");
    g_autofree char *record = run_as(root, "role.get_record", of_start);
    g_assert_nonnull(strstr(record, "\"name_label\":\"vm.start\""));
    g_autofree char *names = run_as(root, "role.get_permissions_name_label", of_operator);
    g_assert_nonnull(strstr(names, "\"vm.start\""));
    g_assert_nonnull(strstr(names, "\"vm.get_name_label\""));
    g_assert_null(strstr(names, "\"vm.destroy\""));
    g_autofree char *refs = run_as(root, "role.get_permissions", of_operator);
    g_assert_nonnull(strstr(refs, start));
    g_autofree char *roles = run_as(root, "role.get_by_permission_name_label", "[\"vm.start\"]");
    g_autofree char *same = run_as(root, "role.get_by_permission", of_start);
    g_assert_cmpstr(roles, ==, same);
    g_assert_nonnull(strstr(roles, operator));
    g_assert_nonnull(strstr(roles, admin));
    assert_run(root, "role.get_by_permission_name_label", "[\"vm.fly\"]", "[]");
    session_unref(root);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    auth_set_up();
    g_test_add_func("/roles/messages", test_roles);
    g_test_add_func("/roles/client-cert", test_client_cert);
    g_test_add_func("/roles/sources", test_role_sources);
    g_test_add_func("/roles/revocation", test_revocation);
    g_test_add_func("/roles/local-only", test_local_only);
    g_test_add_func("/roles/permissions", test_permissions);
    g_test_add_func("/messages/others-sessions", test_others_sessions);
    g_test_add_func("/messages/subject", test_subject_messages);
    g_test_add_func("/messages/role", test_role_messages);
    int rc = g_test_run();
    auth_tear_down();
    return rc;
}
