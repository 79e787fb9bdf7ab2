"""This build against another one, in slices of a fifth of a second: what a change has brought, or cost, where two runs one after the other differ by more."""
import contextlib, os, statistics
from harness import PARTITIONS, SLICE, Build, Counting, Nginx, World, in_slices
from openloop import FEW, ONE_LANE

PORTS = 100
# A case's deliveries, by one lane of one role, or events, by both roles.
CASES = {"delivery, 24 endpoints": ("deliveries", 24), "delivery, 1,000 endpoints": ("deliveries", 1_000),
         "both roles, 24 endpoints": ("events", 24), "both roles, 1,000 endpoints": ("events", 1_000)}


@contextlib.contextmanager
def begun(build, receiver, what, endpoints, count):
    """A worker of the build that stands still, with a backlog of its own."""
    world = World(build, what)
    world.endpoints(endpoints, receiver, types="kind%d.made")
    words = ("--types", endpoints) if what == "events" else ("--partitions", PARTITIONS, "--endpoints", endpoints)
    with world.worker(*(("--lanes", "1") if what == "events" else ONE_LANE), *FEW) as worker:
        worker.ready()
        since = worker.stopped(lambda: world.load(what, count, *words))
        worker.pause()
        yield Counting(worker, count, is_whole=True, since=since)
    world.forget()


def against(options, directory):
    """CPU of this build by that of the other one: of each round, and the median."""
    builds, result = [Build(options.brokers, path, directory) for path in (options.martlet, options.other)], {}
    with Nginx(os.path.join(directory, "receiver"), ports=PORTS) as receiver:
        for title, (what, endpoints) in CASES.items():
            ratios = []
            for number in range(options.rounds):
                with contextlib.ExitStack() as stack:
                    of = {build: stack.enter_context(begun(build, receiver, what, endpoints, options.events)) for build in (builds if number % 2 == 0 else builds[::-1])}
                    in_slices(*((counting.worker, SLICE, counting.look) for counting in of.values()))
                    ours, theirs = (of[build].figures()["cpu_us"] for build in builds)
                ratios.append(ours / theirs)
                print(f"{title:30}{ours:8.1f} µs{theirs:8.1f} µs{ours / theirs:8.3f}", flush=True)
            result[title] = {"ratios": ratios, "median": statistics.median(ratios)}
            print(f"{title:30}{'':22}{result[title]['median']:8.3f}  the median", flush=True)
    return {"figures": result, "broken": []}
