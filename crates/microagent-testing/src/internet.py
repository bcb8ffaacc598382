"""The servers of an internet for tests, on every address of the network namespace it runs in.

    internet.py DIRECTORY INTERFACE

DIRECTORY has the certificates with their keys: `server.pem`, `expired.pem`, `wrong.pem`. First packets that arrive by
INTERFACE are written down, whatever port they are for. Standard input brings commands, one JSON object a line, and its
end is the end of this program; standard output is the journal, between acknowledgements of commands.
"""

import ctypes
import hashlib
import json
import os
import resource
import selectors
import select
import signal
import socket
import ssl
import struct
import sys
import threading
import time
import traceback
import urllib.parse

PR_SET_PDEATHSIG = 1
IP_PKTINFO = 8
SO_ATTACH_FILTER = 26
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
MAX_HEAD = 64 << 10
PIECE = 256 << 10

# Its period is a prime number, so that no lost or doubled block goes unseen. `pattern` in Rust is the same.
PERIOD = bytes((i * 7 + (i >> 8)) & 0xFF for i in range(65521))
PATTERN = PERIOD * 16


class Journal:
    """Lines on standard output, whole."""

    lock = threading.Lock()

    @classmethod
    def line(cls, value):
        data = json.dumps(value).encode() + b"\n"
        with cls.lock:
            while data:
                data = data[os.write(1, data):]

    @classmethod
    def seen(cls, kind, local, remote, **details):
        cls.line({"seen": {"kind": kind, "local": shown(local), "remote": shown(remote), "details": details}})


def shown(address):
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Peer:
    """The other end of a connection."""

    def __init__(self, connection, remote):
        self.socket, self.remote, self.local = connection, remote, connection.getsockname()
        self.buffer, self.received, self.sent = b"", 0, 0
        self.tls = None

    def seen(self, kind, **details):
        Journal.seen(kind, self.local, self.remote, **details)

    def receive(self, most=PIECE):
        if self.buffer:
            data, self.buffer = self.buffer[:most], self.buffer[most:]
            return data
        data = self.socket.recv(most)
        self.received += len(data)
        return data

    def until(self, end, most):
        """Everything up to `end` and with it; nothing if the connection ends before."""
        data = b""
        while True:
            at = data.find(end)
            if at >= 0:
                self.buffer = data[at + len(end):] + self.buffer
                return data[:at + len(end)]
            more = self.receive() if len(data) < most else b""
            if not more:
                return b""
            data += more

    def exactly(self, count):
        """The next `count` bytes, piece by piece."""
        while count:
            data = self.receive(min(count, PIECE))
            if not data:
                raise EOFError("the connection ended within a body")
            count -= len(data)
            yield data

    def send(self, data):
        self.socket.sendall(data)
        self.sent += len(data)

    def send_pattern(self, count):
        while count:
            piece = memoryview(PATTERN)[:min(count, len(PATTERN))]
            self.send(piece)
            count -= len(piece)

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionResetError("by this end")


# What is served on the ports.

def echo(peer):
    while data := peer.receive():
        peer.send(data)


def discard(peer):
    digest = hashlib.sha256()
    while data := peer.receive():
        digest.update(data)
    peer.seen("body", bytes=peer.received, sha256=digest.hexdigest())


def source(peer):
    peer.send_pattern(int(peer.until(b"\n", 64) or b"1048576"))


def greet(peer):
    peer.send(b"SSH-2.0-test\r\n")
    echo(peer)


def reset(peer):
    peer.reset()


def count(peer):
    while peer.receive():
        pass
    peer.send(b"%d\n" % peer.received)


def stuck(peer):
    """Reads nothing for as long as the other end is there."""
    poll = select.poll()
    poll.register(peer.socket, select.POLLRDHUP)
    poll.poll()


def tls(directory, certificate, handler):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(directory, certificate))
    context.set_alpn_protocols(["http/1.1"])

    def named(connection, name, _):
        connection.name = name

    context.sni_callback = named

    def serve(peer):
        plain = peer.socket
        wrapped = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        peer.socket, wrapped.name = wrapped, None
        try:
            wrapped.do_handshake()
        except (ssl.SSLError, OSError) as error:
            peer.seen("tls-failed", name=wrapped.name, error=str(error))
            raise EOFError from error
        peer.tls = {"name": wrapped.name, "version": wrapped.version(), "alpn": wrapped.selected_alpn_protocol()}
        peer.seen("tls", **peer.tls)
        handler(peer)
        # Says that this is the end; whether the other end says so, too, does not matter.
        wrapped.settimeout(1)
        wrapped.unwrap()

    return serve


def pump(one, other):
    while data := one.recv(PIECE):
        other.sendall(data)
    other.shutdown(socket.SHUT_WR)


# HTTP.

class Request:
    """The head of a request, and its body to come."""

    def __init__(self, peer, head):
        self.peer = peer
        line, *lines = head.decode("latin-1")[:-4].split("\r\n")
        self.line = line
        self.method, self.target, self.version = line.split(" ", 2)
        self.headers = [[name, value.strip()] for name, value in (line.split(":", 1) for line in lines)]
        path = self.target
        if "://" in path.split("?")[0]:
            path = "/" + path.split("://", 1)[1].partition("/")[2]
        self.path, _, query = path.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query))

    def header(self, wanted):
        return next((value for name, value in self.headers if name.lower() == wanted), None)

    def closes(self):
        connection = (self.header("connection") or "").lower()
        return connection == "close" or (self.version == "HTTP/1.0" and connection != "keep-alive")

    def body(self):
        if (self.header("transfer-encoding") or "").lower() == "chunked":
            while size := int(self.peer.until(b"\r\n", MAX_HEAD).split(b";")[0], 16):
                yield from self.peer.exactly(size)
                self.peer.until(b"\r\n", MAX_HEAD)
            while self.peer.until(b"\r\n", MAX_HEAD).strip():
                pass
        else:
            yield from self.peer.exactly(int(self.header("content-length") or 0))


def respond(peer, request, status, body=b"", length=None, **headers):
    """Sends a head, and `body` where the request is not `HEAD`. A `length` of -1 says none."""
    lines = [f"HTTP/1.1 {status}"]
    length = len(body) if length is None else length
    if length >= 0:
        lines.append(f"Content-Length: {length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if request is None or request.closes():
        lines.append("Connection: close")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    peer.send(head + (b"" if request is not None and request.method == "HEAD" else body))


def http(peer):
    while head := peer.until(b"\r\n\r\n", MAX_HEAD):
        try:
            request = Request(peer, head)
        except ValueError:
            peer.seen("request", malformed=head.decode("latin-1"))
            return respond(peer, None, "400 Bad Request")
        peer.seen("request", method=request.method, target=request.target, host=request.header("host"),
                  headers=request.headers, tls=peer.tls)
        if request.method == "CONNECT":
            return tunnel(peer, request)
        if (request.header("expect") or "").lower() == "100-continue":
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        digest, kept, length = hashlib.sha256(), [], 0
        for piece in request.body():
            digest.update(piece)
            length += len(piece)
            if request.path == "/echo":
                kept.append(piece)
        if length:
            peer.seen("body", bytes=length, sha256=digest.hexdigest())
        answer(peer, request, digest, b"".join(kept))
        if request.closes() or request.path.startswith("/close"):
            return


def answer(peer, request, digest, body):
    _, place, *rest = request.path.split("/")
    number = int(rest[0]) if rest and rest[0].isdigit() else 0
    respondent = lambda status, body=b"", **more: respond(peer, request, status, body, **more)
    if place == "":
        said = {"request": request.line, "host": request.header("host"), "client": shown(peer.remote),
                "server": shown(peer.local), "tls": peer.tls, "headers": request.headers}
        respondent("200 OK", json.dumps(said).encode() + b"\n", Content_Type="application/json")
    elif place == "headers":
        respondent("200 OK", json.dumps(request.headers).encode() + b"\n", Content_Type="application/json")
    elif place == "bytes":
        respondent("200 OK", length=number)
        if request.method != "HEAD":
            peer.send_pattern(number)
    elif place == "sha256":
        respondent("200 OK", digest.hexdigest().encode() + b"\n")
    elif place == "echo":
        respondent("200 OK", body)
    elif place == "chunked":
        respondent("200 OK", length=-1, Transfer_Encoding="chunked")
        for at in range(0, number, 1000):
            # Modulo the period, the pattern goes on where the last chunk ended.
            size, start = min(1000, number - at), at % len(PERIOD)
            peer.send(b"%x\r\n" % size + PATTERN[start:start + size] + b"\r\n")
        peer.send(b"0\r\n\r\n")
    elif place == "slow":
        # A body of ten bytes, one at a time.
        respondent("200 OK", length=10)
        for _ in range(10):
            time.sleep((number or 100) / 1000)
            peer.send(b".")
    elif place == "redirect":
        respondent("302 Found", Location=request.query["to"])
    elif place == "status":
        respondent(f"{number} Status", b"" if number in (204, 304) else b"as asked for\n")
    elif place == "close":
        # The end of the connection is the end of the body.
        respondent("200 OK", length=-1, Connection="close")
        peer.send_pattern(number)
    elif place == "reset":
        # Twice as much is promised as is sent.
        respondent("200 OK", length=2 * number + 1)
        peer.send_pattern(number)
        peer.reset()
    elif place == "upgrade":
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
        echo(peer)
    else:
        respondent("404 Not Found", b"no such place\n")


def tunnel(peer, request):
    """What a proxy does."""
    host, _, port = request.target.rpartition(":")
    # Out here, nothing else knows the names.
    _, found = (records_of(host, 1) if host.lower() in names else None) or (0, [])
    host = next((socket.inet_ntoa(bytes(record["data"])) for _, record in found if record["kind"] == 1), host)
    try:
        server = socket.create_connection((host, int(port)))
    except OSError as error:
        return respond(peer, None, "502 Bad Gateway", f"{error}\n".encode())
    with server:
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        server.sendall(peer.buffer)
        back = threading.Thread(target=pump, args=(server, peer.socket), daemon=True)
        back.start()
        pump(peer.socket, server)
        back.join()


# DNS. A table of names, each with its answers in turn: the last one stays.

names = {}


def name_at(packet, at):
    labels = []
    while packet[at]:
        if packet[at] >= 0x40:
            raise ValueError("compressed")
        labels.append(packet[at + 1:at + 1 + packet[at]].decode("latin-1"))
        at += 1 + packet[at]
    return ".".join(labels), at + 1


def packed(name):
    labels = [label.encode("latin-1") for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def records_of(name, kind):
    """Code and records of the answer, aliases followed; nothing if there is to be none."""
    found = []
    for _ in range(8):
        entry = names.get(name.lower())
        if entry is None:
            return 3, found
        turn = entry["turns"][min(entry["asked"], len(entry["turns"]) - 1)]
        entry["asked"] += kind == 1
        if turn["silent"]:
            return None
        if turn["code"]:
            return turn["code"], found
        alias = next((record for record in turn["records"] if record["kind"] == 5), None)
        if alias is None or kind == 5:
            found += [(name, record) for record in turn["records"] if record["kind"] == kind]
            return 0, found
        found.append((name, alias))
        name = name_at(bytes(alias["data"]), 0)[0]
    return 2, []


def dns(packet, most, note):
    """The answer to a question, if it is one and gets one."""
    try:
        number, flags, questions, _, _, additional = struct.unpack("!6H", packet[:12])
        name, at = name_at(packet, 12)
        kind, _ = struct.unpack("!2H", packet[at:at + 4])
        end = at + 4
        if additional and packet[end:end + 3] == b"\0\0\x29":
            most = max(most, struct.unpack("!H", packet[end + 3:end + 5])[0])
    except (IndexError, ValueError, struct.error):
        return note(malformed=packet.hex())
    note(name=name, type=kind, id=number)
    answered = records_of(name, kind)
    if answered is None:
        return None
    code, found = answered
    question, body = packet[12:end], b""
    for owner, record in found:
        data = bytes(record["data"])
        owner = b"\xc0\x0c" if owner == name else packed(owner)
        body += owner + struct.pack("!2HIH", record["kind"], 1, record["ttl"], len(data)) + data
    # Response, authoritative, recursion as desired and available.
    flags = 0x8480 | (flags & 0x0100) | code
    if 12 + len(question) + len(body) > most:
        return struct.pack("!6H", number, flags | 0x0200, 1, 0, 0, 0) + question
    return struct.pack("!6H", number, flags, 1, len(found), 0, 0) + question + body


def dns_over_tcp(peer):
    while length := b"".join(peer.exactly(2)) if peer_has_more(peer) else b"":
        packet = b"".join(peer.exactly(struct.unpack("!H", length)[0]))
        said = dns(packet, 65535, lambda **details: peer.seen("question", transport="tcp", **details))
        if said is not None:
            peer.send(struct.pack("!H", len(said)) + said)


def peer_has_more(peer):
    if not peer.buffer:
        peer.buffer = peer.receive()
    return bool(peer.buffer)


# Datagrams.

def datagrams(port, handler):
    """A socket that answers from the address that was meant."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    server.bind(("0.0.0.0", port))
    server.setblocking(False)

    def receive():
        data, ancillary, _, remote = server.recvmsg(65535, 128)
        to = next(value[8:12] for level, kind, value in ancillary if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO))
        said = handler(data, (socket.inet_ntoa(to), port), remote)
        if said is not None:
            information = struct.pack("=i4s4s", 0, to, bytes(4))
            server.sendmsg([said], [(socket.IPPROTO_IP, IP_PKTINFO, information)], 0, remote)

    return server, receive


def datagram_echo(data, local, remote):
    Journal.seen("datagram", local, remote, bytes=len(data))
    return data


def datagram_discard(data, local, remote):
    Journal.seen("datagram", local, remote, bytes=len(data))


def datagram_dns(data, local, remote):
    return dns(data, 512, lambda **details: Journal.seen("question", local, remote, transport="udp", **details))


# Packets.

# Accepts everything but TCP, and of TCP the first packet of a connection. Offsets are into the IPv4 header.
FIRST_PACKETS = [
    (0x30, 0, 0, 9), (0x15, 0, 6, 6),  # protocol: not TCP?
    (0x28, 0, 0, 6), (0x45, 4, 0, 0x1FFF),  # fragment offset: not the first?
    (0xB1, 0, 0, 0), (0x50, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02),  # flags: SYN, no ACK?
    (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0),
]


def packets(interface, protocol):
    """A socket that sees what comes in by the interface."""
    server = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    if protocol == ETH_P_IP:
        code = b"".join(struct.pack("=HBBI", *step) for step in FIRST_PACKETS)
        memory = ctypes.create_string_buffer(code)
        program = struct.pack("HP", len(FIRST_PACKETS), ctypes.addressof(memory))
        server.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    server.bind((interface, protocol))
    server.setblocking(False)

    def receive():
        data = server.recv(2048)
        if protocol == ETH_P_IPV6:
            remote, local = (socket.inet_ntop(socket.AF_INET6, data[at:at + 16]) for at in (8, 24))
            return Journal.seen("packet", (local, 0), (remote, 0), protocol="ipv6")
        remote, local = (socket.inet_ntoa(data[at:at + 4]) for at in (12, 16))
        kind = {1: "icmp", 6: "tcp", 17: "udp"}.get(data[9], str(data[9]))
        fragment = struct.unpack("!H", data[6:8])[0] & 0x1FFF
        rest = b"" if fragment else data[(data[0] & 15) * 4:]
        details, ports = {"protocol": kind, "fragment": fragment * 8}, (0, 0)
        if kind in ("tcp", "udp") and len(rest) >= 4:
            ports = struct.unpack("!2H", rest[:4])
        elif kind == "icmp" and rest:
            details["type"] = rest[0]
        Journal.seen("packet", (local, ports[1]), (remote, ports[0]), **details)

    return server, receive


# Everything together.

def connections(port, handler):
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("0.0.0.0", port))
    server.listen(4096)
    server.setblocking(False)

    def accept():
        try:
            connection, remote = server.accept()
            connection.setblocking(True)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(connection, remote)
        except OSError:
            return  # It has gone again.
        peer.seen("connect")
        threading.Thread(target=serve, args=(peer, handler), daemon=True).start()

    return server, accept


def serve(peer, handler):
    how = "end"
    try:
        handler(peer)
    except (ConnectionError, TimeoutError):
        how = "reset"
    except (EOFError, ssl.SSLError, OSError) as error:
        how = f"error: {error}"
    except Exception as error:  # A defect here, which the test is to show.
        traceback.print_exc()
        how = f"defect: {error}"
    peer.socket.close()
    peer.seen("close", how=how, received=peer.received, sent=peer.sent)


def commands(selector):
    waiting = b""

    def receive():
        nonlocal waiting
        data = os.read(0, 65536)
        if not data:
            os._exit(0)
        *lines, waiting = (waiting + data).split(b"\n")
        for line in lines:
            command = json.loads(line)
            if "name" in command:
                names[command["name"].lower().rstrip(".")] = {"turns": command["turns"], "asked": 0}
            # What has arrived before the command is written down before it is acknowledged.
            while ready := [key for key, _ in selector.select(0) if key.fd != 0]:
                handle(ready)
            Journal.line({"done": command["id"]})

    selector.register(0, selectors.EVENT_READ, receive)


def handle(ready):
    for key in ready:
        try:
            key.data()
        except OSError as error:
            # A datagram that cannot be answered, say. The next one may be.
            print(f"internet: {error}", file=sys.stderr)


def main(directory, interface):
    # The thread that started this one is gone when the test is.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # Interrupting the tests is their affair.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    threading.stack_size(256 << 10)
    secure = lambda certificate, handler: tls(directory, certificate, handler)
    streams = {
        7: echo, 9: discard, 19: source, 22: greet, 53: dns_over_tcp, 80: http, 443: secure("server.pem", http),
        853: secure("server.pem", dns_over_tcp), 3128: http, 6666: reset, 6667: count, 6668: stuck,
        8443: secure("server.pem", http), 9443: secure("expired.pem", http), 9444: secure("wrong.pem", http),
    }
    messages = {7: datagram_echo, 9: datagram_discard, 53: datagram_dns, 123: datagram_echo, 443: datagram_echo}
    selector = selectors.DefaultSelector()
    sockets = [connections(*item) for item in streams.items()] + [datagrams(*item) for item in messages.items()]
    sockets += [packets(interface, ETH_P_IP), packets(interface, ETH_P_IPV6)]
    for server, receive in sockets:
        selector.register(server, selectors.EVENT_READ, receive)
    commands(selector)
    while True:
        handle([key for key, _ in selector.select()])


main(*sys.argv[1:])
