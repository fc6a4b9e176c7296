# Runs a program as the main module, like `python3 FILE`, but with the working directory after the
# standard library in the module path: a file there cannot shadow a standard module. An argument is the
# program's file. Without one, this Python was started without a program: it loads modules that programs
# often need, reports readiness with one byte, and reads three lines: the file name of the program,
# TRACEPARENT, and the directory of its workspace, which becomes the working directory.
def wait():
    import gc, os
    import collections, dataclasses, datetime, functools, itertools, json, math, random, re, string, time, typing

    # Modules loaded so far stay until the end: exempt them from garbage collection, also at exit.
    gc.collect()
    gc.freeze()
    os.write(1, b"\0")
    words = b""
    while words.count(b"\n") < 3:
        byte = os.read(0, 1)
        if not byte:
            os._exit(0)
        words += byte
    name, traceparent, workspace = words.decode().splitlines()
    if traceparent:
        os.environ["TRACEPARENT"] = traceparent
    return name, workspace


def run(name, workspace=""):
    import os, sys
    from _frozen_importlib_external import SourceFileLoader

    # Before installed packages, and never before the standard library.
    installed = ("site-packages", "dist-packages")
    places = [at for at, place in enumerate(sys.path) if os.path.basename(place) in installed]
    path = os.path.join(os.getcwd(), name)
    if workspace:
        os.chdir(workspace)
        name = path
    directory = os.getcwd()
    sys.path.insert(places[0] if places else len(sys.path), directory)
    sys.argv = [name]
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

        # The traceback begins with the program, not with this file.
        def show_program(kind, error, trace):
            while trace and trace.tb_frame.f_code.co_filename == own:
                trace = trace.tb_next
            show(kind, error.with_traceback(trace), trace)

        sys.excepthook = show_program
        raise


import sys

run(*(sys.argv[1:2] or wait()))
