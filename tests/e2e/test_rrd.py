"""The history of figures: /rrd_updates as JSON and XML, /vm_rrd, /host_rrd, and data sources."""
import json
import time
import unittest
import xml.etree.ElementTree as ElementTree

from harness import Case, Failure, basic


class Rrd(Case):
    conf = {"sim": {"vms": 2, "metrics": "yes"}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        vms = [r for r, v in cls.call("VM.get_all_records").items()
               if not v["is_control_domain"] and not v["is_a_template"] and v["power_state"] == "Halted"]
        cls.vm, cls.halted = vms[0], vms[1]
        cls.call("VM.start", cls.vm, False, False)
        cls.uuid = cls.call("VM.get_uuid", cls.vm)

    def get(self, path="rrd_updates", headers=None, **query):
        text = "&".join(f"{k}={v}" for k, v in {"session_id": self.s.ref, **query}.items() if v is not None)
        return self.server.request("GET", f"/{path}?{text}", headers=headers)

    def updates(self, **query):
        status, headers, body = self.get(json="true", **query)
        self.assertEqual((status, headers["content-type"]), (200, "application/json"))
        return json.loads(body, parse_constant=lambda x: self.fail(f"{x} is no JSON"))

    def until(self, condition, seconds=60):
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            self.assertLess(time.monotonic(), deadline, "what the test waits for does not happen")
            time.sleep(0.5)
        return found

    def known(self, **query):
        """Once it is known: {legend's entry: its newest value}."""
        def look():
            table = self.updates(start=int(time.time()) - 300, **query)
            columns = {}
            for i, entry in enumerate(table["meta"]["legend"]):
                values = [row["values"][i] for row in table["data"] if row["values"][i] is not None]
                columns[entry] = values[0] if values else None
            return columns if columns and None not in columns.values() else None
        return self.until(look)

    def test_updates(self):
        columns = self.known(host="true")
        kinds = {tuple(e.split(":")[:3]) for e in columns}
        host_uuid = self.call("host.get_uuid", self.host)
        self.assertIn(("AVERAGE", "vm", self.uuid), kinds)
        self.assertIn(("AVERAGE", "host", host_uuid), kinds)
        self.assertFalse([e for e in columns if self.call("VM.get_uuid", self.halted) in e])
        metrics = self.call("host_metrics.get_record", self.call("host.get_metrics", self.host))
        self.assertEqual(columns[f"AVERAGE:host:{host_uuid}:memory_total_kib"], int(metrics["memory_total"]) // 1024)
        self.assertEqual(columns[f"AVERAGE:vm:{self.uuid}:memory"],
                         int(self.call("VM_metrics.get_memory_actual", self.call("VM.get_metrics", self.vm))))
        self.assertTrue(0 <= columns[f"AVERAGE:vm:{self.uuid}:cpu0"] <= 1)
        self.assertFalse([e for e in self.known() if ":host:" in e])
        self.assertTrue(all(self.uuid in e for e in self.known(vm_uuid=self.uuid)))

    def test_table(self):
        self.known(host="true")
        start = int(time.time()) - 100
        for interval, step in (None, 5), (5, 5), (60, 60), (3600, 3600), (86400, 86400):
            table = self.updates(start=start, interval=interval, cf="AVERAGE", host="true")
            meta, data = table["meta"], table["data"]
            times = [row["t"] for row in data]
            self.assertEqual((meta["step"], meta["rows"], meta["columns"]), (step, len(data), len(meta["legend"])))
            self.assertEqual(times, sorted(times, reverse=True))
            self.assertTrue(all(t % step == 0 and start <= t <= time.time() for t in times))
            if times:
                self.assertEqual((meta["start"], meta["end"]), (times[-1], times[0]))
            self.assertTrue(all(len(row["values"]) == meta["columns"] for row in data))
        self.assertEqual(self.updates(start=0)["meta"]["step"], 86400)
        status, headers, body = self.get(start=start, host="true")
        self.assertEqual((status, headers["content-type"]), (200, "text/xml"))
        tree = ElementTree.fromstring(body)
        self.assertEqual(tree.tag, "xport")
        self.assertEqual(len(tree.findall("data/row")), int(tree.findtext("meta/rows")))
        self.assertEqual(len(tree.findall("meta/legend/entry")), int(tree.findtext("meta/columns")))
        self.assertEqual(len(tree.findall("data/row")[0].findall("v")), int(tree.findtext("meta/columns")))
        self.assertEqual(self.get(cf="MAX")[0], 500)
        self.assertEqual(self.get(session_id=None)[0], 401)
        self.assertEqual(self.get(session_id=None, headers=basic("root", "secret"))[0], 200)

    def test_whole(self):
        self.known(host="true")
        for path, query in ("vm_rrd", {"uuid": self.uuid}), ("host_rrd", {}):
            status, _, body = self.get(path, **query)
            self.assertEqual(status, 200)
            tree = ElementTree.fromstring(body)
            names = [n.text for n in tree.findall("ds/name")]
            self.assertIn("cpu0", names)
            self.assertEqual([r.findtext("pdp_per_row") for r in tree.findall("rra")], ["1", "12", "720", "17280"])
            for rra in tree.findall("rra"):
                self.assertTrue(all(len(row) == len(names) for row in rra.findall("database/row")))
        self.assertEqual(self.get("vm_rrd", uuid="00000000-0000-0000-0000-000000000000")[0], 404)

    def test_data_sources(self):
        self.known(host="true")
        for name, ref in ("VM", self.vm), ("host", self.host):
            sources = {d["name_label"]: d for d in self.call(f"{name}.get_data_sources", ref)}
            self.assertTrue(sources["cpu0"]["enabled"] and sources["cpu0"]["standard"])
            self.assertTrue(0 <= self.call(f"{name}.query_data_source", ref, "cpu0") <= 1)
            for method in "query_data_source", "record_data_source", "forget_data_source_archives":
                with self.assertRaises(Failure) as f:
                    self.call(f"{name}.{method}", ref, "nothing")
                self.assertEqual(f.exception.code, "INVALID_VALUE")

    def test_repositories(self):
        sr = self.call("pool.get_default_SR", self.pool)
        uuid, record = self.call("SR.get_uuid", sr), self.call("SR.get_record", sr)
        sources = {d["name_label"]: d for d in self.call("SR.get_data_sources", sr)}
        self.assertEqual(set(sources), {"physical_size", "physical_utilisation", "virtual_allocation"})
        self.assertEqual(sources["physical_size"]["value"], float(record["physical_size"]))
        self.assertEqual(self.call("SR.query_data_source", sr, "physical_size"), float(record["physical_size"]))
        self.assertEqual(self.fails("INVALID_VALUE", "SR.query_data_source", sr, "x"), ["data_source", "x"])
        columns = self.known(sr_uuid=uuid)
        self.assertEqual({e.rsplit(":", 1)[0] for e in columns}, {f"AVERAGE:sr:{uuid}"})
        self.assertEqual(columns[f"AVERAGE:sr:{uuid}:physical_size"], float(record["physical_size"]))
        whole = ElementTree.fromstring(self.get("sr_rrd", uuid=uuid)[2])
        self.assertEqual({d.findtext("name") for d in whole.findall("ds")}, set(sources))
        self.call("SR.forget_data_source_archives", sr, "virtual_allocation")
        self.assertNotIn(f"AVERAGE:sr:{uuid}:virtual_allocation", self.known(sr_uuid=uuid))
        self.call("SR.record_data_source", sr, "virtual_allocation")
        self.assertEqual(self.get("sr_rrd", uuid="x")[0], self.get("vm_rrd", uuid="x")[0])
        self.assertGreaterEqual(self.get("sr_rrd", uuid="x")[0], 400)

    def test_z_forget(self):
        vm = self.halted
        self.call("VM.start", vm, False, False)
        uuid = self.call("VM.get_uuid", vm)
        entry = f"AVERAGE:vm:{uuid}:cpu0"
        self.until(lambda: entry in self.known(vm_uuid=uuid))
        self.call("VM.forget_data_source_archives", vm, "cpu0")
        self.assertNotIn(entry, self.updates(start=int(time.time()) - 60)["meta"]["legend"])
        self.assertFalse({d["name_label"]: d for d in self.call("VM.get_data_sources", vm)}["cpu0"]["enabled"])
        self.call("VM.record_data_source", vm, "cpu0")
        self.until(lambda: entry in self.updates(start=int(time.time()) - 60)["meta"]["legend"])
        self.call("VM.hard_shutdown", vm)

    def test_what_is_not_here(self):
        for path in "host_backup", "system-status", "audit_log", "host_logs_download":
            self.assertEqual(self.get(path)[0], 501)
            self.assertEqual(self.get(path, session_id=None)[0], 401)


if __name__ == "__main__":
    unittest.main()
