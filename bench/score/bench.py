#!/usr/bin/env python3
"""Scores wine rows from CSV and Parquet to Parquet with bin/engine and with other programs, in turn, and prints medians
and ratios; control.py does it with Polars and ONNX Runtime. Environment:

    ROWS=10000000         rows of the large cases, in 16 files
    RUNS=3                runs of each program in each case
    CASES=csv,parquet,small
    PEERS=daft,ray,spark  Daft, Ray Data, and Spark too; 1 means all three. They are installed into bench/score/data/venv
                          (1.3 gigabytes); Spark needs Java
    ENGINE=bin/engine

Each run is a whole process, from its start to its exit; the input is in the page cache, the output folder is removed
before. CPU is user + system of the process and its children, memory the peak RSS of the largest of them; for Ray and Spark,
which leave processes to themselves, both are of all their processes, and memory is PSS (see measure.py). All programs must
write the same rows, by the sums of three columns.
"""

import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys

import measure

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ROWS = int(os.environ.get("ROWS", "10000000"))
RUNS = int(os.environ.get("RUNS", "3"))
CASES = os.environ.get("CASES", "csv,parquet,small").split(",")
ALL_PEERS = ["daft", "ray", "spark"]
PEERS = {"": [], "0": [], "1": ALL_PEERS}.get(os.environ.get("PEERS", ""), os.environ.get("PEERS", "").split(","))
PROGRAMS = ["engine", "control", *PEERS]
VENV = HERE / "data" / "venv"
ENGINE = os.environ.get("ENGINE", str(ROOT / "bin" / "engine"))
GENERATE = ROOT / "bin" / "wine-generate"
SMALL_ROWS = 1599
KINDS = {"csv": ("csv", ROWS, 16), "parquet": ("parquet", ROWS, 16), "small": ("csv", SMALL_ROWS, 1)}


def install():
    """Installs what peers need, once for each content of requirements-peers.txt."""
    wanted = (HERE / "requirements-peers.txt").read_text()
    mark = VENV / "installed"
    if not PEERS or mark.exists() and mark.read_text() == wanted:
        return
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    subprocess.run([VENV / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", HERE / "requirements-peers.txt"], check=True)
    mark.write_text(wanted)


def data(case):
    """Makes a case's input if it is not there from an earlier run, and reads it once."""
    kind, rows, files = KINDS[case]
    folder = HERE / "data" / case
    mark = folder / "_made.json"
    wanted = json.dumps([kind, rows, files])
    if not mark.exists() or mark.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([GENERATE, "-rows", str(rows), "-files", str(files), "-format", kind, "-out", folder], check=True)
        mark.write_text(wanted)
    size = 0
    for path in sorted(folder.glob(f"*.{kind}")):
        with open(path, "rb") as f:
            while block := f.read(1 << 20):
                size += len(block)
    return size


def command(program, case, out):
    kind, _, _ = KINDS[case]
    if program == "engine":
        return [ENGINE, "run", HERE / f"{case}.yaml", "--data-dir", HERE / "out" / "state", "-o", "json"]
    python, script = (sys.executable, "control.py") if program == "control" else (VENV / "bin" / "python", f"peer_{program}.py")
    return [python, HERE / script, kind, HERE / "data" / case, out]


def run(program, case):
    out = HERE / "out" / f"{program}-{case}"
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(HERE / "out" / "state", ignore_errors=True)
    # Ray and Spark do their work in processes that they do not wait for.
    return measure.run(command(program, case, out), HERE / "out" / f"{program}-{case}.log", tree=program in ("ray", "spark"))


def verify(case):
    """All programs wrote all rows and the same sums."""
    rows = KINDS[case][1]
    got = {}
    for program in PROGRAMS:
        out = subprocess.run([sys.executable, HERE / "verify.py", HERE / "out" / f"{program}-{case}"], check=True, capture_output=True)
        got[program] = json.loads(out.stdout)
        if got[program]["rows"] != rows:
            sys.exit(f"{program}, {case}: wrote {got[program]['rows']} rows, expected {rows}")
        for column in ("prediction", "alcohol", "quality"):
            a, b = got["engine"][column], got[program][column]
            if not abs(a - b) <= 1e-11 * abs(b):
                sys.exit(f"{case}: the sums of {column} differ: engine {a!r}, {program} {b!r}")
    return got["engine"]["prediction"]


def cpu_model():
    try:
        for line in open("/proc/cpuinfo"):
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def main():
    for case in CASES:
        if case not in KINDS:
            sys.exit(f"CASES: {case!r} is none of {', '.join(KINDS)}")
    for peer in PEERS:
        if peer not in ALL_PEERS:
            sys.exit(f"PEERS: {peer!r} is none of {', '.join(ALL_PEERS)}")
    (HERE / "out").mkdir(exist_ok=True)
    install()
    print(f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores, {cpu_model()}, "
          f"{platform.system()} {platform.release()}; load at start {os.getloadavg()[0]:.1f}; medians of {RUNS} interleaved runs")
    print(f"{'case':<9}{'program':<9}{'wall s':>8}{'min':>7}{'max':>7}{'rows/s':>12}{'CPU s':>8}{'cores':>7}{'mem. MB':>8}")
    for case in CASES:
        size = data(case)
        results = {program: [] for program in PROGRAMS}
        for i in range(RUNS):
            for program in PROGRAMS if i % 2 == 0 else PROGRAMS[::-1]:
                results[program].append(run(program, case))
        median = {p: {k: statistics.median(r[k] for r in runs) for k in runs[0]} for p, runs in results.items()}
        for program, m in median.items():
            walls = [r["wall"] for r in results[program]]
            print(f"{case:<9}{program:<9}{m['wall']:>8.2f}{min(walls):>7.2f}{max(walls):>7.2f}{KINDS[case][1] / m['wall']:>12,.0f}"
                  f"{m['cpu']:>8.2f}{m['cpu'] / m['wall']:>7.2f}{m['memory']:>8.0f}")
        e = median["engine"]
        for program, m in median.items():
            if program != "engine":
                print(f"{case:<9}{'ratio':<9}{m['wall'] / e['wall']:>8.2f}{'':>26}{m['cpu'] / e['cpu']:>8.2f}{'':>7}{m['memory'] / e['memory']:>8.2f}"
                      f"   {program} / engine")
        print(f"{case:<9}{KINDS[case][1]:,} rows, {size / 1e6:,.1f} MB in, equal sums ({verify(case):.6f})", flush=True)


if __name__ == "__main__":
    main()
