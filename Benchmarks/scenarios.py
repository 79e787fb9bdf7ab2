"""The scenarios of the table, each beside its reference in the same run. A figure is (value, reference, target): `target` is what the
ratio, or the value where there is no reference, should be; with a fourth element the value in any case."""
import argparse, os, statistics, time
from neighbours import alternating, message_id, percentile
from harness import LINGER_MS, Nginx, SlowReceiver, reference

ONE_LANE, FAN_OUT, FEW = ("--roles", "delivery", "--lanes", "1"), ("--roles", "fanout"), ("--max-in-flight", "64")


def figures(worker, reference, cpu_target, speed_target=None):
    rows = {"cpu_us": (worker["cpu_us"], reference["cpu_us"], ("<=", cpu_target)), "per_second": (worker["per_second"], reference["per_second"], speed_target and (">=", speed_target)),
            "rss_mb": (worker["rss_mb"], reference["rss_mb"], None)}
    return rows


def medians(runs):
    """Of each figure; None of no runs."""
    return {figure: statistics.median(run[figure] for run in runs) for figure in runs[0]} if runs else None


def deliveries(bench, name, endpoints, receiver, count, words=(), bytes_=1024, scheme="http", has_reference=True, reference_words=(), rounds=None):
    """Deliveries that lie ready, sent by the reference and by one lane, each of them all; in turns, and of each figure the median: one run
    on a shared machine is a quarter off either way."""
    ours, theirs = [], []
    for _ in range(rounds or bench.rounds):
        world = bench.world(name)
        world.endpoints(endpoints, receiver, scheme=scheme)
        world.load("deliveries", count, "--partitions", 24, "--endpoints", endpoints, "--bytes", bytes_)
        if has_reference:
            theirs.append(world.reference(count, receiver.ports[:endpoints], *reference_words))
        ours.append(world.measure(count, *ONE_LANE, *words))
    return medians(ours), medians(theirs)


def a(bench):
    """Kept connections, 1 KB bodies, 64 connections: one endpoint; then 1,000 endpoints on 100 receivers."""
    with Nginx(os.path.join(bench.directory, "a"), ports=100) as receiver:
        def run(name, endpoints):
            return deliveries(bench, name, endpoints, receiver, bench.count(300_000), FEW)
        yield "one endpoint", figures(*run("a", 1), 1.5, 0.6)
        yield "24 endpoints, a partition each", figures(*run("a24", 24), 1.5, 0.6)
        yield "1,000 endpoints, 100 receivers", figures(*run("a1000", 1_000), 1.8)


def b(bench):
    """The same over TLS."""
    with Nginx(os.path.join(bench.directory, "b"), ports=100, tls="resumed") as receiver:
        def run(name, endpoints):
            return deliveries(bench, name, endpoints, receiver, bench.count(200_000), (*FEW, "--ca-file", receiver.authority), scheme="https", reference_words=("--ca", receiver.authority))
        yield "one endpoint, TLS", figures(*run("b", 1), 1.5)
        yield "1,000 endpoints, 100 receivers, TLS", figures(*run("b1000", 1_000), 1.5)


def c(bench):
    """64 KB bodies."""
    with Nginx(os.path.join(bench.directory, "c")) as receiver:
        yield "64 KB bodies", figures(*deliveries(bench, "c", 1, receiver, bench.count(40_000), FEW, bytes_=65_536), 1.5)


def d(bench):
    """Receivers that take 50 ms, with room for 10,000 requests in flight (a thousand are), beside 64 to one that answers at once, and what the
    same costs the reference; and the memory with 10,000 in flight, plain and over TLS."""
    rounds = []
    with Nginx(os.path.join(bench.directory, "d")) as fast, SlowReceiver(50) as slow:
        for _ in range(bench.rounds):
            rounds.append((*deliveries(bench, "dfast", 1, fast, bench.count(200_000), FEW, rounds=1),
                           *deliveries(bench, "d", 240, slow, bench.count(400_000), ("--max-in-flight", "10000"), reference_words=("--connections", 1_500), rounds=1)))
    plain, plain_reference, ours, theirs = (medians(list(runs)) for runs in zip(*rounds))
    yield "50 ms receivers", {"cpu_us": (ours["cpu_us"], plain["cpu_us"], ("<=", 1.5)), "per_second": (ours["per_second"], None, None), "rss_mb": (ours["rss_mb"], None, ("<=", 150))}
    yield "the same of the C reference", {"cpu_us": (theirs["cpu_us"], plain_reference["cpu_us"], None), "per_second": (theirs["per_second"], None, None)}
    with SlowReceiver(10_000) as receiver:
        yield "10,000 in flight at once", {"rss_mb": (at_once(bench, "dplain", receiver), None, ("<=", 150))}
    # A thousand handshakes a second: the first ones have to wait for the last ones.
    with SlowReceiver(50_000) as slow, Nginx(os.path.join(bench.directory, "dtls"), tls="resumed", answer=f"proxy_pass http://127.0.0.1:{slow.ports[0]}", processes=2) as receiver:
        yield "10,000 in flight at once, TLS", {"rss_mb": (at_once(bench, "dtls", receiver, ("--ca-file", receiver.authority), "https"), None, ("<=", 500))}


def at_once(bench, name, receiver, words=(), scheme="http"):
    """MB with 10,000 requests in flight at the same moment: four to each of 2,500 endpoints, and 2,000 more deliveries that wait."""
    world = bench.world(name)
    world.endpoints(2_500, receiver, scheme=scheme, settings=", timeoutsMs: {total: 60000}")
    world.load("deliveries", 12_000, "--partitions", 24, "--endpoints", 2_500)
    with world.worker(*ONE_LANE, "--max-in-flight", "10000", *words) as worker:
        return worker.most_in_flight(9_900)


def e(bench):
    """1 % hanging and 1 % refusing among 1,000 endpoints: what the healthy ones notice of it. More of it: `scripts/bench neighbours`."""
    options = argparse.Namespace(martlet=bench.martlet, brokers=bench.brokers, rounds=bench.rounds, events=bench.count(60_000), rate=500, seconds=30, settle=20)
    _, medians = alternating(options, os.path.join(bench.directory, "e"))
    healthy, beside = medians[False], medians[True]
    yield "healthy endpoints beside sick ones", {
        "p50_ms": (beside["p50_ms"], healthy["p50_ms"], None), "p99_ms": (beside["p99_ms"], healthy["p99_ms"], ("<=", 1.1)),
        "p999_ms": (beside["p999_ms"], healthy["p999_ms"], None), "rss_mb": (beside["rss_mb"], healthy["rss_mb"], None),
        "per_second": (beside["per_second"], healthy["per_second"], None), "cpu_us": (beside["cpu_us"], healthy["cpu_us"], None)}


def f(bench):
    """Fan-out of each event to ten endpoints, without delivery; CPU per delivery written."""
    with Nginx(os.path.join(bench.directory, "f")) as receiver:
        runs, count = [], bench.count(30_000)
        for _ in range(bench.rounds):
            world = bench.world("f")
            world.endpoints(10, receiver, types="kind0.made")
            world.load("events", count, "--types", 1)
            runs.append(world.measure(count * 10, *FAN_OUT, name="martlet_fanout_deliveries_total"))
        yield "1 event to 10 endpoints", {figure: (value, None, None) for figure, value in medians(runs).items()}


def g(bench):
    """100 active endpoints, alone and among 100,000 registered ones, in turns; and how long the registry takes to be read (j)."""
    with Nginx(os.path.join(bench.directory, "g")) as receiver:
        count, worlds = bench.count(200_000), [(bench.world("g100"), 100, []), (bench.world("g"), 100_000, [])]
        for world, endpoints, _ in worlds:
            world.endpoints(endpoints, receiver)
        for _ in range(bench.rounds):
            for world, _, runs in worlds:
                world.load("deliveries", count, "--partitions", 24, "--endpoints", 100)
                runs.append(world.measure(count, *ONE_LANE, *FEW))
        few, many = (medians(runs) for _, _, runs in worlds)
        yield "100 of 100,000 endpoints", {"cpu_us": (many["cpu_us"], few["cpu_us"], ("<=", 1.05)), "more_rss_mb": (many["rss_mb"] - few["rss_mb"], None, ("<=", 150))}
        starts = []
        for _ in range(bench.rounds):
            with worlds[1][0].worker(*ONE_LANE) as worker:
                starts.append(worker.ready())
        yield "start-up with 100,000 endpoints (j)", {"seconds": (statistics.median(starts), None, ("<=", 3))}


def h(bench):
    """An open loop at a fifth of what both roles together can do: from when an event should have been published to the receiver's log. The
    reference is the way through Kafka alone, at the same rate, from a publisher to a reader of the second topic. Medians of the rounds."""
    with Nginx(os.path.join(bench.directory, "h"), log=True) as receiver:
        world = bench.world("h")
        world.endpoints(100, receiver, types="kind%d.made")
        with world.worker() as worker:
            worker.ready()
            count = bench.count(40_000)
            # Until the broker's compilers have seen it all.
            open_loop(world, worker, receiver, 1_000, 0, WARMING_SECONDS)
            first = 1_000 * WARMING_SECONDS
            world.load("events", count, "--types", 100, "--first", first)
            capacity = worker.measure(first + count, from_share=(first + count * 0.05) / (first + count))
            first += count
            rates = {500: (None, None), max(200, int(capacity["per_second"] / 5)): (("<=", 4), ("<=", 10))}
            loops = {rate: [] for rate in rates}
            for _ in range(bench.rounds):
                for rate, runs in loops.items():
                    took, cpu = open_loop(world, worker, receiver, rate, first, OPEN_LOOP_SECONDS)
                    ours = {"p50_ms": percentile(took, 0.5), "p99_ms": percentile(took, 0.99), "p999_ms": percentile(took, 0.999), "cpu_us": cpu}
                    # The worker has nothing to do meanwhile.
                    runs.append((ours, bench.world("hops").hops(rate, OPEN_LOOP_SECONDS + 5)))
                    first += rate * OPEN_LOOP_SECONDS
        for rate, (p50, p99) in rates.items():
            ours, floor = (medians(list(runs)) for runs in zip(*loops[rate]))
            yield f"open loop, {rate} a second", {
                "p50_ms": (ours["p50_ms"], floor["p50_ms"], p50, "absolute"), "p99_ms": (ours["p99_ms"], floor["p99_ms"], p99, "absolute"),
                "p999_ms": (ours["p999_ms"], floor["p999_ms"], None), "cpu_us": (ours["cpu_us"], None, None)}


OPEN_LOOP_SECONDS = 20
WARMING_SECONDS = 40
# Scenarios that an embedded cluster has room for.
EMBEDDED = ("a", "b", "f", "k", "m")
# Scenarios whose broker compiles all that it can.
WARM = ("e", "h")


def open_loop(world, worker, receiver, rate, first, seconds):
    """Milliseconds of each delivery from when its event should have been published to the receiver's log; CPU of each in microseconds."""
    receiver.received()
    cpu, count = worker.usage()[0], rate * seconds
    start = float(world.load("events", count, "--types", 100, "--rate", rate, "--first", first, "--linger-ms", LINGER_MS))
    ids = {message_id(first + n): start + n / rate for n in range(count)}
    took, end = [], time.time() + 60
    while len(took) < count:
        for when, id_ in receiver.received():
            if id_ in ids:
                took.append((when - ids.pop(id_)) * 1000)
        worker.check(end, f"{len(took)} of {count} arrived")
        time.sleep(0.1)
    return took, (worker.usage()[0] - cpu) / count * 1e6


def i(bench):
    """An endpoint of 100 a second with a backlog, in the partitions of 23 others: are they as fast as without it, and is it?"""
    with Nginx(os.path.join(bench.directory, "i")) as receiver:
        def run(limited):
            world = bench.world("i")
            world.endpoints(24, receiver)
            if limited:
                world.martlet("endpoint", "update", "ep_0", "--rate", "100/s", *world.allowed)
            count = bench.count(100_000)
            world.load("deliveries", count, "--partitions", 24, "--endpoints", 24)
            return world.measure(int(count * 22.8 / 24), *ONE_LANE, *FEW)
        rounds = [(run(False), run(True)) for _ in range(bench.rounds)]
        without, beside = (medians(list(runs)) for runs in zip(*rounds))
        yield "23 endpoints beside a limited one", {"per_second": (beside["per_second"], without["per_second"], (">=", 0.9)), "cpu_us": (beside["cpu_us"], without["cpu_us"], None)}


def k(bench):
    """Fan-out alone, delivery alone, and both roles in one process, of the same events."""
    with Nginx(os.path.join(bench.directory, "k")) as receiver:
        count = bench.count(100_000)

        def world_of_events(name):
            world = bench.world(name)
            world.endpoints(24, receiver, types="kind%d.made")
            return world, lambda: world.load("events", count, "--types", 24)

        rounds = []
        for _ in range(bench.rounds):
            world, load = world_of_events("k")
            load()
            alone = world.measure(count, *FAN_OUT, name="martlet_fanout_deliveries_total")
            theirs, second = world.reference(count, receiver.ports), world.measure(count, *ONE_LANE, *FEW)
            world, load = world_of_events("kboth")
            with world.worker("--lanes", "1", *FEW) as worker:
                worker.ready()
                # Both roles' work from the first event on: fan-out would be through before many deliveries are.
                rounds.append((alone, theirs, second, worker.whole(count, load)))
        alone, theirs, second, both = (medians(list(runs)) for runs in zip(*rounds))
        yield "fan-out alone", {"cpu_us": (alone["cpu_us"], theirs["cpu_us"], None), "per_second": (alone["per_second"], None, None)}
        yield "delivery alone", {"cpu_us": (second["cpu_us"], theirs["cpu_us"], None), "per_second": (second["per_second"], theirs["per_second"], None)}
        yield "both roles in one process", {"cpu_us": (both["cpu_us"], theirs["cpu_us"], ("<=", 2.3)), "rss_mb": (both["rss_mb"], None, None)}


def l(bench):
    """A fresh TLS connection for each delivery, resumed and in full: so many a second a whole core could make. The reference makes one after
    another in C, with a request each, and does nothing else."""
    for kind, target in (("resumed", 2_000), ("full", 1_000)):
        with Nginx(os.path.join(bench.directory, "l-" + kind), tls=kind, keep=False) as receiver:
            rounds, count = [], bench.count(10_000)
            for _ in range(bench.rounds):
                run, _ = deliveries(bench, "l", 1, receiver, count, (*FEW, "--ca-file", receiver.authority), scheme="https", has_reference=False, rounds=1)
                rounds.append((run["cpu_us"], reference("--fresh", kind, "--count", count, "--port", receiver.ports[0], "--ca", receiver.authority)["cpu_us"]))
            ours, theirs = (statistics.median(runs) for runs in zip(*rounds))
            yield f"fresh TLS, {kind}", {"per_core_second": (1e6 / ours, 1e6 / theirs, (">=", target), "absolute"), "cpu_us": (ours, theirs, None)}


def m(bench):
    """(a) over libcurl, beside a bare libcurl loop without Kafka; and as it is, beside a worker written by hand in C over libcurl."""
    with Nginx(os.path.join(bench.directory, "m")) as receiver:
        rounds, count = [], bench.count(100_000)
        for _ in range(bench.rounds):
            over_curl, _ = deliveries(bench, "m", 1, receiver, count, (*FEW, "--transport", "curl"), has_reference=False, rounds=1)
            bare = reference("--curl", "--count", count, "--port", receiver.ports[0])
            rounds.append((over_curl, bare, *deliveries(bench, "mdirect", 1, receiver, count, FEW, reference_words=("--curl",), rounds=1)))
        over_curl, bare, direct, by_hand = (medians(list(runs)) for runs in zip(*rounds))
        yield "one endpoint over libcurl", figures(over_curl, bare, 1.35)
        # Half as much again is what "ahead" means at least.
        yield "as in (a), beside C over libcurl", figures(direct, by_hand, 0.67)


ALL = {"a": a, "b": b, "c": c, "d": d, "e": e, "f": f, "g": g, "h": h, "i": i, "k": k, "l": l, "m": m}
