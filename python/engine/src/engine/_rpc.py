"""The connection to the head that leads: calls with deadlines, errors with kinds, and retries where another head takes over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message, message_factory

from engine import errors
from engine._proto.engine.v1 import (
    cluster_service_pb2,
    error_pb2,
    job_service_pb2,
    object_service_pb2,
    task_service_pb2,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

CALL_TIMEOUT = 30.0
"""Seconds that a call has whose caller set no timeout."""

RECONNECT_FOR = 60.0
"""Seconds for which a stream is opened again after it broke."""

_ASK_WITHIN = 1.0  # One head that hangs must not keep the others from being asked.
_ASK_EVERY = 0.25
_ELECT_WITHIN = 10.0
_MAX_MESSAGE_BYTES = 64 << 20
_CONNECT = "connect"
_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]

Request = TypeVar("Request", bound=message.Message)
Response = TypeVar("Response", bound=message.Message)
T = TypeVar("T")

_KIND_OF = {
    grpc.StatusCode.INVALID_ARGUMENT: "invalid_argument",
    grpc.StatusCode.NOT_FOUND: "not_found",
    grpc.StatusCode.ALREADY_EXISTS: "conflict",
    grpc.StatusCode.PERMISSION_DENIED: "permission",
    grpc.StatusCode.UNAUTHENTICATED: "unauthenticated",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "exhausted",
    grpc.StatusCode.UNAVAILABLE: "unavailable",
    grpc.StatusCode.DEADLINE_EXCEEDED: "deadline",
    grpc.StatusCode.CANCELLED: "canceled",
    grpc.StatusCode.FAILED_PRECONDITION: "invalid_argument",
    grpc.StatusCode.OUT_OF_RANGE: "invalid_argument",
    grpc.StatusCode.UNIMPLEMENTED: "version",
    grpc.StatusCode.DATA_LOSS: "corrupt",
    grpc.StatusCode.ABORTED: "fenced",
}


@dataclass(frozen=True)
class Method(Generic[Request, Response]):
    """One method of a service."""

    path: str
    request: type[Request]
    response: type[Response]


def _methods(module: Any, service: str) -> Any:
    """Make a namespace with a `Method` for each method of a service, as its descriptor has them."""
    descriptor = module.DESCRIPTOR.services_by_name[service]
    return type(
        service,
        (),
        {
            m.name: Method(
                f"/{descriptor.full_name}/{m.name}",
                message_factory.GetMessageClass(m.input_type),
                message_factory.GetMessageClass(m.output_type),
            )
            for m in descriptor.methods
        },
    )


# Any: the methods are typed where they are called, by their requests and responses.
JOBS: Any = _methods(job_service_pb2, "JobService")
OBJECTS: Any = _methods(object_service_pb2, "ObjectService")
TASKS: Any = _methods(task_service_pb2, "TaskService")
CLUSTER: Any = _methods(cluster_service_pb2, "ClusterService")


@dataclass(frozen=True)
class TLS:
    """How a connection is encrypted.

    Attributes:
        ca: certificates of the authorities that are trusted, PEM. None means those of the system.
        cert: the client's own certificate with its chain, PEM. None means none.
        key: its private key, PEM. Required with `cert`.
        server_name: the name that the server's certificate must have, if it is another one than the address's.

    """

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None
    server_name: str | None = None

    @classmethod
    def from_environment(cls) -> TLS | None:
        """Return what the environment says, or None: ENGINE_TLS_CA, and ENGINE_TLS_CERT with ENGINE_TLS_KEY, are paths of PEM files.

        The server must then be a head of the cluster, wherever it is reached.
        """
        ca, cert, key = (os.environ.get(name) for name in ("ENGINE_TLS_CA", "ENGINE_TLS_CERT", "ENGINE_TLS_KEY"))
        if not ca:
            return None
        if bool(cert) != bool(key):
            raise errors.InvalidArgumentError("ENGINE_TLS_CERT and ENGINE_TLS_KEY go together", op=_CONNECT)
        return cls(ca=_read(ca), cert=_read(cert) if cert else None, key=_read(key) if key else None, server_name=HEAD_SERVER_NAME)


HEAD_SERVER_NAME = "head.engine.internal"
"""A name in the certificate of every head of a cluster with an authority of its own, beside those of its addresses."""


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise errors.InvalidArgumentError(str(error), op=_CONNECT, id=path) from error


class Backoff:
    """Pauses of 50 ms that double up to `longest` seconds, each with a jitter of one half."""

    def __init__(self, longest: float = 2.0) -> None:
        self._longest = longest
        self._pause = 0.0

    def reset(self) -> None:
        """Begin again with the shortest pause: the peer was there."""
        self._pause = 0.0

    async def wait(self) -> None:
        """Pause."""
        self._pause = min(max(2 * self._pause, 0.05), self._longest)
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))  # noqa: S311


def _status_class() -> type[message.Message]:
    """Make google.rpc.Status in a pool of its own: it is all that would be needed of another package."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="engine/status.proto", package="google.rpc", syntax="proto3", dependency=["google/protobuf/any.proto"]
    )
    status = file.message_type.add(name="Status")
    field = descriptor_pb2.FieldDescriptorProto
    status.field.add(name="code", number=1, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL)
    status.field.add(name="message", number=2, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    status.field.add(name="details", number=3, type=field.TYPE_MESSAGE, type_name=".google.protobuf.Any", label=field.LABEL_REPEATED)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("google.rpc.Status"))


_Status = _status_class()


def _details(error: grpc.aio.AioRpcError) -> tuple[error_pb2.Error | None, error_pb2.NotLeader | None]:
    wire: error_pb2.Error | None = None
    leader: error_pb2.NotLeader | None = None
    metadata: Any = error.trailing_metadata() or ()
    for key, value in metadata:
        if key != "grpc-status-details-bin":
            continue
        status: Any = _Status()
        with contextlib.suppress(message.DecodeError):
            status.ParseFromString(value)
            for detail in status.details:
                if detail.type_url.endswith("/engine.v1.Error"):
                    wire = error_pb2.Error.FromString(detail.value)
                elif detail.type_url.endswith("/engine.v1.NotLeader"):
                    leader = error_pb2.NotLeader.FromString(detail.value)
    return wire, leader


def _convert(error: grpc.aio.AioRpcError, address: str, tls: TLS | None) -> tuple[errors.EngineError, error_pb2.NotLeader | None, bool]:
    """Make an engine error of what a call has failed with. The flag says that the connection failed, and not what was asked for."""
    wire, leader = _details(error)
    if wire is not None:
        return errors.from_proto(wire), leader, False
    kind = _KIND_OF.get(error.code(), "internal")
    text = error.details() or error.code().name.lower()
    if kind in ("unavailable", "canceled"):
        hint = _connection_hint(text.lower(), address, tls)
        return errors.make("unavailable", text, op=_CONNECT, id=address, hint=hint), None, True
    if kind == "version":
        return (
            errors.make(
                "version",
                text,
                op=f"call {address}",
                hint="the head does not know this call: is it of another version, or not an engine?",
            ),
            None,
            False,
        )
    return errors.make(kind, text, op=f"call {address}"), None, False


def _connection_hint(text: str, address: str, tls: TLS | None) -> str:
    """Say what may be wrong with a connection that failed, by gRPC's text in lower case."""
    if "hostname verification" in text:
        name = (tls.server_name if tls else None) or address.rpartition(":")[0]
        return f"the head's certificate is not for {name}: set server_name to a name that it has, such as {HEAD_SERVER_NAME}"
    if "certificate_verify_failed" in text:
        return (
            "the client does not trust the authority of the head's certificate: give that one as ca, which is tls/ca.pem in the head's data"
        )
    if "security handshaker" in text:
        return "ca, cert, or key of the client's TLS settings is no PEM that can be read"
    if "ssl" in text or "tls" in text or "certificate" in text:
        return "the TLS settings of the client and the head do not match" + ("" if tls is None else ": perhaps the head has no TLS")
    if "name resolution" in text or "dns" in text:
        return "the name of the host cannot be resolved"
    if tls is None and ("socket closed" in text or "connection reset" in text):
        return "is it a head's gRPC port, and does the head want TLS? set tls, or ENGINE_TLS_CA"
    return "is a head running there? `engine start --head` starts one"


def split_addresses(addresses: str) -> list[str]:
    """Take a list such as "a:1,b:2" apart, and refuse what has no port."""
    result: list[str] = []
    for address in (a.strip() for a in addresses.split(",")):
        if not address:
            continue
        _, colon, port = address.rpartition(":")
        if not colon or not port.isdigit() or not 0 < int(port) < 65536:
            raise errors.InvalidArgumentError(
                f"{address!r} is not HOST:PORT", op=_CONNECT, id=addresses, hint="such as 127.0.0.1:10001; it is gRPC's port, not the web's"
            )
        if address not in result:
            result.append(address)
    if not result:
        raise errors.InvalidArgumentError("the address of a head is required", op=_CONNECT, id=addresses, hint="write HOST:PORT")
    return result


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


class _Peer:
    """A connection to one head."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address = address
        self.channel = channel
        self._callables: dict[tuple[str, str], Any] = {}

    def callable(self, shape: str, method: Method[Any, Any]) -> Any:
        key = (shape, method.path)
        if key not in self._callables:
            make = getattr(self.channel, shape)
            self._callables[key] = make(
                method.path, request_serializer=method.request.SerializeToString, response_deserializer=method.response.FromString
            )
        return self._callables[key]


def default_token() -> str | None:
    """Return the token of the environment: ENGINE_TOKEN, or the text of the file that ENGINE_TOKEN_FILE names; None without both."""
    if token := os.environ.get("ENGINE_TOKEN"):
        return token
    path = os.environ.get("ENGINE_TOKEN_FILE")
    if not path:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                raise errors.PermissionError("others than its owner may read the file", op="read token", id=path, hint=f"chmod 600 {path}")
            return file.read().strip()
    except OSError as error:
        raise errors.InvalidArgumentError(str(error), op="read token", id=path) from None


class Heads:
    """A connection to the head that leads a cluster, whichever that is. It belongs to one event loop.

    It knows some heads by address and learns of the others from them. A unary call that meets a head which does not lead, or whose
    connection breaks, is repeated at the head that leads, within its deadline: all calls of the engine may be repeated. A stream that
    ends so is the caller's to open again.
    """

    def __init__(self, addresses: str, *, token: str | None = None, tls: TLS | None = None, timeout: float = CALL_TIMEOUT) -> None:
        self._given = split_addresses(addresses)
        self._learned: list[str] = []
        self._hint = ""
        self._tls = tls
        self._token = token
        if token and tls is None and not all(_is_loopback(address) for address in self._given):
            raise errors.InvalidArgumentError(
                "a token would travel in clear text", op=_CONNECT, id=addresses, hint="set tls, or connect to loopback"
            )
        if tls is not None and (tls.cert is None) != (tls.key is None):
            raise errors.InvalidArgumentError("cert and key of the TLS settings go together", op=_CONNECT, id=addresses)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else None
        self._peers: dict[str, _Peer] = {}
        self._leader: _Peer | None = None
        self._finding = asyncio.Lock()
        self._closed = False
        self.timeout = timeout

    def flight(self, address: str) -> tuple[str, dict[str, Any], list[Any]]:
        """Return how a store's Flight service is reached: its location, the TLS arguments of pyarrow's client, and headers of calls.

        Its certificate must be for the address, which is the one that its node has given.

        Raises:
            InvalidArgumentError: if the token would travel in clear text.

        """
        if self._token and self._tls is None and not _is_loopback(address):
            raise errors.InvalidArgumentError("a token would travel in clear text", op=_CONNECT, id=address, hint="set tls")
        headers = [(b"authorization", f"Bearer {self._token}".encode())] if self._token else []
        if self._tls is None:
            return f"grpc://{address}", {}, headers
        pems = {"tls_root_certs": self._tls.ca, "cert_chain": self._tls.cert, "private_key": self._tls.key}
        return f"grpc+tls://{address}", {name: pem for name, pem in pems.items() if pem is not None}, headers

    async def close(self) -> None:
        """End all calls and free the connections."""
        self._closed = True
        peers, self._peers, self._leader = list(self._peers.values()), {}, None
        for peer in peers:
            await peer.channel.close(None)

    async def call(self, method: Method[Any, Response], request: message.Message, timeout: float | None = None) -> Response:
        """Call a method at the head that leads, within `timeout` seconds."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        backoff = Backoff()
        tried = False
        while True:
            peer = await self._find(deadline)
            left = max(deadline - time.monotonic(), 0.001)
            try:
                return cast("Response", await peer.callable("unary_unary", method)(request, timeout=left, metadata=self._metadata))
            except grpc.aio.AioRpcError as error:
                failure = self.lost(peer, error)
                if failure is not None:
                    raise failure from None
                if time.monotonic() >= deadline:
                    raise _convert(error, peer.address, self._tls)[0] from None
            except (asyncio.CancelledError, grpc.aio.UsageError):
                # gRPC reports the end of a channel as a cancellation of the call.
                if self._closed:
                    raise errors.CanceledError("the client is closed", op="use client") from None
                raise
            if tried:
                await backoff.wait()
            tried = True  # The first time it goes to the next head at once.

    async def stream(self, method: Method[Any, Response], request: message.Message) -> AsyncGenerator[Response, None]:
        """Read one stream of the head that leads, until it ends or breaks."""
        peer = await self._find(time.monotonic() + self.timeout)
        call = peer.callable("unary_stream", method)(request, metadata=self._metadata)
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise self._stream_error(peer, error) from None
        finally:
            call.cancel()

    async def open(self, method: Method[Any, Any]) -> Stream:
        """Open a stream in both directions."""
        peer = await self._find(time.monotonic() + self.timeout)
        return Stream(self, peer, peer.callable("stream_stream", method)(metadata=self._metadata))

    def _stream_error(self, peer: _Peer, error: grpc.aio.AioRpcError) -> errors.EngineError:
        self.lost(peer, error)
        failure, leader, away = _convert(error, peer.address, self._tls)
        return _Broken.of(failure) if leader is not None or away else failure

    def lost(self, peer: _Peer, error: grpc.aio.AioRpcError) -> errors.EngineError | None:
        """Forget a head that does not lead or is away, and return None; else return the error of the call."""
        failure, leader, away = _convert(error, peer.address, self._tls)
        if leader is None and not away:
            return failure
        if self._leader is peer:
            self._leader = None
        if leader is not None and leader.address:
            self._hint = leader.address
        return None

    async def _find(self, deadline: float) -> _Peer:
        if self._leader is not None:
            return self._leader
        async with self._finding:
            electing = min(time.monotonic() + _ELECT_WITHIN, deadline)
            backoff = Backoff(_ASK_EVERY)
            while True:
                if self._leader is not None:
                    return self._leader
                if self._closed:
                    raise errors.CanceledError("the client is closed", op="use client")
                leader, reached, failure = await self._ask()
                if leader is not None:
                    self._leader = leader
                    return leader
                if not reached:
                    raise failure or errors.UnavailableError("no head was asked", op=_CONNECT)
                if time.monotonic() > electing:
                    raise errors.UnavailableError(
                        "no head leads the cluster at the moment",
                        op="find the head that leads",
                        hint="more than half of the heads must run and reach each other; `engine status` lists them",
                    )
                await backoff.wait()

    async def _ask(self) -> tuple[_Peer | None, bool, errors.EngineError | None]:
        """Ask each head that is known once, first the one that is said to lead."""
        asked: set[str] = set()
        reached, failure = False, None
        while True:
            candidates = [a for a in (self._hint, *self._learned, *self._given) if a and a not in asked]
            if not candidates:
                return None, reached, failure
            address = candidates[0]
            asked.add(address)
            try:
                peer = await self._peer(address)
                if await self._leads(peer):
                    return peer, True, None
                reached = True
            except errors.EngineError as error:
                if not isinstance(error, (errors.UnavailableError, errors.DeadlineError)):
                    raise
                failure = failure or error

    async def _leads(self, peer: _Peer) -> bool:
        request = cluster_service_pb2.ListHeadsRequest()
        try:
            response: cluster_service_pb2.ListHeadsResponse = await peer.callable("unary_unary", CLUSTER.ListHeads)(
                request, timeout=_ASK_WITHIN, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED and not _details(error)[0]:
                raise errors.UnavailableError(
                    f"no answer within {_ASK_WITHIN:g} s", op=_CONNECT, id=peer.address, hint="is this the head's gRPC port?"
                ) from None
            raise _convert(error, peer.address, self._tls)[0] from None
        self._hint = ""
        learned: list[str] = []
        leads = False
        for head in response.heads:
            own = head.head_id == response.head_id
            if head.leader:
                leads = own
                self._hint = "" if own else head.address
            # The address that it was reached at may be another one than it has for its peers, and is the better one here.
            learned.append(peer.address if own else head.address)
        self._learned = [a for a in learned if a] or self._learned
        return leads

    async def _peer(self, address: str) -> _Peer:
        if self._closed:
            raise errors.CanceledError("the client is closed", op="use client")
        peer = self._peers.get(address)
        if peer is not None:
            if peer.channel.get_state() not in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                return peer
            # gRPC would wait before it connects again.
            del self._peers[address]
            await peer.channel.close(None)
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
        ]
        if self._tls is None:
            channel = grpc.aio.insecure_channel(address, options=options)
        else:
            if self._tls.server_name:
                options.append(("grpc.ssl_target_name_override", self._tls.server_name))
            credentials = grpc.ssl_channel_credentials(self._tls.ca, self._tls.key, self._tls.cert)
            channel = grpc.aio.secure_channel(address, credentials, options=options)
        peer = _Peer(address, channel)
        self._peers[address] = peer
        return peer


class _Broken(errors.UnavailableError):
    """The stream's connection broke, or its head ceased to lead: it may be opened again."""

    @staticmethod
    def of(error: errors.EngineError) -> _Broken:
        return _Broken(error.message, op=error.op, id=error.id, hint=error.hint)


def is_broken(error: errors.EngineError) -> bool:
    """Report whether a stream that ended so may be opened again."""
    return isinstance(error, _Broken)


class Stream:
    """A stream in both directions, of the head that led when it was opened."""

    def __init__(self, heads: Heads, peer: _Peer, call: Any) -> None:
        self._heads = heads
        self._peer = peer
        self._call = call

    async def send(self, request: message.Message) -> None:
        """Send a message. Why a stream broke, `receive` says."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(request)

    async def receive(self) -> Any:
        """Return the next message, or None at the stream's end."""
        try:
            response = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise self._heads._stream_error(self._peer, error) from None
        return None if response is _EOF else response

    async def done_sending(self) -> None:
        """Say that nothing more comes."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.done_writing()

    def cancel(self) -> None:
        """Give the stream up."""
        self._call.cancel()


async def follow(
    op: str, id: str, open_stream: Callable[[], AsyncGenerator[T, None]], timeout: float | None = None
) -> AsyncGenerator[T, None]:
    """Yield what a stream says, and open it again while the head is away, for a minute at most.

    A head that cannot be reached at first is not waited for. `timeout` bounds the whole.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    lost_since: float | None = None
    heard = False
    backoff = Backoff()
    while True:
        stream = open_stream()
        try:
            while True:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                try:
                    item = await asyncio.wait_for(anext_(stream), left)
                except errors.EngineError:
                    raise  # A DeadlineError of the stream's is a TimeoutError too.
                except asyncio.TimeoutError:
                    raise errors.DeadlineError(f"it has not ended within {timeout:g} s", op=op, id=id) from None
                except StopAsyncIteration:
                    return
                heard, lost_since = True, None
                backoff.reset()
                yield item
        except errors.EngineError as error:
            now = time.monotonic()
            lost_since = now if lost_since is None else lost_since
            if not is_broken(error) or not heard or now - lost_since > RECONNECT_FOR:
                raise
        finally:
            await stream.aclose()
        await backoff.wait()


async def anext_(stream: AsyncGenerator[T, None]) -> T:
    """Return the next item; the built-in returns no coroutine."""
    return await stream.__anext__()
