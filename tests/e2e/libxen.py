"""Reads XML-RPC answers as the C bindings do (libxen, libxenserver, libvirt's driver): by position, by exact element names,
and with no patience for white space. What they would call a SERVER_FAULT is an AssertionError here."""
import xml.dom.minidom
import xmlrpc.client


class Fault(Exception):
    def __init__(self, description):
        super().__init__(*description)
        self.description = description


def fail(what, node=None):
    raise AssertionError(f"{what}: {node.toxml()[:300]}" if node is not None else what)


def is_element(node, name):
    return node is not None and node.nodeType == node.ELEMENT_NODE and node.tagName == name


def is_container(node, name):
    """An element of that name with exactly one child, an element."""
    return is_element(node, name) and node.firstChild is not None and node.firstChild is node.lastChild \
        and node.firstChild.nodeType == node.ELEMENT_NODE


def document(body):
    """The parsed answer: one declaration at most, at its very beginning, and nothing but elements beside elements."""
    if body.count(b"<?xml") > 1 or not body.startswith(b"<"):
        fail(f"a bad beginning: {body[:80]!r}")
    doc = xml.dom.minidom.parseString(body)
    check_no_mixture(doc.documentElement)
    return doc


def check_no_mixture(node):
    elements = [c for c in node.childNodes if c.nodeType == c.ELEMENT_NODE]
    if elements and len(elements) != len(node.childNodes):
        fail("text between elements", node)
    for e in elements:
        check_no_mixture(e)


def nodes_at(doc, *path):
    """What the XPath /a/b/c finds, in the order of the document."""
    found = [doc]
    for name in path:
        found = [c for n in found for c in n.childNodes if is_element(c, name)]
    return found


def members(struct):
    """(name, value node) of each member, which is a name and then a value."""
    for m in struct.childNodes:
        if not is_element(m, "member") or len(m.childNodes) != 2 or not is_element(m.firstChild, "name") \
                or not is_element(m.lastChild, "value"):
            fail("not a member", m)
        yield text(m.firstChild), m.lastChild


def text(node):
    return "".join(c.data for c in node.childNodes)


def string(value):
    """<value>text</value> or <value><string>text</string></value>."""
    if is_container(value, "value"):
        if not is_element(value.firstChild, "string"):
            fail("Expected String", value)
        return text(value.firstChild)
    if not is_element(value, "value"):
        fail("Expected String", value)
    return text(value)


def typed(value, name):
    if not is_container(value, "value") or not is_element(value.firstChild, name):
        fail(f"Expected {name}", value)
    return text(value.firstChild)


def split_map(type_name):
    inner, depth = type_name[1:-len(") map")], 0
    for i, c in enumerate(inner):
        depth += (c == "(") - (c == ")")
        if depth == 0 and inner.startswith(" -> ", i):
            return inner[:i], inner[i + 4:]


def decode(value, type_name, records=None):
    """The value of a type as --describe-api names it. records: class -> {field: type}, for "X record"."""
    if type_name.endswith(" set"):
        if not is_container(value, "value") or not is_container(value.firstChild, "array") \
                or not is_element(value.firstChild.firstChild, "data"):
            fail("Expected Set", value)
        return [decode(v, type_name[:-4], records) for v in value.firstChild.firstChild.childNodes]
    if type_name.endswith(" map"):
        _, of = split_map(type_name)
        return {k: decode(v, of, records) for k, v in members(struct_of(value))}
    if type_name.endswith(" record"):
        fields = records[type_name.removesuffix(" record")]
        got = {k: v for k, v in members(struct_of(value))}
        missing = set(fields) - set(got)
        if missing:
            fail(f"{type_name} without {sorted(missing)}")
        return {k: decode(v, fields[k], records) for k, v in got.items() if k in fields}
    if type_name == "float":
        return float(typed(value, "double"))
    if type_name == "bool":
        return {"0": False, "1": True}[typed(value, "boolean")]
    if type_name == "datetime":
        t = typed(value, "dateTime.iso8601")
        if len(t) != len("20240101T00:00:00Z") or t[8] != "T" or t[-1] != "Z":
            fail("Expected DateTime", value)
        return t
    if type_name == "int":
        return int(string(value))
    if type_name == "void":
        if string(value) != "":
            fail("Expected Void", value)
        return None
    return string(value)  # string, enum, reference


def struct_of(value):
    if not is_container(value, "value") or not is_element(value.firstChild, "struct"):
        fail("Expected Map", value)
    return value.firstChild


def result(body):
    """The value node of the answer; Fault when the call failed."""
    doc = document(body)
    values = nodes_at(doc, "methodResponse", "params", "param", "value", "struct", "member", "value")
    if len(values) != 2:
        fail(f"{len(values)} nodes where two are wanted: {body[:300]!r}")
    names = [text(n) for n in nodes_at(doc, "methodResponse", "params", "param", "value", "struct", "member", "name")]
    status = string(values[0])
    if (status, names) == ("Success", ["Status", "Value"]):
        return values[1]
    if (status, names) == ("Failure", ["Status", "ErrorDescription"]):
        raise Fault(decode(values[1], "string set"))
    fail(f"{status} with {names}")


class Client:
    """A session as libxen has it: every argument that is a number travels as text, headers are those of curl."""

    def __init__(self, server, user, password, records=None, kind="https"):
        self.server, self.records, self.kind = server, records, kind
        self.session = self.call("session.login_with_password", user, password, "1.10", type_name="string", bare=True)

    def post(self, body):
        return self.server.request("POST", "/", body, {"Content-Type": "application/x-www-form-urlencoded"}, self.kind)[2]

    def call(self, method, *arguments, type_name="void", bare=False):
        arguments = tuple(str(a) if type(a) is int else a for a in arguments)
        if not bare:
            arguments = (self.session, *arguments)
        body = xmlrpc.client.dumps(arguments, method).encode()
        return decode(result(self.post(body)), type_name, self.records)
