#!/usr/bin/env python3
"""Builds known-item collections for search benchmarks from files on the machine.

    benches/known_items.py KIND SOURCE COLLECTION

SOURCE is a directory of files of that KIND; COLLECTION, in the BEIR layout for benches/retrieval.py, is created.

KIND     query                                       document
docs     the first paragraph of a Python docstring   the rest of the docstring
python   the first paragraph of a Python docstring   the function, without docstrings
rust     the first paragraph of a doc comment        the function
manual   the NAME of a manual page                   its DESCRIPTION

Exactly one document counts as relevant to a query, even if others answer it too, so the figures only compare search
methods with each other. The same files give the same collection.
"""

import argparse, ast, gzip, json, pathlib, random, re, zlib

DOCUMENTS, QUERIES = 10_000, 600
QUERY_CHARS, TEXT_CHARS_MIN, TEXT_CHARS_MAX = range(26, 160), 120, 1_500
# The most lines of a function whose end is not found.
FUNCTION_LINES_MAX = 80


def text_of(path):
    try:
        content = gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()
        return content.decode(errors="ignore")
    except (OSError, EOFError, zlib.error):
        return ""


def python_items(source, wants_code):
    for path in sorted(source.rglob("*.py")):
        text = text_of(path)
        try:
            nodes = list(ast.walk(ast.parse(text)))
        except (SyntaxError, ValueError, RecursionError):
            continue
        lines = text.split("\n")
        described = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node)]
        written = {line for node in described for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)}
        for node in described:
            first, _, rest = ast.get_docstring(node).partition("\n\n")
            if not wants_code:
                yield first, rest
            elif isinstance(node, ast.FunctionDef):
                yield first, "\n".join(lines[line - 1] for line in range(node.lineno, node.end_lineno + 1) if line not in written)


def rust_items(source):
    for path in sorted(source.rglob("*.rs")):
        lines, at = text_of(path).split("\n"), 0
        while at < len(lines):
            comment = []
            while at < len(lines) and lines[at].lstrip().startswith("///"):
                comment.append(lines[at].strip()[3:].strip())
                at += 1
            while comment and at < len(lines) and lines[at].lstrip().startswith("#["):
                at += 1
            if not comment or at == len(lines) or " fn " not in " " + lines[at]:
                at += 1
                continue
            end = " " * (len(lines[at]) - len(lines[at].lstrip())) + "}"
            some = lines[at : at + FUNCTION_LINES_MAX]
            function = some[: some.index(end) + 1] if end in some else some
            at += len(function)
            paragraph = comment[: comment.index("")] if "" in comment else comment
            yield " ".join(paragraph).replace("`", ""), "\n".join(function)


def manual_items(source):
    def plain(text):
        text = re.sub(r"\\f(?:[BIRP]|\([A-Z]+)", "", text).replace("\\-", "-").replace("\\&", "")
        text = re.sub(r"^\.(?:[BI]|BR|IR|RB|RI|BI|IB) (.*)$", r"\1", text, flags=re.M)
        return " ".join(re.sub(r"^[.'].*$", "", text, flags=re.M).split())

    for path in sorted(path for path in source.glob("man[1-8]/*") if path.is_file() and not path.is_symlink()):
        parts = re.split(r'^\.S[Hh] "?([^"\n]*)"?[ \t]*\n', text_of(path), flags=re.M)
        parts = dict(zip(parts[1::2], parts[2::2]))
        yield plain(parts.get("NAME", "")).partition(" - ")[2], plain(parts.get("DESCRIPTION", ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["docs", "python", "rust", "manual"])
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("collection", type=pathlib.Path)
    arguments = parser.parse_args()
    items = {
        "docs": lambda source: python_items(source, wants_code=False),
        "python": lambda source: python_items(source, wants_code=True),
        "rust": rust_items,
        "manual": manual_items,
    }[arguments.kind](arguments.source)
    texts = {}
    for query, text in items:
        query, text = " ".join(query.split()), text.strip()[:TEXT_CHARS_MAX]
        if len(query) in QUERY_CHARS and len(text) >= TEXT_CHARS_MIN and query not in text:
            texts.setdefault(text, query)
    chosen = list(texts.items())
    random.Random(1).shuffle(chosen)
    chosen = chosen[:DOCUMENTS]
    asked = [query.lower() for _, query in chosen]
    counts = {query: asked.count(query) for query in set(asked[: 2 * QUERIES])}
    queries = [number for number in range(len(chosen)) if counts.get(asked[number]) == 1][:QUERIES]
    arguments.collection.mkdir(parents=True)

    def write(name, rows):
        (arguments.collection / name).write_text("".join(row + "\n" for row in rows), encoding="utf-8")

    write("corpus.jsonl", (json.dumps({"_id": f"d{n}", "title": "", "text": text}) for n, (text, _) in enumerate(chosen)))
    write("queries.jsonl", (json.dumps({"_id": f"q{n}", "text": chosen[n][1]}) for n in queries))
    write("qrels.tsv", ["query-id\tcorpus-id\tscore"] + [f"q{n}\td{n}\t1" for n in queries])
    print(f"{len(chosen)} documents, {len(queries)} queries")


if __name__ == "__main__":
    main()
