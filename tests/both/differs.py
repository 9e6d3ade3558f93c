"""What differs between the two worlds, as a client sees it. The suite says where it counts, with Case.differs(NAME);
docs/simulator.md has the table (python3 differs.py prints it), and tests/e2e/test_both.py holds all three together."""

TABLE = {
    # name: (what, on Xen, on the simulated host)
    "kernel": ("A kernel that is not there", "DOMAIN_BUILDER_ERROR", "is not looked for: the VM starts"),
    "guest": ("What runs in a VM", "a system: it sees its disks, memory and processors, and says so in its metrics",
              "nothing; metrics are made up a second after the start"),
    "deaf": ("A guest that does not hear of a shutdown", "any without drivers", "`other_config:sim:shutdown`"),
    "by itself": ("A guest stops by itself", "as its programs do", "as `sim.guest` says"),
    "others": ("Another toolstack makes and ends domains", "`xl`", "`sim.guest` with `appear` and `vanish`"),
    "disk": ("A disk of a running VM", "in use by the kernel or a device model, which shows in dom0",
             "looked for when it is plugged, then left alone"),
    "bridge": ("An interface of a running VM", "a port of a bridge; filtered or down as its locking mode says",
               "is noted with its locking mode"),
    "console": ("The text console", "the guest's", "a login prompt at which nobody logs in"),
    "boot": ("A boot of the host", "a boot", "`RUNTIME-DIR/sim-domains.json` is gone at the daemon's start"),
    "hypervisor": ("The hypervisor's own words", "`host.dmesg` is its ring", "`host.dmesg` is made up"),
}


def markdown():
    rows = [f"| {what} | {xen} | {sim} |" for what, xen, sim in TABLE.values()]
    return "\n".join(["| | on Xen | on the simulated host |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(markdown())
