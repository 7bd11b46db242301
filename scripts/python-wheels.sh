#!/usr/bin/env bash
# Builds the Python distributions, as wheels and source archives: python-wheels.sh [FOLDER, default bin/python]. `make python` calls it.
set -eu -o pipefail
cd "$(dirname "$0")/.."

to=${1:-bin/python}
build=.tools/python/build
if ! [ -x "$build/bin/pyproject-build" ]; then
  "${PYTHON:-python3}" -m venv "$build"
  "$build/bin/python" -m pip install --quiet --disable-pip-version-check build==1.6.1 hatchling==1.33.0
fi
mkdir -p "$to"
for project in python/*/pyproject.toml; do
  # Not isolated: the builder of the venv is pinned, and needs no network.
  "$build/bin/python" -m build --no-isolation --outdir "$to" "$(dirname "$project")" >/dev/null
done
ls "$to"
