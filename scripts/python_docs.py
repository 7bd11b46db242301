#!/usr/bin/env python3
"""Builds the API documentation of Python packages with pdoc; `scripts/python-docs.sh` calls it.

python python_docs.py FOLDER PACKAGE... writes HTML into a folder. It fails, naming each, if a public module, class, function, method,
property, or attribute has no doc comment of its own. An attribute may be described under "Attributes:" or "Args:" in the comment of its
class or of one above, or be one that a class of another library has. Names that begin with an underscore, and generated code, are not
public.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pdoc
import pdoc.doc
import pdoc.extract
import pdoc.render

if TYPE_CHECKING:
    from collections.abc import Iterator


def undocumented(module: pdoc.doc.Module) -> Iterator[str]:
    """Yield what of a module and of those below it has no doc comment, by its full name."""
    if not module.docstring:
        yield module.fullname
    for member in members_of(module):
        if public(member, module) and not member.docstring and not described_above(member, module):
            yield member.fullname
    for below in module.submodules:
        if not below.name.startswith("_"):
            yield from undocumented(below)


def members_of(of: pdoc.doc.Namespace) -> Iterator[pdoc.doc.Doc]:
    """Yield what a module or class has, and what its classes have, inherited names not among them."""
    for member in of.members.values():
        if not (isinstance(of, pdoc.doc.Class) and member.is_inherited):
            yield member
            if isinstance(member, pdoc.doc.Class):
                yield from members_of(member)


def public(member: pdoc.doc.Doc, module: pdoc.doc.Module) -> bool:
    """Return whether a member is part of what the module offers, and of this package's own code."""
    names = member.qualname.split(".")
    if any(name.startswith("_") for name in names) or not in_all(names[0], module):
        return False
    if isinstance(member, pdoc.doc.Variable) and isinstance(member.default_value, TypeVar):
        return False  # It says nothing by itself.
    package, source = module.modulename.partition(".")[0], member.taken_from[0]
    if "._proto." in source or source.partition(".")[0] != package:
        return False
    return source == module.modulename or getattr(module.obj, "__all__", None) is not None


def in_all(name: str, module: pdoc.doc.Module) -> bool:
    """Return whether a module exports a name."""
    exported = getattr(module.obj, "__all__", None)
    return exported is None or name in exported


def described_above(member: pdoc.doc.Doc, module: pdoc.doc.Module) -> bool:
    """Return whether an attribute is described in the comment of its class, or of one above that has it too, or is another library's."""
    owner = module.get(member.qualname.rpartition(".")[0])
    if not isinstance(owner, pdoc.doc.Class) or not isinstance(member, pdoc.doc.Variable):
        return False
    package = module.modulename.partition(".")[0]
    for cls in owner.obj.__mro__:
        if member.name in vars(cls) and cls.__module__.partition(".")[0] != package:
            return True
        sections = re.split(r"^\s*(?:Attributes|Args):\s*$", cls.__doc__ or "", maxsplit=1, flags=re.MULTILINE)
        if len(sections) == 2 and re.search(rf"^\s+(?:.*, )?{member.name}(?:, .*)?:", sections[1], re.MULTILINE):
            return True
    return False


def main() -> None:
    """Parse the command line, check, and build."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("packages", nargs="+")
    args = parser.parse_args()
    # pdoc leaves out a module that cannot be imported. Annotations that it cannot evaluate, of what Airflow itself lacks, it keeps as text.
    warnings.filterwarnings("error", message="(Error loading|Couldn't import)", category=UserWarning)
    warnings.filterwarnings(
        "ignore", message="(Failed to run TYPE_CHECKING|Error parsing type annotation|Cannot determine where)", category=UserWarning
    )
    missing = []
    for package in args.packages:
        missing += undocumented(pdoc.doc.Module(pdoc.extract.load_module(package)))
    if missing:
        print("python-docs: these have no doc comment:", *sorted(missing), sep="\n  ", file=sys.stderr)
        raise SystemExit(1)
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc(*args.packages, output_directory=args.folder)
    print(args.folder / "index.html")


if __name__ == "__main__":
    main()
