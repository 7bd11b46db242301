"""Job files: the dict and YAML form of a JobSpec, read with its own names, and written.

The rules are those of the engine's own reader: field names of the proto, scalars of any type for texts, ${env:NAME} in texts, ${secret:…}
in credential fields, $${ for a literal ${, relative paths relative to the job file's folder. What is refused is refused with its place and
the nearest known name.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import yaml
from google.protobuf import struct_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from engine import _secrets, errors
from engine._proto.engine.v1 import job_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

_OP = "read job file"
_MAX_BYTES = 4 << 20
_MAX_NODES = 100_000
_MAX_ERRORS = 10
_MAX_DEPTH = 64
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:/")
_SIZE = re.compile(r"\s*\d+(\.\d+)?\s*([KMGT]i?)?B?\s*", re.IGNORECASE)
_SIZES = {"engine.v1.Batch.bytes", "engine.v1.Resources.memory", "engine.v1.Resources.gpu_memory"}
_SCALARS = {f"tag:yaml.org,2002:{tag}" for tag in ("str", "int", "float", "bool", "timestamp", "merge", "value")}
_NULL = "tag:yaml.org,2002:null"


def load(path: str | os.PathLike[str], models: Callable[[str], str] | None = None) -> job_pb2.JobSpec:
    """Read the job file at a path."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise errors.NotFoundError("no such file", op=_OP, id=str(path)) from None
    except OSError as error:
        raise errors.InvalidArgumentError(error.strerror or str(error), op=_OP, id=str(path)) from None
    return parse(str(path), data, path.parent, models)


def parse(name: str, data: bytes | str, base: str | os.PathLike[str], models: Callable[[str], str] | None = None) -> job_pb2.JobSpec:
    """Read a job file from memory. The name stands in errors and gives the job's default name."""
    if len(data) > _MAX_BYTES:
        raise errors.InvalidArgumentError(f"it has more than {_MAX_BYTES} bytes", op=_OP, id=name)
    try:
        root = yaml.compose(data, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise errors.InvalidArgumentError(error.problem or str(error), op=_OP, id=where) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise errors.InvalidArgumentError(str(error).splitlines()[0], op=_OP, id=name) from None
    if root is None:
        raise errors.InvalidArgumentError("the file is empty", op=_OP, id=name)
    spec = _Decoder(name, models).spec(root, base)
    spec.name = spec.name or Path(name).stem[:200]
    return spec


def from_dict(job: Mapping[str, Any], base: str | os.PathLike[str] = ".", models: Callable[[str], str] | None = None) -> job_pb2.JobSpec:
    """Make a JobSpec of a dict. Relative paths are relative to `base`."""
    return _Decoder("", models).spec(_node(job, "", 0), base)


def fill(message: Message, value: Mapping[str, Any], what: str) -> None:
    """Fill a message from a dict as part of a job; errors name `what`."""
    decoder = _Decoder("", None)
    decoder.message(_node(value, what, 0), message, what)
    decoder.raise_errors()


def to_dict(spec: Message) -> dict[str, Any]:
    """Return a job as a dict that reads back as the same job."""
    result: dict[str, Any] = {}
    for fd, value in spec.ListFields():
        result[fd.name] = _plain(fd, value)
    return result


def to_yaml(job: Mapping[str, Any]) -> str:
    """Return a dict as the text of a job file."""
    return yaml.safe_dump(dict(job), sort_keys=False, allow_unicode=True, width=100)


def escaped(value: Any) -> Any:
    """Return a value whose texts read back as they stand: ${ is written $${."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, Mapping):
        return {k: escaped(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [escaped(v) for v in value]
    return value


def _plain(fd: FieldDescriptor, value: Any) -> Any:
    if fd.message_type is not None and fd.message_type.GetOptions().map_entry:
        entry = fd.message_type.fields_by_name["value"]
        return {k: _plain_one(entry, value[k]) for k in sorted(value)}
    if _repeated(fd):
        return [_plain_one(fd, v) for v in value]
    return _plain_one(fd, value)


def _plain_one(fd: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, struct_pb2.Struct):
        return {k: _plain_value(value.fields[k]) for k in sorted(value.fields)}
    if isinstance(value, Message):
        return to_dict(value)
    if _secrets.is_credential(fd) and _secrets.reference(value) is not None:
        return value
    return escaped(value)


def _plain_value(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {k: _plain_value(value.struct_value.fields[k]) for k in sorted(value.struct_value.fields)}
    if kind == "list_value":
        return [_plain_value(v) for v in value.list_value.values]
    if kind == "null_value" or kind is None:
        return None
    plain = getattr(value, kind)
    return int(plain) if kind == "number_value" and plain == int(plain) and abs(plain) < 2**53 else escaped(plain)


def _repeated(fd: FieldDescriptor) -> bool:
    repeated = getattr(fd, "is_repeated", None)  # label is deprecated where this is there
    return bool(repeated) if repeated is not None else getattr(fd, "label", 0) == FieldDescriptor.LABEL_REPEATED


def _node(value: Any, path: str, depth: int) -> yaml.Node:
    """Make the node of a Python value that YAML's parser would have made of its text."""
    tag = "tag:yaml.org,2002:"
    if depth > _MAX_DEPTH:
        raise errors.InvalidArgumentError(f"values are nested more than {_MAX_DEPTH} deep", op=_OP, id=path)
    if hasattr(value, "item") and not isinstance(value, (str, bytes)) and getattr(value, "shape", None) == ():
        value = value.item()  # a scalar of numpy
    if value is None:
        return yaml.ScalarNode(_NULL, "null")
    if isinstance(value, bool):
        return yaml.ScalarNode(tag + "bool", "true" if value else "false")
    if isinstance(value, int):
        return yaml.ScalarNode(tag + "int", str(value))
    if isinstance(value, float):
        return yaml.ScalarNode(tag + "float", repr(value))
    if isinstance(value, (str, os.PathLike)):
        return yaml.ScalarNode(tag + "str", os.fspath(value), style='"')
    if isinstance(value, Mapping):
        pairs = []
        for key, one in value.items():
            if not isinstance(key, str):
                raise errors.InvalidArgumentError(f"{path or 'the job'}: the name {key!r} is no text", op=_OP)
            pairs.append((yaml.ScalarNode(tag + "str", key, style='"'), _node(one, _join(path, key), depth + 1)))
        return yaml.MappingNode(tag + "map", pairs)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return yaml.SequenceNode(tag + "seq", [_node(v, _join(path, str(i)), depth + 1) for i, v in enumerate(value)])
    raise errors.InvalidArgumentError(f"{path or 'the job'}: a {type(value).__name__} cannot stand in a job", op=_OP)


def _join(path: str, element: str) -> str:
    return f"{path}.{element}" if path else element


class _Decoder:
    """Fills a message from nodes and collects what is wrong with them."""

    def __init__(self, name: str, models: Callable[[str], str] | None) -> None:
        self._name = name
        self._models = models
        self._where: dict[str, str] = {}
        self._errors: list[tuple[str, str]] = []
        self._nodes = 0

    def spec(self, root: yaml.Node, base: str | os.PathLike[str]) -> job_pb2.JobSpec:
        spec = job_pb2.JobSpec()
        self.message(root, spec, "")
        self.raise_errors()
        self._check_kinds(spec, "")
        self._paths(spec, os.path.abspath(base))
        self.raise_errors()
        return spec

    def raise_errors(self) -> None:
        if not self._errors:
            return
        if len(self._errors) == 1:
            where, text = self._errors[0]
            raise errors.InvalidArgumentError(text, op=_OP, id=where)
        shown = self._errors[:_MAX_ERRORS]
        first = f"the first {_MAX_ERRORS}" if len(self._errors) > _MAX_ERRORS else str(len(shown))
        lines = "".join(f"\n  {where + ': ' if where else ''}{text}" for where, text in shown)
        raise errors.InvalidArgumentError(f"{first} errors:{lines}", op=_OP, id=self._name)

    def message(self, node: yaml.Node, message: Message, path: str) -> None:
        if isinstance(message, struct_pb2.Struct):
            value = self._any(node, path, 0)
            if not isinstance(node, yaml.MappingNode):
                self._fail(node, f"{path}: expected a mapping, found {_describe(node)}")
            elif not self._errors:
                message.update(value)
            return
        fields: Mapping[str, Any] = message.DESCRIPTOR.fields_by_name
        if not isinstance(node, yaml.MappingNode):
            self._fail(node, f"{path or 'the job'}: expected a mapping ({', '.join(fields)}), found {_describe(node)}")
            return
        self._where[path] = self._at(node)
        kinds: dict[str, str] = {}
        for key, value in self._pairs(node, path):
            name = key.value
            fd = fields.get(name)
            if fd is None:
                self._fail(key, f'unknown field "{_clip(name)}" in {path or "the job"}{_suggest(name, list(fields))}')
                continue
            if value.tag == _NULL:
                continue
            oneof = fd.containing_oneof
            if oneof is not None and len(oneof.fields) > 1:
                first = kinds.setdefault(oneof.full_name, name)
                if first != name:
                    self._fail(key, f'{path or "the job"} has both "{first}" and "{name}"; one of them may be set')
                    continue
            self._field(value, message, fd, _join(path, name))

    def _field(self, node: yaml.Node, message: Message, fd: FieldDescriptor, path: str) -> None:
        self._where[path] = self._at(node)
        target: Any = getattr(message, fd.name)
        if fd.message_type is not None and fd.message_type.GetOptions().map_entry:
            entry = fd.message_type.fields_by_name["value"]
            if not isinstance(node, yaml.MappingNode):
                self._fail(node, f"{path}: expected a mapping, found {_describe(node)}")
                return
            for key, value in self._pairs(node, path):
                if value.tag == _NULL:
                    continue
                if entry.message_type is not None:
                    self.message(value, target[key.value], _join(path, key.value))
                elif (scalar := self._scalar(value, entry, _join(path, key.value))) is not None:
                    target[key.value] = scalar
        elif _repeated(fd):
            if not isinstance(node, yaml.SequenceNode):
                hint = f"; write [{_clip(node.value)}]" if isinstance(node, yaml.ScalarNode) else ""
                self._fail(node, f"{path}: expected a list, found {_describe(node)}{hint}")
                return
            for i, element in enumerate(node.value):
                where = _join(path, str(i))
                self._where[where] = self._at(element)
                if fd.message_type is not None:
                    self.message(element, target.add(), where)
                elif (scalar := self._scalar(element, fd, where)) is not None:
                    target.append(scalar)
        elif fd.message_type is not None:
            target.SetInParent()
            self.message(node, target, path)
        elif (scalar := self._scalar(node, fd, path)) is not None:
            setattr(message, fd.name, scalar)

    def _scalar(self, node: yaml.Node, fd: FieldDescriptor, path: str) -> Any:
        """Return a value of the field's type, or None after a failure."""
        if not isinstance(node, yaml.ScalarNode) or node.tag == _NULL or node.tag not in _SCALARS:
            self._fail(node, f"{path}: expected {_expected(fd)}, found {_describe(node)}")
            return None
        if _secrets.is_credential(fd):
            return self._credential(node, fd, path)
        text = self._expand(node, path)
        if text is None:
            return None
        value = _convert(text, fd, quoted=node.style in ('"', "'") and node.tag.endswith(":str"))
        if value is None:
            self._fail(node, f"{path}: expected {_expected(fd)}, found {_describe(node)}")
        elif fd.full_name in _SIZES and text and not _SIZE.fullmatch(text):
            units = "write bytes or a number with B, KiB, MiB, GiB, TiB, KB, MB, GB, TB"
            self._fail(node, f'{path}: "{_clip(node.value)}" is not a size; {units}')
            return None
        return value

    def _credential(self, node: yaml.ScalarNode, fd: FieldDescriptor, path: str) -> str | None:
        """Return what a credential field holds: a reference to a secret. No message shows what it holds instead."""
        text: str = node.value
        if _secrets.reference(text) is not None:
            return text
        if text.startswith(_secrets.PREFIX):
            self._fail(node, f"{path}: write ${{secret:NAME}}, ${{secret:env:NAME}}, or ${{secret:file:PATH}}, and nothing around it")
            return None
        if _secrets.takes_text(fd):
            return self._expand(node, path)
        instead = "${secret:NAME}"
        if match := re.fullmatch(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}", text):
            instead = f"${{secret:env:{match.group(1)}}}"
        self._fail(node, f"{path}: a secret is named and never written out, since the job is kept and shown; write {instead}")
        return None

    def _expand(self, node: yaml.ScalarNode, path: str) -> str | None:
        """Replace ${env:NAME}, and $${ by ${."""
        text: str = node.value
        if "${" not in text:
            return text
        result, at = [], 0
        for match in re.finditer(r"\$\$\{|\$\{([^}]*)\}?", text):
            result.append(text[at : match.start()])
            at = match.end()
            if match.group(1) is None:
                result.append("${")
                continue
            scheme, _, name = match.group(1).partition(":")
            if not match.group().endswith("}"):
                self._fail(node, f'{path}: "{_clip(match.group())}" has no closing brace; write $${{ for a literal ${{')
                return None
            if scheme == "secret":
                self._fail(
                    node, f"{path}: a secret can stand in credential fields alone, such as password, and not here: {_clip(match.group())}"
                )
                return None
            if scheme != "env" or not name:
                self._fail(node, f"{path}: unknown reference {_clip(match.group())}; write ${{env:NAME}}, or $${{ for a literal ${{")
                return None
            if name not in os.environ:
                self._fail(node, f"{path}: the environment variable {_clip(name)} is not set")
                return None
            result.append(os.environ[name])
        return "".join(result) + text[at:]

    def _any(self, node: yaml.Node, path: str, depth: int) -> Any:
        self._count(node)
        if depth > _MAX_DEPTH:
            raise errors.InvalidArgumentError(f"{path}: values are nested more than {_MAX_DEPTH} deep", op=_OP, id=self._at(node))
        if isinstance(node, yaml.MappingNode):
            return {key.value: self._any(value, _join(path, key.value), depth + 1) for key, value in self._pairs(node, path)}
        if isinstance(node, yaml.SequenceNode):
            return [self._any(v, _join(path, str(i)), depth + 1) for i, v in enumerate(node.value)]
        if node.tag == _NULL:
            return None
        text = self._expand(cast("yaml.ScalarNode", node), path)
        kind = node.tag.rpartition(":")[2]
        if text is None or kind in ("str", "timestamp"):
            return text
        if kind == "bool":
            return text.lower() in ("true", "yes", "on")
        try:
            number = float(int(text, 0)) if re.fullmatch(r"[-+]?(0[xob])?[0-9a-fA-F_]+", text) else float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self._fail(node, f"{path}: expected a number, found {_describe(node)}")
        return number

    def _pairs(self, node: yaml.MappingNode, path: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
        """Return a mapping's entries with those of its merge keys, behind its own."""
        own: list[tuple[yaml.ScalarNode, yaml.Node]] = []
        merged: list[yaml.Node] = []
        seen: set[str] = set()
        for key, value in node.value:
            self._count(key)
            if isinstance(key, yaml.ScalarNode) and key.tag.endswith(":merge"):
                merged.extend(value.value if isinstance(value, yaml.SequenceNode) else [value])
            elif not isinstance(key, yaml.ScalarNode):
                self._fail(key, f"{path or 'the job'}: expected a name before the colon, found {_describe(key)}")
            elif key.value in seen:
                self._fail(key, f'duplicate field "{_clip(key.value)}" in {path or "the job"}')
            else:
                seen.add(key.value)
                own.append((key, value))
        for value in merged:
            if not isinstance(value, yaml.MappingNode):
                self._fail(
                    value, f"{path or 'the job'}: the merge key << expects a mapping or a list of mappings, found {_describe(value)}"
                )
                continue
            for key, one in self._pairs(value, path):
                if key.value not in seen:
                    seen.add(key.value)
                    own.append((key, one))
        return own

    def _count(self, node: yaml.Node) -> None:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            text = f"more than {_MAX_NODES} values with aliases expanded"
            raise errors.InvalidArgumentError(text, op=_OP, id=self._at(node) or self._name)

    def _at(self, node: yaml.Node) -> str:
        if not self._name or node.start_mark is None:
            return ""
        return f"{self._name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"

    def _fail(self, node: yaml.Node, text: str) -> None:
        self._errors.append((self._at(node), text))

    def _fail_at(self, path: str, text: str) -> None:
        """Report what is wrong with the value at a path, or what is nearest around it."""
        around = path
        while around not in self._where and around:
            around = around.rpartition(".")[0]
        self._errors.append((self._where.get(around, self._name), f"{path or 'the job'}: {text}"))

    def _check_kinds(self, message: Message, path: str) -> None:
        """Report messages of which no kind is set, such as a step without its operation."""
        if isinstance(message, struct_pb2.Struct):
            return
        for oneof in message.DESCRIPTOR.oneofs:
            if len(oneof.fields) > 1 and message.WhichOneof(oneof.name) is None:
                self._fail_at(path, f"no kind is set; set one of {', '.join(f.name for f in oneof.fields)}")
        for fd, value in message.ListFields():
            where = _join(path, fd.name)
            if fd.message_type is None:
                continue
            if fd.message_type.GetOptions().map_entry:
                if fd.message_type.fields_by_name["value"].message_type is not None:
                    for key, one in value.items():
                        self._check_kinds(one, _join(where, key))
            elif _repeated(fd):
                for i, one in enumerate(value):
                    self._check_kinds(one, _join(where, str(i)))
            else:
                self._check_kinds(value, where)

    def _paths(self, spec: job_pb2.JobSpec, base: str) -> None:
        """Make all paths absolute against a folder."""
        for kind in ("csv", "parquet", "json", "arrow"):
            paths = getattr(spec.source, kind).paths if spec.source.HasField(kind) else []
            for i, path in enumerate(paths):
                paths[i] = self._absolute(path, base, f"source.{kind}.paths.{i}", glob=True)
        for i, step in enumerate(spec.steps):
            kind = step.WhichOneof("kind") or ""
            if kind in ("infer", "embed"):
                one = getattr(step, kind)
                one.model = self._model(one.model, base, f"steps.{i}.{kind}.model")
            elif kind in ("one_hot", "index", "scale"):
                one = getattr(step, kind)
                one.fitted = self._absolute(one.fitted, base, f"steps.{i}.{kind}.fitted")
        for name, sink in [("sink", spec.sink), *((f"sinks.{n}", s) for n, s in spec.sinks.items())]:
            kind = sink.WhichOneof("kind") or ""
            if kind in ("parquet", "csv", "json", "arrow"):
                getattr(sink, kind).path = self._absolute(getattr(sink, kind).path, base, f"{name}.{kind}.path")
            elif kind == "object":
                sink.object.checkpoint = self._absolute(sink.object.checkpoint, base, f"{name}.object.checkpoint")
        self._secret_files(spec, base, "")
        if spec.HasField("on_bad_row"):
            spec.on_bad_row.path = self._absolute(spec.on_bad_row.path, base, "on_bad_row.path")

    def _secret_files(self, message: Message, base: str, path: str) -> None:
        """Make the paths of secrets in files absolute."""
        if isinstance(message, struct_pb2.Struct):
            return
        for fd, value in message.ListFields():
            where = _join(path, fd.name)
            if fd.message_type is None:
                name = _secrets.reference(value) if _secrets.is_credential(fd) else None
                if name is not None and name.startswith("file:"):
                    file = self._absolute(name[len("file:") :], base, where)
                    setattr(message, fd.name, f"{_secrets.PREFIX}file:{file}}}")
            elif isinstance(value, Message):
                self._secret_files(value, base, where)
            elif fd.message_type.GetOptions().map_entry:
                for key in value:
                    if isinstance(value[key], Message):
                        self._secret_files(value[key], base, _join(where, key))
            else:
                for i, one in enumerate(value):
                    self._secret_files(one, base, _join(where, str(i)))

    def _model(self, name: str, base: str, path: str) -> str:
        """Return the path of a model: that of a file, or of what the engine has under a name or fetches from a hub."""
        hub = name.startswith("hf://")
        looks_like_name = name and not os.path.isabs(name) and not _SCHEME.match(name) and name[0] not in ".~"
        if name.count("/") > 1 or name.endswith(".onnx") or os.path.lexists(os.path.join(base, name)):
            looks_like_name = False
        if self._models is None or not (hub or looks_like_name):
            return self._absolute(name, base, path)
        try:
            return self._models(name)
        except errors.NotFoundError as error:
            if "/" in name and not hub:
                return self._absolute(name, base, path)  # More likely a path: whoever opens it says what is missing.
            self._fail_at(path, str(error))
        except errors.InvalidArgumentError as error:
            self._fail_at(path, str(error))
        return name

    def _absolute(self, path: str, base: str, where: str, *, glob: bool = False) -> str:
        if not path:
            return path
        if path[:6].lower() == "file:/":
            host, _, rest = path[7:].partition("/") if path[5:7] == "//" else ("", "", path[6:])
            if host not in ("", "localhost"):
                self._fail_at(where, "a file URL has three slashes and an absolute path (file:///data/wine.csv) and names no other host")
                return path
            path = "/" + unquote(rest)
        elif _SCHEME.match(path):
            return path
        elif path == "~" or path.startswith("~/"):
            self._fail_at(where, "~ is not expanded; write ${env:HOME}, or ./~ for a folder of that name")
            return path
        if not os.path.isabs(path):
            if glob and any(c in path for c in "*?[\\"):
                base = re.sub(r"([*?\[\\])", r"\\\1", base)
            path = os.path.join(base, path)
        path = os.path.normpath(path)
        return "/" + path.lstrip("/")  # normpath keeps two slashes


def _convert(text: str, fd: FieldDescriptor, *, quoted: bool) -> Any:
    if fd.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return text
    if fd.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return None if quoted else {"true": True, "false": False}.get(text.lower())
    try:
        number = float(text.replace("_", "")) if "x" not in text.lower() else math.nan
        if not math.isfinite(number):
            return None
        if fd.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return number
        try:
            whole = int(text.replace("_", ""))
        except ValueError:
            whole = int(number)
            if whole != number or abs(number) > 2**53:
                return None
    except ValueError:
        return None
    bits = 31 if fd.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 63
    low = 0 if fd.cpp_type in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64) else -(2**bits)
    return whole if low <= whole < 2**bits else None


def _expected(fd: FieldDescriptor) -> str:
    if fd.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return "text"
    if fd.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return "true or false"
    if fd.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return "a number"
    return "a whole number of 32 bits" if fd.cpp_type == FieldDescriptor.CPPTYPE_INT32 else "a whole number"


def _describe(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if node.tag == _NULL:
        return "null"
    if node.tag.rpartition(":")[2] in ("int", "float", "bool"):
        return _clip(node.value)
    return f'the text "{_clip(node.value)}"'


def _clip(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "…"


def _suggest(name: str, known: list[str]) -> str:
    plain = {k.replace("_", "").lower(): k for k in known}
    near = difflib.get_close_matches(name.replace("_", "").replace("-", "").lower(), plain, n=1, cutoff=0.6)
    if near:
        return f' (did you mean "{plain[near[0]]}"?)'
    return f" (known: {', '.join(known)})"
