"""Calls a server at a steady rate while others replace it, and says what became of the calls.

Usage: rollout.py TARGET PLAN, with PLAN as JSON: `rate` of the calls of `call` in 1/s and how many `texts` of `text` are
generated at any time; `call` and `text` are [METHOD, REQUEST in hexadecimal]. Prints a line when the first call has been
answered, goes on until its standard input is closed, lets what is in flight end, and prints a report as JSON.
"""

import collections
import json
import sys
import threading
import time

import grpc

PATIENCE = 60


def options(target):
    """Round robin over the addresses and no retry policy, as callers of a mesh have it by default."""
    config = {"loadBalancingConfig": [{"round_robin": {}}]}
    if not target.startswith("unix:"):
        # Where no proxy chooses: a server that listens may still be loading its model.
        config["healthCheckConfig"] = {"serviceName": "ready"}
    return [
        ("grpc.service_config", json.dumps(config)),
        # A list of addresses, or the path of a socket, is no name that HTTP knows.
        ("grpc.default_authority", "inference.test"),
    ]


class Report:
    """Counts by what a call came to."""

    def __init__(self):
        self.lock = threading.Lock()
        self.ended = collections.Counter()
        self.errors = collections.Counter()
        self.longest = 0.0

    def add(self, kind, error, seconds=0.0):
        with self.lock:
            self.ended[kind] += 1
            self.longest = max(self.longest, seconds)
            if error is not None:
                self.errors[f"{kind}: {error.code().name}: {error.details()}"] += 1


def generate(stream, request, stopped, report):
    """Reads one text after the other to its end."""
    while not stopped.is_set():
        began, error = time.monotonic(), None
        try:
            for _ in stream(request, timeout=PATIENCE):
                pass
        except grpc.RpcError as caught:
            error = caught
        report.add("texts", error, time.monotonic() - began)


def call_steadily(unary, request, rate, stopped, report):
    """Calls at fixed times, whether or not earlier calls have been answered."""
    began, calls = time.monotonic(), []
    while not stopped.wait(max(0.0, began + len(calls) / rate - time.monotonic())):
        call = unary.future(request, timeout=PATIENCE)
        call.add_done_callback(lambda call: report.add("calls", call.exception()))
        calls.append(call)
    for call in calls:
        call.exception()


def main():
    target, plan = sys.argv[1], json.loads(sys.argv[2])
    channel = grpc.insecure_channel(target, options(target))
    (method, request), (text_method, text) = plan["call"], plan["text"]
    unary, stream = channel.unary_unary(method), channel.unary_stream(text_method)
    request, text = bytes.fromhex(request), bytes.fromhex(text)
    unary(request, timeout=PATIENCE, wait_for_ready=True)
    print("answered", flush=True)
    stopped, report = threading.Event(), Report()
    work = [threading.Thread(target=call_steadily, args=(unary, request, plan["rate"], stopped, report))]
    for _ in range(plan["texts"]):
        work.append(threading.Thread(target=generate, args=(stream, text, stopped, report)))
    for thread in work:
        thread.start()
    sys.stdin.read()
    stopped.set()
    for thread in work:
        thread.join()
    print(json.dumps({**report.ended, "errors": report.errors, "longest_text_seconds": report.longest}))


main()
