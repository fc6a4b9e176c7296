#!/usr/bin/env python3
"""What memory costs: many notes are kept and indexed, then one client searches a factory that holds them all.

    benches/memory.py COLLECTION [--program target/release/ai-factory] [--documents 50000] [--searches 2000]

The notes are the documents of COLLECTION (corpus.jsonl in the BEIR layout) as often as needed, each with a number of its own; the
queries are those of queries.jsonl. Printed are how long it took until every note was found, how much of the factory is resident
(from /proc: all of it, and what is its own rather than pages of files), and how long a search took over a kept connection.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time
import urllib.parse

from retrieval import Client, lines, start


def resident(pid):
    """All, and anonymous, in MB."""
    figures = {}
    for line in open(f"/proc/{pid}/smaps_rollup", encoding="ascii").read().splitlines()[1:]:
        name, figure = line.split(":")
        figures[name] = int(figure.split()[0]) / 1024
    return f"{figures['Rss']:.0f} MB resident, {figures['Anonymous']:.0f} MB of it its own"


def settled(client, text):
    """Waits until the note is found and nothing is made anew any more."""
    while True:
        found = client.ask("GET", "/memory/search?" + urllib.parse.urlencode({"q": text, "n": 1}))["results"]
        if client.ask("GET", "/healthcheck")["status"] == "ok" and found and found[0]["text"] == text:
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
    texts = []
    for number in range(arguments.documents):
        document = corpus[number % len(corpus)]
        texts.append(f"{document['title']}\n{document['text']} # {number}")
    with tempfile.TemporaryDirectory() as directory:
        notes = pathlib.Path(directory) / "notes.jsonl"
        notes.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        data = os.path.join(directory, "data")
        environment = dict(os.environ, AI_FACTORY_DATA_DIR=data)
        begun = time.monotonic()
        subprocess.run([program, "remember", "--jsonl", str(notes)], env=environment, check=True, stdout=subprocess.DEVNULL)
        factory, port = start(program, data)
        try:
            client = Client(port)
            settled(client, texts[-1])
            print(f"{len(texts)} notes kept, indexed and found in {time.monotonic() - begun:.1f} s")
            print(f"after the start: {resident(factory.pid)}")
            for mode in ("keyword", "semantic", "hybrid"):
                searched(client, queries, mode, arguments.searches)
            print(f"after the searches: {resident(factory.pid)}")
        finally:
            factory.terminate()
            factory.wait()
        again(program, data, environment, texts)


def again(program, data, environment, texts):
    """The same index, made anew by a factory that goes on serving."""
    subprocess.run(["rm", "-r", os.path.join(data, "index")], check=True)
    begun = time.monotonic()
    factory, port = start(program, data)
    try:
        settled(Client(port), texts[-1])
        print(f"the index made anew in {time.monotonic() - begun:.1f} s; then {resident(factory.pid)}")
    finally:
        factory.terminate()
        factory.wait()


def searched(client, queries, mode, count):
    times = []
    for number in range(count):
        # Each is another question, so that no answer is given again.
        query = f"{queries[number % len(queries)]} {number}"
        path = "/memory/search?" + urllib.parse.urlencode({"q": query, "n": 10, "mode": mode})
        before = time.monotonic()
        client.ask("GET", path)
        times.append((time.monotonic() - before) * 1000)
    times.sort()
    p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    print(f"{mode:<10} p50 {p50:.2f} ms   p99 {p99:.2f} ms")


if __name__ == "__main__":
    main()
