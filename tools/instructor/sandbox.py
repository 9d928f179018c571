"""Shut this process in for good, before it runs code that nobody has read. On Linux; needs no privilege.

The one idea: a process that can neither become two, nor open a network, nor write a file, nor signal another is held by
ordinary limits (RLIMIT_AS, RLIMIT_CPU) and ended by one kill. The kernel itself refuses the rest: seccomp(2) the system
calls, landlock(7) the files; neither needs a privilege, and neither can be taken back. What can't be had on this system
is measured, not assumed: see `missing`.
"""

import ctypes
import functools
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

if sys.platform == "linux":
    import resource

# System calls that fail with EPERM: (number on x86-64, on arm64); None: there is none, or not under this name.
DENIED = {
    **{"fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281)},  # no other process
    **{"kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "pidfd_send_signal": (424, 424)},  # no signals
    **{"rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "pidfd_getfd": (438, 438)},
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271)},
    **{"process_madvise": (440, 440), "setpriority": (141, 140), "ioprio_set": (251, 30)},
    **{"sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118)},
    **{"sched_setattr": (314, 274), "socket": (41, 198), "io_uring_setup": (425, 425)},  # no network
    # what landlock leaves open of the files
    **{"truncate": (76, 45), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452)},
    **{"chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54)},
    **{"utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88)},
    **{"setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463)},
    **{"removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "removexattrat": (466, 466)},
    **{"memfd_create": (319, 279), "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186)},  # no memory aside
    **{"mq_open": (240, 180), "mq_unlink": (241, 181), "add_key": (248, 217), "request_key": (249, 218)},
    **{"keyctl": (250, 219), "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39)},
    **{"bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282)},  # no way around
}
CLONE, OPENAT, OPEN, PRLIMIT = (56, 220), (257, 56), (2, None), (302, 261)
UNKNOWN = (435, 437)  # clone3 and openat2 hide their flags from a filter: "no such call", and libc takes the older one
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH

LOAD, AND, EQUAL, ANY_BIT, AT_LEAST, RETURN = 0x20, 0x54, 0x15, 0x45, 0x35, 0x06  # classic BPF, as seccomp reads it
ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3  # landlock's rights; bits 4 to 14 make and remove

libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def confine(memory: int, seconds: int, readable: list[Path], keep: list[int]) -> None:
    """Shut the calling process in: it can compute, read below `readable`, and use the open files `keep`. Nothing else.

    memory: bytes that it may take on top of what it has. seconds: of processor time; then it is killed with SIGXCPU.
    Raises OSError where the kernel refuses; the caller must then not go on.
    """
    die_with_parent()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # what it prints is nobody's concern, gigabytes or not
        os.dup2(null, descriptor)
    first = 3
    for descriptor in [*sorted(keep), os.sysconf("SC_OPEN_MAX")]:
        os.closerange(first, descriptor)
        first = descriptor + 1
    with open("/proc/self/statm") as sizes:
        used = int(sizes.read().split()[0]) * resource.getpagesize()
    for limit, value in (
        (resource.RLIMIT_AS, used + memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(limit, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")  # should memory run out all the same, this process goes first
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _drop_capabilities()
    _forbid_files(readable)
    _forbid_calls()


def die_with_parent() -> None:
    """Let the kernel kill this process when the one that forked it is gone."""
    _check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def _check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _drop_capabilities():
    """Give up root's powers (root may raise its limits and ignore a file's owner). See capset(2), version 3."""
    _check(libc.capset(struct.pack("=Ii", 0x20080522, 0), bytes(24)))


def _forbid_files(readable):
    """Let the process open files below `readable` for reading, /dev/null for writing, and change none."""
    version = libc.syscall(444, None, 0, 1)
    _check(version)
    rights = WRITE_FILE | READ_FILE | READ_DIR
    rights |= sum(1 << bit for bit in range(4, 13 + (version >= 2) + (version >= 3)))
    ruleset = _check(libc.syscall(444, struct.pack("=Q", rights), 8, 0))
    for path in (*readable, Path(os.devnull)):
        if path.exists():
            allowed = READ_FILE | READ_DIR if path.is_dir() else READ_FILE
            allowed |= WRITE_FILE if path == Path(os.devnull) else 0
            place = os.open(path, os.O_PATH)
            _check(libc.syscall(445, ruleset, 1, struct.pack("=Qi", allowed, place), 0))
            os.close(place)
    _check(libc.syscall(446, ruleset, 0))
    os.close(ruleset)


def _forbid_calls():
    """Install the seccomp filter: DENIED fails, a clone must make a thread, an open must not truncate."""
    column, architecture = MACHINES[platform.machine()]
    number, first_argument = (LOAD, 0, 0, 0), (LOAD, 0, 0, 16)  # offsets in struct seccomp_data
    refuse = (RETURN, 0, 0, EPERM)
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL), number]
    program += [(AT_LEAST, 0, 1, 0x40000000), refuse]  # x32: the same calls under other numbers
    for call in UNKNOWN:
        program += [(EQUAL, 0, 1, call), (RETURN, 0, 0, ENOSYS)]
    for call in DENIED.values():
        if call[column] is not None:
            program += [(EQUAL, 0, 1, call[column]), refuse]
    program += [(EQUAL, 0, 3, CLONE[column]), first_argument, (ANY_BIT, 1, 0, 0x10000), refuse, number]  # CLONE_THREAD
    program += [(EQUAL, 0, 3, PRLIMIT[column]), first_argument, (EQUAL, 1, 0, 0), refuse, number]  # of itself: 0
    for call, flags in ((OPEN[column], 24), (OPENAT[column], 32)):  # landlock before Linux 6.2 does not see O_TRUNC
        if call is not None:
            program += [(EQUAL, 0, 4, call), (LOAD, 0, 0, flags), (AND, 0, 0, os.O_TRUNC | os.O_ACCMODE)]
            program += [(EQUAL, 0, 1, os.O_TRUNC), refuse, number]
    program.append((RETURN, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    _check(libc.prctl(PR_SET_SECCOMP, 2, header, 0, 0))


@functools.cache
def missing() -> str | None:
    """Return what can't be held here, in words, or None if all can: found out by a process of its own, once."""
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        return f"Linux on x86-64 or arm64 can shut a process in; this is {platform.system()} on {platform.machine()}"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-m", "tools.instructor.sandbox"], cwd=root, capture_output=True, text=True)
    return done.stdout.strip() or None if not done.returncode else f"the probe failed: {done.stderr[-300:]}"


def probe() -> str:
    """Shut a child in and let it try what it must not do. Return what worked, in words."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            confine(1 << 28, 10, [Path(sys.base_prefix)], [writer])
            worked = [name for name, attempt in _ATTEMPTS.items() if _works(attempt)]
            os.write(writer, ", ".join(worked).encode() or b"-")
        except OSError as error:
            os.write(writer, f"this kernel refuses it: {error.strerror}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        words = answer.read().decode()
    os.waitpid(child, 0)
    return {"-": "", "": "the child that tried it died"}.get(words, words)


def _works(attempt):
    try:
        attempt()
    except (OSError, MemoryError):
        return False
    return True


def _fork():
    if not os.fork():
        os._exit(0)


_ATTEMPTS = {
    "a second process": _fork,
    "a program": lambda: os.execv(sys.executable, [sys.executable, "--version"]),
    "a signal to its parent": lambda: os.kill(os.getppid(), 0),
    "the network": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
    "a new file": lambda: os.open("sandbox.tmp", os.O_CREAT | os.O_RDWR, 0o600),
    "a file that it may not read": lambda: os.open("/proc/1/cmdline", os.O_RDONLY),
    "another's permissions": lambda: os.chmod(os.path.dirname(sys.executable), 0o755),
    "too much memory": lambda: bytearray(1 << 29),
}


if __name__ == "__main__":
    print(probe())
