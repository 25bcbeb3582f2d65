"""Processes of the testbed end with the process that started them, whenever that dies."""

import os
import subprocess
import sys

from tests.conditions import until

ORPHAN = """
import os, sys, time
from cubecast.sandbox.trusted.confinement import die_with_parent
parent = os.getpid()
if not os.fork():
    while os.getppid() == parent:
        time.sleep(0.01)
    print("orphaned", flush=True)
    die_with_parent(parent)
    print("still here", flush=True)
    os._exit(0)
"""
"""A process that dies after it has forked, and before the child asks to die with it."""


def test_a_process_whose_parent_has_died_before_it_could_ask_to_die_with_it_ends_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "orphaned\n"


def test_a_process_dies_with_its_parent() -> None:
    code = """
import os, time
from cubecast.sandbox.trusted.confinement import die_with_parent
parent = os.getpid()
child = os.fork()
if not child:
    die_with_parent(parent)
    print(os.getpid(), flush=True)
    time.sleep(60)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    until(lambda: not os.path.exists(f"/proc/{child}"), 10)  # noqa: PTH110 - a process, not a file
