#!/usr/bin/env bash
# Runs every fuzz target of the module in turn: fuzz.sh [TIME EACH, default 30s] [FOLDER, default .]
set -eu -o pipefail

time=${1:-30s}
root=${2:-.}
found=0
while IFS=: read -r file target; do
  found=$((found + 1))
  printf '== %s %s for %s\n' "$(dirname "$file")" "$target" "$time"
  go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "./$(dirname "$file")"
done < <(grep -rEo --include='*_test.go' --exclude-dir='.*' '^func Fuzz[A-Za-z0-9_]*' "$root" | sed 's/func //; s#^\./##' | sort)
printf 'fuzz: %d targets passed\n' "$found"
