"""A connection to the object store of this machine: its unix socket, and its shared memory mapped read-only.

See proto/engine/v1/store_socket.proto. What is got lies over the store's memory and is pinned there until nothing made of it is in use
any more; what is put, the store reads out of this process's memory, or out of a memfd where it may not.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ctypes
import fcntl
import hashlib
import itertools
import mmap
import os
import select
import socket
import struct
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from engine import errors
from engine._proto.engine.v1 import store_socket_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

PROTOCOL_VERSION = 1
MAX_INLINE_BYTES = 100 << 10
"""The size up to which an object travels inside of a message."""

_MAX_PIECES = 40_000
_MAX_MESSAGE_BYTES = 64 << 20
_MAX_FILES = 16
_HEADER = struct.Struct("<I")
_ANSWER_MARGIN = 0.1  # The store's answer at the deadline says more than that it has passed.
_LENDING_GRACE = 5.0
_OP_READ_MEMORY = "read the client's memory"
_PR_SET_PTRACER = 0x59616D61
_F_ADD_SEALS, _SEALS = 1033, 0x0002 | 0x0004  # F_SEAL_SHRINK, F_SEAL_GROW


def host_id() -> str:
    """Return what two processes have in common that can share memory: machine, boot, and mount namespace. Empty if none can."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        mounts = os.readlink("/proc/self/ns/mnt")
    except OSError:
        return ""
    try:
        machine = Path("/etc/machine-id").read_text()
    except OSError:
        machine = ""
    digest = hashlib.sha256()
    for part in ("engine host", machine, boot, mounts):
        digest.update(part.strip().encode() + b"\0")
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class Encoding:
    """A table as the pieces of its Arrow IPC stream. The pieces lie in the table's own memory where they can.

    Attributes:
        pieces: the stream's bytes, in order.
        size: how many they are.

    """

    pieces: Sequence[pa.Buffer | bytes]
    size: int

    def to_bytes(self) -> bytes:
        """Return the stream in one piece."""
        return b"".join(memoryview(piece) for piece in self.pieces)


class _Collector:
    """A file to which pyarrow writes: it keeps the buffers that it is given instead of copying them."""

    closed = False

    def __init__(self) -> None:
        self.pieces: list[pa.Buffer | bytes] = []
        self.size = 0

    def write(self, data: pa.Buffer | bytes) -> int:
        length = len(data)
        self.size += length
        if length:
            self.pieces.append(data)
        return length

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        self.closed = True

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


def encode(table: pa.Table) -> Encoding:
    """Encode a table as an Arrow IPC stream, in the time that its schema takes: column data is not copied."""
    collector = _Collector()
    with pa.PythonFile(cast("Any", collector), mode="w") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return Encoding(collector.pieces, collector.size)


def decode(data: Any) -> pa.Table:
    """Make a table that lies over the bytes of its Arrow IPC stream."""
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        return reader.read_all()


class Store:
    """A connection to one store. It belongs to one event loop; tables that were got outlive it."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._sock = sock
        self._loop = loop
        self._in = bytearray()
        self._files: collections.deque[int] = collections.deque()
        self._calls: dict[int, asyncio.Future[pb.StoreResponse]] = {}
        self._numbers = itertools.count(1)
        self._arenas: dict[int, mmap.mmap] = {}
        self._can_lend = True
        self._error: errors.EngineError | None = None
        # What is to be written; releases come from whatever thread drops the last reference to a table.
        self._out: collections.deque[tuple[bytes, int | None]] = collections.deque()
        self._writing = threading.Lock()
        self._waits_to_write = False
        self._released: collections.deque[int] = collections.deque()
        self._pins: set[int] = set()
        self._closed = False

    @classmethod
    async def connect(cls, path: str, *, client: str, session: str, timeout: float = 10.0) -> Store:
        """Connect to the socket at a path. What is put belongs to the session."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await _connect(loop, sock, path)
            store = cls(sock, loop)
            store._write(pb.StoreHello(protocol_version=PROTOCOL_VERSION, client=client, session_id=session), None)
            welcome = await asyncio.wait_for(store._greet(), timeout)
            if welcome.HasField("error"):
                raise errors.from_proto(welcome.error)
            if welcome.protocol_version != PROTOCOL_VERSION:
                raise errors.VersionError(
                    f"the store speaks version {welcome.protocol_version} of the protocol, this client {PROTOCOL_VERSION}",
                    op="connect to object store",
                    id=path,
                )
        except (OSError, asyncio.TimeoutError) as error:
            sock.close()
            raise errors.UnavailableError(str(error) or "no answer", op="connect to object store", id=path) from None
        except BaseException:
            sock.close()
            raise
        _allow_reading(sock)
        loop.add_reader(sock.fileno(), store._read)
        return store

    @property
    def gone(self) -> bool:
        """Whether there can be no more calls."""
        return self._error is not None

    async def get(self, object_id: bytes, *, fetch: bool, timeout: float) -> pa.Table:
        """Return an object: over the store's memory, pinned, or over the bytes of a small one."""
        request = pb.StoreRequest(get=pb.StoreGet(object_id=object_id, fetch=fetch))
        response = await self._call(request, timeout)
        if not response.HasField("place"):
            return decode(response.data)
        return decode(self._view(response.place))

    async def put(self, object_id: bytes, encoding: Encoding, timeout: float) -> None:
        """Keep an object. When it returns, the table's memory is not read any more."""
        if encoding.size <= MAX_INLINE_BYTES:
            request = pb.StoreRequest(put_inline=pb.StorePutInline(object_id=object_id, data=encoding.to_bytes()))
            await self._call(request, timeout)
            return
        if self._can_lend and len(encoding.pieces) <= _MAX_PIECES:
            buffers = [piece if isinstance(piece, pa.Buffer) else pa.py_buffer(piece) for piece in encoding.pieces]
            lent = pb.StorePutFrom(object_id=object_id, addresses=[b.address for b in buffers], lengths=[b.size for b in buffers])
            try:
                await self._call(pb.StoreRequest(put_from=lent), timeout, lends=buffers)
            except errors.PermissionError as error:
                if error.op != _OP_READ_MEMORY:
                    raise
                self._can_lend = False
            else:
                return
        file = await self._loop.run_in_executor(None, _memfd, encoding)
        lent = pb.StorePutFrom(object_id=object_id, addresses=[0], lengths=[encoding.size], descriptor=True)
        await self._call(pb.StoreRequest(put_from=lent), timeout, file=file)

    async def delete(self, object_ids: Sequence[bytes], timeout: float) -> None:
        """Delete objects here and everywhere else."""
        await self._call(pb.StoreRequest(delete=pb.StoreDelete(object_ids=object_ids)), timeout)

    def close(self) -> None:
        """End the connection, once the last table that lies over the store's memory is gone. Calls that wait fail."""
        self._fail(errors.CanceledError("the client is closed", op="use object store"))
        self._closed = True
        self._flush()

    async def _call(self, request: pb.StoreRequest, timeout: float, file: int | None = None, lends: object = None) -> pb.StoreResponse:
        if self._error is not None:
            if file is not None:
                os.close(file)
            raise self._error
        number = next(self._numbers)
        request.number = number
        request.timeout.FromNanoseconds(int(max(timeout - min(_ANSWER_MARGIN, timeout / 8), 0.001) * 1e9))
        future: asyncio.Future[pb.StoreResponse] = self._loop.create_future()
        self._calls[number] = future
        self._write(request, file)
        try:
            response = await asyncio.wait_for(asyncio.shield(future), timeout)
        except (asyncio.TimeoutError, asyncio.CancelledError) as error:
            self._write(pb.StoreRequest(number=next(self._numbers), cancel=pb.StoreCancel(number=number)), None)
            if lends is not None:
                await self._let_go(future)
            future.add_done_callback(self._drop)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise errors.DeadlineError(f"the store has not answered within {timeout:g} s", op="use object store") from None
        if response.HasField("error"):
            raise errors.from_proto(response.error)
        return response

    async def _let_go(self, future: asyncio.Future[pb.StoreResponse]) -> None:
        """Wait until the store reads the caller's memory no more; if it does not say so, the connection's end does."""
        with contextlib.suppress(asyncio.TimeoutError, errors.EngineError):
            await asyncio.wait_for(asyncio.shield(future), _LENDING_GRACE)
        if not future.done():
            self._fail(errors.UnavailableError("the store does not answer", op="use object store"))

    def _drop(self, future: asyncio.Future[pb.StoreResponse]) -> None:
        """Give back what the response to a call pins whose caller has given up."""
        if not future.cancelled() and future.exception() is None and future.result().HasField("place"):
            self._release(future.result().place.pin)

    def _view(self, place: pb.StorePlace) -> memoryview:
        arena = self._arenas.get(place.arena)
        if arena is None or place.offset_bytes < 0 or place.offset_bytes + place.size_bytes > len(arena):
            raise errors.InternalError(f"the store named a place outside of arena {place.arena}", op="use object store")
        view = memoryview(arena)[place.offset_bytes : place.offset_bytes + place.size_bytes]
        # Arrow's buffers refer to the view, so it ends with the last of them.
        self._pins.add(place.pin)
        weakref.finalize(view, self._release, place.pin).atexit = False
        return view

    def _release(self, pin: int) -> None:
        """Give up a pin, on any thread and at any time: a garbage collection may run in the middle of anything."""
        self._released.append(pin)
        self._flush()

    def _write(self, message: Any, file: int | None) -> None:
        data = message.SerializeToString()
        self._out.append((_HEADER.pack(len(data)) + data, file))
        self._flush()

    def _flush(self) -> None:
        """Write what there is. Whoever comes meanwhile, on this thread or another, leaves its part to the one that writes."""
        while (self._out or self._released) and self._writing.acquire(blocking=False):
            try:
                done = self._flush_locked()
            finally:
                self._writing.release()
            if not done:
                break
        if self._closed and not self._pins and self._writing.acquire(blocking=False):
            try:
                self._sock.close()
            finally:
                self._writing.release()

    def _flush_locked(self) -> bool:
        pins = []
        while self._released:
            pins.append(self._released.popleft())
        if pins:
            self._pins.difference_update(pins)
            data = pb.StoreRequest(number=next(self._numbers), release=pb.StoreRelease(pins=pins)).SerializeToString()
            self._out.append((_HEADER.pack(len(data)) + data, None))
        while self._out:
            data, file = self._out.popleft()
            try:
                if file is not None:
                    sent = socket.send_fds(self._sock, [data], [file])
                else:
                    sent = self._sock.send(data)
            except BlockingIOError:
                self._out.appendleft((data, file))
                return self._when_writable()
            except OSError:
                self._out.clear()  # Reading says why the connection is gone.
                return False
            if file is not None:
                os.close(file)
            if sent < len(data):
                self._out.appendleft((data[sent:], None))
        return True

    def _when_writable(self) -> bool:
        """Return whether the socket takes more now; if not, the loop goes on with it when it does."""
        if not self._loop.is_closed() and self._error is None:
            if not self._waits_to_write:
                self._waits_to_write = True
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._loop.add_writer, self._sock.fileno(), self._writable)
            return False
        # Nobody else would; only releases are written without a loop, and the store reads them at once.
        return bool(select.select((), (self._sock,), (), 1.0)[1])

    def _writable(self) -> None:
        self._loop.remove_writer(self._sock.fileno())
        self._waits_to_write = False
        self._flush()

    def _read(self) -> None:
        try:
            data, files, flags, _ = socket.recv_fds(self._sock, 256 << 10, _MAX_FILES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(errors.UnavailableError(f"connection lost: {error}", op="use object store"))
            return
        self._files.extend(files)
        if not data or flags & socket.MSG_CTRUNC:
            self._fail(errors.UnavailableError("the store closed the connection", op="use object store"))
            return
        self._in += data
        try:
            while (message := self._next()) is not None:
                self._take(pb.StoreResponse.FromString(message))
        except errors.EngineError as error:
            self._fail(error)
        except Exception as error:
            self._fail(errors.UnavailableError(f"the store sent what is no response: {error}", op="use object store"))

    def _next(self) -> bytes | None:
        if len(self._in) < _HEADER.size:
            return None
        (length,) = _HEADER.unpack_from(self._in)
        if length > _MAX_MESSAGE_BYTES:
            raise errors.UnavailableError(f"the store sent a message of {length} bytes", op="use object store")
        end = _HEADER.size + length
        if len(self._in) < end:
            return None
        message = bytes(self._in[_HEADER.size : end])
        del self._in[:end]
        return message

    def _take(self, response: pb.StoreResponse) -> None:
        if response.place.descriptor:
            if not self._files:
                raise errors.InternalError(f"the descriptor of arena {response.place.arena} did not come along", op="use object store")
            file = self._files.popleft()
            try:
                self._arenas[response.place.arena] = mmap.mmap(file, response.place.arena_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
            except (OSError, ValueError) as error:
                raise errors.ExhaustedError(f"arena {response.place.arena} cannot be mapped: {error}", op="use object store") from None
            finally:
                os.close(file)
        for retired in response.retired:
            self._arenas.pop(retired, None)  # Views of it keep it mapped.
        future = self._calls.pop(response.number, None)
        if future is not None and not future.done():
            future.set_result(response)
        elif response.HasField("place"):
            self._release(response.place.pin)

    def _fail(self, error: errors.EngineError) -> None:
        if self._error is not None:
            return
        self._error = error
        if not self._loop.is_closed():
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
        for file in self._files:
            os.close(file)
        self._files.clear()
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # Nobody may be waiting for it any more.
        if not isinstance(error, errors.CanceledError):
            self._closed = True
            self._flush()

    async def _greet(self) -> pb.StoreWelcome:
        while (message := self._next()) is None:
            data = await self._loop.sock_recv(self._sock, 64 << 10)
            if not data:
                raise OSError("the store closed the connection")
            self._in += data
        return pb.StoreWelcome.FromString(message)


async def _connect(loop: asyncio.AbstractEventLoop, sock: socket.socket, path: str) -> None:
    if len(os.fsencode(path)) <= 107:
        await loop.sock_connect(sock, path)
        return
    # The address of a unix socket is short; the folder's descriptor makes a long path one.
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    try:
        await loop.sock_connect(sock, f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    finally:
        os.close(folder)


def _allow_reading(sock: socket.socket) -> None:
    """Let the store read this process's memory where the system asks for a permission. If it is refused, puts go by way of a memfd."""
    try:
        scope = Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip()
    except OSError:
        return
    if scope == "1":
        pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        if pid > 0:
            ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(pid), 0, 0, 0)


def _memfd(encoding: Encoding) -> int:
    file = os.memfd_create("engine-put", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for piece in encoding.pieces:
            rest = memoryview(piece).cast("B")
            while rest:
                rest = rest[os.write(file, rest) :]
        fcntl.fcntl(file, _F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(file)
        raise
    return file
