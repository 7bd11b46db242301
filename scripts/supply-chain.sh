#!/usr/bin/env bash
# Checks what the engine is made of: known vulnerabilities in code that it reaches, licences, and a bill of materials. `make audit` calls it.
#
#   scripts/supply-chain.sh vulnerabilities     govulncheck over all packages
#   scripts/supply-chain.sh licences SBOM       the licences in a bill of materials are those that the engine may be distributed with
#   scripts/supply-chain.sh sbom SBOM           writes that of cmd/engine: CycloneDX, JSON
#   scripts/supply-chain.sh all SBOM            all three
#
# The tools are built at the versions of tools/supply/go.mod. The database of vulnerabilities is https://vuln.go.dev, or what GOVULNDB names,
# such as file:///copy of it. Exit codes: 0 nothing was found, 1 something was found, 3 it could not be checked, which is no pass.
set -eu -o pipefail
cd "$(dirname "$0")/.."

go=${GO:-go}
tools=$PWD/.tools

say() { printf '%s\n' "supply-chain: $*" >&2; }

# tool NAME PACKAGE builds a tool, unless it is there already.
tool() {
  if ! [ -x "$tools/$1" ] || [ tools/supply/go.sum -nt "$tools/$1" ]; then
    say "building $1 (once)"
    "$go" build -C tools/supply -trimpath -o "$tools/$1" "$2"
  fi
}

vulnerabilities() {
  tool govulncheck golang.org/x/vuln/cmd/govulncheck
  local log status=0
  log=$(mktemp)
  "$tools/govulncheck" ${GOVULNDB:+-db "$GOVULNDB"} ./... >"$log" 2>&1 || status=$?
  cat "$log"
  if grep -q 'fetching vulnerabilities' "$log"; then
    say "NOT CHECKED: the database of vulnerabilities cannot be reached; GOVULNDB names another copy of https://vuln.go.dev"
    status=3
  elif [ "$status" -eq 3 ]; then # govulncheck's own code for something found
    say "there are vulnerabilities that the engine's code reaches"
    status=1
  elif [ "$status" -ne 0 ]; then
    say "NOT CHECKED: govulncheck failed"
    status=3
  fi
  rm -f "$log"
  return "$status"
}

sbom() {
  tool cyclonedx-gomod github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod
  mkdir -p "$(dirname "$1")"

  "$tools/cyclonedx-gomod" app -main cmd/engine -licenses -assert-licenses -std -noserial -json -output "$1" . 2>/dev/null
  say "wrote $1"
}

licences() {
  [ -f "$1" ] || { say "there is no $1: run scripts/supply-chain.sh sbom $1"; return 3; }
  python3 - "$1" <<'EOF'
import collections, json, sys

# Those that what is distributed under Apache 2.0 may be linked with. MPL 2.0 asks for the source of the files that are under it, unchanged
# here and named in the bill of materials.
ALLOWED = {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Unlicense", "MPL-2.0"}
# What the detector does not recognise, or takes for another: looked at by people.
KNOWN = {
    "std": "BSD-3-Clause", "golang.org/x/": "BSD-3-Clause", "github.com/hashicorp/go-metrics": "MIT",
}
count, bad = collections.Counter(), []
for component in json.load(open(sys.argv[1]))["components"]:
    name = component["name"]
    given = [k for k in KNOWN if name == k or k.endswith("/") and name.startswith(k)]
    found = {KNOWN[given[0]]} if given else {
        entry.get("expression") or entry.get("license", {}).get("id") or entry.get("license", {}).get("name")
        for entry in component.get("licenses", [])
    }
    count.update(found)
    if not found or not found <= ALLOWED:
        bad.append(f"{name} {component.get('version', '')}: {', '.join(sorted(map(str, found))) or 'no licence was found'}")
print("supply-chain: licences: " + ", ".join(f"{n} {k}" for k, n in count.most_common()), file=sys.stderr)
for line in bad:
    print("supply-chain: not allowed: " + line, file=sys.stderr)
sys.exit(1 if bad else 0)
EOF
}

case "${1:-}" in
vulnerabilities) vulnerabilities ;;
sbom) sbom "${2:?the file to write}" ;;
licences) licences "${2:?the bill of materials}" ;;
all)
  status=0
  sbom "${2:?the file to write}" && licences "$2" || status=$?
  vulnerabilities || status=$?
  exit "$status"
  ;;
*)
  sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p}' "$0" >&2
  exit 2
  ;;
esac
