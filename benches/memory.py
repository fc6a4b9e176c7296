#!/usr/bin/env python3
"""Cost of memory: time and resident memory of a factory that stores, indexes and searches many notes.

    benches/memory.py COLLECTION [--program target/release/ai-factory] [--documents 50000] [--searches 2000]

The notes are the documents of COLLECTION (corpus.jsonl in the BEIR layout), repeated as often as needed and numbered;
the queries are those of queries.jsonl. Prints

- the time until every note is found;
- the resident memory of the factory, and the anonymous part of it (from /proc);
- search latency with one client and with eight, over keep-alive connections;
- the cost of one more note and of a session, beside many notes and beside few: wall time, and processor time of the
  factory.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse

from retrieval import lines, start

# Notes in the small memory that is the baseline.
FEW = 100
# Notes added, notes per request, and sessions run.
ADDED, ADDED_AT_ONCE, SESSIONS = 4_000, 500, 300


class Client:
    """A bare keep-alive connection: http.client takes longer than a search."""

    def __init__(self, port):
        self.host = f"127.0.0.1:{port}"
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=600)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method, path, body=None):
        body = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(1 << 16)
        head, body = answer.split(b"\r\n\r\n", 1)
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        while len(body) < length:
            body += self.socket.recv(1 << 16)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{method} {path[:80]}: {head[:40]!r} {body[:300]!r}")
        return body

    def json(self, *asked):
        return json.loads(self.ask(*asked))


def resident(pid):
    """Resident and anonymous memory, in MB, as text."""
    figures = {}
    for line in open(f"/proc/{pid}/smaps_rollup", encoding="ascii").read().splitlines()[1:]:
        name, figure = line.split(":")
        figures[name] = int(figure.split()[0]) / 1024
    return f"{figures['Rss']:.0f} MB resident, {figures['Anonymous']:.0f} MB of it its own"


def processor_s(pid):
    threads = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def settled(client, text):
    """Waits until the note is found and no rebuild is in progress."""
    while True:
        found = client.json("GET", "/memory/search?" + urllib.parse.urlencode({"q": text, "n": 1}))["results"]
        if client.json("GET", "/healthcheck")["status"] == "ok" and found and found[0]["text"] == text:
            return
        time.sleep(0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=pathlib.Path)
    parser.add_argument("--program", default="target/release/ai-factory")
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--searches", type=int, default=2_000)
    arguments = parser.parse_args()
    program = str(pathlib.Path(arguments.program).resolve())
    corpus = lines(arguments.collection / "corpus.jsonl")
    queries = [query["text"] for query in lines(arguments.collection / "queries.jsonl")]

    def text(number):
        document = corpus[number % len(corpus)]
        return f"{document['title']}\n{document['text']} # {number}"

    with tempfile.TemporaryDirectory() as directory:
        print(f"load of the machine at the beginning: {os.getloadavg()[0]:.1f}")
        few, many = (os.path.join(directory, name) for name in ("few", "many"))
        keep(program, few, [text(number) for number in range(FEW)])
        begun = time.monotonic()
        keep(program, many, [text(number) for number in range(arguments.documents)])
        last = text(arguments.documents - 1)
        with factory(program, many) as (client, pid, port):
            settled(client, last)
            print(f"{arguments.documents} notes kept, indexed and found in {time.monotonic() - begun:.1f} s; then {resident(pid)}")
        with factory(program, many) as (client, pid, port):
            settled(client, last)
            print(f"after a start: {resident(pid)}")
            for mode in ("keyword", "semantic", "hybrid"):
                searched(port, pid, queries, mode, arguments.searches, 1)
            searched(port, pid, queries, "hybrid", arguments.searches, 8)
            print(f"after the searches: {resident(pid)}")
        again(program, many, last)
        for name, data in (("few", few), ("many", many)):
            with factory(program, data) as (client, pid, port):
                documents = FEW if data == few else arguments.documents
                # Work left over from the start must not count as part of a session.
                settled(client, text(documents - 1))
                begun = costs(f"a session beside {documents}", pid)
                for number in range(SESSIONS):
                    client.ask("POST", "/supervisor/run", {"goal": queries[number % len(queries)]})
                begun(SESSIONS)
                begun = costs(f"a note added to {documents}", pid)
                for first in range(0, ADDED, ADDED_AT_ONCE):
                    notes = [{"text": f"{text(number)} of {name}"} for number in range(first, first + ADDED_AT_ONCE)]
                    client.ask("POST", "/memory/import", {"notes": notes})
                settled(client, notes[-1]["text"])
                begun(ADDED)


def keep(program, data, texts):
    os.makedirs(data)
    notes = pathlib.Path(data) / "notes.jsonl"
    with notes.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    environment = dict(os.environ, AI_FACTORY_DATA_DIR=data)
    subprocess.run([program, "remember", "--jsonl", str(notes)], env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class factory:
    """A factory that serves a data directory. As a context manager: its client, process id and port."""

    def __init__(self, program, data):
        self.process, self.port = start(program, data)

    def __enter__(self):
        return Client(self.port), self.process.pid, self.port

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def costs(what, pid):
    """Starts to measure. The returned function ends it and prints the cost per item."""
    wall, processor = time.monotonic(), processor_s(pid)

    def end(count):
        each = [1000 * (now - then) / count for now, then in ((time.monotonic(), wall), (processor_s(pid), processor))]
        print(f"{what}: {each[0]:.3f} ms, {each[1]:.3f} ms of the processor")

    return end


def again(program, data, last):
    """Time to rebuild the same index by a factory that keeps serving."""
    shutil.rmtree(os.path.join(data, "index"))
    begun = time.monotonic()
    with factory(program, data) as (client, pid, _):
        settled(client, last)
        print(f"index rebuilt in {time.monotonic() - begun:.1f} s; then {resident(pid)}")


def searched(port, pid, queries, mode, count, clients):
    times, used = [], processor_s(pid)

    def search(one):
        client = Client(port)
        for number in range(one, count, clients):
            # Every query differs, so no answer comes from the cache.
            query = f"{queries[number % len(queries)]} {number}"
            path = "/memory/search?" + urllib.parse.urlencode({"q": query, "n": 10, "mode": mode})
            before = time.monotonic()
            client.ask("GET", path)
            times.append((time.monotonic() - before) * 1000)

    threads = [threading.Thread(target=search, args=[one]) for one in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.sort()
    p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    used = 1000 * (processor_s(pid) - used) / count
    print(f"{mode:<9} {clients} clients  p50 {p50:.2f} ms  p99 {p99:.2f} ms  {used:.2f} ms of the processor")


if __name__ == "__main__":
    main()
