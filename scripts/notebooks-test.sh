#!/usr/bin/env bash
# Executes the notebooks of examples/notebooks from top to bottom, and fails if a cell does, if one makes no plot, or if one is stored with
# outputs. What it needs comes from pip into .tools/python; the second time that takes no time.
#
#   scripts/notebooks-test.sh [ENGINE_BINARY] [FOLDER]     default: engine on PATH; bin/notebooks
#
# The folder receives the executed notebooks, and their plots as PNG files. PYTHON=python3.13 chooses another Python.
set -eu -o pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
venv=.tools/python/notebooks-$version
notebooks=examples/notebooks

stamp=$venv/.installed-$(cat python/engine/pyproject.toml "$notebooks/requirements.txt" | sha256sum | cut -c1-16)
if ! [ -f "$stamp" ]; then
  "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || { echo "missing: Python 3.11 or newer with venv and pip ($python)" >&2; exit 1; }
  "$python" -m venv --clear "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$notebooks/requirements.txt" -e 'python/engine[progress]'
  touch "$stamp"
fi

if [ $# -gt 0 ]; then
  test -x "$1" || { echo "notebooks-test: $1 is no program" >&2; exit 1; }
  ENGINE_BINARY=$(realpath "$1")
  export ENGINE_BINARY
fi
"$venv/bin/python" "$notebooks/execute.py" "${2:-bin/notebooks}"
