#!/usr/bin/env python3
"""Runs a command in a workspace through its supervisor: `supervisor_client.py STATE_DIR NAME ARGV...`

Everything a client has to know is in `docs/supervisor-protocol.md`; this is the least that does something useful.
"""

import json
import os
import socket
import struct
import sys

HEADER = struct.Struct("<IIB3x")
HELLO, CALL, REPLY, DATA, END, CREDIT, RESET = range(1, 8)
PROTOCOL = 1
WINDOW = 256 * 1024


class Supervisor:
    def __init__(self, state_dir, name):
        directory = os.open(os.path.join(state_dir, "workspaces", name), os.O_PATH | os.O_DIRECTORY)
        self.socket = socket.socket(socket.AF_UNIX)
        # A path that is never too long for a socket address.
        self.socket.connect(f"/proc/self/fd/{directory}/supervisor.sock")
        os.close(directory)
        self.last_id = 0
        kind, _, payload = self.receive()
        greeting = json.loads(payload)
        assert kind == HELLO and greeting["protocol"] == PROTOCOL, greeting

    def new_id(self):
        self.last_id += 1
        return self.last_id

    def send(self, kind, frame_id, payload=b""):
        self.socket.sendall(HEADER.pack(len(payload), frame_id, kind) + payload)

    def receive(self):
        length, frame_id, kind = HEADER.unpack(self.exactly(HEADER.size))
        return kind, frame_id, self.exactly(length)

    def exactly(self, count):
        received = b""
        while len(received) < count:
            piece = self.socket.recv(count - len(received))
            if not piece:
                raise ConnectionError("the supervisor has gone")
            received += piece
        return received

    def call(self, verb, **arguments):
        call = self.new_id()
        self.send(CALL, call, json.dumps({"verb": verb, **arguments}).encode())
        return call

    def run(self, argv):
        """Runs a command, with its outputs on ours, and returns its exit status."""
        outputs = {self.new_id(): sys.stdout.buffer, self.new_id(): sys.stderr.buffer}
        taken = dict.fromkeys(outputs, 0)
        stdout, stderr = outputs
        started, awaited = self.call("exec", argv=argv, stdout=stdout, stderr=stderr), None
        open_streams, ending = set(outputs), None
        while ending is None or open_streams:
            kind, frame_id, payload = self.receive()
            if kind == DATA and frame_id in outputs:
                outputs[frame_id].write(payload)
                outputs[frame_id].flush()
                taken[frame_id] += len(payload)
                if taken[frame_id] >= WINDOW // 2:
                    self.send(CREDIT, frame_id, struct.pack("<I", taken[frame_id]))
                    taken[frame_id] = 0
            elif kind == END:
                open_streams.discard(frame_id)
            elif kind == REPLY:
                answer = json.loads(payload)
                if answer["answer"] == "failed":
                    sys.exit(f"error: {answer['message']}")
                if frame_id == started:
                    awaited = self.call("await", process=answer["process"])
                elif frame_id == awaited:
                    ending = answer
        if "refused" in ending:
            sys.exit(f"error: {ending['refused']['message']}")
        end = ending["exit"]
        return end["code"] if end["code"] is not None else 128 + end["signal"]


if __name__ == "__main__":
    sys.exit(Supervisor(sys.argv[1], sys.argv[2]).run(sys.argv[3:]))
