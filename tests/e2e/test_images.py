"""Disks over HTTP in other formats than raw: qcow2 against qemu-img, and differences (`base`) as VHD and qcow2."""
import os
import struct
import subprocess
import tempfile

from test_transfer import MIB, UNKNOWN, Transfers, sparse

SECTOR = 512
BLOCK = 2 * MIB  # of VHDs


def changed(data, places):
    """The same with other bytes here and there: {offset: bytes}."""
    data = bytearray(data)
    for at, new in places.items():
        data[at:at + len(new)] = new
    return bytes(data)


class Images(Transfers):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.place = place.name
        self.addCleanup(place.cleanup)

    def tool(self, *args):
        done = subprocess.run(["qemu-img", *args], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def file(self, name, data=None):
        path = os.path.join(self.place, name)
        if data is not None:
            with open(path, "wb") as f:
                f.write(data)
        return path

    def read(self, name):
        with open(self.file(name), "rb") as f:
            return f.read()

    def made(self, data, *options, size=None):
        """A disk with that content."""
        vdi = self.vdi(size or len(data), *options)
        self.assertEqual(self.put(vdi, data)[0], 200)
        return vdi

    def assert_lets_go(self, vdi):
        """Who has all of the answer may use the disk."""
        self.assertEqual(self.call("VDI.get_current_operations", vdi), {})

    def assert_untouched(self, vdi, data):
        self.assert_free(vdi)
        self.assertEqual(self.content(vdi), data)
        self.assertEqual(self.leftovers(), [])


class Qcow2(Images):
    def pack(self, data, *options):
        self.tool("convert", "-f", "raw", "-O", "qcow2", *options, self.file("raw", data), self.file("packed"))
        return self.read("packed")

    def unpack(self, image):
        self.tool("check", "-f", "qcow2", self.file("image.qcow2", image))  # fails when a count is wrong
        self.tool("convert", "-f", "qcow2", "-O", "raw", self.file("image.qcow2"), self.file("raw"))
        return self.read("raw")

    def test_export(self):
        for kind, size in ("qcow2", 21 * MIB + 512), ("raw", 5 * MIB), ("qcow2", 512), ("qcow2", 1200 * MIB):
            data = sparse(max(size, 1024))[:size] if size < 64 * MIB else b"x" * MIB
            vdi = self.made(data, kind, size=size)
            status, headers, body = self.get(vdi, format="qcow2")
            self.assertEqual((status, headers["content-length"]), (200, str(len(body))))
            self.assertEqual(self.unpack(body)[:len(data)], data)
            self.assertIn(f'"virtual-size": {size}', self.tool("info", "--output=json", self.file("image.qcow2")))
            status, headers, nothing = self.server.request("HEAD", self.path("export_raw_vdi", vdi, format="qcow2"))
            self.assertEqual((status, headers["content-length"], nothing), (200, str(len(body)), b""))
        self.assertLess(len(body), 2 * MIB)

    def test_import(self):
        data = sparse(20 * MIB + 1024, 4)
        for options in ([], ["-c"], ["-c", "-o", "compression_type=zstd"], ["-o", "compat=0.10"],
                        ["-o", "cluster_size=512"], ["-c", "-o", "cluster_size=2M"], ["-o", "preallocation=metadata"]):
            with self.subTest(options=options):
                vdi = self.made(b"\xff" * len(data))
                status, _, body = self.put(vdi, self.pack(data, *options), format="qcow2")
                self.assertEqual((status, body), (200, b""))
                self.assert_untouched(vdi, data)

    def test_unknown_length(self):
        data = sparse(9 * MIB, 8)
        image = self.pack(data)
        vdi, task = self.vdi(len(data)), self.task()
        with self.upload(vdi, UNKNOWN, task_id=task, format="qcow2") as c:
            c.sendall(image)
        self.assertEqual(self.ended(task)["status"], "success")
        self.assertEqual(self.content(vdi), data)
        task = self.task()
        with self.upload(vdi, UNKNOWN, task_id=task, format="qcow2") as c:
            c.sendall(image[:len(image) // 2])
        self.assertEqual(self.ended(task)["error_info"], ["IMPORT_ERROR_PREMATURE_EOF"])
        self.assert_untouched(vdi, data)

    def stored(self, vdi):
        path, = [f for f in self.files() if self.call("VDI.get_uuid", vdi) in f]
        with open(path, "rb") as f:
            return f.read()

    def test_kept_as_it_is(self):
        data = sparse(9 * MIB, 9)
        image = self.pack(data)
        for vdi in self.made(b"\xff" * len(data)), self.vdi(len(data)):
            self.assertEqual(self.put(vdi, image, format="qcow2")[0], 200)
            self.assertEqual(self.stored(vdi), image)
            self.assert_untouched(vdi, data)
            self.assertEqual(self.unpack(self.get(vdi, format="qcow2")[2]), data)
        exported = self.get(vdi, format="qcow2")[2]
        self.assertEqual(self.put(vdi, exported, format="qcow2")[0], 200)
        self.assertEqual(self.stored(vdi), exported)
        self.assertEqual(self.put(vdi, data)[0], 200)  # and can be replaced, and read by others
        self.assertEqual(self.put(vdi, image, format="qcow2")[0], 200)
        clone = self.call("VDI.clone", vdi, {})
        self.assertEqual(self.content(clone), data)

    def test_not_kept_as_it_is(self):
        """What differs from the images that the driver makes is written anew: the same bytes, another file."""
        data = sparse(9 * MIB, 10)
        def at(offset, new):
            image = self.pack(data)
            return image[:offset] + new + image[offset + len(new):]
        self.tool("bitmap", "--add", self.file("image", self.pack(data)), "b")
        bitmap = self.read("image")
        table = struct.unpack(">Q", self.pack(data)[48:56])[0]
        counts = struct.unpack(">Q", self.pack(data)[table:table + 8])[0]
        for what, image in (("compressed", self.pack(data, "-c")), ("version 2", self.pack(data, "-o", "compat=0.10")),
                            ("small clusters", self.pack(data, "-o", "cluster_size=4096")),
                            ("lazy counts", self.pack(data, "-o", "lazy_refcounts=on")),
                            ("counts of another size", self.pack(data, "-o", "refcount_bits=8")),
                            ("a bitmap", bitmap),
                            ("a count too high", at(counts + 6, b"\0\2")), ("a count too low", at(counts + 6, b"\0\0")),
                            ("a strange end", self.pack(data) + b"\0" * 512)):
            with self.subTest(what):
                vdi = self.made(b"\xff" * len(data))
                self.assertEqual(self.put(vdi, image, format="qcow2")[0], 200)
                self.assertNotEqual(self.stored(vdi), image)
                self.assert_untouched(vdi, data)
        larger = self.made(b"\xff" * 12 * MIB)
        self.assertEqual(self.put(larger, self.pack(data), format="qcow2")[0], 200)
        self.assert_untouched(larger, data + bytes(3 * MIB))

    def test_there_and_back(self):
        data = sparse(9 * MIB, 5)
        a, b = self.made(data), self.vdi(12 * MIB, "raw")
        self.assertEqual(self.put(b, self.get(a, format="QCOW2")[2], format="qcow2")[0], 200)
        self.assertEqual(self.content(b), data + bytes(3 * MIB))

    def refuse(self, vdi, image):
        task = self.task()
        self.assertIn(b"VALUE_NOT_SUPPORTED", self.put(vdi, image, format="qcow2", task_id=task)[2])
        self.assertEqual(self.ended(task)["error_info"][0], "VALUE_NOT_SUPPORTED")

    def test_refusals(self):
        data = sparse(6 * MIB, 6)
        vdi = self.made(data)
        image = self.pack(data)
        self.file("base.qcow2", image)
        for options in (["-b", "base.qcow2", "-F", "qcow2"], ["-b", "/etc/passwd", "-F", "raw", "-u"],
                        ["-b", "json:{\"driver\":\"file\"}", "-F", "raw", "-u"],
                        ["-o", f"data_file={self.file('data')},data_file_raw=on"], ["-o", "extended_l2=on"]):
            with self.subTest(options=options):
                if os.path.exists(self.file("new")):
                    os.unlink(self.file("new"))
                self.tool("create", "-f", "qcow2", *options, self.file("new"), "6M")
                self.refuse(vdi, self.read("new"))
                self.assert_untouched(vdi, data)
        self.refuse(vdi, image[:32] + b"\0\0\0\2" + image[36:])  # encrypted
        self.assert_untouched(vdi, data)
        status, _, body = self.put(vdi, self.pack(bytes(8 * MIB)), format="qcow2")
        self.assertEqual((status, body[:13]), (400, b"VDI_TOO_SMALL"))

    def test_damage(self):
        data = sparse(6 * MIB, 6)
        vdi = self.made(data)
        image = self.pack(os.urandom(6 * MIB))
        def at(offset, new):
            return image[:offset] + new + image[offset + len(new):]
        l1 = struct.unpack(">Q", image[40:48])[0]
        for bad in (image[:MIB], image[:100], b"abc", os.urandom(5000), at(0, b"QFI?"), at(20, b"\0\0\0\x40"),
                    at(24, b"\xff" * 8), at(36, b"\xff" * 4), at(40, b"\xff" * 8), at(72, b"\0" * 7 + b"\x02"),
                    at(l1, b"\x7f" * 8), at(l1, b"\0\0\0\0\0\0\2\0"), at(l1, b"\0\0\0\0\0\x50\0\0")):
            status, _, body = self.put(vdi, bad, format="qcow2")
            self.assertEqual((status, body[:12]), (400, b"IMPORT_ERROR"), bad[:80])
            self.assert_untouched(vdi, data)
        with self.upload(vdi, 80 * MIB, format="qcow2") as c:  # more than such a disk can need
            self.assertEqual(c.recv(12), b"HTTP/1.1 400")

    def test_cut(self):
        data = sparse(6 * MIB, 6)
        vdi, task = self.made(data), self.task()
        with self.upload(vdi, 6 * MIB, task_id=task, format="qcow2") as c:
            c.sendall(self.pack(os.urandom(6 * MIB))[:5 * MIB])
        self.assertEqual(self.ended(task)["error_info"], ["IMPORT_ERROR_PREMATURE_EOF"])
        self.assert_untouched(vdi, data)


def vhd_blocks(image):
    """Of a dynamic or differencing VHD: its type, the parent's name and {number of block: (bitmap, data)}."""
    kind, = struct.unpack(">I", image[60:64])
    header, = struct.unpack(">Q", image[16:24])
    table, = struct.unpack(">Q", image[header + 16:header + 24])
    entries, size = struct.unpack(">II", image[header + 28:header + 36])
    assert size == BLOCK and image[:8] == b"conectix" and image[-512:] == image[:512]
    name = image[header + 64:header + 576].decode("utf-16-be").rstrip("\0")
    blocks = {}
    for i, sector in enumerate(struct.unpack(f">{entries}I", image[table:table + 4 * entries])):
        if sector != 0xffffffff:
            at = sector * SECTOR
            blocks[i] = image[at:at + SECTOR], image[at + SECTOR:at + SECTOR + BLOCK]
    return kind, name, blocks


class Differences(Images):
    size = 17 * MIB + SECTOR
    places = {100: b"changed", 5 * MIB: bytes(MIB), 17 * MIB + 500: b"the end"}

    def setUp(self):
        super().setUp()
        self.old = os.urandom(self.size - 4 * MIB) + bytes(4 * MIB)
        self.new = changed(self.old, self.places)

    def pair(self, kind="qcow2"):
        """A disk and an older snapshot of it."""
        vdi = self.made(self.old, kind)
        snapshot = self.call("VDI.snapshot", vdi, {})
        self.assertEqual(self.put(vdi, self.new)[0], 200)
        self.assertEqual(self.content(snapshot), self.old)
        return vdi, snapshot

    def test_vhd(self):
        for kind in "qcow2", "raw":
            with self.subTest(kind=kind):
                vdi, base = self.pair(kind)
                status, headers, image = self.get(vdi, format="vhd", base=base)
                self.assert_lets_go(base)
                self.assertEqual((status, headers["content-length"]), (200, str(len(image))))
                found, name, blocks = vhd_blocks(image)
                self.assertEqual((found, name), (4, self.call("VDI.get_uuid", base) + ".vhd"))
                self.assertEqual(sorted(blocks), [0, 2, 8])
                padded = self.new + bytes(BLOCK)
                for i, (bitmap, data) in blocks.items():
                    self.assertEqual((bitmap, data), (b"\xff" * SECTOR, padded[i * BLOCK:(i + 1) * BLOCK]))
                clone = self.call("VDI.clone", base, {})
                self.assertEqual(self.put(clone, image, format="vhd")[0], 200)
                self.assert_untouched(clone, self.new)
                self.assertEqual(self.content(base), self.old)

    def test_qcow2(self):
        for kind in "qcow2", "raw":
            with self.subTest(kind=kind):
                vdi, base = self.pair(kind)
                uuid = self.call("VDI.get_uuid", base)
                status, _, image = self.get(vdi, format="qcow2", base=uuid)
                self.assertEqual(status, 200)
                self.assertLess(len(image), MIB)
                self.file(f"{uuid}.qcow2", self.get(base, format="qcow2")[2])  # under the name that it is offered with
                self.tool("check", "-f", "qcow2", self.file("d.qcow2", image))
                self.tool("convert", "-f", "qcow2", "-O", "raw", self.file("d.qcow2"), self.file("raw"))
                self.assertEqual(self.read("raw"), self.new)
                clone = self.call("VDI.clone", base, {})
                self.assertEqual(self.put(clone, image, format="qcow2")[0], 200)
                self.assert_untouched(clone, self.new)

    def test_qcow2_that_says_nothing(self):
        """With base= an image without a backing file is a difference, without it it is all."""
        self.tool("create", "-f", "qcow2", self.file("new"), str(self.size))
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 3M 64k", self.file("new")], check=True,
                       capture_output=True)
        image, seven = self.read("new"), {3 * MIB: b"\7" * 65536}
        vdi = self.made(self.old)
        self.assertEqual(self.put(vdi, image, format="qcow2", base=vdi)[0], 200)
        self.assertEqual(self.content(vdi), changed(self.old, seven))
        self.assertEqual(self.put(vdi, image, format="qcow2")[0], 200)
        self.assertEqual(self.content(vdi), changed(bytes(self.size), seven))

    def test_nothing_changed(self):
        vdi = self.made(self.old)
        base = self.call("VDI.snapshot", vdi, {})
        self.assertEqual(vhd_blocks(self.get(vdi, format="vhd", base=base)[2])[2], {})
        self.assertLess(len(self.get(vdi, format="qcow2", base=base)[2]), MIB)

    def test_grown(self):
        vdi, base = self.pair()
        self.call("VDI.resize", vdi, 32 * MIB)
        new = self.new + bytes(32 * MIB - len(self.new))
        new = changed(new, {30 * MIB: b"more"})
        self.assertEqual(self.put(vdi, new)[0], 200)
        for form in "vhd", "qcow2":
            image = self.get(vdi, format=form, base=base)[2]
            clone = self.call("VDI.clone", base, {})
            self.assertIn(b"VDI_TOO_SMALL", self.put(clone, image, format=form)[2])
            self.call("VDI.resize", clone, 32 * MIB)
            self.assertEqual(self.put(clone, image, format=form)[0], 200)
            self.assertEqual(self.content(clone), new)

    def test_sectors_of_a_block(self):
        """Of a block that a VHD holds, only the sectors that its bitmap names count; blocks in any order."""
        image = bytearray(self.get(self.made(bytes(self.size)), format="vhd", base=self.made(b"\1" * self.size))[2])
        self.assertEqual(sorted(vhd_blocks(image)[2]), list(range(9)))
        for i in range(9):
            at = struct.unpack(">I", image[1536 + 4 * i:1540 + 4 * i])[0] * SECTOR
            image[at:at + SECTOR] = b"\x40" + bytes(SECTOR - 1)  # the second sector
            image[at + SECTOR:at + SECTOR + BLOCK] = bytes([i + 1]) * BLOCK
        first, second = image[1536:1540], image[1540:1544]
        image[1536:1540], image[1540:1544] = second, first
        vdi = self.made(self.old)
        self.assertEqual(self.put(vdi, bytes(image), format="vhd")[0], 200)
        written = {i * BLOCK + SECTOR: bytes([i + 1]) * SECTOR for i in range(2, 9) if i * BLOCK + SECTOR < self.size}
        written |= {SECTOR: b"\2" * SECTOR, BLOCK + SECTOR: b"\1" * SECTOR}
        self.assert_untouched(vdi, changed(self.old, written))

    def test_cut_and_damaged(self):
        vdi, base = self.pair()
        image = self.get(vdi, format="vhd", base=base)[2]
        for bad in image[:-600], image[:3 * MIB], image[:-512] + bytes(512):
            task = self.task()
            self.assertEqual(self.put(base, bad, format="vhd", task_id=task)[0], 400)
            self.assertIn("IMPORT_ERROR", self.ended(task)["error_info"][0])
            self.assert_untouched(base, self.old)

    def test_refusals(self):
        vdi = self.made(b"x" * MIB)
        self.assertIn(b"VALUE_NOT_SUPPORTED", self.get(vdi, base=vdi)[2])
        self.assertIn(b"VALUE_NOT_SUPPORTED", self.put(vdi, b"x", base=vdi)[2])
        self.assertEqual(self.get(vdi, format="vhd", base="OpaqueRef:none")[0], 404)
        task = self.task()
        with self.upload(vdi, MIB, task_id=task) as c:  # a base that is written to
            c.sendall(b"y")
            self.until(lambda: self.call("VDI.get_current_operations", vdi))
            self.assertEqual(self.get(self.made(b"x"), format="vhd", base=vdi)[0], 409)


if __name__ == "__main__":
    import unittest
    unittest.main()
