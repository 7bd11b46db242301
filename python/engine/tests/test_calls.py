"""Calls to heads: what is repeated and when, and heads that are none or of another version."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import grpc
import pyarrow as pa
import pytest

import engine
from engine import _rpc, _store


def test_pauses_between_tries_double_and_have_jitter(monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    async def main(backoff, times):
        for _ in range(times):
            await backoff.wait()

    monkeypatch.setattr(_rpc.asyncio, "sleep", sleep)
    backoff = _rpc.Backoff(longest=2.0)
    asyncio.run(main(backoff, 10))
    means = [0.05 * 2**i for i in range(6)] + [2.0] * 4
    assert all(0.5 * mean <= pause <= 1.5 * mean for pause, mean in zip(slept, means, strict=True)), slept
    # Clients that lost the same head do not come back all at once.
    assert len({pause / mean for pause, mean in zip(slept, means, strict=True)}) == 10
    backoff.reset()
    asyncio.run(main(backoff, 1))
    assert slept[-1] <= 0.075


class Server:
    """A gRPC server on a free port, whose calls a function answers: by an answer's bytes, or a status."""

    def __init__(self, answer) -> None:
        self.calls = 0
        self._answer = answer
        self._server = grpc.server(ThreadPoolExecutor(4), handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def service(self, details):
        if details.method.endswith("ListHeads"):
            heads = _rpc.cluster_service_pb2.ListHeadsResponse(head_id="h")
            heads.heads.add(head_id="h", leader=True, address=self.address)
            return grpc.unary_unary_rpc_method_handler(lambda request, context: heads.SerializeToString())

        def handle(request, context):
            self.calls += 1
            status = self._answer(self.calls)
            if status is not None:
                context.abort(status, "so says the test")
            return b""

        return grpc.unary_unary_rpc_method_handler(handle) if self._answer else None

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(None).wait()


def test_calls_that_lost_their_head_are_repeated():
    with Server(lambda call: grpc.StatusCode.UNAVAILABLE if call <= 3 else None) as server, engine.Client(server.address) as client:
        assert client.jobs() == []
        assert server.calls == 4


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, engine.InvalidArgumentError),
        (grpc.StatusCode.PERMISSION_DENIED, engine.PermissionError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, engine.ExhaustedError),
        (grpc.StatusCode.INTERNAL, engine.InternalError),
    ],
)
def test_calls_that_were_answered_are_not_repeated(status, error):
    with Server(lambda call: status) as server, engine.Client(server.address) as client:
        with pytest.raises(error, match="so says the test"):
            client.jobs()
        assert server.calls == 1


def test_repetition_ends_with_the_calls_deadline():
    with Server(lambda call: grpc.StatusCode.UNAVAILABLE) as server, engine.Client(server.address, timeout=1) as client:
        with pytest.raises((engine.UnavailableError, engine.DeadlineError)):
            client.jobs()
        assert server.calls > 1


def test_head_of_another_version_is_named():
    """A call that it does not know: that of an older head, or of a server that is no head."""
    with Server(None) as server, engine.Client(server.address) as client:
        with pytest.raises(engine.VersionError, match="of another version") as raised:
            client.jobs()
        assert server.address in str(raised.value)


def test_store_of_another_version_is_named(head, monkeypatch):
    monkeypatch.setattr(_store, "PROTOCOL_VERSION", 99)
    with engine.Client(head.address) as client:
        client.get(client.put(pa.table({"x": [1]})))  # By way of the head.
        why = client._client._objects._found.error
        assert isinstance(why, engine.VersionError)
        assert "99" in str(why)
