#!/usr/bin/env python3
"""Makes the API reference, one HTML page, from what `xenapid --describe-api` prints (on standard input)."""
import html
import json
import sys

HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>xenapid: API reference</title><style>
body { font: 15px/1.45 sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; width: 100%; margin: .5em 0 1.5em }
td, th { border-bottom: 1px solid #ddd; padding: .25em .6em; text-align: left; vertical-align: top }
code { font: 13px monospace } h2 { margin-top: 2.5em } .state { color: #a40 } nav a { margin-right: .8em }
</style></head><body><h1>xenapid: API reference</h1>
"""


def text(s):
    return html.escape(str(s))


def state(x):
    return "" if x.get("state", "published") == "published" else f' <span class="state">{text(x["state"])}</span>'


def fields(c):
    yield "<h3>Fields</h3><table><tr><th>Field<th>Type<th>Qualifier<th>Default<th>Meaning</tr>"
    for f in c["fields"]:
        yield (f'<tr><td><code>{text(f["name"])}</code>{state(f)}<td><code>{text(f["type"])}</code>'
               f'<td>{text(f["qualifier"])}<td><code>{text(f.get("default", ""))}</code><td>{text(f["doc"])}</tr>')
    yield "</table>"


def messages(c):
    yield "<h3>Messages</h3><table><tr><th>Message<th>Meaning<th>Roles<th>Errors</tr>"
    for m in c["messages"]:
        params = ", ".join(f'{p["type"]} {p["name"]}' for p in m["params"])
        yield (f'<tr id="{text(c["name"])}.{text(m["name"])}"><td><code>{text(m["result"])} <b>{text(m["name"])}</b>'
               f'({text(params)})</code>{state(m)}<td>{text(m["doc"])}<td>{text(", ".join(m.get("roles", [])))}'
               f'<td>{text(", ".join(m.get("errors", [])))}</tr>')
    yield "</table>"


def page(api):
    yield HEAD
    yield "<nav>" + "".join(f'<a href="#{text(c["name"])}">{text(c["name"])}</a> ' for c in api["classes"])
    yield '<a href="#errors">errors</a></nav>'
    for c in api["classes"]:
        yield f'<h2 id="{text(c["name"])}">{text(c["name"])}{state(c)}</h2><p>{text(c["doc"])}</p>'
        for name, values in c.get("enums", {}).items():
            yield f'<p>enum <code>{text(name)}</code>: {text(", ".join(values))}</p>'
        if c["fields"]:
            yield from fields(c)
        if c["messages"]:
            yield from messages(c)
        if c.get("implicit_messages"):
            names = c["implicit_messages"]
            names = [m if isinstance(m, str) else m["name"] for m in names]
            yield f'<p>From the fields: <code>{text(", ".join(sorted(names)))}</code></p>'
    yield '<h2 id="errors">Errors</h2><table><tr><th>Code<th>Parameters<th>Meaning</tr>'
    for code, e in api["errors"].items():
        params, doc = (e, "") if isinstance(e, list) else (e.get("params", []), e.get("doc", ""))
        yield f'<tr><td><code>{text(code)}</code><td>{text(", ".join(params))}<td>{text(doc)}</tr>'
    yield "</table></body></html>"


if __name__ == "__main__":
    sys.stdout.write("\n".join(page(json.load(sys.stdin))) + "\n")
