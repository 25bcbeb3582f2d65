"""Confines this process irrevocably: no access to files, the network or other processes, and limits on its resources.

Landlock (landlock(7)) removes all rights on the file system. A seccomp filter (seccomp(2)) allows the system calls that
computing and waiting need; any other fails with EPERM. All capabilities are dropped (capabilities(7)), among them the one with
which memory that is shared with the host could be declared defective. Everything is set up by direct system calls, without a
library.

A shared library is loaded in two steps, since the loader opens and maps its file and runs its constructors in one call:
`confine(loading=True)` also allows what the loader needs, and `confine()` afterwards removes that, too.
"""

import ctypes
import os
import platform
import resource
import signal
import struct
from pathlib import Path

from cubecast.errors import ExtensionRefused

# The names are those of Linux's headers.
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_SET_DUMPABLE = 1, 38, 39, 4
SECCOMP_SET_MODE_FILTER, SECCOMP_GET_ACTION_AVAIL, SECCOMP_FILTER_FLAG_TSYNC = 1, 2, 1
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF, LANDLOCK_VERSION = 444, 446, 1
SECCOMP = {"x86_64": 317, "aarch64": 277}
"""Number of the system call seccomp by machine."""
CAPSET = {"x86_64": 126, "aarch64": 91}
"""Number of the system call capset by machine."""
CAPABILITY_VERSION = 0x20080522
"""Version of the structures that capset takes (_LINUX_CAPABILITY_VERSION_3)."""
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_* by machine, which a filter compares so that the numbers below mean what they say."""
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
"""System calls that the filter allows, with their numbers, by machine; mmap and mprotect only without PROT_EXEC."""
LOADING = {
    "x86_64": {"openat": 257, "newfstatat": 262, "pread64": 17, "seccomp": 317},
    "aarch64": {"openat": 56, "newfstatat": 79, "pread64": 67, "seccomp": 277},
}
"""System calls that are also allowed while a library is loaded; openat only to read, and Landlock denies every file with a
path. seccomp can only remove rights."""
O_RDONLY_CLOEXEC = 0x80000
"""Flags with which the loader opens a library; no others are allowed."""
PROT_EXEC = 4
"""Flag of mmap and mprotect for executable memory."""
LD_W_ABS, JEQ_K, JSET_K, RET_K = 0x20, 0x15, 0x45, 0x06
"""Instructions of classic BPF: load a word, jump if equal, jump if a bit is set, return."""
ALLOW, ERRNO_EPERM, KILL_PROCESS = 0x7FFF0000, 0x00050001, 0x80000000
"""Return values of a filter (SECCOMP_RET_*)."""
NUMBER_AT, ARCHITECTURE_AT, THIRD_ARGUMENT_AT = 0, 4, 16 + 2 * 8
"""Offsets in struct seccomp_data, which a filter reads."""

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Makes Linux kill this process when its parent ends; ends it now if the parent has ended before that was set.

    Args:
        parent: process ID of the parent, which the parent itself must have named.
    """
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def missing() -> str:
    """Why this machine cannot confine a process, in one line; empty if it can."""
    machine = platform.machine()
    if machine not in SECCOMP:
        return f"the system calls of {machine} are not known here"
    action = ctypes.byref(ctypes.c_uint32(ERRNO_EPERM & 0xFFFF0000))
    if _libc.syscall(SECCOMP[machine], SECCOMP_GET_ACTION_AVAIL, 0, action):
        return f"the kernel has no seccomp filters ({os.strerror(ctypes.get_errno())}); Linux 4.14 or later is needed"
    return ""


def missing_landlock() -> str:
    """Why this kernel has no Landlock, in one line; empty if it has. Without it the filter of system calls holds alone."""
    if _landlock_version() >= 1:
        return ""
    return f"the kernel has no Landlock ({os.strerror(ctypes.get_errno())}); Linux 5.13 or later with Landlock enabled has it"


def limit_resources(growth_bytes: int) -> None:
    """Limits what this process and its threads may still use. No limit can be raised once the process is confined.

    Args:
        growth_bytes: address space that it may use beyond what it uses now; what exceeds it cannot be allocated.
    """
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + growth_bytes)
    for kind in (resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        _limit(kind, 0)


def confine(*, loading: bool = False) -> None:
    """Confines this process to computing and waiting. It must have one thread, as some rights belong to threads.

    Args:
        loading: whether it can still load a shared library from an open file; call this again without it afterwards.

    Raises:
        ExtensionRefused: this machine cannot do it.
    """
    if reason := missing() or (loading and missing_landlock()):
        raise ExtensionRefused(f"it cannot be confined: {reason}")
    if not _libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0):
        if (threads := len(list(Path("/proc/self/task").iterdir()))) > 1:
            raise ExtensionRefused(f"it cannot be confined: its process has {threads} threads already")
        _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
        _check(_libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable")
        _drop_capabilities()
        if not missing_landlock():
            _landlock()
    _seccomp(loading=loading)


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def _drop_capabilities() -> None:
    header = struct.pack("Ii", CAPABILITY_VERSION, 0)
    _check(_libc.syscall(CAPSET[platform.machine()], header, bytes(24)), "capabilities")


def _landlock_version() -> int:
    return int(_libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_VERSION))


def _landlock() -> None:
    """Denies every right that this version of Landlock knows, and TCP where it can (version 4)."""
    version = _landlock_version()
    rights = {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)
    handled_net = 3 if version >= 4 else 0
    ruleset = struct.pack("QQ", (1 << rights) - 1, handled_net)[: 16 if version >= 4 else 8]
    descriptor = _libc.syscall(LANDLOCK_CREATE_RULESET, ruleset, len(ruleset), 0)
    _check(min(0, descriptor), "landlock")
    _check(_libc.syscall(LANDLOCK_RESTRICT_SELF, descriptor, 0), "landlock")
    os.close(descriptor)


class _Program(ctypes.Structure):
    """struct sock_fprog (seccomp(2))."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _seccomp(*, loading: bool) -> None:
    """Installs the filter for all threads."""
    machine = platform.machine()
    allowed = dict(ALLOWED[machine]) | (LOADING[machine] if loading else {})
    if loading:
        checked = {allowed.pop("openat"): (JEQ_K, 0, 1, O_RDONLY_CLOEXEC)}
    else:  # memory, but no executable memory
        checked = {allowed.pop(name): (JSET_K, 1, 0, PROT_EXEC) for name in ("mmap", "mprotect")}
    code = [
        (LD_W_ABS, 0, 0, ARCHITECTURE_AT),
        (JEQ_K, 1, 0, ARCHITECTURE[machine]),
        (RET_K, 0, 0, KILL_PROCESS),
        (LD_W_ABS, 0, 0, NUMBER_AT),
    ]
    for number in sorted(allowed.values()):
        code += [(JEQ_K, 0, 1, number), (RET_K, 0, 0, ALLOW)]
    for number, condition in checked.items():
        code += [
            (JEQ_K, 0, 4, number), (LD_W_ABS, 0, 0, THIRD_ARGUMENT_AT), condition, (RET_K, 0, 0, ALLOW),
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
