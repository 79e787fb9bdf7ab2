"""TLS servers with certificates of every kind, for tests: makes them with openssl in the folder that is given, starts all on loopback, prints
a line `name port` for each and `ready`, and ends when its standard input does."""
import ctypes, ctypes.util, hashlib, http.server, os, socket, ssl, subprocess, sys, threading, time

os.chdir(sys.argv[1])


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def authority(name):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem",
            "-days", "3650", "-subj", f"/CN=Martlet test {name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-addext", "basicConstraints=critical,CA:TRUE")


def certificate(name, ca, alternative, start="20200101000000Z", end="20490101000000Z"):
    """openssl ca takes dates in the past."""
    if not os.path.exists(f"{ca}.cnf"):
        write(f"{ca}.index", "")
        write(f"{ca}.serial", "01\n")
        write(f"{ca}.cnf", f"[ca]\ndefault_ca=d\n[d]\ndatabase={ca}.index\nserial={ca}.serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n"
              "unique_subject=no\n[p]\ncommonName=supplied\n")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
    write(f"{name}.ext", f"subjectAltName={alternative}\nextendedKeyUsage=serverAuth,clientAuth\n")
    openssl("ca", "-batch", "-config", f"{ca}.cnf", "-cert", f"{ca}.pem", "-keyfile", f"{ca}.key", "-in", f"{name}.csr", "-out", f"{name}.pem", "-notext",
            "-extfile", f"{name}.ext", "-startdate", start, "-enddate", end)


authority("trusted")
authority("unknown")
certificate("good", "trusted", "IP:127.0.0.1")
certificate("expired", "trusted", "IP:127.0.0.1", end="20210101000000Z")
certificate("wrong-name", "trusted", "DNS:other.example.com")
certificate("foreign", "unknown", "IP:127.0.0.1")
certificate("client", "trusted", "DNS:client")
certificate("named", "trusted", "DNS:receiver.martlet-test.net")
openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "self-signed.key", "-out", "self-signed.pem",
        "-days", "30", "-subj", "/CN=self", "-addext", "subjectAltName=IP:127.0.0.1")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        received = self.rfile.read(int(self.headers["content-length"]))
        peer = self.connection.getpeercert()
        name = dict(item[0] for item in peer["subject"])["commonName"] if peer else "-"
        body = f"{name} {'resumed' if self.connection.session_reused else 'full'} {self.connection.version()}".encode()
        if "digest" in self.path:
            body = f"{len(received)} {hashlib.sha256(received).hexdigest()}".encode()
        if self.headers["proxy-authorization"]:
            body = b"the proxy's password came here"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        if "close" in self.path:
            self.send_header("connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, context):
        super().__init__(("127.0.0.1", 0), Handler)
        self.context = context

    def finish_request(self, request, address):
        # In the connection's own thread: a handshake that fails must not stop the others.
        request.settimeout(10)
        try:
            connection = self.context.wrap_socket(request, server_side=True)
        except OSError:
            return
        try:
            self.RequestHandlerClass(connection, address, self)
        except OSError:
            pass
        finally:
            connection.close()

    def handle_error(self, *_):
        pass


def serve(name, certificate, change=lambda context: None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{certificate}.pem", f"{certificate}.key")
    change(context)
    server = Server(context)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(name, server.server_port, flush=True)
    return server.server_port


def old(context):
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1


def wants_certificate(context):
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations("trusted.pem")


def only_1_2(context):
    context.maximum_version = ssl.TLSVersion.TLSv1_2


def flood(name, certificate, between):
    """After the request, tickets without end; `between`: with a byte of a body now and then. Python's own module can't send them."""
    library = ctypes.CDLL(ctypes.util.find_library("ssl"))
    for function in ("TLS_server_method", "SSL_CTX_new", "SSL_new"):
        getattr(library, function).restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.SSL_CTX_new(ctypes.c_void_p(library.TLS_server_method())))
    library.SSL_CTX_use_certificate_file(context, f"{certificate}.pem".encode(), 1)
    library.SSL_CTX_use_PrivateKey_file(context, f"{certificate}.key".encode(), 1)
    listener = socket.create_server(("127.0.0.1", 0))

    def talk(peer):
        peer.settimeout(None)
        ssl_ = ctypes.c_void_p(library.SSL_new(context))
        library.SSL_set_fd(ssl_, peer.fileno())
        buffer = ctypes.create_string_buffer(65536)
        if library.SSL_accept(ssl_) == 1 and library.SSL_read(ssl_, buffer, 65536) > 0:
            library.SSL_write(ssl_, b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", 43)
            end = time.time() + 5
            while time.time() < end:
                for _ in range(64):
                    library.SSL_new_session_ticket(ssl_)
                if library.SSL_do_handshake(ssl_) != 1 or between and library.SSL_write(ssl_, b"a", 1) != 1:
                    break
        library.SSL_free(ssl_)
        peer.close()

    def run():
        while True:
            threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    print(name, listener.getsockname()[1], flush=True)


def proxy(name, talk, target):
    """Whatever name is asked for, the bytes go to `target`, if `talk` finds name and password (user, pass) as they should be."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def run(peer):
        peer.settimeout(10)
        with peer, socket.create_connection(("127.0.0.1", target)) as far:
            try:
                if not talk(peer):
                    return
            except OSError:
                return
            back = threading.Thread(target=pump, args=(far, peer), daemon=True)
            back.start()
            pump(peer, far)
            back.join()

    def accept():
        while True:
            threading.Thread(target=run, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print(name, listener.getsockname()[1], flush=True)


def exactly(peer, count):
    data = b""
    while len(data) < count:
        piece = peer.recv(count - len(data))
        if not piece:
            raise OSError("ended")
        data += piece
    return data


def connect(peer):
    head = b""
    while b"\r\n\r\n" not in head:
        head += exactly(peer, 1)
    lines = head.decode().split("\r\n")
    if "proxy-authorization: basic dXNlcjpwYXNz" not in [line.replace("Basic", "basic").replace("Proxy-A", "proxy-a") for line in lines]:
        peer.sendall(b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm=\"p\"\r\nContent-Length: 0\r\n\r\n")
        return False
    peer.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
    return lines[0].startswith("CONNECT ")


def socks(peer):
    """RFC 1928 with a name and password, RFC 1929; the target must be a name."""
    methods = exactly(peer, exactly(peer, 2)[1])
    if 2 not in methods:
        peer.sendall(b"\x05\xff")
        return False
    peer.sendall(b"\x05\x02")
    user = exactly(peer, exactly(peer, 2)[1])
    password = exactly(peer, exactly(peer, 1)[0])
    right = (user, password) == (b"user", b"pass")
    peer.sendall(b"\x01\x00" if right else b"\x01\x01")
    if not right or exactly(peer, 4) != b"\x05\x01\x00\x03":
        return False
    exactly(peer, exactly(peer, 1)[0] + 2)
    peer.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
    return True


for kind in ("good", "expired", "wrong-name", "self-signed"):
    serve(kind, kind)
serve("unknown-authority", "foreign")
serve("tls-1.0", "good", old)
serve("tls-1.2", "good", only_1_2)
serve("client-certificate", "good", wants_certificate)
serve("client-certificate-1.2", "good", lambda context: (wants_certificate(context), only_1_2(context)))
named = serve("named", "named")
proxy("http-proxy", connect, named)
proxy("socks-proxy", socks, named)
flood("tickets", "good", False)
flood("tickets-between", "good", True)
print("ready", flush=True)
sys.stdin.read()
