"""Shuts this process in: no files, no network, no other processes. It cannot be undone.

Landlock (landlock(7)) takes every right on the file system; a seccomp filter (seccomp(2)) lets through what computing and
waiting need, and answers everything else with EPERM. Both by system call, without a library.
"""

import ctypes
import os
import platform
import signal
import struct

from cubecast.errors import ExtensionRefused

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE = 1, 38, 4
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC = 1, 1
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF, LANDLOCK_VERSION = 444, 446, 1
SECCOMP = {"x86_64": 317, "aarch64": 277}
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOWED = {
    "x86_64": {
        "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11,
        "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24, "mremap": 25,
        "madvise": 28, "nanosleep": 35, "getpid": 39, "exit": 60, "gettid": 186, "futex": 202, "sched_getaffinity": 204,
        "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231,
        "ppoll": 271, "getrandom": 318, "rseq": 334, "getrusage": 98, "sigaltstack": 131,
    },
    "aarch64": {
        "read": 63, "write": 64, "close": 57, "fstat": 80, "ppoll": 73, "lseek": 62, "mmap": 222, "mprotect": 226,
        "munmap": 215, "brk": 214, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "sched_yield": 124,
        "mremap": 216, "madvise": 233, "nanosleep": 101, "getpid": 172, "exit": 93, "gettid": 178, "futex": 98,
        "sched_getaffinity": 123, "restart_syscall": 128, "clock_gettime": 113, "clock_getres": 114,
        "clock_nanosleep": 115, "exit_group": 94, "getrandom": 278, "rseq": 293, "getrusage": 165, "sigaltstack": 132,
    },
}  # fmt: skip
PROT_EXEC = 4
LD_W_ABS, JEQ_K, JSET_K, RET_K = 0x20, 0x15, 0x45, 0x06
ALLOW, ERRNO_EPERM, KILL_PROCESS = 0x7FFF0000, 0x00050001, 0x80000000
NUMBER_AT, ARCHITECTURE_AT, THIRD_ARGUMENT_AT = 0, 4, 16 + 2 * 8

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """From now on Linux kills this process when its parent is gone."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def missing() -> str:
    """What this machine lacks for confinement, in one line; empty when it has it all."""
    machine = platform.machine()
    if machine not in SECCOMP:
        return f"there is no table of system calls for {machine}"
    if _libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_VERSION) < 1:
        return (
            f"the kernel has no Landlock ({os.strerror(ctypes.get_errno())}); it needs Linux 5.13 with it switched on"
        )
    return ""


def confine() -> None:
    """From now on this process, with all its threads, computes and waits, and nothing else.

    Raises:
        ExtensionRefused: the machine cannot do it.
    """
    if lacking := missing():
        raise ExtensionRefused(f"it cannot be confined: {lacking}")
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _check(_libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable")
    _landlock()
    _seccomp()


def _landlock() -> None:
    version = _libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_VERSION)
    rights = {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)
    handled_net = 3 if version >= 4 else 0
    ruleset = struct.pack("QQ", (1 << rights) - 1, handled_net)[: 16 if version >= 4 else 8]
    descriptor = _libc.syscall(LANDLOCK_CREATE_RULESET, ruleset, len(ruleset), 0)
    _check(min(0, descriptor), "landlock")
    _check(_libc.syscall(LANDLOCK_RESTRICT_SELF, descriptor, 0), "landlock")
    os.close(descriptor)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _seccomp() -> None:
    machine = platform.machine()
    allowed = ALLOWED[machine]
    executable = [allowed["mmap"], allowed["mprotect"]]
    plain = sorted(set(allowed.values()) - set(executable))
    code = [
        (LD_W_ABS, 0, 0, ARCHITECTURE_AT),
        (JEQ_K, 1, 0, ARCHITECTURE[machine]),
        (RET_K, 0, 0, KILL_PROCESS),
        (LD_W_ABS, 0, 0, NUMBER_AT),
    ]
    for number in plain:
        code += [(JEQ_K, 0, 1, number), (RET_K, 0, 0, ALLOW)]
    for number in executable:  # memory, but none that can be run
        code += [
            (JEQ_K, 0, 4, number), (LD_W_ABS, 0, 0, THIRD_ARGUMENT_AT), (JSET_K, 1, 0, PROT_EXEC), (RET_K, 0, 0, ALLOW),
            (RET_K, 0, 0, ERRNO_EPERM),
        ]  # fmt: skip
    code.append((RET_K, 0, 0, ERRNO_EPERM))
    raw = b"".join(struct.pack("HBBI", *each) for each in code)
    buffer = ctypes.create_string_buffer(raw, len(raw))
    program = _Program(len(code), ctypes.addressof(buffer))
    done = _libc.syscall(SECCOMP[machine], SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, ctypes.byref(program))
    _check(done, "seccomp")


def _check(result: int, what: str) -> None:
    if result:
        raise ExtensionRefused(f"it cannot be confined: {what}: {os.strerror(ctypes.get_errno())}")
