"""Why a goal is not met, and what would have to change: printed with it, and nowhere else."""

HIT = ("a hit executes twice what bare hyper does (ARCHITECTURE.md, *What a hit costs*), and a reply of nine fields is"
       " written and copied by the kernel where the reference has four; it would take a server that sends a prepared"
       " head as it lies, which hyper does not")
MACHINE = "this machine's wake-ups are slow: compare what HAProxy and nginx add to the same in the tables"
MISS = ("a miss executes 99,000 instructions: a third of them the exchange with the vendor, of which hyper-util's pool"
        " takes a third, a seventh the reader of the record; it would take a pool of our own. " + MACHINE[0].upper()
        + MACHINE[1:])
STAMPEDE = ("500 callers at the vendor itself, with nothing in between, take 10 ms more than it does; what the gateway"
            " adds is 70 µs for each on the one core that it shares with the vendor here, where nginx, HAProxy and"
            " Varnish add more")


WHY = {
    "CPU a hit to bare hyper": HIT,
    "instructions a hit": HIT,
    "the same with 10,000 calls": HIT + "; a look into a map that is not in the processor's cache comes on top",
    "500 at once": STAMPEDE,
    "a miss, added": MISS,
    "a hit on disk": "over one connection bare hyper has a p99 of that size here, see the table of the connections",
}


def why(what):
    """The reason for a goal that begins so."""
    return next((reason for begin, reason in WHY.items() if what.startswith(begin)), "")
