"""The client's way to objects: its session at the head, the stores of this machine, and those of others over Arrow Flight."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import random
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engine import errors
from engine._proto.engine.v1 import object_pb2, object_service_pb2
from engine._rpc import CALL_TIMEOUT, OBJECTS, Backoff, Heads, follow
from engine._store import MAX_INLINE_BYTES, Encoding, Store, decode, encode, host_id
from engine.refs import ObjectRef

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence

LOOK_AGAIN = 15.0
"""Seconds after which a look at the stores is repeated in the background."""

_LOOK_AGAIN_EMPTY = 1.0
_GOODBYE_WITHIN = 1.0


class Background:
    """The tasks of one client, which end with it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self.closed = False

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something until the client is closed."""
        if self.closed:
            work.close()
            raise closed_error()
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Cancel all, and wait for their ends."""
        self.closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def closed_error() -> errors.EngineError:
    """Make the error of calls on a client that was closed."""
    return errors.CanceledError("the client is closed", op="use client")


class Session:
    """The client's session at the head: opened when it first owns an object or task, and kept alive until the client is closed.

    The references that it holds end then, or one lease time after the head has lost it. When the head says that it has ended, the next
    object begins another one.
    """

    def __init__(self, heads: Heads, background: Background, heard: Callable[[str], None]) -> None:
        self._heads = heads
        self._background = background
        self._heard = heard
        self._opening: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._leaving = asyncio.Event()
        self.client = f"{os.path.basename(sys.argv[0] or 'python') or 'python'}/{os.getpid()}"
        self.id = os.urandom(16).hex()
        self.open = False

    async def ensure(self) -> None:
        """Return when the head knows the session. Once it does, this costs nothing."""
        if self.open:
            return
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_future()
            self._opening.add_done_callback(lambda f: f.cancelled() or f.exception())
            try:
                self._task = self._background.start(self._run(self._opening))
            except errors.EngineError:
                self._opening = None
                raise
        await asyncio.shield(self._opening)

    async def close(self) -> None:
        """Say goodbye: what the session holds goes at once."""
        self._leaving.set()
        if self._task is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(asyncio.shield(self._task), 2 * _GOODBYE_WITHIN)
        self.open = False

    async def _run(self, first: asyncio.Future[None]) -> None:
        failure: errors.EngineError = closed_error()
        backoff = Backoff()
        try:
            while not self._leaving.is_set():
                try:
                    await self._stream(first, backoff)
                    return
                except errors.EngineError as error:
                    failure = error
                    if not first.done() or isinstance(error, (errors.FencedError, errors.CanceledError)):
                        return
                await backoff.wait()
        finally:
            if isinstance(failure, errors.FencedError):
                self.id = os.urandom(16).hex()  # An order to end the old one may still be on its way to a store.
            self.open = False
            self._opening = None
            if not first.done():
                first.set_exception(failure)

    async def _stream(self, first: asyncio.Future[None], backoff: Backoff) -> None:
        stream = await self._heads.open(OBJECTS.OpenSession)
        try:
            request = object_service_pb2.OpenSessionRequest(session_id=self.id, client=self.client)
            answer_within = 10.0
            while True:
                await stream.send(request)
                request = object_service_pb2.OpenSessionRequest()
                try:
                    response = await asyncio.wait_for(stream.receive(), answer_within)
                except asyncio.TimeoutError:
                    raise errors.UnavailableError("the head does not answer", op="keep session", id=self.id) from None
                if response is None:
                    raise errors.UnavailableError("the head ended the stream", op="keep session", id=self.id)
                self._heard(response.cluster_id)
                backoff.reset()
                self.open = True
                if not first.done():
                    first.set_result(None)
                lease = max(response.lease_time.ToTimedelta().total_seconds(), 0.03)
                answer_within = max(lease / 2, 1.0)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._leaving.wait(), lease / 3)
                    await stream.done_sending()
                    await asyncio.wait_for(stream.receive(), _GOODBYE_WITHIN)
                    return
        finally:
            stream.cancel()


@dataclass
class _Found:
    """The outcome of a look at the cluster's stores."""

    stores: dict[str, Store]
    session: str
    error: errors.EngineError | None
    at: float


class Objects:
    """Puts and gets objects. It belongs to one event loop."""

    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        self.background = Background()
        self.session = Session(heads, self.background, self.heard)
        self.cluster_id = ""
        self._host = host_id()
        self._found: _Found | None = None
        self._looking: asyncio.Task[Any] | None = None
        self._flights: dict[str, Any] = {}

    def heard(self, cluster: str) -> None:
        """Take in the cluster's id."""
        self.cluster_id = cluster or self.cluster_id

    async def close(self) -> None:
        """End the session and the connections. Tables that were got stay readable."""
        await self.session.close()
        await self.background.close()
        if self._found is not None:
            for store in self._found.stores.values():
                store.close()
        for flight in self._flights.values():
            flight.close()
        self._flights = {}

    async def check(self, op: str, ref: ObjectRef) -> None:
        """Refuse a reference of another cluster."""
        if not ref.cluster:
            return
        if not self.cluster_id:
            await self._list()
        if ref.cluster != self.cluster_id:
            raise errors.InvalidArgumentError(
                f"the object belongs to cluster {ref.cluster}, and this client to {self.cluster_id}",
                op=op,
                id=str(ref),
                hint="an object reaches another cluster through a checkpoint: checkpoint there, restore here",
            )

    async def put(self, table: pa.Table, timeout: float) -> ObjectRef:
        """Keep a table as an object of the client's session."""
        deadline = time.monotonic() + timeout
        encoding = encode(table)
        await self.session.ensure()
        object_id = os.urandom(14) + b"\0\0"  # The id of no task's output.
        await self._put(object_id, encoding, table, deadline)
        # If the session ended meanwhile, the object may be the next one's, which has to be open soon.
        await self.session.ensure()
        return ObjectRef(object_id, self.cluster_id)

    async def _put(self, object_id: bytes, encoding: Encoding, table: pa.Table, deadline: float) -> None:
        tried: list[errors.EngineError] = []

        def done(error: errors.EngineError) -> bool:
            # Only this call knows the id: a conflict later says that an earlier try arrived and its answer was lost.
            if tried and isinstance(error, errors.ConflictError):
                return True
            tried.append(error)
            if not isinstance(error, errors.UnavailableError) or time.monotonic() > deadline:
                raise error
            return False

        why_far: errors.EngineError | None = None
        for _ in range(2):
            near, why_far = await self._near()
            if not near:
                break
            try:
                return await random.choice(near).put(object_id, encoding, _left(deadline))  # noqa: S311
            except errors.EngineError as error:
                if done(error):
                    return None
        if encoding.size <= MAX_INLINE_BYTES:
            request = object_service_pb2.PutObjectRequest(object_id=object_id, data=encoding.to_bytes(), session_id=self.session.id)
            try:
                await self._heads.call(OBJECTS.PutObject, request, _left(deadline))
            except errors.EngineError as error:
                if not done(error):
                    raise _joined("put object", object_id, tried, why_far) from None
            return None
        stores = [s for s in await self._list() if s.flight]
        random.shuffle(stores)
        for store in stores:
            try:
                await self._flight_call(store.flight, _flight_put, object_id, self.session.id, table, _left(deadline))
                return None
            except errors.EngineError as error:
                if done(error):
                    return None
        if not tried and why_far is None:
            raise errors.UnavailableError(
                f"the cluster has no object store that takes an object of {encoding.size} bytes",
                op="put object",
                id=object_id.hex(),
                hint="`engine memory` shows the stores",
            )
        raise _joined("put object", object_id, tried, why_far)

    async def get(self, object_id: bytes, timeout: float) -> pa.Table:
        """Return an object's table: over shared memory if it is on this machine, else after it was brought here."""
        deadline = time.monotonic() + timeout
        near, _ = await self._near()
        for store in near:
            # Whoever has the object serves it without a copy, so nothing is fetched before all were asked.
            try:
                return await store.get(object_id, fetch=len(near) == 1, timeout=_left(deadline))
            except errors.EngineError as error:
                if not _elsewhere(error):
                    raise
        return await self._get_by_head(object_id, deadline)

    async def _get_by_head(self, object_id: bytes, deadline: float) -> pa.Table:
        """Ask the head, which knows why an object cannot be had, and restores one that only has a checkpoint."""
        response = await self._heads.call(OBJECTS.GetObject, object_service_pb2.GetObjectRequest(object_id=object_id), _left(deadline))
        if response.data:
            return decode(response.data)
        tried: list[errors.EngineError] = []
        near, why_far = await self._near()
        if near:
            try:
                return await random.choice(near).get(object_id, fetch=True, timeout=_left(deadline))  # noqa: S311
            except errors.EngineError as error:
                if not _elsewhere(error):
                    raise
                tried.append(error)
        holders = [h for h in response.object.holders if h.store.flight]
        random.shuffle(holders)
        holders.sort(key=lambda h: h.state != object_pb2.OBJECT_STATE_IN_MEMORY)
        for holder in holders:
            try:
                table: pa.Table = await self._flight_call(holder.store.flight, _flight_get, object_id, _left(deadline))
            except errors.EngineError as error:
                if not _elsewhere(error):
                    raise
                tried.append(error)
            else:
                return table
        if not tried and why_far is None:
            raise errors.UnavailableError("no store that has it can be reached", op="get object", id=object_id.hex())
        raise _joined("get object", object_id, tried, why_far)

    async def wait(self, refs: Sequence[ObjectRef], count: int, timeout: float | None) -> list[ObjectRef]:
        """Return when `count` of the objects can be read, all if it is 0, and which they are."""
        if not 0 <= count <= len(refs):
            raise errors.InvalidArgumentError(f"{count} of {len(refs)} objects are wanted", op="wait for objects")
        count = count or len(refs)
        for ref in refs:
            await self.check("wait for objects", ref)
        deadline = None if timeout is None else time.monotonic() + timeout

        async def ask() -> AsyncGenerator[set[bytes], None]:
            while True:
                window = 20.0 if deadline is None else min(20.0, _left(deadline))
                request = object_service_pb2.WaitObjectsRequest(object_ids=[r.id for r in refs], count=count)
                request.timeout.FromNanoseconds(int(window * 1e9))
                response = await self._heads.call(OBJECTS.WaitObjects, request, window + CALL_TIMEOUT)
                yield set(response.ready)
                if deadline is not None and time.monotonic() >= deadline:
                    return

        ready: set[bytes] = set()
        async with contextlib.aclosing(follow("wait for objects", "", ask)) as answers:
            async for ready in answers:
                if len(ready) >= count:
                    return [r for r in refs if r.id in ready]
        raise errors.DeadlineError(f"{len(ready)} of {count} are there", op="wait for objects")

    async def delete(self, refs: Sequence[ObjectRef]) -> None:
        """Delete objects and all their copies, whoever owns them."""
        for ref in refs:
            await self.check("delete object", ref)
        ids = [r.id for r in refs]
        near, _ = await self._near()
        if near:
            # This machine's store tells the head, and so forgets its copy before the call returns.
            try:
                return await random.choice(near).delete(ids, self._heads.timeout)  # noqa: S311
            except errors.UnavailableError:
                pass
        await self._heads.call(OBJECTS.DeleteObjects, object_service_pb2.DeleteObjectsRequest(object_ids=ids))
        return None

    async def _near(self) -> tuple[list[Store], errors.EngineError | None]:
        """Return the stores of this machine that are connected, and why there are none."""
        found = self._found
        if found is None or (found.stores and found.session != self.session.id):
            found = await self._look()
        live = [s for s in found.stores.values() if not s.gone]
        age = time.monotonic() - found.at
        if len(live) == len(found.stores) and live:
            if age > LOOK_AGAIN:
                self._begin_look()
        elif age > _LOOK_AGAIN_EMPTY:
            found = await self._look()
            live = [s for s in found.stores.values() if not s.gone]
        return live, found.error

    async def _look(self) -> _Found:
        await asyncio.shield(self._begin_look())
        assert self._found is not None
        return self._found

    def _begin_look(self) -> asyncio.Task[Any]:
        if self._looking is None or self._looking.done():
            self._looking = self.background.start(self._connect())
        return self._looking

    async def _connect(self) -> None:
        found = _Found({}, self.session.id, None, 0)
        for path, store in self._found.stores.items() if self._found else ():
            assert self._found is not None
            if store.gone or self._found.session != found.session:
                store.close()  # Nothing is to come over it any more.
            else:
                found.stores[path] = store
        try:
            stores = await self._list()
            for address in stores:
                if not address.socket or not self._host or address.host_id != self._host or address.socket in found.stores:
                    continue
                try:
                    found.stores[address.socket] = await Store.connect(address.socket, client=self.session.client, session=found.session)
                except errors.EngineError as error:
                    found.error = error
        except errors.EngineError as error:
            found.error = error
        found.at = time.monotonic()
        self._found = found

    async def _list(self) -> Sequence[object_pb2.ObjectStoreAddress]:
        response = await self._heads.call(OBJECTS.ListStores, object_service_pb2.ListStoresRequest())
        self.heard(response.cluster_id)
        return list(response.stores)

    async def _flight_call(self, address: str, call: Callable[..., Any], *args: Any) -> Any:
        loop = asyncio.get_running_loop()
        location, security, headers = self._heads.flight(address)
        flight = self._flights.get(address)
        if flight is None:
            from pyarrow import flight as pa_flight

            flight = self._flights[address] = pa_flight.FlightClient(location, **security)
        return await loop.run_in_executor(None, functools.partial(call, flight, address, headers, *args))


def _flight_put(client: Any, address: str, headers: list[Any], object_id: bytes, session: str, table: pa.Table, timeout: float) -> None:
    from pyarrow import flight

    headers = [*headers, (b"engine-session", session.encode())]
    options = flight.FlightCallOptions(timeout=timeout, headers=headers)
    try:
        writer, reader = client.do_put(flight.FlightDescriptor.for_path(object_id.hex()), table.schema, options)
        with writer:
            writer.write_table(table)
            writer.done_writing()
            reader.read()
    except (flight.FlightError, pa.ArrowException, OSError) as error:
        raise _flight_error(error, "put object", object_id, address) from None


def _flight_get(client: Any, address: str, headers: list[Any], object_id: bytes, timeout: float) -> pa.Table:
    from pyarrow import flight

    try:
        options = flight.FlightCallOptions(timeout=timeout, headers=headers)
        table: pa.Table = client.do_get(flight.Ticket(object_id.hex()), options).read_all()
        return table
    except (flight.FlightError, pa.ArrowException, OSError) as error:
        raise _flight_error(error, "get object", object_id, address) from None


def _flight_error(error: Exception, op: str, object_id: bytes, address: str) -> errors.EngineError:
    """Find the kind; Flight tells it by the class of its error alone."""
    from pyarrow import flight

    kind = "internal"
    for cls, name in (
        (flight.FlightUnavailableError, "unavailable"),
        (flight.FlightTimedOutError, "deadline"),
        (flight.FlightUnauthenticatedError, "unauthenticated"),
        (flight.FlightUnauthorizedError, "permission"),
        (flight.FlightCancelledError, "canceled"),
        (pa.ArrowKeyError, "not_found"),
        (pa.ArrowInvalid, "invalid_argument"),
        (pa.ArrowCapacityError, "exhausted"),
    ):
        if isinstance(error, cls):
            kind = name
    return errors.make(kind, str(error), op=op, id=f"{object_id.hex()} at {address}")


def _elsewhere(error: errors.EngineError) -> bool:
    """Tell whether an object may be had from another store after this error."""
    return isinstance(error, (errors.NotFoundError, errors.UnavailableError, errors.CorruptError))


def _joined(op: str, object_id: bytes, tried: list[errors.EngineError], why_far: errors.EngineError | None) -> errors.EngineError:
    reasons = [*tried, *([why_far] if why_far else [])]
    return errors.make(reasons[0].kind, "; ".join(str(r) for r in reasons), op=op, id=object_id.hex())


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.001)
