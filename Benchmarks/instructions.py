"""What a delivery costs without a clock: instructions and allocations of a lane, counted by callgrind. Repeatable within one in a hundred on
any machine, as busy as it may be: of what the lane does once a second, commits for instance, only the few allocations are counted."""
import glob, os, re, subprocess, time
import harness
from harness import Nginx, Worker

# Reading, deciding, sending, receiving, writing: the functions of a lane's turn, by the ends of their names. None of them calls another.
COUNTED = ("*DeliveryLaneC4read*5limitSbSi_tF", "*DeliveryLaneC7executeyyF", "*DirectTransportC5flushyyF", "*DirectTransportC6handle*F",
           "*DirectTransportC5drain*F", "*ProducerC12drainReports*F")
# Waiting at once: half of a partition's bound, less room for what is under way.
BATCH = 400
# Of 2026-11; two in a hundred more are taken for a regression, a third less for a function that isn't found by its name any more. Without libcrypto: valgrind's processor hashes without the instructions for it.
KNOWN = {"instructions": 49_900, "allocations": 23.4}


def count(path):
    """Instructions outside libcrypto, those in it, and calls of malloc."""
    objects, functions, inside, outside, allocations = {}, {}, 0, 0, 0
    here, called, is_call = "", "", False

    def name(text, known):
        number, rest = re.match(r"(\(\d+\)) ?(.*)", text).groups()
        if rest:
            known[number] = rest
        return known.get(number, "")

    for line in open(path, errors="replace"):
        key, _, value = line.partition("=")
        if key == "ob":
            here = name(value.strip(), objects)
        elif key == "cob":
            name(value.strip(), objects)
        elif key == "fn":
            name(value.strip(), functions)
        elif key == "cfn":
            called = name(value.strip(), functions)
        elif key == "calls":
            is_call = True
            if called == "malloc":
                allocations += int(value.split()[0])
        elif line[:1].isdigit() or line[:1] in "+-*":
            # The line behind a call tells what the called one cost, which is told there as well.
            if not is_call:
                cost = int(line.split()[1]) if len(line.split()) > 1 else 0
                if "libcrypto" in here:
                    inside += cost
                else:
                    outside += cost
            is_call = False
    return outside, inside, allocations


def instructions(options, directory):
    deliveries = options.events
    world, found = harness.World(harness.Build(options.brokers, options.martlet, directory), "n"), os.path.join(directory, "callgrind.out")
    with Nginx(os.path.join(directory, "nginx")) as receiver:
        world.endpoints(1, receiver)
        worker = Worker(world, ("--roles", "delivery", "--lanes", "1", "--max-in-flight", "64"),
                        ("valgrind", "--tool=callgrind", "--separate-threads=yes", *(f"--toggle-collect={name}" for name in COUNTED), f"--callgrind-out-file={found}"))
        with worker:
            # What waits before the endpoints are known, or behind more than this, goes through a retry topic: that isn't a delivery's cost.
            worker.ready(300)
            end = time.time() + 600
            for loaded in range(0, deliveries, BATCH):
                batch = min(BATCH, deliveries - loaded)
                worker.stopped(lambda: world.load("deliveries", batch, "--partitions", harness.PARTITIONS, "--endpoints", 1))
                while worker.metric("martlet_deliveries_total", 'outcome="delivered"') < loaded + batch:
                    worker.check(end, "not all is delivered after ten minutes")
                    time.sleep(0.1)
            deferred = worker.metric("martlet_deliveries_total", 'outcome="deferred"')
    # Calls are counted in all threads, and making a page of metrics has many: those of the lane's.
    outside, inside, allocations = max(count(thread) for thread in glob.glob(found + "-*"))
    figures = {"instructions": outside / deliveries, "instructions_of_libcrypto": inside / deliveries, "allocations": allocations / deliveries}
    if deferred:
        print(f"bench: {deferred:.0f} deliveries went through a retry topic, which is counted as well")
    for name, value in figures.items():
        print(f"{name:28}{value:10.1f} a delivery" + (f", known {KNOWN[name]}" if name in KNOWN else ""))
    return {**figures, "broken": [name for name, known in KNOWN.items() if not known * 0.67 <= figures[name] <= known * 1.02]}
