"""Call a function of another process: its arguments go there as copies, its result comes back as plain values.

The one idea: a message is a pickle in which we spell out ourselves whatever is no number, string or container of
Python's own, so that reading one imports nothing and calls nothing of the sender's. An object that equals everything, a
float with an opinion of its own: at the other end they are a plain float, or an error.
"""

import builtins
import collections.abc
import contextlib
import io
import pickle
from multiprocessing.connection import Connection

import numpy as np

LONGEST_MESSAGE = 1 << 28  # bytes
LONGEST_TEXT = 600  # characters of an error message
PLAIN = (int, float, str, bytes, list, tuple, dict, set, frozenset)
AS_IT_IS = {type(None), bool, *PLAIN}
KINDS_OF_ARRAYS = "biufcSUmM"  # no objects, no records


class Gone(BaseException):
    """The other process is not there any more. No `except Exception` of a check can take this for an answer."""


class Lent:
    """A function of the other process. It can be called, and compared with nothing."""

    def __init__(self, peer: "Peer", number: int, name: str):
        self._peer, self._number, self.__name__ = peer, number, name

    def __call__(self, *arguments, **named):  # noqa: D102
        return self._peer.call(self._number, arguments, named)

    def __bool__(self, *_):
        raise TypeError(f"a plain value or an array is expected, not the function {self.__name__}")

    __eq__ = __bool__


class Writer(pickle.Pickler):
    """Spells values out; what is no plain value, no array and no function is a TypeError."""

    def persistent_id(self, value):  # noqa: D102
        if type(value) in AS_IT_IS:
            return None
        if isinstance(value, np.random.Generator):
            return "generator", value.bit_generator.state
        if hasattr(value, "__array__"):
            array = np.asarray(value)
            if array.dtype.kind in KINDS_OF_ARRAYS:
                scalar = isinstance(value, np.generic)
                return "array", array.dtype.str, array.shape, array.tobytes(), array.flags.writeable, scalar
        for plain in PLAIN:
            if isinstance(value, plain):
                return "plain", plain(value)
        if issubclass(type(value), collections.abc.Iterable):
            return "plain", list(value)
        if callable(value):
            self.functions.append(value)
            return "function", len(self.functions) - 1, str(getattr(value, "__name__", "it"))[:100]
        raise TypeError(f"a plain value or an array is expected, not {type(value).__name__}")


class Reader(pickle.Unpickler):
    """Makes values of what a Writer has spelled out, and refuses all else. The sender may be hostile."""

    def find_class(self, module, name):  # noqa: D102
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a message")

    def persistent_load(self, spelled):  # noqa: D102
        match spelled:
            case "plain", value:
                return value
            case "array", str(dtype), tuple(shape), bytes(content), bool(writeable), scalar:
                if np.dtype(dtype).kind in KINDS_OF_ARRAYS:
                    array = np.ndarray(shape, dtype, content).copy()
                    array.flags.writeable = writeable
                    return array[()] if scalar else array
            case "generator", dict(state):
                generator = np.random.default_rng(0)
                generator.bit_generator.state = state
                return generator
            case "function", int(number), str(name):
                return Lent(self.peer, number, name)
        raise pickle.UnpicklingError("a value of an unknown kind has no place in a message")


class Peer:
    """One end of the line. It calls the other end's functions, and answers calls of those that it has handed over.

    in_place: whether what a call changes in its arguments is changed at the caller's end too. A Generator always moves
    on, but along its own sequence only. `changed` says whether a call changed something that was not brought home.
    """

    def __init__(self, connection: Connection, functions=(), in_place: bool = False):
        self.connection, self.functions, self.in_place = connection, list(functions), in_place
        self.changed = False

    def call(self, number: int, arguments: tuple, named: dict):
        """Return what function `number` of the other end returns, or raise what it raises."""
        self.send("call", number, arguments, named)
        while True:
            match self.receive():
                case "call", *called:
                    self.answer(*called)
                case "result", result, after, bool(changed):
                    self.changed |= changed
                    merged(self.brought_home(arguments, named), after)
                    return result
                case "error", str(kind), str(text):
                    raise exception(kind, text)
                case _:
                    raise pickle.UnpicklingError("a message of an unknown kind")

    def answer(self, number: int, arguments: tuple, named: dict) -> None:
        """Call function `number` of this end, and send what comes of it."""
        try:
            inputs = [value for value in (*arguments, *named.values()) if not isinstance(value, np.random.Generator)]
            before = self.packed(inputs)
            result = self.functions[number](*arguments, **named)
            changed = not self.in_place and self.packed(inputs) != before
            self.send("result", result, self.brought_home(arguments, named), changed)
        except Exception as error:
            kind = next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins").__name__
            own_name = "" if kind == type(error).__name__ else f"{type(error).__name__}: "
            self.send("error", kind, own_name + said(error))

    def brought_home(self, arguments, named):
        """Return those arguments of a call whose changes the caller is to see."""
        values = [*arguments, *named.values()]
        return values if self.in_place else [value for value in values if isinstance(value, np.random.Generator)]

    def packed(self, *message) -> bytes:
        """Return values as the bytes of a message. Raises TypeError if one is no plain value."""
        writer = Writer(content := io.BytesIO(), pickle.HIGHEST_PROTOCOL)
        writer.functions = self.functions
        writer.dump(message)
        return content.getvalue()

    def send(self, *message) -> None:
        """Send a message, or raise Gone if nobody is there."""
        content = self.packed(*message)
        try:
            self.connection.send_bytes(content)
        except OSError:
            raise Gone from None

    def receive(self):
        """Return the next message. Raises UnpicklingError for what can't be read, Gone if nobody is there."""
        try:
            reader = Reader(io.BytesIO(self.connection.recv_bytes(LONGEST_MESSAGE)))
        except (OSError, EOFError):
            raise Gone from None
        reader.peer = self
        return reader.load()


def merged(old, new):
    """Return `old` brought to the state of `new`, its copy, in place; or `new` where that can't be."""
    if type(old) is not type(new):
        return new
    match old:
        case np.random.Generator():
            now, then = old.bit_generator.state, new.bit_generator.state
            if now["state"].get("inc") == then["state"].get("inc"):  # the same sequence, at another place
                old.bit_generator.state = then
        case np.ndarray() if (old.shape, old.dtype, old.flags.writeable) == (new.shape, new.dtype, True):
            old[...] = new
        case list():
            old[:] = [merged(*pair) for pair in zip(old, new, strict=False)] + new[len(old) :]
        case dict():
            items = {key: merged(old.get(key), value) for key, value in new.items()}
            old.clear()
            old.update(items)
        case tuple() if len(old) == len(new):
            return tuple(map(merged, old, new))
        case _:
            return new
    return old


def exception(kind: str, text: str) -> Exception:
    """Return an exception of the built-in class `kind`, so that a check can tell a ValueError from a TypeError.

    A StopIteration would end the check's own loops, and is a RuntimeError.
    """
    found = getattr(builtins, kind, None)
    if isinstance(found, type) and issubclass(found, Exception) and found is not StopIteration:
        with contextlib.suppress(TypeError):  # a few want more than a text
            return found(text)
    return RuntimeError(f"{kind}: {text}")


def said(error: BaseException) -> str:
    """Return what an exception says, short and printable."""
    try:
        text = str(error)
    except Exception:
        text = "(its message can't be shown)"
    if getattr(error, "name", None) and type(error) is NameError:
        text += ": no cell above defines it (was one run out of order?)"
    return printable(text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} ...")


def printable(text: str) -> str:
    """Return a text without what would steer a terminal or can't be encoded."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
