"""The scenarios of the table, each beside its reference in the same run. A figure is (value, reference, target): `target` is what the
ratio, or the value where there is no reference, should be; with a fourth element the value in any case."""
import argparse, os, statistics, subprocess, sys, time
from neighbours import alternating
from openloop import FAN_OUT, FEW, ONE_LANE, RATE, SETTLING_SECONDS, c_delivery_id, delivery_id, events_loop, latencies, latency, latency_of_events, latency_of_hops, latency_of_lane, latency_of_reference, loop_of_deliveries, percentiles
from harness import PARTITIONS, SLICE, Counting, Nginx, SlowReceiver, in_turns, kafka_jars, medians, middle_pairs, once_each, reference, side_by_side

# Of an endpoint of 100 a second: more than it can get during an open loop. A multiple of 24.
LIMITED_BACKLOG = 4_800
# Of h, and of its worker before.
OPEN_LOOP_SECONDS, WARMING_SECONDS, WARMING_RATE = 20, 40, 2_000

# Scenarios that an embedded cluster has room for.
EMBEDDED = ("a", "b", "f", "k", "m")
# Of records in memory with each round, where it is more than of most.
GIGABYTES = {"a": 3, "b": 3, "d": 3, "g": 3.5, "k": 3}
# So many times the rounds where a target is near what one round differs from the next by, as others use the machine's caches: a quarter of a CPU's ratio (d), half
# of a slowest hundredth (e).
CLOSE = 2
# Scenarios whose broker compiles all that it can.
WARM = ("e", "h")
# Of so many events a second that a concurrent collector, which takes one of two cores, makes most of the slowest hundredth.
BUSY = ("h",)


def figures(ours, theirs, cpu_target=None, speed_target=None):
    targets = {"cpu_us": cpu_target and ("<=", cpu_target), "per_second": speed_target and (">=", speed_target)}
    return {figure: (ours[figure], theirs[figure], targets.get(figure)) for figure in ("cpu_us", "per_second", "rss_mb")}


def backlog(bench, name, endpoints, receiver, count, bytes_=1024, scheme="http"):
    """Deliveries that lie ready."""
    world = bench.world(name)
    world.endpoints(endpoints, receiver, scheme=scheme)
    world.load("deliveries", count, "--partitions", PARTITIONS, "--endpoints", endpoints, "--bytes", bytes_)
    return world


def deliveries(bench, name, endpoints, receiver, count, words=(), has_reference=True, reference_words=(), **how):
    """A round of a backlog, sent by one lane and by the reference at the same time, each of them all of it."""
    world = backlog(bench, name, endpoints, receiver, count, **how)
    with world.worker(*ONE_LANE, *words) as worker:
        if has_reference:
            found = beside_running(worker, count, lambda: world.running_reference(receiver.ports[:endpoints], *reference_words, count=count))
        else:
            found = (worker.measure(count),)
    world.forget()
    return found


def one_by_one(bench, name, endpoints, receiver, count, words, reference_words, number):
    """The same one after the other: of receivers that take their time, all that are asked would answer while one stands still."""
    world = backlog(bench, name, endpoints, receiver, count)
    found = in_turns(number, lambda: world.measure(count, *ONE_LANE, *words), lambda: world.reference(count, receiver.ports[:endpoints], *reference_words))
    world.forget()
    return found


def beside_running(worker, count, start):
    """Of a worker that has just been started."""
    counting = Counting(worker, count)
    worker.ready()
    return side_by_side(counting, start)


def beside_reference(bench, receiver, count, cases, words=FEW, bytes_=1024, rate=RATE, rounds=None, **how):
    """Rows of `cases`: title, endpoints, targets of CPU and deliveries a second. The latencies come last, as the receiver then writes a log."""
    # One round of each case after the other: what others on the machine do for a minute would be all of one case.
    rounds = [[deliveries(bench, "backlog", endpoints, receiver, count, words, bytes_=bytes_, **how) for _, endpoints, *_ in cases]
              for _ in range(rounds or bench.rounds)]
    receiver.log_from_now()
    for (title, endpoints, *targets), runs in zip(cases, zip(*rounds)):
        ours, theirs = middle_pairs(runs)
        loop = latency(bench, "loop", endpoints, receiver, words, bytes_=bytes_, rate=rate, **how)
        yield title, {**figures(ours, theirs, *targets), **latencies(*loop)}


def a(bench):
    """Kept connections, 1 KB bodies, 64 connections: one endpoint; then 1,000 endpoints on 100 receivers."""
    with Nginx(os.path.join(bench.directory, "a"), ports=100) as receiver:
        yield from beside_reference(bench, receiver, bench.count(300_000), (
            ("one endpoint", 1, 1.5, 0.6), ("24 endpoints, 18 partitions", 24, 1.5, 0.6), ("1,000 endpoints, 100 receivers", 1_000, 1.8)))


def b(bench):
    """The same over TLS. Of so many that handshakes, which the reference isn't charged for, aren't much of it."""
    with Nginx(os.path.join(bench.directory, "b"), ports=100, tls="resumed") as receiver:
        yield from beside_reference(
            bench, receiver, bench.count(400_000), (("one endpoint, TLS", 1, 1.5), ("1,000 endpoints, 100 receivers, TLS", 1_000, 1.5)),
            (*FEW, "--ca-file", receiver.authority), scheme="https", reference_words=("--ca", receiver.authority))


def c(bench):
    """64 KB bodies."""
    with Nginx(os.path.join(bench.directory, "c")) as receiver:
        yield from beside_reference(bench, receiver, bench.count(40_000), (("64 KB bodies", 1, 1.5),), bytes_=65_536, rate=103, rounds=bench.few)


def d(bench):
    """Receivers that take 50 ms, with room for 10,000 requests in flight (as many are as there come in 50 ms), beside 64 to one that answers at once, and what the
    same costs the reference; and the memory with 10,000 in flight, plain and over TLS."""
    rounds, many, connections = [], ("--max-in-flight", "10000"), ("--connections", 4_000)
    with Nginx(os.path.join(bench.directory, "d")) as fast, SlowReceiver(50) as slow:
        for number in range(CLOSE * bench.rounds):
            plain, slowly = in_turns(
                number, lambda: one_by_one(bench, "dfast", 1, fast, bench.count(200_000), FEW, (), number),
                lambda: one_by_one(bench, "d", 240, slow, bench.count(800_000), many, connections, number))
            rounds.append((*plain, *slowly))
    plain, plain_reference, ours, theirs = (medians(list(runs)) for runs in zip(*rounds))
    with SlowReceiver(50, log=os.path.join(bench.directory, "d.log")) as slow:
        loop = latency(bench, "dloop", 240, slow, many, reference_words=connections)
    yield "50 ms receivers", {"cpu_us": (ours["cpu_us"], plain["cpu_us"], ("<=", 1.5)), "per_second": (ours["per_second"], plain["per_second"], None),
                              "rss_mb": (ours["rss_mb"], plain["rss_mb"], ("<=", 150), "absolute"), **latencies(*loop)}
    yield "the same of the C reference", figures(theirs, plain_reference)
    yield "the 64 beside it, as in (a)", figures(plain, plain_reference, 1.5, 0.6)
    with SlowReceiver(10_000) as receiver:
        yield "10,000 in flight at once", {"rss_mb": (*at_once(bench, "dplain", receiver), ("<=", 150), "absolute")}
    # A thousand handshakes a second: the first ones have to wait for the last ones.
    with SlowReceiver(50_000) as slow, Nginx(os.path.join(bench.directory, "dtls"), tls="resumed", answer=f"proxy_pass http://127.0.0.1:{slow.ports[0]}", processes=2) as receiver:
        yield "10,000 in flight at once, TLS", {"rss_mb": (
            *at_once(bench, "dtls", receiver, ("--ca-file", receiver.authority), "https", ("--ca", receiver.authority)), ("<=", 500), "absolute")}


def at_once(bench, name, receiver, words=(), scheme="http", reference_words=()):
    """MB with 10,000 requests in flight at the same moment: four to each of 2,500 endpoints, and a backlog that waits; and those of
    the reference with as many."""
    world = bench.world(name)
    world.endpoints(2_500, receiver, scheme=scheme, settings=", timeoutsMs: {total: 60000}")
    world.load("deliveries", 100_000, "--partitions", PARTITIONS, "--endpoints", 2_500)
    with world.worker(*ONE_LANE, "--max-in-flight", "10000", *words) as worker:
        ours = worker.most_in_flight(9_900)
    return ours, world.reference(10_000, receiver.ports, "--connections", 10_000, *reference_words)["rss_mb"]


def e(bench):
    """1 % hanging and 1 % refusing among 1,000 endpoints: what the healthy ones notice of it. More of it: `scripts/bench neighbours`."""
    options = argparse.Namespace(martlet=bench.martlet, brokers=bench.brokers, rounds=CLOSE * bench.rounds, events=bench.count(60_000), rate=RATE, seconds=30, settle=20)
    _, middle = alternating(options, os.path.join(bench.directory, "e"))
    healthy, beside = middle[False], middle[True]
    yield "healthy endpoints beside sick ones", {
        "p50_ms": (beside["p50_ms"], healthy["p50_ms"], None), "p99_ms": (beside["p99_ms"], healthy["p99_ms"], ("<=", 1.1)),
        "p999_ms": (beside["p999_ms"], healthy["p999_ms"], None), "rss_mb": (beside["rss_mb"], healthy["rss_mb"], None),
        "per_second": (beside["per_second"], healthy["per_second"], None), "cpu_us": (beside["cpu_us"], healthy["cpu_us"], None)}


def f(bench):
    """Fan-out of each event to ten endpoints, without delivery, beside the same in C; CPU per delivery written. With delivery, until the last of an
    event's ten is received."""
    with Nginx(os.path.join(bench.directory, "f")) as receiver:
        rounds, count = [], bench.count(60_000)
        for number in range(bench.rounds):
            world = bench.world("f")
            world.endpoints(10, receiver, types="kind0.made")
            world.load("events", count, "--types", 1)
            rounds.append(in_turns(
                number, lambda: world.measure(count * 10, *FAN_OUT, name="martlet_fanout_deliveries_total", is_whole=True), lambda: world.fan_out_reference(count * 10, each=10)))
        ours, theirs = (medians(list(runs)) for runs in zip(*rounds))
        receiver.log_from_now()
        loop = once_each(lambda: latency_of_events(bench, "floop", receiver, 10, "kind0.made", 1, 53, each=10), lambda: latency_of_hops(bench, 53))
        yield "1 event to 10 endpoints", {**figures(ours, theirs), **latencies(*loop)}


def g(bench):
    """100 active endpoints, alone and among 100,000 registered ones, in turns; and how long the registry takes to be read (j),
    beside a client that reads its topic and looks at nothing."""
    with Nginx(os.path.join(bench.directory, "g")) as receiver:
        count, worlds = bench.count(400_000), [(bench.world("g100"), 100, []), (bench.world("g"), 100_000, [])]
        for world, endpoints, _ in worlds:
            world.endpoints(endpoints, receiver)
        # What so many endpoints could cost is less than what five rounds differ by.
        for number in range(3 * bench.rounds):
            for world, _, runs in worlds if number % 2 == 0 else reversed(worlds):
                world.load("deliveries", count, "--partitions", PARTITIONS, "--endpoints", 100)
                runs.append(world.measure(count, *ONE_LANE, *FEW))
        few, many = (medians(runs) for _, _, runs in worlds)
        receiver.log_from_now()

        def loop(world):
            with world.worker(*ONE_LANE, *FEW) as worker:
                return loop_of_deliveries(world, worker, receiver, 100, first=count)
        loops = once_each(lambda: loop(worlds[1][0]), lambda: loop(worlds[0][0]))
        yield "100 of 100,000 endpoints", {**figures(many, few, 1.05), "more_rss_mb": (many["rss_mb"] - few["rss_mb"], None, ("<=", 150)), **latencies(*loops)}

        def started():
            with worlds[1][0].worker() as worker:
                return worker.ready()
        starts = [in_turns(number, started, worlds[1][0].read_endpoints) for number in range(bench.rounds)]
        ready, read = (statistics.median(runs) for runs in zip(*starts))
        yield "start-up with 100,000 endpoints (j)", {"seconds": (ready, read, ("<=", 3), "absolute")}


def h(bench):
    """An open loop at a fifth of what both roles together can do: from when an event should have been published to the receiver's log. Beside
    the same in C, and beside the way through Kafka alone, from a publisher to a reader of the second topic, at the same rate. Medians of the rounds."""
    with Nginx(os.path.join(bench.directory, "h"), log=True) as receiver:
        world, first = bench.world("h"), 0
        world.endpoints(100, receiver, types="kind%d.made")
        with world.worker() as worker:
            worker.ready()
            # Until the broker's compilers have seen it all.
            events_loop(world, worker, receiver, WARMING_RATE, 0, WARMING_SECONDS)
            first, count, capacities = WARMING_RATE * WARMING_SECONDS, bench.count(200_000), []
            for _ in range(bench.few):
                capacities.append(worker.capacity(count, lambda: world.load("events", count, "--types", 100, "--first", first)))
                worker.delivered(first + count)
                first += count
            fifth = max(200, int(statistics.median(capacities) / 5))

        def loop(rate, first, world, running, **how):
            """Of both roles that run for nothing else."""
            with running as sender:
                sender.ready()
                events_loop(world, sender, receiver, rate, first, SETTLING_SECONDS, **how)
                took, cpu = events_loop(world, sender, receiver, rate, first + rate * SETTLING_SECONDS, OPEN_LOOP_SECONDS, **how)
                return {**percentiles(took), "cpu_us": cpu, "rss_mb": sender.usage()[1]}

        # Not one for each round: thousands of partitions that nobody uses cost the broker a quarter of its CPU more.
        bare = bench.world("bare")
        for rate, (p50, p99) in {RATE: (None, None), fifth: (("<=", 4), ("<=", 10))}.items():
            runs = []
            for number in range(bench.rounds if p99 else bench.few):
                runs.append(in_turns(
                    number, lambda: loop(rate, first, world, world.worker()), lambda: loop(rate, first, bare, bare.running_references(receiver.ports), id_of=c_delivery_id),
                    lambda: bare.hops(rate, OPEN_LOOP_SECONDS)))
                first += rate * (SETTLING_SECONDS + OPEN_LOOP_SECONDS)
            ours, theirs, hops = (medians(list(of_one)) for of_one in zip(*runs))
            yield f"open loop, {rate} a second", {
                "p50_ms": (ours["p50_ms"], theirs["p50_ms"], p50, "absolute"), "p99_ms": (ours["p99_ms"], theirs["p99_ms"], p99, "absolute"),
                "p999_ms": (ours["p999_ms"], theirs["p999_ms"], None), "cpu_us": (ours["cpu_us"], theirs["cpu_us"], None), "rss_mb": (ours["rss_mb"], theirs["rss_mb"], None)}
            yield f"{rate} a second, beside the hops", latencies(ours, hops)


def i(bench):
    """An endpoint of 100 a second with a backlog, beside 23 others, two of them in its partition: are they as fast as without it?"""
    with Nginx(os.path.join(bench.directory, "i")) as receiver:
        def run(limited):
            world = bench.world("i")
            world.endpoints(24, receiver)
            if limited:
                world.martlet("endpoint", "update", "ep_0", "--rate", "100/s", *world.allowed)
            count = bench.count(200_000)
            world.load("deliveries", count, "--partitions", PARTITIONS, "--endpoints", 24)
            return world.measure(int(count * 22.8 / 24), *ONE_LANE, *FEW)
        rounds = [in_turns(number, lambda: run(False), lambda: run(True)) for number in range(bench.rounds)]
        without, beside = (medians(list(runs)) for runs in zip(*rounds))
        receiver.log_from_now()

        def loop(limited):
            world = bench.world("iloop")
            world.endpoints(24, receiver)
            if limited:
                world.martlet("endpoint", "update", "ep_0", "--rate", "100/s", *world.allowed)
                world.load("deliveries", LIMITED_BACKLOG, "--partitions", PARTITIONS, "--endpoints", 1)
            with world.worker(*ONE_LANE, *FEW) as worker:
                return loop_of_deliveries(world, worker, receiver, 24, first=LIMITED_BACKLOG, but=0)
        loops = once_each(lambda: loop(True), lambda: loop(False))
        yield "23 endpoints beside a limited one", {**figures(beside, without, speed_target=0.9), **latencies(*loops)}


def k(bench):
    """Fan-out alone, delivery alone, and both roles in one process, of the same events; each role beside the same in C, both beside C's delivery, with
    the endpoints and receivers of (a). Latencies of both roles in one process, and in two."""
    with Nginx(os.path.join(bench.directory, "k"), ports=100) as receiver:
        count, worlds = bench.count(200_000), []

        def world_of_events(name, endpoints=24):
            world = bench.world(name)
            worlds.append(world)
            world.endpoints(endpoints, receiver, types="kind%d.made")
            return world, lambda: world.load("events", count, "--types", endpoints)

        def fanned_out():
            world, load = world_of_events("k")
            with world.worker(*FAN_OUT) as worker:
                worker.ready()
                written = Counting(worker, count, "martlet_fanout_deliveries_total", is_whole=True, since=worker.stopped(load))
                fan_out = side_by_side(written, lambda: world.running_fan_out(count), (SLICE / 2, SLICE / 4))
            with world.worker(*ONE_LANE, *FEW) as worker:
                return fan_out, beside_running(worker, count, lambda: world.running_reference(receiver.ports[:24], count=count))

        def together_in_c():
            world, load = world_of_events("kc")
            load()
            return world.both_references(count, receiver.ports[:24])

        def together(endpoints):
            world, load = world_of_events("kboth", endpoints)
            with world.worker("--lanes", "1", *FEW) as worker:
                worker.ready()
                # Both roles' work from the first event on: fan-out would be through before many deliveries are.
                since = worker.stopped(lambda: (load(), world.fan_out_reference(count)))
                counting = Counting(worker, count, is_whole=True, since=since)
                of_c = lambda: world.running_reference(receiver.ports[:endpoints], count=count, topic="dlq")
                return side_by_side(counting, of_c, (SLICE, SLICE / 2))

        rounds = []
        for _ in range(bench.rounds):
            rounds.append((*fanned_out(), together_in_c(), *map(together, (1, 24, 1_000))))
            while worlds:
                worlds.pop().forget()
        fan_out, delivery, both_in_c, with_one, with_24, with_many = zip(*rounds)
        receiver.log_from_now()
        loop, loop_apart, hops = once_each(
            *(lambda apart=apart: latency_of_events(bench, "kloop", receiver, 24, "kind%d.made", 24, RATE, apart=apart) for apart in (False, True)), lambda: latency_of_hops(bench, RATE))
        yield "fan-out alone", figures(*middle_pairs(fan_out))
        yield "delivery alone", figures(*middle_pairs(delivery))
        yield "both roles, one endpoint", figures(*middle_pairs(with_one), 2.3)
        yield "both roles, 24 endpoints", {**figures(*middle_pairs(with_24), 2.3), **latencies(loop, hops)}
        yield "both roles, 1,000 endpoints, 100 receivers", figures(*middle_pairs(with_many), 2.3)
        yield "roles apart, in two processes", latencies(loop_apart, hops)
        yield "both roles, beside both in C", figures(medians([ours for ours, _ in with_24]), medians(both_in_c))


def l(bench):
    """A fresh TLS connection for each delivery, resumed and in full: so many a second a whole core could make."""
    for kind, target in (("resumed", 2_000), ("full", 1_000)):
        with Nginx(os.path.join(bench.directory, "l-" + kind), tls=kind, keep=False, log=True) as receiver:
            how = {"scheme": "https", "reference_words": ("--fresh", kind, "--ca", receiver.authority)}
            words = (*FEW, "--ca-file", receiver.authority)
            rounds = [deliveries(bench, "l", 1, receiver, bench.count(10_000), words, **how) for _ in range(bench.rounds)]
            ours, theirs = (medians(list(runs)) for runs in zip(*rounds))
            # The first ones of each round, 64 at a time, have nothing to resume yet. The worker's ids, and the reference's.
            for ids in ("msg_", "dlv_"):
                share = receiver.resumed(ids, but=64 * bench.rounds if kind == "resumed" else 0)
                if share < 0.95 if kind == "resumed" else share > 0:
                    raise SystemExit(f"bench: l, {kind}: {share:.0%} of the connections for {ids}... resumed a session")
            yield f"fresh TLS, {kind}", {
                "per_core_second": (1e6 / ours["cpu_us"], 1e6 / theirs["cpu_us"], (">=", target), "absolute"), **figures(ours, theirs),
                **latencies(*latency(bench, "lloop", 1, receiver, words, rate=103, **how))}


def m(bench):
    """(a) over libcurl, beside a bare libcurl loop without Kafka; and as it is, beside workers written by hand: in C over libcurl, and in Java.
    Latencies of libcurl's are beside the one in C."""
    with Nginx(os.path.join(bench.directory, "m")) as receiver:
        rounds, count, over_libcurl, classes = [], bench.count(200_000), (*FEW, "--transport", "curl"), java_classes(bench)
        java_rounds = [in_turns(number, *beside_java(bench, receiver, classes)) for number in range(bench.rounds)] if classes else []
        for number in range(bench.rounds):
            pair = in_turns(
                number, lambda: deliveries(bench, "m", 1, receiver, count, over_libcurl, has_reference=False)[0],
                lambda: reference("--curl", "--count", count, "--port", receiver.ports[0]))
            rounds.append((*pair, *deliveries(bench, "mdirect", 1, receiver, count, FEW, reference_words=("--curl",))))
        over_curl, bare, direct, by_hand = (medians(list(runs)) for runs in zip(*rounds))
        receiver.log_from_now()
        loop, loop_direct, loop_by_hand, loop_in_java = once_each(
            *(lambda words=words: latency_of_lane(bench, "mloop", 1, receiver, words) for words in (over_libcurl, FEW)),
            lambda: latency_of_reference(bench, "mloop", 1, receiver, ("--curl",)), lambda: classes and latency_in_java(bench, receiver, classes))
        yield "one endpoint over libcurl", {**figures(over_curl, bare, 1.35), **latencies(loop, loop_by_hand)}
        # Half as much again is what "ahead" means at least.
        yield "as in (a), beside C over libcurl", {**figures(direct, by_hand, 0.67), **latencies(loop_direct, loop_by_hand)}
        if classes:
            ours, theirs = (medians(list(runs)) for runs in zip(*java_rounds))
            yield "as in (a), beside Java over NIO", {**figures(ours, theirs, 1), **latencies(loop_direct, loop_in_java)}


def java_classes(bench):
    """Where the worker in Java is; None without Kafka's client for it."""
    if not kafka_jars():
        print("bench: no KAFKA_HOME with Kafka's client for Java: no worker in Java", file=sys.stderr)
        return None
    classes = os.path.join(bench.directory, "java")
    subprocess.run(["scripts/setup", "openjdk-17-jdk-headless"], check=True)
    subprocess.run(["javac", "-Xlint:all", "-Werror", "-cp", ":".join(kafka_jars()), "-d", classes, "Benchmarks/Peer.java"], check=True)
    return classes


def beside_java(bench, receiver, classes):
    """A lane's run and that of the worker in Java, which counts its second half of so many deliveries, as the JVM compiles during the first."""
    world, count = bench.world("mjava"), bench.count(400_000)
    world.endpoints(1, receiver)
    world.load("deliveries", count, "--partitions", PARTITIONS, "--endpoints", 1)
    return lambda: world.measure(count, *ONE_LANE, *FEW), lambda: world.java_peer(classes, count, receiver.ports[0])


def latency_in_java(bench, receiver, classes):
    """Once the JVM has compiled."""
    world, before = bench.world("mjavaloop"), 50_000
    world.load("deliveries", before, "--partitions", PARTITIONS, "--endpoints", 1)
    receiver.received()
    with world.running_java_peer(classes, receiver.ports[0]) as sender:
        end, missing = time.time() + 60, before
        while missing > 0:
            sender.check(end, f"{missing} of {before} haven't arrived")
            time.sleep(0.1)
            missing -= len(receiver.received())
        return loop_of_deliveries(world, sender, receiver, 1, delivery_id, first=before)


ALL = {"a": a, "b": b, "c": c, "d": d, "e": e, "f": f, "g": g, "h": h, "i": i, "k": k, "l": l, "m": m}
