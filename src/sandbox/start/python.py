# Runs a program as the main module, as `python3 FILE` would, but with the working directory behind the standard library
# among the places where modules are looked for: what lies there takes the place of no module of Python's own. With an
# argument, that is the program's file. Without, this Python was started before there is a program for it: it loads what
# programs often need, says that it is ready, and waits for the words.
def wait():
    import gc, os
    import collections, dataclasses, datetime, functools, itertools, json, math, random, re, string, time, typing

    # What is loaded by now stays until the end: the end of the program need not look through it.
    gc.collect()
    gc.freeze()
    os.write(1, b"\0")
    words = b""
    while words.count(b"\n") < 2:
        byte = os.read(0, 1)
        if not byte:
            os._exit(0)
        words += byte
    name, traceparent = words.decode().splitlines()
    if traceparent:
        os.environ["TRACEPARENT"] = traceparent
    return name


def run(name):
    import os, sys
    from _frozen_importlib_external import SourceFileLoader

    # Before what is installed, and never before what belongs to Python.
    installed = ("site-packages", "dist-packages")
    places = [at for at, place in enumerate(sys.path) if os.path.basename(place) in installed]
    directory = os.getcwd()
    sys.path.insert(places[0] if places else len(sys.path), directory)
    sys.argv = [name]
    path = os.path.join(directory, name)
    own = sys._getframe().f_code.co_filename
    names = sys.modules["__main__"].__dict__
    builtins = names["__builtins__"]
    names.clear()
    names.update(__name__="__main__", __file__=path, __builtins__=builtins, __doc__=None)
    names.update(__loader__=SourceFileLoader("__main__", path), __spec__=None, __package__=None, __cached__=None)
    try:
        with open(path, "rb") as file:
            program = compile(file.read(), path, "exec", dont_inherit=True)
        exec(program, names)
    except BaseException:
        show = sys.excepthook

        # The traceback begins with the program, not with this.
        def show_program(kind, error, trace):
            while trace and trace.tb_frame.f_code.co_filename == own:
                trace = trace.tb_next
            show(kind, error.with_traceback(trace), trace)

        sys.excepthook = show_program
        raise


import sys

run(sys.argv[1] if len(sys.argv) > 1 else wait())
