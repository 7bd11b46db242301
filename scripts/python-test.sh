#!/usr/bin/env bash
# Checks the Python client: ruff, mypy, generated messages, and the tests against a real engine. `make test-python` calls it. What it needs
# comes from pip into .tools/python/venv; the second time that takes no time.
#
#   scripts/python-test.sh [ENGINE_BINARY] [PYTEST ARGUMENTS...]     default: one that is built for the tests
#   PYTHON=python3.13 scripts/python-test.sh                         another Python, 3.10 or newer; it has a venv of its own
set -eu -o pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
venv=.tools/python/venv-$version
package=python/engine

stamp=$venv/.installed-$(cat "$package/pyproject.toml" "$package/requirements-dev.txt" | sha256sum | cut -c1-16)
if ! [ -f "$stamp" ]; then
  "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' || { echo "missing: Python 3.10 or newer with venv and pip ($python)" >&2; exit 1; }
  "$python" -m venv --clear "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$package/requirements-dev.txt" -e "$package"
  touch "$stamp"
fi
bin=$PWD/$venv/bin

if [ $# -gt 0 ] && [ -x "$1" ]; then
  ENGINE_BINARY=$(realpath "$1")
  export ENGINE_BINARY
  shift
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
scripts/python-stubs.sh "$work"
diff -r --exclude __pycache__ "$work/engine" "$package/src/engine/_proto/engine" >/dev/null || { echo "test-python: the messages are not current; run scripts/python-stubs.sh and commit the result" >&2; exit 1; }

cd "$package"
"$bin/ruff" format --check --quiet . || { echo "test-python: run ruff format in $package" >&2; exit 1; }
"$bin/ruff" check --quiet .
"$bin/mypy"
"$bin/python" -m pytest -p no:cacheprovider "$@"
