"""The classes of errors are those of the engine."""

from __future__ import annotations

import pickle
import re

import pytest
from conftest import ROOT

import engine
from engine import errors


def test_one_class_for_each_kind():
    source = (ROOT / "errors.go").read_text()
    kinds = dict(re.findall(r"^\t(Kind\w+):\s+\"(\w+)\",", source, re.MULTILINE))
    assert len(kinds) >= 16
    assert {type(errors.make(kind, "x")).kind for kind in kinds.values()} == set(kinds.values())
    body = source.partition("func (k Kind) Retryable()")[2].partition("return true")[0]
    retryable = {kinds[name] for name in re.findall(r"Kind\w+", body) if name in kinds}
    assert {kind for kind in kinds.values() if errors.make(kind, "x").retryable} == retryable
    assert {getattr(engine, cls.__name__) for cls in errors.EngineError.__subclasses__() if cls.__module__ == "engine.errors"} == {
        type(errors.make(kind, "x")) for kind in kinds.values()
    }


@pytest.mark.parametrize("kind", ["data", "internal", "deadline"])
def test_text_and_pickle(kind):
    error = errors.make(kind, "row is short", op="read csv", id="a.csv:3", hint="add a column")
    assert str(error) == "read csv: a.csv:3: row is short (add a column)"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.id) == (type(error), str(error), "a.csv:3")


def test_unknown_kind_is_internal():
    assert isinstance(errors.make("newer", "x"), engine.InternalError)
