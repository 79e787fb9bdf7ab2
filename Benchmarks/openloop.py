"""Open loops: records at their times, whatever comes back, so that a wait of one delays none of the others; and percentiles of how long each took."""
import contextlib, time
from neighbours import identifier, message_id, percentile
from harness import LINGER_MS, PARTITIONS, Together, once_each

PERCENTILES = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}
# What isn't counted before: topics, clients and connections are new.
SHORT_LOOP_SECONDS, SETTLING_SECONDS = 10, 3
ONE_LANE, FEW = ("--roles", "delivery", "--lanes", "1"), ("--max-in-flight", "64")
FAN_OUT = ("--roles", "fanout")
# A second. Not 500: a log in whole milliseconds would see all of them at the same part of one.
RATE = 503


def latencies(ours, theirs):
    """`theirs`: None where no reference stands beside."""
    return {figure: (ours[figure], theirs and theirs[figure], None) for figure in PERCENTILES}


def percentiles(took):
    """Of milliseconds."""
    return {figure: percentile(took, share) for figure, share in PERCENTILES.items()}


def latency(bench, name, endpoints, receiver, words=(), scheme="http", reference_words=(), **how):
    """Percentiles of an open loop of deliveries by one lane, and of one by the reference."""
    return once_each(
        lambda: latency_of_lane(bench, name, endpoints, receiver, words, scheme, **how),
        lambda: latency_of_reference(bench, name, endpoints, receiver, reference_words, **how))


def latency_of_lane(bench, name, endpoints, receiver, words=(), scheme="http", **how):
    world = bench.world(name)
    world.endpoints(endpoints, receiver, scheme=scheme)
    with world.worker(*ONE_LANE, *words) as worker:
        return loop_of_deliveries(world, worker, receiver, endpoints, **how)


def latency_of_reference(bench, name, endpoints, receiver, words=(), **how):
    world = bench.world(name)
    with world.running_reference(receiver.ports[:endpoints], *words) as sender:
        return loop_of_deliveries(world, sender, receiver, endpoints, delivery_id, **how)


def delivery_id(number):
    """What others than the worker send as webhook-id."""
    return f"dlv_{number:026d}"


def loop_of_deliveries(world, sender, receiver, endpoints, id_of=message_id, bytes_=1024, rate=RATE, first=0, but=None):
    """Percentiles, from when each should have been published to the receiver's log of it, whose webhook-id is `id_of` its number. `but`: the
    number of an endpoint whose deliveries aren't waited for."""
    sender.ready()
    numbers = range(first, first + rate * (SETTLING_SECONDS + SHORT_LOOP_SECONDS))
    ids = [None if number % endpoints == but else id_of(number) for number in numbers]
    words = ("--partitions", PARTITIONS, "--endpoints", endpoints, "--bytes", bytes_, "--first", first)
    took = open_loop(world, sender, receiver, "deliveries", ids, rate, *words)[rate * SETTLING_SECONDS:]
    return percentiles([milliseconds for milliseconds in took if milliseconds is not None])


def open_loop(world, sender, receiver, what, ids, rate, *words, each=1):
    """Milliseconds of each id from when it should have been published to the receiver's log, to the last of so many that come of it; of None: None."""
    receiver.received()
    start = float(world.load(what, len(ids), "--rate", rate, "--linger-ms", LINGER_MS, *words))
    due, took, end = {id_: [n, each] for n, id_ in enumerate(ids) if id_}, [None] * len(ids), time.time() + 60
    while due:
        for when, id_ in receiver.received():
            if waiting := due.get(id_):
                waiting[1] -= 1
                if not waiting[1]:
                    took[due.pop(id_)[0]] = (when - start - waiting[0] / rate) * 1000
        sender.check(end, f"{len(due)} of {len(ids)} haven't arrived")
        time.sleep(0.1)
    return took


def c_delivery_id(number, types=100):
    """Of the one delivery of an event, by fan-out in C, which leaves the tenant out of what it hashes."""
    return identifier("dlv_", identifier("msg_", "/bench", f"e{number}"), f"ep_{number % types}")


def events_loop(world, worker, receiver, rate, first, seconds, types=100, each=1, id_of=message_id):
    """Milliseconds of each event to the last of its deliveries, and CPU of each in microseconds."""
    cpu, ids = worker.usage()[0], [id_of(first + n) for n in range(rate * seconds)]
    took = open_loop(world, worker, receiver, "events", ids, rate, "--types", types, "--first", first, each=each)
    return took, (worker.usage()[0] - cpu) / len(ids) * 1e6


def latency_of_events(bench, name, receiver, endpoints, kinds, types, rate, each=1, apart=False):
    """Percentiles of an open loop of events through both roles, in one process or `apart` in two."""
    world, settling = bench.world(name), rate * SETTLING_SECONDS
    world.endpoints(endpoints, receiver, types=kinds)
    roles = (FAN_OUT, (*ONE_LANE, *FEW)) if apart else (("--lanes", "1", *FEW),)
    with contextlib.ExitStack() as stack:
        worker = Together(*(stack.enter_context(world.worker(*words)) for words in roles))
        worker.ready()
        took, _ = events_loop(world, worker, receiver, rate, 0, SETTLING_SECONDS + SHORT_LOOP_SECONDS, types, each)
    return percentiles(took[settling:])


def latency_of_hops(bench, rate):
    """Of the way through Kafka alone."""
    return bench.world("hops").hops(rate, SHORT_LOOP_SECONDS)
