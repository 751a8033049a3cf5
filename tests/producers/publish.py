#!/usr/bin/env python3
"""A foreign producer: publishes events to Tandem's exchange with nothing but AMQP 0-9-1.

Uses Python's standard library alone. Publishes as fast as the confirms of a window allow, prints one JSON
object, {"confirmed": n, "returned": m, "seconds": s}, and ends with 0 once everything is confirmed. `--ids FILE`
gets the id of every confirmed event, one a line, in the order of the confirms.

    publish.py --url amqp://guest:guest@127.0.0.1:5672/%2f --type plan.progress --subject plan:7 --count 1000
"""

import argparse
import json
import os
import socket
import struct
import sys
import time
import urllib.parse
import uuid

METHOD, HEADER, BODY, HEARTBEAT, END = 1, 2, 3, 8, 0xCE
CONNECTION, CHANNEL, BASIC, CONFIRM = 10, 20, 60, 85


class Refused(Exception):
    """The server has closed the connection or the channel, or answers with something else."""


def short(text):
    raw = text.encode()
    return struct.pack(">B", len(raw)) + raw


def long(raw):
    raw = raw if isinstance(raw, bytes) else raw.encode()
    return struct.pack(">I", len(raw)) + raw


def table(values):
    """Headers whose values are strings."""
    return long(b"".join(short(name) + b"S" + long(value) for name, value in values.items()))


def uuid7():
    """RFC 9562: 48 bits of milliseconds, then version, variant and chance."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


class Client:
    """One connection with one channel in confirm mode."""

    def __init__(self, url):
        at = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((at.hostname, at.port or 5672), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.waiting = {}
        self.next = 1
        self.returned = 0
        user = urllib.parse.unquote(at.username or "guest")
        password = urllib.parse.unquote(at.password or "guest")
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")
        self.expect(CONNECTION, 10)
        plain = f"\0{user}\0{password}"
        self.method(0, CONNECTION, 11, table({}) + short("PLAIN") + long(plain) + short("en_US"))
        channels, self.frame_max, _ = struct.unpack(">HIH", self.expect(CONNECTION, 30)[:8])
        self.method(0, CONNECTION, 31, struct.pack(">HIH", channels, self.frame_max, 0))
        host = urllib.parse.unquote(at.path[1:]) if len(at.path) > 1 else "/"
        self.method(0, CONNECTION, 40, short(host) + short("") + b"\0")
        self.expect(CONNECTION, 41)
        self.method(1, CHANNEL, 10, short(""))
        self.expect(CHANNEL, 11)
        self.method(1, CONFIRM, 10, b"\0")
        self.expect(CONFIRM, 11)

    def frame(self, kind, channel, payload):
        return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([END])

    def method(self, channel, group, number, arguments):
        payload = struct.pack(">HH", group, number) + arguments
        self.socket.sendall(self.frame(METHOD, channel, payload))

    def read(self):
        """The next frame: its kind and payload."""
        while True:
            if len(self.buffer) >= 7:
                kind, _, size = struct.unpack(">BHI", self.buffer[:7])
                if len(self.buffer) >= size + 8:
                    payload, self.buffer = self.buffer[7 : size + 7], self.buffer[size + 8 :]
                    return kind, payload
            chunk = self.socket.recv(1 << 16)
            if not chunk:
                raise Refused("the server has closed the connection")
            self.buffer += chunk

    def answer(self):
        """The next method: its class, number and arguments. Returned messages are counted by the way."""
        while True:
            kind, payload = self.read()
            if kind != METHOD:
                continue
            group, number = struct.unpack(">HH", payload[:4])
            if (group, number) in ((CONNECTION, 50), (CHANNEL, 40)):
                code, size = struct.unpack(">HB", payload[4:7])
                raise Refused(f"{code} {payload[7:7 + size].decode(errors='replace')}")
            if (group, number) == (BASIC, 50):
                self.returned += 1
                continue
            return group, number, payload[4:]

    def expect(self, group, number):
        found = self.answer()
        if found[:2] != (group, number):
            raise Refused(f"expected method {group}.{number}, got {found[0]}.{found[1]}")
        return found[2]

    def publish(self, exchange, key, properties, body, label):
        publish = struct.pack(">HHH", BASIC, 40, 0) + short(exchange) + short(key) + b"\1"
        header = struct.pack(">HHQ", BASIC, 0, len(body)) + properties
        frames = self.frame(METHOD, 1, publish) + self.frame(HEADER, 1, header)
        step = self.frame_max - 8
        for at in range(0, len(body), step):
            frames += self.frame(BODY, 1, body[at : at + step])
        self.waiting[self.next] = label
        self.next += 1
        self.socket.sendall(frames)

    def confirmed(self):
        """Waits for the next confirm; the labels of what it confirms."""
        group, number, arguments = self.answer()
        if (group, number) != (BASIC, 80):
            raise Refused(f"not confirmed: {group}.{number}")
        tag, several = struct.unpack(">QB", arguments[:9])
        tags = [one for one in self.waiting if one <= tag] if several & 1 else [tag]
        return [self.waiting.pop(one) for one in tags]

    def close(self):
        self.method(0, CONNECTION, 50, struct.pack(">H", 200) + short("done") + struct.pack(">HH", 0, 0))
        self.expect(CONNECTION, 51)
        self.socket.close()


def properties(content_type, headers, message_id, timestamp):
    """Content type, headers, persistence, id if there is one, timestamp: in the order of their flags."""
    flags, values = 1 << 15 | 1 << 13 | 1 << 12 | 1 << 6, short(content_type) + table(headers) + b"\2"
    if message_id is not None:
        flags |= 1 << 7
        values += short(message_id)
    return struct.pack(">H", flags) + values + struct.pack(">Q", timestamp)


def message(options, number, event_id):
    """An event as its properties and its body."""
    subject = options.subject[number % len(options.subject)]
    now = time.time_ns() // 1_000_000
    told = event_id if not options.without_id else None
    if options.payload is not None:
        headers = {"subject": subject}
        if options.project:
            headers["project"] = options.project
        return properties("application/octet-stream", headers, told, now // 1000), options.payload
    envelope = {"type": options.type, "subject": subject, "time": now, "schema_version": 1}
    if told is not None:
        envelope["id"] = told
    if options.project:
        envelope["project"] = options.project
    envelope["data"] = {"n": options.first + number, **options.data}
    body = json.dumps(envelope).encode()
    return properties("application/json", {}, told, now // 1000), body


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="amqp://guest:guest@127.0.0.1:5672/%2f")
    parser.add_argument("--exchange", default="tandem.events")
    parser.add_argument("--type", default="plan.progress", help="event type and routing key")
    parser.add_argument("--subject", action="append", required=True, help="repeat it for several, taken in turn")
    parser.add_argument("--project")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="data.n of the first event")
    parser.add_argument("--data", type=json.loads, default={}, help="more data, a JSON object")
    parser.add_argument("--window", type=int, default=256, help="most events that wait for their confirm")
    parser.add_argument("--payload", type=bytes.fromhex, help="a binary body, in hexadecimal, instead of JSON")
    parser.add_argument("--without-id", action="store_true", help="leave the id out, which makes it poison")
    parser.add_argument("--twice", action="store_true", help="publish every event a second time at once")
    parser.add_argument("--ids", help="file for the ids of confirmed events")
    return parser.parse_args()


def main():
    options = arguments()
    client = Client(options.url)
    ids = open(options.ids, "w", buffering=1, encoding="ascii") if options.ids else None
    confirmed = 0

    def settle(limit):
        nonlocal confirmed
        while len(client.waiting) > limit:
            for event_id in client.confirmed():
                confirmed += 1
                if ids:
                    ids.write(event_id + "\n")

    started = time.monotonic()
    for number in range(options.count):
        event_id = str(uuid7())
        props, body = message(options, number, event_id)
        for _ in range(2 if options.twice else 1):
            client.publish(options.exchange, options.type, props, body, event_id)
            settle(options.window - 1)
    settle(0)
    seconds = time.monotonic() - started
    client.close()
    print(json.dumps({"confirmed": confirmed, "returned": client.returned, "seconds": round(seconds, 3)}))


if __name__ == "__main__":
    try:
        main()
    except (OSError, Refused) as error:
        print(f"publish.py: {error}", file=sys.stderr)
        sys.exit(1)
