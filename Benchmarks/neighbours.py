"""Sick endpoints beside healthy ones, and a dead one with a backlog: what do they cost the others?

neighbours   1,000 endpoints, 1 % of them hanging until their timeout and 1 % refusing connections, beside the same load without those.
             Rounds alternate. `latency` is an open loop: events are published at a fixed
             rate whatever comes back, and latency counts from publishing to the receiver's log. `backlog` is what had been
             published before the worker started. `onset` is an open loop as well, right at the start of a worker, when the breakers
             of the sick ones are still closed; one before it has written to most topics, as a broker's first records of a partition take it long.
dead         one endpoint that answers 503 and a backlog of events for it, beside a healthy one: how many requests does it get, and how often
             is a record of it written again?
"""
import base64, hashlib, json, os, socket, subprocess, sys, threading, time
from harness import SECRET, TOPICS, Nginx, free_port, medians, usage

ENDPOINTS, SICK = 1000, 10


def identifier(kind, *fields):
    """As the worker derives them: `kind` and the hash of these, each behind its length."""
    data = b"".join(len(f.encode()).to_bytes(4, "big") + f.encode() for f in fields)
    return kind + base64.b32encode(hashlib.sha256(data).digest()[:16]).decode().lower().rstrip("=")


def message_id(number):
    return identifier("msg_", "default", "/bench", f"e{number}")


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


class Hanging:
    """Accepts, reads, never answers."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.held = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            self.held.append(self.listener.accept()[0])


class Neighbours:
    """One round: 1,000 event types, one endpoint each; of the first 20 endpoints half hang and half refuse, or aren't there."""

    def __init__(self, options, directory, name, with_sick):
        self.options, self.with_sick = options, with_sick
        self.directory = os.path.join(directory, name)
        os.makedirs(self.directory)
        self.prefix = f"{TOPICS}{name}."
        self.nginx = Nginx(os.path.join(self.directory, "nginx"), log=True, more="location /dead { return 503; }")
        self.hanging, self.refusing = Hanging(), free_port()
        self.connection = ["-b", options.brokers, "--topic-prefix", self.prefix]
        self.allowed = ["--allow-http", "--allow-network", "127.0.0.0/8"]
        self.worker = None
        self.number = 0

    def martlet(self, *words):
        subprocess.run([self.options.martlet, *words, *self.connection], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def prepare(self):
        self.martlet("topics", "create", "--partitions", "12")
        lines = ["endpoints:"]
        for number in range(ENDPOINTS):
            port = self.nginx.ports[0] if number >= 2 * SICK else self.hanging.port if number < SICK else self.refusing
            if number < 2 * SICK and not self.with_sick:
                continue
            lines.append(f"  - {{id: ep_{number}, url: 'http://127.0.0.1:{port}/{number}', types: [kind{number}.made], secrets: [{{plain: {SECRET}}}]}}")
        path = os.path.join(self.directory, "endpoints.yaml")
        with open(path, "w") as file:
            file.write("\n".join(lines))
        self.martlet("apply", "-f", path, *self.allowed)

    def publisher(self):
        return subprocess.Popen(
            ["kcat", "-P", "-b", self.options.brokers, "-t", self.prefix + "events", "-H", "content-type=application/cloudevents+json",
             "-X", "linger.ms=1", "-X", "queue.buffering.max.messages=1000000"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def events(self, count):
        """Lines, and the ids of those for healthy endpoints."""
        lines, healthy = [], []
        for number in range(self.number, self.number + count):
            kind = number % ENDPOINTS
            lines.append(json.dumps({
                "specversion": "1.0", "id": f"e{number}", "source": "/bench", "type": f"kind{kind}.made", "datacontenttype": "application/json",
                "data": {"number": number, "text": "x" * 1000}}).encode() + b"\n")
            healthy.append(message_id(number) if kind >= 2 * SICK else None)
        self.number += count
        return lines, healthy

    def start_worker(self):
        log = open(os.path.join(self.directory, "worker.log"), "w")
        self.worker = subprocess.Popen(
            [self.options.martlet, "worker", *self.connection, *self.allowed, "--http-listen", f"127.0.0.1:{free_port()}"], stdout=log, stderr=log)

    def ready(self):
        """All have partitions, and none has moved for a second: lanes join one after the other."""
        log, seen, since = os.path.join(self.directory, "worker.log"), 0, time.time()
        for _ in range(600):
            text = open(log).read()
            now = text.count("partitions assigned") + text.count("partitions revoked")
            if now != seen:
                seen, since = now, time.time()
            if text.count("partitions assigned") >= 2 and time.time() - since >= 1:
                return
            time.sleep(0.1)
        raise SystemExit(f"bench: the worker isn't ready after a minute; log in {log}")

    def wait(self, ids, seconds):
        """When each of the ids was received first."""
        found, end = {}, time.time() + seconds
        missing = set(ids)
        while missing:
            if time.time() > end:
                raise SystemExit(f"bench: {len(missing)} of {len(ids)} deliveries are missing after {seconds} s; logs in {self.directory}")
            for when, id_ in self.nginx.received():
                found.setdefault(id_, when)
                missing.discard(id_)
            time.sleep(0.1)
        return found

    def end_worker(self):
        self.worker.terminate()
        try:
            self.worker.wait(40)
        except subprocess.TimeoutExpired:
            raise SystemExit("bench: a worker doesn't end on SIGTERM")

    def each_healthy_once(self):
        lines, healthy = self.events(ENDPOINTS)
        self.start_worker()
        self.publisher().communicate(b"".join(line for line, id_ in zip(lines, healthy) if id_))
        self.wait([id_ for id_ in healthy if id_], 120)
        self.end_worker()

    def backlog(self, count):
        lines, healthy = self.events(count)
        kcat = self.publisher()
        kcat.communicate(b"".join(lines))
        if kcat.returncode:
            raise SystemExit("bench: kcat failed")
        ids = [id_ for id_ in healthy if id_]
        self.start_worker()
        found = self.wait(ids, 300)
        times = sorted(found[id_] for id_ in ids)
        # From the first to the last but one in a hundred: the end is one endpoint's affair.
        last = times[int(len(times) * 0.99)]
        return {"per_second": len(times) * 0.99 / (last - times[0]), "cpu_us": usage(self.worker.pid)[0] / len(ids) * 1e6}

    def latency(self, rate, seconds, prefix=""):
        lines, healthy = self.events(rate * seconds)
        kcat, published = self.publisher(), []
        before, start, sent = usage(self.worker.pid)[0], time.time(), 0
        while sent < len(lines):
            due = min(len(lines), int((time.time() - start) * rate) + 1)
            if due > sent:
                # What should have been sent earlier counts from when it should have been.
                published += [start + number / rate for number in range(sent, due)]
                kcat.stdin.write(b"".join(lines[sent:due]))
                kcat.stdin.flush()
                sent = due
            time.sleep(0.002)
        kcat.stdin.close()
        ids = [id_ for id_ in healthy if id_]
        found = self.wait(ids, 120)
        cpu, memory = usage(self.worker.pid)
        took = [(found[id_] - at) * 1000 for id_, at in zip(healthy, published) if id_]
        return {f"{prefix}p50_ms": percentile(took, 0.5), f"{prefix}p99_ms": percentile(took, 0.99), f"{prefix}p999_ms": percentile(took, 0.999),
                f"{prefix}open_loop_cpu_us": (cpu - before) / len(ids) * 1e6, "rss_mb": memory}

    def run(self):
        try:
            self.prepare()
            self.each_healthy_once()
            self.start_worker()
            self.ready()
            figures = self.latency(self.options.rate, max(5, self.options.seconds // 2), "onset_")
            self.end_worker()
            figures.update(self.backlog(self.options.events))
            # The breakers of the sick ones are open by now, and their first timeouts over, as in an outage's second minute.
            time.sleep(self.options.settle)
            return {**figures, **self.latency(self.options.rate, self.options.seconds)}
        finally:
            if self.worker:
                self.worker.kill()
                self.worker.wait()
            self.nginx.stop()


class Dead(Neighbours):
    """One endpoint that always answers 503 and one that is well."""

    def prepare(self):
        self.martlet("topics", "create", "--partitions", "12")
        for name, type_ in (("dead", "dead.made"), ("well", "well.made")):
            self.martlet("endpoint", "create", "--id", f"ep_{name}", "--url", f"http://127.0.0.1:{self.nginx.ports[0]}/{name}", "--types", type_,
                         "--secret", SECRET, *self.allowed)

    def lines(self, count, type_):
        lines = [b'{"specversion":"1.0","id":"e%d","source":"/bench","type":"%s","data":{}}\n' % (number, type_) for number in range(self.number, self.number + count)]
        self.number += count
        return b"".join(lines)

    def most_rewrites(self):
        """Of any record in a retry topic."""
        most = 0
        for tier in ("5s", "30s", "5m", "30m", "2h", "8h"):
            reader = subprocess.Popen(
                ["kcat", "-C", "-q", "-e", "-b", self.options.brokers, "-t", f"{self.prefix}retry.{tier}", "-f", "%h\n"], stdout=subprocess.PIPE, text=True)
            for line in reader.stdout:
                most = max(most, int(line.split("martlet-rewrites=", 1)[1].split(",", 1)[0]))
            reader.wait()
        return most

    def run(self):
        try:
            self.prepare()
            kcat = self.publisher()
            kcat.communicate(self.lines(self.options.events, b"dead.made"))
            self.start_worker()
            begun, seen, well, published = time.time(), 0, 0, 0
            first = None
            while first is None or time.time() - first < self.options.seconds:
                # The neighbour gets one event a second all the while.
                kcat = self.publisher()
                kcat.communicate(self.lines(1, b"well.made"))
                published += 1
                time.sleep(1)
                for when, id_ in self.nginx.received():
                    number = self.dead_or_well(id_)
                    well += number
                    seen += 1 - number
                    first = first or when
                if time.time() - begun > self.options.seconds + 600:
                    raise SystemExit(f"bench: nothing was sent; logs in {self.directory}")
            cpu, memory = usage(self.worker.pid)
            return {"requests": seen, "well_published": published, "well_received": well, "most_rewrites": self.most_rewrites(), "cpu_s": cpu, "rss_mb": memory}
        finally:
            if self.worker:
                self.worker.kill()
                self.worker.wait()
            self.nginx.stop()

    def dead_or_well(self, id_):
        self.ids = getattr(self, "ids", None) or set()
        for number in range(self.options.events + len(self.ids), self.number):
            self.ids.add(message_id(number))
        return int(id_ in self.ids)


def dead(options, directory):
    figures = Dead(options, directory, "dead", True).run()
    print(f"{options.events} events for a dead endpoint, {options.seconds} s from its first request: " + ", ".join(f"{name} {value:.0f}" for name, value in figures.items()))
    broken = [name for name, isBroken in (
        ("requests", figures["requests"] >= max(10, 100 * options.seconds / 600)), ("most_rewrites", figures["most_rewrites"] > 200),
        ("well_received", figures["well_received"] < figures["well_published"] - 3)) if isBroken]
    return {**figures, "broken": broken}


def alternating(options, directory):
    """Of the rounds without and with sick endpoints, by that: their figures, and the median of each."""
    rounds = {False: [], True: []}
    for turn in range(options.rounds):
        # Now these first, now those: brokers and machines grow slower.
        for with_sick in (False, True) if turn % 2 == 0 else (True, False):
            figures = Neighbours(options, directory, f"{turn}-{'sick' if with_sick else 'healthy'}", with_sick).run()
            rounds[with_sick].append(figures)
            print(f"round {turn + 1} {'with sick endpoints' if with_sick else 'all healthy        '} "
                  + ", ".join(f"{name} {value:.1f}" for name, value in figures.items()), file=sys.stderr, flush=True)
    return rounds, {with_sick: medians(runs) for with_sick, runs in rounds.items()}


def neighbours(options, directory):
    rounds, middle = alternating(options, directory)
    table = {name: {"healthy": middle[False][name], "with_sick": middle[True][name]} for name in middle[True]}
    print(f"\n{'figure':16}{'all healthy':>14}{'with 2 % sick':>16}{'ratio':>8}")
    for name, row in table.items():
        row["ratio"] = row["with_sick"] / row["healthy"]
        print(f"{name:16}{row['healthy']:14.1f}{row['with_sick']:16.1f}{row['ratio']:8.2f}")
    # What sick endpoints cost shows in every round, what others on the machine cost doesn't: the best rounds are compared.
    def best(with_sick, name):
        return (max if name == "per_second" else min)(figures[name] for figures in rounds[with_sick])

    def worse(name, factor, milliseconds):
        return best(True, name) > max(best(False, name) * factor, best(False, name) + milliseconds)

    is_broken = {
        "per_second": best(True, "per_second") < best(False, "per_second") * 0.6, "p99_ms": worse("p99_ms", 1.5, 50),
        # The first seconds of a worker have a tail of their own. One that delivers nothing for a second has a fault.
        "onset_p99_ms": worse("onset_p99_ms", 1.5, 300) or middle[False]["onset_p99_ms"] > 700}
    broken = [name for name, yes in is_broken.items() if yes]
    return {"rounds": {"healthy": rounds[False], "with_sick": rounds[True]}, "median": table, "broken": broken}
