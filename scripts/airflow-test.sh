#!/usr/bin/env bash
# Checks the Airflow provider: ruff, mypy, and its tests, those against a real Airflow with a real engine included. `make test-airflow` calls
# it. Airflow comes from pip into .tools/python, at the versions of python/airflow/constraints.txt; the second time that takes no time.
#
#   scripts/airflow-test.sh ENGINE_BINARY [PYTEST ARGUMENTS...]      such as -k attach, or tests/test_ids.py
#   PYTHON=python3.13 scripts/airflow-test.sh ENGINE_BINARY          another Python, 3.10 or newer; it has a venv of its own
set -eu -o pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
venv=$PWD/.tools/python/airflow-$version
package=python/airflow

test -x "${1:-}" || { echo "test-airflow: the first argument is the engine's program; found ${1:-none}" >&2; exit 1; }
ENGINE_BINARY=$(realpath "$1")
export ENGINE_BINARY
shift

stamp=$venv/.installed-$(cat "$package/pyproject.toml" python/engine/pyproject.toml "$package/requirements-dev.txt" "$package/constraints.txt" | sha256sum | cut -c1-16)
if ! [ -f "$stamp" ]; then
  "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' || { echo "missing: Python 3.10 or newer with venv and pip ($python)" >&2; exit 1; }
  echo "installing Airflow (a minute or two, once)" >&2
  "$python" -m venv --clear "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$package/requirements-dev.txt" -c "$package/constraints.txt" -e python/engine -e "$package"
  touch "$stamp"
fi

# What is left when the tests are killed: each of these processes leads a session of its own.
work=$(mktemp -d)
clean() {
  if [ -f "$work/live/pids" ]; then
    while read -r pid; do kill -KILL -- "-$pid" 2>/dev/null || true; done < "$work/live/pids"
  fi
  # Nodes of clusters that tasks have started. The id may be another process's by now.
  for file in "$work"/live/clusters/*/*/engine.pid; do
    pid=$(grep -o '[0-9]*' "$file" 2>/dev/null | head -1) || continue
    if grep -qF "$(dirname "$file")" "/proc/$pid/cmdline" 2>/dev/null; then kill -KILL -- "-$pid" 2>/dev/null || true; fi
  done
  rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM
export ENGINE_AIRFLOW_TEST=$work/live
# The unit tests of operators want an Airflow, and none is to touch that of the user.
export AIRFLOW_HOME=$work/home AIRFLOW__CORE__LOAD_EXAMPLES=False

cd "$package"
"$venv/bin/ruff" format --check --quiet . || { echo "test-airflow: run ruff format in $package" >&2; exit 1; }
"$venv/bin/ruff" check --quiet .
"$venv/bin/mypy"
"$venv/bin/python" -m pytest -p no:cacheprovider "$@"
