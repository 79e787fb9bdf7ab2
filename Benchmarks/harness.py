"""What the scenarios stand on: programs, receivers, workers and how they are measured."""
import glob, itertools, json, os, resource, shutil, signal, socket, statistics, subprocess, sys, tempfile, threading, time, urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PARTITIONS = 24
# What the names of this run's topics begin with.
TOPICS = f"bench{os.getpid()}-"
# Of an open loop's publisher; EventProducer waits 2 ms unless told otherwise, librdkafka, and Java's client since Kafka 4.0, 5 ms.
LINGER_MS = "1"
# Seconds for which one of two that are compared works while the other stands still; and between looks at a worker.
SLICE = 0.2
TICK = os.sysconf("SC_CLK_TCK")
# Of any program that is run: what takes longer hangs.
LONGEST_SECONDS = 900


def medians(runs):
    """Of each figure."""
    return {figure: statistics.median(run[figure] for run in runs) for figure in runs[0]}


def middle_pairs(pairs):
    """Of each figure the pair whose ratio is the median: both sides of one round. Of an even number the larger one of the two in the middle."""
    ours, theirs = {}, {}
    for figure in pairs[0][0]:
        ordered = sorted(((pair[0][figure], pair[1][figure]) for pair in pairs), key=lambda pair: pair[0] / pair[1])
        ours[figure], theirs[figure] = ordered[len(ordered) // 2]
    return ours, theirs


def in_turns(number, *runs):
    """Their results in this order; each time another one begins, as whoever comes second finds the broker warmer."""
    order = [(number + place) % len(runs) for place in range(len(runs))]
    found = {which: runs[which]() for which in order}
    return tuple(found[which] for which in range(len(runs)))


_once = itertools.count()


def once_each(*runs):
    """Of what runs once: who begins changes from one pair to the next."""
    return in_turns(next(_once), *runs)


def build():
    """The release build, and the C programs beside it."""
    subprocess.run(["swift", "build", "-c", "release", "--product", "martlet"], check=True, stdout=subprocess.DEVNULL)
    os.makedirs(".build/bench", exist_ok=True)
    for name in ("reference", "fanout", "load", "receiver", "hops", "cluster"):
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "rdkafka", "openssl", "libcurl"], check=True, text=True, stdout=subprocess.PIPE).stdout.split()
        subprocess.run(["cc", "-O2", "-march=native", "-Wall", "-Wextra", "-Wno-deprecated-declarations", "-o", f".build/bench/{name}", f"Benchmarks/{name}.c", "-pthread", *flags], check=True)


def kafka_jars():
    """Kafka's own client for Java and what it needs; None where KAFKA_HOME hasn't it."""
    found = [glob.glob(os.path.join(os.environ.get("KAFKA_HOME", "-"), "libs", name + "-[0-9]*.jar")) for name in ("kafka-clients", "slf4j-api", "lz4-java")]
    return [os.path.abspath(jars[0]) for jars in found] if all(found) else None


def program(name):
    return os.path.join(ROOT, ".build/bench", name)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def free_ports(count):
    """All open at once: one that was closed again may be given out a second time."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def free_pair():
    """A free port, whose next one is free, too."""
    while True:
        port = free_port()
        try:
            socket.create_server(("127.0.0.1", port + 1)).close()
            return port
        except OSError:
            continue


def usage(pid):
    """User and system seconds, and resident MB."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def in_memory(gigabytes, heap):
    """A directory in memory where there is room for so much beside a broker's heap of `heap` gigabytes, else None. On a disk a broker's first records of
    a partition wait until the file system has found a place for its index files, which are mapped: 10 ms each and more, a second in all, and longer
    where others use it."""
    try:
        available = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemAvailable")) << 10
        room = min(shutil.disk_usage("/dev/shm").free, available - (heap + 2 << 30)) >> 30
        if room >= gigabytes:
            return tempfile.mkdtemp(prefix="martlet-kafka-", dir="/dev/shm")
        why = f"{max(0, room)} GB free, {gigabytes} wanted"
    except OSError as error:
        why = str(error)
    print(f"bench: no room in memory for Kafka's logs ({why}): they lie on a disk, whose delays are measured as well", file=sys.stderr)
    return None


def delete_topics(brokers, prefix):
    subprocess.run([program("load"), "delete", "--brokers", brokers, "--topic", prefix], check=True, timeout=LONGEST_SECONDS)


def find_kafka(otherwise):
    """Brokers that run, or None; KAFKA_HOME is set where there is one to start. `otherwise`: where one may be, from the project."""
    if not os.environ.get("KAFKA_HOME") and os.path.isdir(os.path.join(ROOT, otherwise, "libs")):
        os.environ["KAFKA_HOME"] = os.path.join(ROOT, otherwise)
    if os.environ.get("KAFKA_HOME"):
        os.environ["KAFKA_HOME"] = os.path.abspath(os.environ["KAFKA_HOME"])
    return os.environ.get("MARTLET_TEST_BROKERS")


class Kafka:
    """The brokers that are given, or one of our own, which is gone afterwards: thousands of partitions of earlier scenarios would cost it more
    than what is measured. None where there is no Kafka: each world has an embedded cluster then."""

    # Gigabytes of heap, and options. Doesn't stop the broker, but takes one of two cores for 130 to 200 ms, with 8,400 events a second every four seconds.
    CONCURRENT = 2, "-Xms2g -Xmx2g -XX:+AlwaysPreTouch", "-XX:+UseZGC"
    # Stops it for 13 to 30 ms, then every twelve seconds.
    STOPPING = 5, "-Xms5g -Xmx5g -Xmn4g -XX:+AlwaysPreTouch", "-XX:+UseSerialGC -XX:MaxTenuringThreshold=2"

    def __init__(self, given, directory, quick=False, collector=CONCURRENT, gigabytes=4):
        """`gigabytes`: what its logs may need. `quick`: of its compilers the quick one only. The other takes more of two cores, in a broker's first
        minutes, than what is measured."""
        self.given, self.quick, self.collector, self.gigabytes = given, quick, collector, gigabytes
        self.directory = os.path.join(directory, "kafka")
        self.isEmbedded = not given and not os.environ.get("KAFKA_HOME")

    def __enter__(self):
        if self.given or self.isEmbedded:
            return self.given
        memory = in_memory(self.gigabytes, self.collector[0])
        # Where logs find no room a large heap doesn't either.
        _, heap, collector = self.collector if memory else self.CONCURRENT
        self.directory = memory or self.directory
        environment = {"KAFKA_HEAP_OPTS": heap, "KAFKA_JVM_PERFORMANCE_OPTS": collector, **os.environ}
        if self.quick:
            environment["JAVA_TOOL_OPTIONS"] = environment.get("JAVA_TOOL_OPTIONS", "") + " -XX:TieredStopAtLevel=1"
        try:
            done = subprocess.run(["scripts/kafka", "start", "--port", str(free_pair()), "--dir", self.directory], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
            if done.returncode:
                raise SystemExit(f"bench: no Kafka: {done.stderr[-2000:]}")
            return done.stdout.strip()
        except BaseException:
            # Interrupted, too: its brokers and logs would stay.
            self.wipe()
            raise

    def __exit__(self, *_):
        if self.given:
            delete_topics(self.given, TOPICS)
        elif not self.isEmbedded:
            self.wipe()

    def wipe(self):
        subprocess.run(["scripts/kafka", "wipe", "--dir", self.directory], stdout=subprocess.DEVNULL)


class Stopping:
    """For `with`."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Receiver(Stopping):
    """What they have in common: a log of what came."""
    log, position = None, 0
    # Seconds that its times are cut by, in the mean.
    cut = 0

    def received(self):
        """(seconds, webhook-id) of what came since the last call; with Nginx, but for the last 20 ms."""
        with open(self.log) as file:
            file.seek(self.position)
            text = file.read()
        end = text.rfind("\n") + 1
        self.position += end
        return [(float(time_) + self.cut, id_) for time_, id_ in (line.split(" ")[:2] for line in text[:end].splitlines())]


class Nginx(Receiver):
    """Answers 200 at once. `ports`: how many; `tls`: with a certificate for 127.0.0.1 of an authority of its own; `answer`, `more`: of its configuration; `processes`: more
    where one may not have as many descriptors as are needed."""
    # Its clock shows milliseconds.
    cut = 0.0005

    def __init__(self, directory, ports=1, tls=None, log=False, keep=True, answer="return 200", more="", processes=1):
        self.directory = directory
        os.makedirs(directory, exist_ok=True)
        self.ports, self.log = free_ports(ports), os.path.join(directory, "received.log")
        if tls and not os.path.exists(os.path.join(directory, "ca.pem")):
            self.certificates()
        secure = {None: "", "resumed": "ssl_session_cache shared:s:10m; ssl_session_tickets on;", "full": "ssl_session_cache off; ssl_session_tickets off;"}[tls]
        if tls:
            secure += f" ssl_certificate {directory}/server.pem; ssl_certificate_key {directory}/server.key; ssl_protocols TLSv1.2 TLSv1.3;"
        listens = "".join(f"listen 127.0.0.1:{port}{' ssl' if tls else ''}{' reuseport' if processes > 1 else ''} backlog=8192; " for port in self.ports)
        temporary = " ".join(f"{name}_temp_path {directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        self.configuration = (f"""daemon off; worker_processes {processes}; worker_rlimit_nofile {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}; pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 40000; }}
http {{
  log_format received '$msec $http_webhook_id $ssl_session_reused'; access_log @log@; {temporary}
  keepalive_requests 1000000000; keepalive_timeout {3600 if keep else 0}; client_max_body_size 10m; client_body_buffer_size 128k; {secure}
  server {{ {listens} location / {{ {answer}; }} {more} }}
}}
""")
        self.configure(log)
        self.process = subprocess.Popen(["nginx", "-c", os.path.join(directory, "nginx.conf"), "-p", directory], stderr=subprocess.DEVNULL)
        try:
            self.started()
        except BaseException:
            # Nobody else would.
            self.stop()
            raise

    def started(self):
        for _ in range(100):
            try:
                return socket.create_connection(("127.0.0.1", self.ports[-1])).close()
            except OSError:
                time.sleep(0.05)
        raise SystemExit("bench: nginx didn't start")

    def configure(self, has_log):
        with open(os.path.join(self.directory, "nginx.conf"), "w") as file:
            file.write(self.configuration.replace("@log@", f"{self.log} received buffer=64k flush=20ms" if has_log else "off"))

    def log_from_now(self):
        """Its processes are others afterwards."""
        def workers():
            return set(open(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read().split())
        before = workers()
        self.configure(True)
        self.process.send_signal(signal.SIGHUP)
        for _ in range(200):
            if (now := workers()) and not now & before:
                return
            time.sleep(0.05)
        raise SystemExit("bench: nginx doesn't take its configuration again")

    def resumed(self, ids, but):
        """The share of the logged requests whose connection resumed a session, of those whose webhook-id begins so; without so many that had none to
        resume."""
        with open(self.log) as file:
            marks = [mark for _, id_, mark in map(str.split, file) if id_.startswith(ids)]
        return marks.count("r") / (len(marks) - but)

    def certificates(self):
        def openssl(*words):
            subprocess.run(["openssl", *words], check=True, cwd=self.directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=bench authority")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=bench")
        with open(os.path.join(self.directory, "names"), "w") as file:
            file.write("subjectAltName=IP:127.0.0.1\n")
        openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "server.pem", "-days", "2", "-extfile", "names")

    @property
    def authority(self):
        return os.path.join(self.directory, "ca.pem")

    def stop(self):
        self.process.terminate()
        self.process.wait()


class SlowReceiver(Receiver):
    """Answers 200 after so long."""

    def __init__(self, milliseconds, log=None):
        self.ports, self.log = [free_port()], log
        self.process = subprocess.Popen([program("receiver"), "--port", str(self.ports[0]), "--delay-ms", str(milliseconds), *(("--log", log) if log else ())])

    def stop(self):
        self.process.kill()
        self.process.wait()


class EmbeddedCluster(Stopping):
    """For one world. What it keeps of a partition holds some thousand records, compressed."""
    TIERS = ("5s", "30s", "5m", "30m", "2h", "8h")
    MOST = 12_000

    def __init__(self, prefix):
        names = ["events", "deliveries", "replay", "attempts", "dlq", "health", *(f"retry.{tier}" for tier in self.TIERS)]
        topics = [f"{prefix}{name}:{PARTITIONS}" for name in names] + [f"{prefix}endpoints:1"]
        self.process = subprocess.Popen([program("cluster"), *topics], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.brokers = self.process.stdout.readline().strip()
        if not self.brokers:
            raise SystemExit("bench: the embedded cluster didn't start")

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def figures_of(command, what):
    """What a program that is run beside the worker prints."""
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LONGEST_SECONDS)
    if done.returncode:
        raise SystemExit(f"bench: {what} failed: {done.stderr[-500:]}")
    return json.loads(done.stdout)


def reference(*words):
    return figures_of([program("reference"), *words], "the reference")


class Pausing(Stopping):
    """A process that stands still now and then."""
    PAUSE = signal.SIGSTOP
    stood = 0

    def pause(self):
        self.process.send_signal(self.PAUSE)
        self.since = time.time()

    def resume(self):
        self.process.send_signal(signal.SIGCONT)
        self.stood += time.time() - self.since

    def clock(self):
        """Seconds in which it wasn't made to stand still."""
        return time.time() - self.stood


class RunningReference(Pausing):
    """Beside what is published meanwhile, or beside a worker."""
    # Which it leaves out of the time that it reports.
    PAUSE = signal.SIGTSTP

    def __init__(self, world, words, name="reference", command=None):
        self.log = os.path.join(world.directory, name + ".log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([*(command or [program(name)]), *map(str, words)], stdout=log, stderr=log)

    def ready(self):
        # For finding where its log begins, or ends.
        time.sleep(1)

    def figures(self):
        """When it has delivered as many as it was told to."""
        code, text = self.process.wait(LONGEST_SECONDS), open(self.log).read()
        if code:
            raise SystemExit(f"bench: the reference failed: {text[-500:]}")
        return json.loads(text)

    def usage(self):
        return usage(self.process.pid)

    def is_over(self):
        return self.process.poll() is not None

    def check(self, end, what):
        if time.time() > end or self.is_over():
            raise SystemExit(f"bench: {os.path.basename(self.process.args[0])}: {what}; its log: {open(self.log).read()[-500:]}")

    def stop(self):
        self.process.kill()
        self.process.wait()


class Together(Stopping):
    """Programs or workers with a role each, as one."""

    def __init__(self, *running):
        self.running = running

    def ready(self):
        for one in self.running:
            one.ready()

    def usage(self):
        return [sum(figures) for figures in zip(*(one.usage() for one in self.running))]

    def check(self, end, what):
        for one in self.running:
            one.check(end, what)

    def stop(self):
        for one in self.running:
            one.stop()


class Build:
    """What a world is made with: brokers, or None for the embedded cluster, a martlet, and a place for files."""

    def __init__(self, brokers, martlet, directory):
        self.brokers, self.martlet, self.directory = brokers, martlet, directory


class World:
    """The topics of one scenario."""
    number = 0
    # Of the world before, which is measured.
    embedded = None

    def __init__(self, bench, name):
        World.number += 1
        self.bench, self.name = bench, name
        self.prefix = f"{TOPICS}{World.number}{name}."
        self.brokers = bench.brokers
        if not self.brokers:
            if World.embedded:
                World.embedded.stop()
            World.embedded = EmbeddedCluster(self.prefix)
            self.brokers = World.embedded.brokers
        self.connection = ["-b", self.brokers, "--topic-prefix", self.prefix]
        self.allowed = ["--allow-http", "--allow-network", "127.0.0.0/8"]
        self.directory = os.path.join(bench.directory, f"{World.number}-{name}")
        os.makedirs(self.directory)
        if bench.brokers:
            self.martlet("topics", "create", "--partitions", str(PARTITIONS))

    def martlet(self, *words):
        done = subprocess.run([self.bench.martlet, *words, *self.connection], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LONGEST_SECONDS)
        if done.returncode:
            raise SystemExit(f"bench: martlet {' '.join(words)}: {done.stdout[-2000:]}")

    def endpoints(self, count, receiver, types="none.made", scheme="http", settings=""):
        """ep_0, ep_1, ... spread over the receiver's ports. `types`: with %d for the number."""
        path = os.path.join(self.directory, "endpoints.yaml")
        with open(path, "w") as file:
            file.write("endpoints:\n")
            for n in range(count):
                kinds = types % n if "%d" in types else types
                file.write(f"  - {{id: ep_{n}, url: '{scheme}://127.0.0.1:{receiver.ports[n % len(receiver.ports)]}/{n}', types: [{kinds}], secrets: [{{plain: {SECRET}}}]{settings}}}\n")
        self.martlet("apply", "-f", path, *self.allowed)

    def load(self, what, count, *words):
        topic = self.prefix + what
        done = subprocess.run([program("load"), what, "--brokers", self.brokers, "--topic", topic, "--count", str(count), "--compression", "none" if self.bench.brokers else "lz4", *map(str, words)],
                              stdout=subprocess.PIPE, text=True, timeout=LONGEST_SECONDS)
        if done.returncode:
            raise SystemExit("bench: loading failed")
        return done.stdout

    def reference_words(self, count, ports, words, topic="deliveries"):
        return ("--brokers", self.brokers, "--topic", self.prefix + topic, "--attempts", self.prefix + "attempts", "--count", count,
                "--port", ",".join(map(str, ports)), *words)

    def reference(self, count, ports, *words):
        return reference(*self.reference_words(count, ports, words))

    def running_reference(self, ports, *words, count=10**9, **how):
        return RunningReference(self, self.reference_words(count, ports, words, **how))

    def fan_out_words(self, count, each=0, to="dlq"):
        """To a topic that nothing reads here, unless told otherwise. `each`: endpoints of every event, 0 for the one of its type."""
        return "--brokers", self.brokers, "--events", self.prefix + "events", "--deliveries", self.prefix + to, "--count", count, "--each", each

    def fan_out_reference(self, count, **how):
        return figures_of([program("fanout"), *self.fan_out_words(count, **how)], "the reference of fan-out")

    def running_fan_out(self, count, **how):
        return RunningReference(self, self.fan_out_words(count, **how), "fanout")

    def running_references(self, ports):
        """Fan-out and the delivery of what it writes from now on."""
        new = ("--from", "end")
        return Together(self.running_reference(ports, *new), RunningReference(self, (*self.fan_out_words(10**9, to="deliveries"), "--producers", 2, *new), "fanout"))

    def both_references(self, count, ports):
        """Both in C at the same time, in two processes: fan-out and the delivery of what it writes."""
        with RunningReference(self, self.reference_words(count, ports, ())) as sender:
            sender.ready()
            fan_out, delivery = self.fan_out_reference(count, to="deliveries"), sender.figures()
        return {"cpu_us": fan_out["cpu_us"] + delivery["cpu_us"], "per_second": delivery["per_second"], "rss_mb": fan_out["rss_mb"] + delivery["rss_mb"]}

    def java_words(self, classes, count, port):
        flags = ["-XX:+UseParallelGC", "-Xms512m", "-Xmx512m", "-cp", ":".join([classes, *kafka_jars()])]
        return ["java", *flags, "Peer", self.brokers, self.prefix + "deliveries", self.prefix + "attempts", PARTITIONS, count, port, 64]

    def java_peer(self, *which):
        return figures_of(self.java_words(*which), "the worker in Java")

    def running_java_peer(self, classes, port):
        return RunningReference(self, (), "java", [str(word) for word in self.java_words(classes, 10**9, port)])

    def forget(self):
        """Its topics go: partitions that nobody uses any more cost a broker more than what is measured, and with 16,000 of them it had no room for the next."""
        if self.bench.brokers:
            delete_topics(self.brokers, self.prefix)

    def read_endpoints(self):
        """Seconds that a client takes to start and read the registry's topic to its end."""
        began = time.time()
        subprocess.run(["kcat", "-C", "-q", "-e", "-b", self.brokers, "-t", self.prefix + "endpoints"], check=True, stdout=subprocess.DEVNULL, timeout=LONGEST_SECONDS)
        return time.time() - began

    def hops(self, rate, seconds):
        """Percentiles of the two hops alone, in milliseconds. Five seconds before aren't counted."""
        return figures_of([program("hops"), "--brokers", self.brokers, "--first", self.prefix + "events", "--second", self.prefix + "deliveries", "--rate", rate,
                           "--seconds", seconds + 5, "--partitions", PARTITIONS, "--linger-ms", LINGER_MS], "the hops")

    def worker(self, *words):
        return Worker(self, words)

    def measure(self, count, *words, **how):
        """A worker of its own for so many deliveries."""
        with self.worker(*words) as worker:
            return worker.measure(count, **how)


class Worker(Pausing):
    def __init__(self, world, words, under=()):
        """`under`: a program that runs it, with its words."""
        self.port, self.begun = free_port(), time.time()
        self.log = os.path.join(world.directory, f"worker-{self.port}.log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([*under, world.bench.martlet, "worker", *world.connection, *world.allowed, "--http-listen", f"127.0.0.1:{self.port}", *words], stdout=log, stderr=log)

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            return None

    def metric(self, name, label=""):
        total, end = 0.0, time.time() + 60
        # One that is lost would look like nothing done.
        while (page := self.get("/metrics")) is None:
            self.check(end, "its metrics can't be read")
            time.sleep(0.02)
        for line in page.splitlines():
            if line.startswith(name) and label in line:
                total += float(line.rsplit(" ", 1)[1])
        return total

    def usage(self):
        return usage(self.process.pid)

    def ready(self, seconds=120):
        """Seconds from its start until it says so."""
        end = time.time() + seconds
        while self.get("/readyz") is None:
            self.check(end, "it isn't ready")
            time.sleep(0.02)
        return time.time() - self.begun

    def check(self, end, what):
        if time.time() > end or self.process.poll() is not None:
            raise SystemExit(f"bench: {what}; its log: {open(self.log).read()[-2000:]}")

    def delivered(self, count, seconds=300):
        """Waits until so many are, since its start. How many were found to be."""
        end = time.time() + seconds
        while (now := self.metric("martlet_end_to_end_seconds_count")) < count:
            self.check(end, f"not all of {count} after {seconds} s")
            time.sleep(0.2)
        return now

    def capacity(self, count, load):
        """How many a second while `load` publishes so many: from the first look that finds a tenth delivered to the last that finds no more than
        three quarters. What has to wait for one endpoint's place goes through a retry topic, for five seconds, and is among the last ones."""
        before, end, looks = self.metric("martlet_end_to_end_seconds_count"), time.time() + 300, []
        publisher = threading.Thread(target=load)
        publisher.start()
        while not looks or looks[-1][0] < count * 0.75:
            self.check(end, f"not three quarters of {count} after 300 s")
            time.sleep(0.1)
            looks.append((self.metric("martlet_end_to_end_seconds_count") - before, time.time()))
        publisher.join()
        middle = [look for look in looks if count * 0.1 <= look[0] <= count * 0.75]
        if len(middle) < 2:
            middle = looks
        return (middle[-1][0] - middle[0][0]) / (middle[-1][1] - middle[0][1])

    def stopped(self, load):
        """Stands still while `load` publishes, so that all of it lies ready. A look at it before it goes on, for `measure`."""
        self.pause()
        try:
            load()
        finally:
            look = (0, self.usage()[0], self.clock())
            self.resume()
        return look

    def most_in_flight(self, wanted, seconds=150):
        """Memory in MB with so many requests in flight at the same time."""
        end = time.time() + seconds
        while (now := self.metric("martlet_in_flight")) < wanted:
            self.check(end, f"{now:.0f} requests in flight, not {wanted}")
            time.sleep(0.2)
        memory = self.usage()[1]
        # What is in flight isn't waited for.
        self.process.kill()
        return memory

    def measure(self, count, **how):
        counting = Counting(self, count, **how)
        # Each look costs the worker a page of metrics: twenty a second were 5 % of what is measured.
        while not counting.look():
            time.sleep(0.1 if counting.is_whole else SLICE)
        return counting.figures()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            # It may stand still.
            self.process.send_signal(signal.SIGCONT)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Counting:
    """What a worker takes for so many deliveries, and how many it does a second: from the first look that finds a twentieth done to the last one that
    finds no more than seven tenths, as what a lane has fetched ahead, 30,000 records at most, is as much at both. `is_whole`: CPU from the last look
    that finds nothing done, or from `since`, until all are, as fan-out has fetched most of a backlog before. And the most memory seen. `name`: a metric that
    counts as it happens; others are brought up to date once a second."""

    def __init__(self, worker, count, name="martlet_end_to_end_seconds_count", seconds=300, is_whole=False, since=None):
        self.worker, self.count, self.name, self.end, self.is_whole, self.since = worker, count, name, time.time() + seconds, is_whole, since
        self.looks, self.memory = [since or (0, worker.usage()[0], worker.clock())], 0

    def look(self):
        """True when all is done."""
        done, (cpu, rss) = self.worker.metric(self.name), self.worker.usage()
        self.looks.append((done, cpu, self.worker.clock()))
        self.memory = max(self.memory, rss)
        self.worker.check(self.end, f"{int(done)} of {self.count}")
        return done >= self.count

    def figures(self):
        looks = self.looks
        middle = [look for look in looks if self.count * 0.05 <= look[0] <= self.count * 0.7]
        if not middle or middle[-1][0] - middle[0][0] < self.count * 0.3:
            print("bench: too short a run: it is counted from the worker's start", file=sys.stderr)
            middle = looks
        counted = [self.since or [look for look in looks if look[0] == 0][-1], looks[-1]] if self.is_whole else middle
        return {"cpu_us": (counted[-1][1] - counted[0][1]) / (counted[-1][0] - counted[0][0]) * 1e6,
                "per_second": (middle[-1][0] - middle[0][0]) / (middle[-1][2] - middle[0][2]), "rss_mb": self.memory}


def in_slices(*runs):
    """Each works for a slice of time while the others stand still, as they do now, until all are through: what others do on the machine for a second, or for a minute,
    all of them meet alike. `runs`: the process, seconds of a slice, and what says at the end of one whether it is through."""
    going = list(runs)
    while going:
        for run in list(going):
            process, seconds, is_through = run
            process.resume()
            time.sleep(seconds)
            if is_through():
                going.remove(run)
            else:
                process.pause()


def side_by_side(counting, start, slices=(SLICE, SLICE)):
    """Figures of a worker and of the program that is started, in slices of time: of each so long that both are through at about the same time."""
    counting.worker.pause()
    with start() as other:
        time.sleep(slices[1])
        other.pause()
        in_slices((counting.worker, slices[0], counting.look), (other, slices[1], other.is_over))
        return counting.figures(), other.figures()


def end_in_order():
    """When it is told to end: what lies in memory, and brokers, would stay."""
    # Under nohup a hang-up is nothing.
    meant = [number for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT) if signal.getsignal(number) != signal.SIG_IGN]

    def end(*_):
        # Once: cleaning up isn't interrupted.
        for number in meant:
            signal.signal(number, signal.SIG_IGN)
        sys.exit(1)
    for number in meant:
        signal.signal(number, end)


def raise_descriptor_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
