#!/usr/bin/env python3
"""Holds the described API against the contract beside this file.

usage: check_contract.py [COMMAND [ARG...]]      COMMAND prints the description as JSON; the default is $DESCRIBE_API,
                                                 or "./xenapid --describe-api"
"""
import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROLES = ['read-only', 'vm-operator', 'vm-admin', 'vm-power-admin', 'pool-operator', 'pool-admin']
# xapi has these for every class with get_all, but does not list them.
UNLISTED = {'get_all_where', 'get_all_records_where'}
# Types of the 1.0 documents that are words of their own, or slips of the pen.
OLD_TYPES = {
    'string -> string) Map': '(string -> string) map',
    'integer': 'int',
    'xs ref': 'XSPolicy ref',
    'vm ref': 'VM ref',
    'xs_type': 'int',
    'xs_instantiationflags': 'int',
    'xs_policystate': '(string -> string) map',
    'acm_policyheader': '(string -> string) map',
}

# Where two rows of the 1.0 documents contradict each other: the getter says what the field must be.
OLD_FIELDS = {'cpu_pool.host_CPUs': 'host_cpu ref set'}

problems = []


def expect(where, what, found, wanted):
    if found != wanted:
        problems.append('%s: %s is %r, should be %r' % (where, what, found, wanted))


def load(name):
    with open(os.path.join(HERE, name), encoding='utf-8') as f:
        return json.load(f)


def by_name(rows):
    return {r['name']: r for r in rows}


def old_type(t):
    """A 1.0 type in the notation of 2.x."""
    t = t.strip()
    if t in OLD_TYPES:
        return OLD_TYPES[t]
    m = re.match(r'^\(\(?(\w+) ref\)? -> \(?(\w+) record\)?\) Map$', t)
    if m:
        return '(%s ref -> %s record) map' % m.groups()
    m = re.match(r'^\((\w+) -> (\w+)\) Map$', t)
    if m:
        return '(%s -> %s) map' % m.groups()
    m = re.match(r'^\(?(\w+)( ref)?\)? Set$', t)
    if m:
        return m.group(1) + (' set' if m.group(1) in ('string', 'int') else ' ref set')
    return t


def role_of(roles):
    """The lowest of the roles (each reaches what those below it reach), and whether client-cert is among them."""
    if not roles:
        return 'local-root', False
    return ROLES[min(ROLES.index(r) for r in roles if r != 'client-cert')], 'client-cert' in roles


def default_of(field):
    d = field.get('default')
    return d[1:-1] if d is not None and field['type'] == 'string' else d


def signature(m):
    return [(p['type'], p['name']) for p in m['params']]


def check_field(where, found, wanted):
    where = '%s.%s' % (where, wanted['name'])
    expect(where, 'type', found['type'], wanted['type'])
    expect(where, 'qualifier', found['qualifier'], wanted['qualifier'])
    expect(where, 'default', found.get('default'), default_of(wanted))
    expect(where, 'state', found.get('state', 'published'), wanted.get('state', 'published'))


def check_message(where, found, wanted):
    where = '%s.%s' % (where, wanted['name'])
    expect(where, 'result', found['result'], wanted['result'])
    expect(where, 'parameters', signature(found), [(p['type'], p['name']) for p in wanted['params']])
    expect(where, 'errors', found.get('errors', []), wanted.get('errors', []))
    expect(where, 'state', found.get('state', 'published'), wanted.get('state', 'published'))
    role, cert = role_of(wanted.get('roles'))
    expect(where, 'role', found['role'], role)
    expect(where, 'client_cert', found.get('client_cert', False), cert)


def implicit_shape(name, cls, fields):
    """Result and parameter types that a message derived from a field must have."""
    ref = cls + ' ref'
    shapes = {
        'get_record': (cls + ' record', [ref]),
        'get_by_uuid': (ref, ['string']),
        'get_by_name_label': (ref + ' set', ['string']),
        'get_all': (ref + ' set', []),
        'get_all_records': ('(%s -> %s record) map' % (ref, cls), []),
        'create': (ref, [cls + ' record']),
        'destroy': ('void', [ref]),
    }
    if name in shapes:
        return shapes[name]
    for prefix in ('get_', 'set_', 'add_to_', 'remove_from_', 'add_', 'remove_'):
        field = fields.get(name[len(prefix):]) if name.startswith(prefix) else None
        if not field:
            continue
        t = field['type']
        if prefix == 'get_':
            return t, [ref]
        if prefix == 'set_':
            return 'void', [ref, t]
        if prefix in ('add_', 'remove_'):
            return 'void', [ref, t[:-len(' set')]]
        key, value = t[1:-len(') map')].split(' -> ', 1)
        return 'void', [ref, key, value] if prefix == 'add_to_' else [ref, key]
    return None


def check_implicit(cls, found, wanted):
    own = by_name(found['implicit_messages'])
    every = {**own, **by_name(found['messages'])}
    fields = by_name(found['fields'])
    for name in wanted['implicit_messages']:
        where = '%s.%s' % (cls, name)
        m = every.get(name)
        if not m:
            problems.append(where + ' is missing')
            continue
        expect(where, 'shape', (m['result'], [p['type'] for p in m['params']]), implicit_shape(name, cls, fields))
        if name in wanted['implicit_roles']:
            role, cert = role_of(wanted['implicit_roles'][name])
        elif name.startswith('get_'):
            role, cert = m['role'], m.get('client_cert', False)
        else:
            role, cert = 'pool-operator', False
        expect(where, 'role', m['role'], role)
        expect(where, 'client_cert', m.get('client_cert', False), cert)
    old = {n for n, m in own.items() if m.get('api_1_0')}
    for name in sorted(set(own) - set(wanted['implicit_messages']) - UNLISTED - old):
        problems.append('%s.%s is not in the contract' % (cls, name))


def check_class(found, wanted):
    cls = wanted['name']
    expect(cls, 'state', found['state'], wanted['state'])
    expect(cls, 'enums', found['enums'], wanted['enums'])
    fields, messages = by_name(found['fields']), by_name(found['messages'])
    for f in wanted['fields']:
        if f['name'] in fields:
            check_field(cls, fields[f['name']], f)
        else:
            problems.append('%s.%s is missing' % (cls, f['name']))
    for m in wanted['messages']:
        if m['name'] in messages:
            check_message(cls, messages[m['name']], m)
        else:
            problems.append('%s.%s is missing' % (cls, m['name']))
    known = {r['name'] for r in wanted['fields'] + wanted['messages']} | set(wanted['implicit_messages'])
    for row in found['fields'] + found['messages']:
        if row['name'] not in known and not row.get('api_1_0'):
            problems.append('%s.%s is not in the contract' % (cls, row['name']))
    check_implicit(cls, found, wanted)


def check_old_class(found, old, new):
    """A class of the 1.0 additions; what 2.x (new) says of a message of the same name goes before it."""
    cls = old['name']
    fields = by_name(found['fields'])
    for f in old['fields']:
        m = fields.get(f['name'])
        if not m:
            problems.append('%s.%s (1.0) is missing' % (cls, f['name']))
            continue
        expect('%s.%s (1.0)' % (cls, f['name']), 'type', m['type'],
               OLD_FIELDS.get('%s.%s' % (cls, f['name']), old_type(f['type'])))
        expect('%s.%s (1.0)' % (cls, f['name']), 'qualifier', m['qualifier'], f['qualifier'])
    implicit = {n: dict(m, implicit=True) for n, m in by_name(found['implicit_messages']).items()}
    every = {**implicit, **by_name(found['messages'])}
    superseded = set(new['implicit_messages']) | {m['name'] for m in new['messages']} if new else set()
    for m in old['messages']:
        where = '%s.%s (1.0)' % (cls, m['name'])
        if m['name'] not in every:
            problems.append(where + ' is missing')
        elif m['name'] not in superseded:
            check_old_message(where, cls, every[m['name']], m, fields)
    known = {r['name'] for r in old['fields'] + old['messages']}
    for row in found['fields'] + found['messages']:
        if row.get('api_1_0') and row['name'] not in known:
            problems.append('%s.%s (1.0) is not in the contract' % (cls, row['name']))


def check_old_message(where, cls, found, wanted, fields):
    """The documents of 1.0 are sloppy about the types of what follows from the fields: these follow from ours."""
    shape = implicit_shape(wanted['name'], cls, fields) if 'implicit' in found else None
    if not shape:
        shape = old_type(wanted['result']), [old_type(p['type']) for p in wanted['params']]
    expect(where, 'shape', (found['result'], [p['type'] for p in found['params']]), shape)
    if 'implicit' not in found:
        expect(where, 'errors', found.get('errors', []), [e for s in wanted.get('errors', []) for e in s.split(', ')])


def check_errors(found, wanted, old_codes):
    for code, params in wanted.items():
        if code in found:
            expect(code, 'parameters', found[code]['params'], [p.strip() for p in params])
        else:
            problems.append('the error %s is missing' % code)
    for code in sorted(set(found) - set(wanted) - old_codes):
        problems.append('the error %s is not in the contract' % code)


def main():
    command = sys.argv[1:] or os.environ.get('DESCRIBE_API', './xenapid --describe-api').split()
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    classes = by_name(found['classes'])
    new, old = by_name(load('xenapi-2.json')['classes']), by_name(load('xenapi-1.0-additions.json')['classes'])
    for name, wanted in new.items():
        if name in classes:
            check_class(classes[name], wanted)
        else:
            problems.append('the class %s is missing' % name)
    for name, wanted in old.items():
        if name in classes:
            check_old_class(classes[name], wanted, new.get(name))
        else:
            problems.append('the class %s (1.0) is missing' % name)
    for name in sorted(set(classes) - set(new) - set(old)):
        problems.append('the class %s is not in the contract' % name)
    old_codes = {e for c in old.values() for m in c['messages'] for s in m.get('errors', []) for e in s.split(', ')}
    check_errors(found['errors'], load('errors.json'), old_codes)
    for p in problems:
        print(p)
    print('%d classes, %d messages, %d errors: %d differences from the contract' % (
        len(classes), sum(len(c['messages']) + len(c['implicit_messages']) for c in classes.values()),
        len(found['errors']), len(problems)))
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
