#!/usr/bin/env python3
"""Search quality: stores a collection in a factory and queries it over HTTP.

    benches/retrieval.py COLLECTION [--program target/release/ai-factory] [--clients 16]

COLLECTION is a directory in the BEIR layout: corpus.jsonl (_id, title, text), queries.jsonl (_id, text) and qrels.tsv
(query, document, score; one header line). Starts a factory in an empty directory and ends it afterwards. Prints
nDCG@10, recall@10, MRR@10 and the latency of one client for each mode.
"""

import argparse
import collections
import concurrent.futures
import http.client
import json
import math
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

MODES = ("keyword", "semantic", "hybrid")
BEST = 10
START_S_MAX = 30


class Client:
    """An HTTP client with one connection per thread."""

    def __init__(self, port):
        self.port = port
        self.local = threading.local()

    def ask(self, method, path, body=None):
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection = self.local.connection
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path[:80]}: {answer.status} {text[:300]!r}")
        return json.loads(text)


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def judgments(path):
    relevant = collections.defaultdict(dict)
    for line in open(path, encoding="utf-8").read().splitlines()[1:]:
        query, document, score = line.split("\t")
        relevant[query][document] = int(score)
    return relevant


def figures(found, relevant):
    """nDCG, recall and reciprocal rank of the results of one query."""
    gain = sum(relevant.get(one, 0) / math.log2(rank + 2) for rank, one in enumerate(found))
    ideal = sorted(relevant.values(), reverse=True)[:BEST]
    ideal = sum(score / math.log2(rank + 2) for rank, score in enumerate(ideal))
    hits = [rank for rank, one in enumerate(found) if relevant.get(one, 0) > 0]
    wanted = sum(score > 0 for score in relevant.values())
    return gain / ideal, len(hits) / wanted, 1 / (hits[0] + 1) if hits else 0.0


def start(program, directory):
    os.makedirs(directory, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = dict(os.environ, AI_FACTORY_PORT=str(port), AI_FACTORY_DATA_DIR=directory)
    factory = subprocess.Popen([program, "up"], cwd=directory, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + START_S_MAX
    while True:
        try:
            Client(port).ask("GET", "/readyz")
            return factory, port
        except (OSError, RuntimeError):
            if factory.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{program} up does not serve: run it by hand to see why")
            time.sleep(0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=pathlib.Path)
    parser.add_argument("--program", default="target/release/ai-factory")
    parser.add_argument("--clients", type=int, default=16, help="concurrent clients that store documents")
    arguments = parser.parse_args()
    corpus = lines(arguments.collection / "corpus.jsonl")
    queries = lines(arguments.collection / "queries.jsonl")
    relevant = judgments(arguments.collection / "qrels.tsv")
    with tempfile.TemporaryDirectory() as directory:
        factory, port = start(str(pathlib.Path(arguments.program).resolve()), directory)
        try:
            measure(Client(port), corpus, queries, relevant, arguments.clients)
            status = open(f"/proc/{factory.pid}/status", encoding="ascii").read()
            print(next(line for line in status.splitlines() if line.startswith("VmRSS")))
        finally:
            factory.terminate()
            factory.wait()


def measure(client, corpus, queries, relevant, clients):
    def remember(document):
        text = "\n".join(part for part in (document.get("title"), document["text"]) if part)
        return client.ask("POST", "/memory/remember", {"text": text})["id"], document["_id"]

    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        names = dict(pool.map(remember, corpus))
    client.ask("GET", "/memory/search?q=anything")
    print(f"{len(corpus)} documents remembered and indexed in {time.monotonic() - begun:.1f} s by {clients} clients")
    print(f"{'mode':<10} nDCG@{BEST}  recall@{BEST}  MRR@{BEST}   p50 ms   p99 ms")
    for mode in MODES:
        sums, times = [0.0] * 3, []
        for query in queries:
            path = "/memory/search?" + urllib.parse.urlencode({"q": query["text"], "n": BEST, "mode": mode})
            before = time.monotonic()
            results = client.ask("GET", path)["results"]
            times.append((time.monotonic() - before) * 1000)
            found = [names[result["id"]] for result in results]
            for index, figure in enumerate(figures(found, relevant[query["_id"]])):
                sums[index] += figure / len(queries)
        times.sort()
        p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
        print(f"{mode:<10} {sums[0]:.4f}   {sums[1]:.4f}     {sums[2]:.4f}  {p50:7.2f}  {p99:7.2f}")


if __name__ == "__main__":
    main()
