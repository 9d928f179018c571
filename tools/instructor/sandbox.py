"""Shut this process in for good, before it runs code that nobody has read. On Linux; needs no privilege.

The one idea: what is not on the list is refused, by the kernel itself: seccomp(2) lets through the system calls that
Python and NumPy compute with (libseccomp and its binding write the filter), landlock(7) opens the files that they
import. What is left can neither become two, nor write, nor signal, and is ended by one kill. docs/grading.md has the
whole picture, `missing` what this system can't hold: it is measured, not assumed.
"""

import contextlib
import ctypes
import errno
import functools
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

if sys.platform == "linux":
    import fcntl
    import resource
    import termios

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
LIBRARIES += [sysconfig.get_config_var("LIBDIR"), "/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache"]
READABLE = [*map(Path, filter(None, LIBRARIES)), ROOT / "nnlib", ROOT / "data" / "samples"]

# What Python, NumPy and the C library need once they have been started.
ALLOWED = """
    read readv pread64 write writev close close_range lseek fstat stat lstat newfstatat statx access faccessat
    faccessat2 readlink readlinkat getcwd getdents64 dup poll ppoll select pselect6
    mmap munmap mprotect mremap madvise brk futex futex_waitv set_robust_list rseq membarrier arch_prctl
    exit exit_group restart_syscall sched_yield sched_getaffinity gettid getpid getppid getuid geteuid getgid getegid
    rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack getrandom uname sysinfo getrusage getrlimit times time
    clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday
""".split()
CLONE_THREAD, PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_NO_NEW_PRIVS = 0x10000, 1, 15, 38
WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3  # landlock's rights; bits 4 to 14 make and remove

libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def confine(memory: int, seconds: int, keep: list[int]) -> None:
    """Shut the calling process in: it can compute, read below READABLE, and use the open files `keep` and 0 to 2.

    memory: bytes that it may take on top of what it has. seconds: of processor time; then it is killed.
    Raises OSError where the kernel refuses; the caller must then not go on.
    """
    refused = system_calls()  # its library is found before this process can't look any more
    first = 3
    for descriptor in [*sorted(keep), os.sysconf("SC_OPEN_MAX")]:
        os.closerange(first, descriptor)
        first = descriptor + 1
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = {"AS": used + memory, "FSIZE": 0, "NOFILE": 64, "CORE": 0, "MEMLOCK": 0, "MSGQUEUE": 0}
    for name, limit in limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    with contextlib.suppress(OSError):  # should memory run out all the same, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000")
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(libc.capset(struct.pack("=Ii", 0x20080522, 0), bytes(24)))  # root's powers, see capset(2), version 3
    _open_only_readable_files()
    refused.load()


def die_with_parent() -> None:
    """Let the kernel kill this process when the one that forked it is gone."""
    _check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def _check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _open_only_readable_files():
    """Let the process open files below READABLE for reading, /dev/null for writing, and change none."""
    version = _check(libc.syscall(444, None, 0, 1))
    rights = WRITE_FILE | READ_FILE | READ_DIR
    rights |= sum(1 << bit for bit in range(4, 13 + (version >= 2) + (version >= 3)))
    ruleset = _check(libc.syscall(444, struct.pack("=Q", rights), 8, 0))
    for path in filter(Path.exists, (*READABLE, Path(os.devnull))):
        allowed = READ_FILE | READ_DIR if path.is_dir() else READ_FILE
        allowed |= WRITE_FILE if path == Path(os.devnull) else 0
        place = os.open(path, os.O_PATH)
        _check(libc.syscall(445, ruleset, 1, struct.pack("=Qi", allowed, place), 0))
        os.close(place)
    _check(libc.syscall(446, ruleset, 0))
    os.close(ruleset)


@functools.cache
def system_calls():
    """Return libseccomp's filter: ALLOWED, a few more with certain arguments, and EPERM for all others."""
    import pyseccomp
    from pyseccomp import ALLOW, EQ, MASKED_EQ, Arch, Arg

    refuse = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    rules = [(ALLOW, name) for name in ALLOWED]
    rules.append((pyseccomp.ERRNO(errno.ENOSYS), "clone3"))  # its flags can't be seen; libc then takes clone
    rules.append((ALLOW, "clone", Arg(0, MASKED_EQ, CLONE_THREAD, CLONE_THREAD)))
    rules.append((ALLOW, "prctl", Arg(0, EQ, PR_SET_NAME)))
    rules.append((ALLOW, "prlimit64", Arg(0, EQ, 0)))  # its own limits
    rules += [(ALLOW, "ioctl", Arg(1, EQ, request)) for request in (termios.TCGETS, termios.FIOCLEX)]
    for command in (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL):
        rules.append((ALLOW, "fcntl", Arg(1, EQ, command)))  # nothing that could send a signal
    for call, flags in (("open", 1), ("openat", 2)):  # landlock before Linux 6.2 does not see a reader's O_TRUNC
        rules.append((ALLOW, call, Arg(flags, MASKED_EQ, os.O_TRUNC, 0)))
        rules += [(ALLOW, call, Arg(flags, MASKED_EQ, os.O_ACCMODE, mode)) for mode in (os.O_WRONLY, os.O_RDWR)]
    for action, name, *arguments in rules:
        if pyseccomp.resolve_syscall(Arch.NATIVE, name) != -1:  # an older library may not know a newer call
            refuse.add_rule(action, name, *arguments)
    return refuse


@functools.cache
def missing() -> str | None:
    """Return what can't be held here, in words, or None if all can: found out by a process of its own, once."""
    if sys.platform != "linux":
        return f"only Linux can shut a process in; this is {platform.system()}"
    try:
        system_calls()
    except (ImportError, RuntimeError):
        return "libseccomp or its binding is not here: make setup, and apt install libseccomp2 (or its like elsewhere)"
    done = subprocess.run([sys.executable, "-m", "tools.instructor.sandbox"], cwd=ROOT, capture_output=True, text=True)
    failure = done.stderr.strip().rpartition("\n")[2] or "it was killed"
    return f"the process that tried it failed: {failure}" if done.returncode else done.stdout.strip() or None


def probe() -> None:
    """Shut this process in, let it try what it must not do, and print what worked."""
    reader, _ = os.pipe()
    confine(1 << 28, 10, [reader])
    worked = []
    for name, harm in HARM.items():
        with contextlib.suppress(OSError, MemoryError):
            harm(reader)
            worked.append(name)
    print(", ".join(worked))


def _fork(_):
    if not os.fork():
        os._exit(0)


HARM = {
    "a second process": _fork,
    "a program": lambda _: os.execv(sys.executable, [sys.executable, "-c", "print('a program')"]),
    "a signal to its parent": lambda _: os.kill(os.getppid(), 0),
    "a signal by way of a file": lambda line: fcntl.fcntl(line, fcntl.F_SETOWN, os.getppid()),
    "the network": lambda _: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
    "a pair of sockets": lambda _: socket.socketpair(),
    "a new file": lambda _: os.open("sandbox.tmp", os.O_CREAT | os.O_RDWR, 0o600),
    "a file that it may not read": lambda _: os.open(__file__, os.O_RDONLY),
    "another's memory": lambda _: os.open(f"/proc/{os.getppid()}/mem", os.O_RDONLY),
    "another's permissions": lambda _: os.chmod(os.path.dirname(sys.executable), 0o755),
    "too much memory": lambda _: bytearray(1 << 29),
}


if __name__ == "__main__":
    probe()
