#!/usr/bin/env bash
# Builds the API documentation of the Python distributions as a folder of HTML, and fails if a public name has no doc comment.
#
#   scripts/python-docs.sh [FOLDER]     default: bin/python-docs; open index.html in it
#
# What it needs, Airflow among it, comes from pip into .tools/python; the second time that takes no time. PYTHON=python3.13 chooses another
# Python.
set -eu -o pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
venv=.tools/python/docs-$version

stamp=$venv/.installed-$(cat python/*/pyproject.toml python/requirements-docs.txt python/airflow/constraints.txt | sha256sum | cut -c1-16)
if ! [ -f "$stamp" ]; then
  "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || { echo "missing: Python 3.11 or newer with venv and pip ($python)" >&2; exit 1; }
  "$python" -m venv --clear "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r python/requirements-docs.txt -c python/airflow/constraints.txt -e 'python/engine[progress,pandas,polars]' -e python/airflow
  touch "$stamp"
fi

# Importing Airflow makes its configuration and its database's folder.
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
AIRFLOW_HOME=$home AIRFLOW__LOGGING__LOGGING_LEVEL=WARNING "$venv/bin/python" scripts/python_docs.py "${1:-bin/python-docs}" engine engine_provider
