#!/usr/bin/env bash
# Checks on a machine with an NVIDIA GPU that models run there: that doctor finds it, that embeddings and predictions are those of the
# CPU, in executors and in the worker's process, how fast both are, that a bound of the GPU's memory holds, and that nothing runs elsewhere
# when a device is not there, or cannot do what a model asks for.
#
#   scripts/gpu-check.sh ORT_LIB MODEL TEXTS
#
# ORT_LIB is the library of a GPU build of ONNX Runtime, with libonnxruntime_providers_cuda.so beside it; MODEL the folder of a
# sentence-transformers model; TEXTS a file with one text a line. CUDA and cuDNN must be where the system's loader looks for libraries
# (LD_LIBRARY_PATH). It takes some minutes, and needs bin/engine and a python3 with numpy and pyarrow. The environment may set:
#   ENGINE   the engine program                       (bin/engine)
#   PYTHON   the interpreter                          (python3)
#   ROWS     how many texts are embedded              (20000)
#   SHARES   how many tasks share the GPU at a time   (8)
#   TESTS    programs made with `go test -c` to run too, such as that of ./runtime/onnx; separated by spaces
# The exit code is 0 if every check holds. What is not compared to anything, such as speed, is only told.
set -eu -o pipefail

[ $# -eq 3 ] || { sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
ort=$(realpath "$1") model=$(realpath "$2") texts=$(realpath "$3")
engine=$(realpath "${ENGINE:-$root/bin/engine}") python=${PYTHON:-python3} rows=${ROWS:-20000} shares=${SHARES:-8}
share=$("$python" -c 'import sys; print(int(1e4 / int(sys.argv[1])) / 1e4)' "$shares")
work=$(mktemp -d)
nodes=()
finish() {
  for node in "${nodes[@]}"; do "$engine" stop --data-dir "$node" >/dev/null 2>&1 || true; done
  rm -rf "$work"
}
trap finish EXIT
export XDG_CACHE_HOME=$work/cache
failures=0
pass() { echo "ok    $*"; }
fail() { echo "FAIL  $*"; failures=$((failures + 1)); }

# field FILE NAME prints a field of a JSON object, or nothing; a.b is the field b of the field a.
field() {
  "$python" - "$1" "$2" <<'EOF'
import json, sys
value = json.load(open(sys.argv[1]))
for name in sys.argv[2].split("."):
    value = value.get(name) if isinstance(value, dict) else None
print("" if value is None else value)
EOF
}

# start NAME FLAGS… starts a node and sets address.
start() {
  nodes+=("$work/$1")
  "$engine" start --head --port 0 --web-port -1 --flight-port 0 --data-dir "$work/$1" -o json "${@:2}" >"$work/$1.json" || return
  address=$(field "$work/$1.json" address)
}

# job NAME INPUT STEP RESOURCES [FLAGS…] runs a job and leaves what submit says in NAME.json, and the output in the folder NAME. Models run
# in executors, unless the flags say otherwise.
job() {
  cat >"$work/$1.yaml" <<EOF
name: $1
source: {csv: {paths: ["$work/$2.csv"]}}
batch: {rows: 1024}
steps: [$3]
sink: {parquet: {path: "$work/$1", mode: overwrite, files: 32}}
resources: {$4}
retry: {max_attempts: 1}
EOF
  timeout 300 "$engine" submit "$work/$1.yaml" --address "$address" --wait -q -o json "${@:5}" >"$work/$1.json" 2>"$work/$1.err"
}

# speed NAME prints the rows a second of a job.
speed() {
  "$python" - "$work/$1.json" <<'EOF'
import json, sys
r = json.load(open(sys.argv[1]))
print(f"{r['rows_written'] / r['seconds']:.0f} rows/s ({r['rows_written']} in {r['seconds']:.2f} s)")
EOF
}

# same COLUMN LEAST_COSINE MOST_DIFFERENCE A B compares a column of two jobs' outputs, row by row.
same() {
  "$python" - "$1" "$2" "$3" "$work/$4" "$work/$5" <<'EOF'
import glob, sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq

def read(folder, column):
    table = pa.concat_tables(pq.read_table(f, columns=["id", column]) for f in sorted(glob.glob(folder + "/part-*.parquet"))).combine_chunks()
    values = table[column].combine_chunks()
    ids = table["id"].to_numpy()
    flat = values.flatten().to_numpy() if pa.types.is_fixed_size_list(values.type) or pa.types.is_list(values.type) else values.to_numpy()
    return flat.reshape(len(ids), -1)[np.argsort(ids)].astype(np.float64), np.sort(ids)

column, least, most = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
(a, ids), (b, others) = read(sys.argv[4], column), read(sys.argv[5], column)
assert len(ids) > 0 and np.array_equal(ids, others), f"{len(ids)} and {len(others)} rows, or other ids"
difference = np.abs(a - b).max()
cosine = 1.0
if a.shape[1] > 1:
    cosine = ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min()
print(f"{len(ids)} rows of {a.shape[1]}: difference at most {difference:.2e}, cosine at least {cosine:.8f}")
sys.exit(0 if cosine >= least and difference <= most else 1)
EOF
}

echo "== inputs"
"$python" - "$texts" "$rows" "$work" <<'EOF'
import csv, random, sys
texts = [line for line in open(sys.argv[1], encoding="utf-8").read().split("\n") if line.strip()]
rows, work = int(sys.argv[2]), sys.argv[3]
random.seed(1)
def table(name, count):
    with open(f"{work}/{name}.csv", "w", newline="", encoding="utf-8") as f:
        w = csv.writer(f, quoting=csv.QUOTE_ALL)
        w.writerow(["id", "text"])
        for i in range(count):
            words = texts[i % len(texts)].split()
            if i >= len(texts): random.shuffle(words) # Equal texts of a batch would be computed once.
            w.writerow([i, " ".join(words)])
table("texts", rows)
table("few", 256)
with open(f"{work}/wine.csv", "w", newline="") as f:
    w = csv.writer(f)
    w.writerow(["id"] + [f"x{i}" for i in range(11)])
    w.writerows([i] + [round(random.uniform(0, 10), 3) for _ in range(11)] for i in range(100000))
print(f"{rows} texts of {len(texts)} lines")
EOF

echo "== doctor"
"$engine" doctor --onnxruntime "$ort" --data-dir "$work/doctor" -o json >"$work/doctor.json" || true
"$python" - "$work/doctor.json" <<'EOF' && pass "doctor finds the GPU, and ONNX Runtime can use it" || fail "doctor"
import json, sys
checks = {c["name"]: c for c in json.load(open(sys.argv[1]))["checks"]}
for name in "onnx runtime", "gpu", "memory":
    print("     ", name, checks[name]["status"], checks[name]["found"], checks[name]["hint"])
sys.exit("models can run there" not in checks["gpu"]["found"])
EOF

for test in ${TESTS:-}; do
  echo "== $test"
  if ENGINE_ONNXRUNTIME=$ort "$test" -test.v -test.run 'GPU|CUDA|Probe' >"$work/test.log" 2>&1; then pass "$test"; else fail "$test"; fi
  grep -E '^ *--- |no GPU|FAIL|panic' "$work/test.log" | head -60 || true
done

echo "== a node"
start node --onnxruntime "$ort"
"$engine" list nodes --address "$address" -o json >"$work/nodes.json"
"$python" - "$work/nodes.json" <<'EOF' && pass "the node offers the GPU by itself" || { fail "the node offers no GPU: nothing more can be checked"; exit 1; }
import json, sys
nodes = json.load(open(sys.argv[1]))
total = (nodes if isinstance(nodes, list) else nodes["nodes"])[0]["total"]
print("     ", total)
sys.exit(total["gpu"] < 1 or total["gpu_memory_bytes"] <= 0)
EOF

embed="embed: {model: \"$model\", text: [text], output: v"
on_gpu="cpu: 1, gpu: $share"
echo "== embed"
for name in cpu gpu; do
  resources="cpu: 1"; [ $name = cpu ] || resources=$on_gpu
  job "warm-$name" few "$embed}" "$resources" && echo "      $name, first job, with loading: $(speed "warm-$name")" || { fail "embed on the $name"; cat "$work/warm-$name.err"; }
  job "$name" texts "$embed}" "$resources" && pass "embed on the $name: $(speed $name)" || { fail "embed on the $name"; cat "$work/$name.err"; }
done
result=$(same v 0.9999 1e-3 cpu gpu 2>&1) && pass "GPU and CPU: $result" || fail "GPU and CPU: $result"
job gpu-inside texts "$embed}" "$on_gpu" --set isolation=none && pass "embed in the worker's process: $(speed gpu-inside)" || { fail "embed in the worker's process"; cat "$work/gpu-inside.err"; }
result=$(same v 0.999999 1e-5 gpu gpu-inside 2>&1) && pass "executor and worker: $result" || fail "executor and worker: $result"
for tokens in 2048 4096 8192 32768 65536; do
  job "gpu-$tokens" texts "$embed, batch: {tokens: $tokens}}" "$on_gpu" && echo "      $tokens tokens a call: $(speed "gpu-$tokens")" || { fail "$tokens tokens"; cat "$work/gpu-$tokens.err"; }
done
job gpu-one texts "$embed}" "cpu: 1, gpu: 1" && echo "      one task at a time: $(speed gpu-one)" || { fail "one task"; cat "$work/gpu-one.err"; }

echo "== infer"
infer="infer: {model: \"$root/examples/wine/model/model.onnx\", inputs: [x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10], output: v}"
for name in cpu gpu; do
  resources="cpu: 1"; [ $name = cpu ] || resources=$on_gpu
  job "infer-$name" wine "$infer" "$resources" && pass "infer on the $name: $(speed "infer-$name")" || { fail "infer on the $name"; cat "$work/infer-$name.err"; }
done
result=$(same v 1 1e-4 infer-cpu infer-gpu 2>&1) && pass "GPU and CPU: $result" || fail "GPU and CPU: $result"

echo "== bounds of memory"
if job tight few "$embed}" "cpu: 1, gpu: 1, gpu_memory: 16MiB"; then
  fail "a model of more than 16MiB ran in that"
elif [ "$(field "$work/tight.json" error.kind)" = exhausted ]; then
  pass "16MiB: $(field "$work/tight.json" error.message)"
else
  fail "16MiB: $(cat "$work/tight.json" "$work/tight.err")"
fi
size=$(find "$model" -name '*.safetensors' -o -name '*.onnx' | xargs -d '\n' du -cb | tail -1 | cut -f1)
bound=$((size + 192 * 1048576))
for isolation in process none; do
  name=bounded-$isolation
  if job "$name" texts "$embed, batch: {tokens: 65536}}" "cpu: 1, gpu: 1, gpu_memory: $bound" --set isolation=$isolation; then
    halved=$("$engine" job logs "$(field "$work/$name.json" job_id)" --address "$address" | grep -c 'memory was short' || true)
    result=$(same v 0.9999 1e-3 cpu "$name" 2>&1) && [ "$halved" -gt 0 ] && pass "$bound bytes, isolation $isolation, calls halved by $halved tasks: $(speed "$name"); $result" || fail "$bound bytes, isolation $isolation, halved by $halved tasks: $result"
  else
    fail "$bound bytes, isolation $isolation: $(cat "$work/$name.err")"
  fi
done

echo "== refusals"
if ! "$engine" model quantize "$model" --out "$work/int8-model" --sample "$work/few.csv" --text text --rows 64 --onnxruntime "$ort" >"$work/int8.log" 2>&1; then
  fail "quantize: $(cat "$work/int8.log")"
elif job int8 few "embed: {model: \"$work/int8-model\", text: [text], output: v}" "$on_gpu"; then
  fail "a model in int8 ran on the GPU"
elif [ "$(field "$work/int8.json" error.kind)" = invalid_argument ]; then
  pass "int8: $(field "$work/int8.json" error.message)"
else
  fail "int8: $(cat "$work/int8.json" "$work/int8.err")"
fi
CUDA_VISIBLE_DEVICES='' start blind --onnxruntime "$ort" --num-gpus 1
if job hidden few "$embed}" "cpu: 1, gpu: 1"; then
  fail "a model ran on a GPU that is not there"
elif [ "$(field "$work/hidden.json" error.kind)" = unavailable ]; then
  pass "a GPU that is not there: $(field "$work/hidden.json" error.message)"
else
  fail "a GPU that is not there: $(cat "$work/hidden.json" "$work/hidden.err")"
fi
[ $failures -eq 0 ] && echo "all checks hold" || { echo "$failures checks failed"; exit 1; }
