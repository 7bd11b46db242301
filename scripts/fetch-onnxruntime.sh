#!/usr/bin/env bash
# Puts the ONNX Runtime shared library into the user's cache folder and prints its path on stdout; everything else goes
# to stderr. Does nothing when the library is there with the right sum. Needs pip or npm, whichever is configured: the
# library is taken from the Python wheel or from the npm package of the same version.
#
#   ENGINE_ONNXRUNTIME_FROM=pip|npm   take it from this one only (default: pip, else npm)
#
# Where no library is pinned below, build or download one and give its path to the engine with --onnxruntime PATH or in
# ENGINE_ONNXRUNTIME.
set -eu -o pipefail

version=1.29.0
from=${ENGINE_ONNXRUNTIME_FROM:-}

say() { printf '%s\n' "$*" >&2; }
die() { say "fetch-onnxruntime: $*"; exit 1; }

# One sum per provenance: the wheel and the npm package hold different builds of one version.
name=libonnxruntime.so
case "$(uname -s)/$(uname -m)" in
Linux/x86_64 | Linux/amd64)
  platform=manylinux_2_28_x86_64
  in_wheel=onnxruntime/capi/libonnxruntime.so.$version
  wheel_sum=8902e52a04bf6bf26f1613746811d6194f9c97ce7a6a7a28452b48522d3bd8d0
  in_npm=package/bin/napi-v6/linux/x64/libonnxruntime.so.1
  npm_sum=89688f5cf51c7e31befbb7b9101bc027799009b18d1baa9a5b1146a72e69538d
  ;;
Linux/aarch64 | Linux/arm64)
  platform=manylinux_2_28_aarch64
  in_wheel=onnxruntime/capi/libonnxruntime.so.$version
  wheel_sum=1444bdca675524f4d265f71397810c9b1f39164b6dccc8f1a39cd81d938e98f4
  in_npm=package/bin/napi-v6/linux/arm64/libonnxruntime.so.1
  npm_sum=a27d21126db312aa8f02f3d5eaebe466e991f51f469882e6d0407d5a8b64afda
  ;;
Darwin/arm64)
  name=libonnxruntime.dylib
  platform=macosx_14_0_arm64
  in_wheel=onnxruntime/capi/libonnxruntime.$version.dylib
  wheel_sum=8ab8982e8fc0a3d5121bf95404dba7a15d70b7df49a8bab1ba481ff961d93dc8
  in_npm=package/bin/napi-v6/darwin/arm64/libonnxruntime.$version.dylib
  npm_sum=3e4c63909e9fc6648c93c68741c1ccf1e3d89218dd1d6a7d4f3d629ffc7f9918
  ;;
*)
  die "no ONNX Runtime $version is pinned for $(uname -s)/$(uname -m): give yours with --onnxruntime PATH or ENGINE_ONNXRUNTIME"
  ;;
esac

dir=${XDG_CACHE_HOME:-${HOME:?neither XDG_CACHE_HOME nor HOME is set}/.cache}/engine/onnxruntime/$version
target=$dir/$name

sum_of() {
  if command -v sha256sum >/dev/null; then
    sha256sum "$1" | cut -d' ' -f1
  elif command -v shasum >/dev/null; then
    shasum -a 256 "$1" | cut -d' ' -f1
  else
    die "missing: sha256sum or shasum"
  fi
}

if [ -f "$target" ]; then
  have=$(sum_of "$target")
  if [ "$have" = "$wheel_sum" ] || [ "$have" = "$npm_sum" ]; then
    printf '%s\n' "$target"
    exit 0
  fi
  say "fetch-onnxruntime: $target has the wrong SHA-256 ($have): fetching it again"
fi

# A Python that has pip, as a command line; empty if there is none.
python=
for candidate in python3 python; do
  if command -v "$candidate" >/dev/null && "$candidate" -m pip --version >/dev/null 2>&1; then
    python=$candidate
    break
  fi
done
pip_tool=
if [ -n "$python" ]; then pip_tool="$python -m pip"; elif command -v pip3 >/dev/null; then pip_tool=pip3; elif command -v pip >/dev/null; then pip_tool=pip; fi

mkdir -p "$dir" || die "cannot make $dir"
work=$(mktemp -d "$dir/.fetch.XXXXXX") || die "cannot write in $dir"
trap 'rm -rf "$work"' EXIT

# Each leaves the library in $work/library, or fails.
from_pip() {
  # The library does not depend on the version of Python, so any one wheel of the platform serves any Python here.
  $pip_tool download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
    --implementation cp --abi cp312 --platform "$platform" --dest "$work" "onnxruntime==$version" >&2 || return 1
  set -- "$work"/onnxruntime-*.whl
  if command -v unzip >/dev/null; then
    unzip -q -p "$1" "$in_wheel" >"$work/library"
  elif command -v python3 >/dev/null; then
    python3 -m zipfile -e "$1" "$work/wheel" && mv "$work/wheel/$in_wheel" "$work/library"
  else
    die "missing: unzip or python3"
  fi
}

from_npm() {
  # In the npm package the library lies beside those of the other platforms: some 110 MB.
  (cd "$work" && npm pack --silent "onnxruntime-node@$version" >/dev/null) || return 1
  tar -xzf "$work/onnxruntime-node-$version.tgz" -O "$in_npm" >"$work/library"
}

install_if() { # install_if SUM SOURCE
  got=$(sum_of "$work/library")
  [ "$got" = "$1" ] || die "the library from $2 has SHA-256 $got, expected $1"
  chmod 0644 "$work/library"
  mv -f "$work/library" "$target" # same folder tree, so one rename: nobody sees half a file
  say "fetch-onnxruntime: ONNX Runtime $version from $2 -> $target"
  printf '%s\n' "$target"
  exit 0
}

if [ -n "$pip_tool" ] && [ "$from" != npm ]; then
  say "fetch-onnxruntime: ONNX Runtime $version from pip (about 25 MB)"
  if from_pip; then install_if "$wheel_sum" pip; fi
  say "fetch-onnxruntime: pip did not deliver it"
fi
if command -v npm >/dev/null && [ "$from" != pip ]; then
  say "fetch-onnxruntime: ONNX Runtime $version from npm (about 110 MB)"
  if from_npm; then install_if "$npm_sum" npm; fi
  say "fetch-onnxruntime: npm did not deliver it"
fi
if [ -z "$pip_tool" ] && ! command -v npm >/dev/null; then
  die "missing: pip or npm, either of them, to fetch ONNX Runtime $version (or give a library with ENGINE_ONNXRUNTIME)"
fi
die "could not fetch ONNX Runtime $version${from:+ from $from}; or give a library with --onnxruntime PATH or ENGINE_ONNXRUNTIME"
