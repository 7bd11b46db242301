#!/usr/bin/env python3
"""Scores wine rows from CSV and Parquet to Parquet with bin/engine and with a control (control.py: Polars and ONNX
Runtime), in turn, and prints medians and ratios. Environment:

    ROWS=10000000         rows of the large cases, in 16 files
    RUNS=3                runs of each program in each case
    CASES=csv,parquet,small
    ENGINE=bin/engine

Each run is a whole process, from its start to its exit; the input is in the page cache, the output folder is removed
before. CPU is user + system of the process and its children, RSS the peak of the largest of them.
"""

import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ROWS = int(os.environ.get("ROWS", "10000000"))
RUNS = int(os.environ.get("RUNS", "3"))
CASES = os.environ.get("CASES", "csv,parquet,small").split(",")
ENGINE = os.environ.get("ENGINE", str(ROOT / "bin" / "engine"))
GENERATE = ROOT / "bin" / "wine-generate"
SMALL_ROWS = 1599
KINDS = {"csv": ("csv", ROWS, 16), "parquet": ("parquet", ROWS, 16), "small": ("csv", SMALL_ROWS, 1)}


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
    return [sys.executable, HERE / "control.py", kind, HERE / "data" / case, out]


def run(program, case):
    out = HERE / "out" / f"{program}-{case}"
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(HERE / "out" / "state", ignore_errors=True)
    log = HERE / "out" / f"{program}-{case}.log"
    with open(log, "wb") as f:
        start = time.monotonic()
        # This process stays small (it imports neither NumPy nor Arrow): on Linux a child's peak RSS begins at its parent's.
        process = subprocess.Popen(command(program, case, out), stdout=f, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{program}, {case}: exit code {process.returncode}\n{log.read_text(errors='replace')[-4000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss * unit / 1e6}


def verify(case):
    """Both programs wrote all rows and the same sums."""
    rows = KINDS[case][1]
    got = {}
    for program in ("engine", "control"):
        out = subprocess.run([sys.executable, HERE / "verify.py", HERE / "out" / f"{program}-{case}"], check=True, capture_output=True)
        got[program] = json.loads(out.stdout)
        if got[program]["rows"] != rows:
            sys.exit(f"{program}, {case}: wrote {got[program]['rows']} rows, expected {rows}")
    for column in ("prediction", "alcohol", "quality"):
        a, b = got["engine"][column], got["control"][column]
        if not abs(a - b) <= 1e-11 * abs(b):
            sys.exit(f"{case}: the sums of {column} differ: engine {a!r}, control {b!r}")
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
    (HERE / "out").mkdir(exist_ok=True)
    print(f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores, {cpu_model()}, "
          f"{platform.system()} {platform.release()}; load at start {os.getloadavg()[0]:.1f}; medians of {RUNS} interleaved runs")
    print(f"{'case':<9}{'program':<9}{'wall s':>8}{'min':>7}{'max':>7}{'rows/s':>12}{'CPU s':>8}{'cores':>7}{'RSS MB':>8}")
    for case in CASES:
        size = data(case)
        results = {"engine": [], "control": []}
        for i in range(RUNS):
            for program in (("engine", "control"), ("control", "engine"))[i % 2]:
                results[program].append(run(program, case))
        median = {p: {k: statistics.median(r[k] for r in runs) for k in runs[0]} for p, runs in results.items()}
        for program, m in median.items():
            walls = [r["wall"] for r in results[program]]
            print(f"{case:<9}{program:<9}{m['wall']:>8.2f}{min(walls):>7.2f}{max(walls):>7.2f}{KINDS[case][1] / m['wall']:>12,.0f}"
                  f"{m['cpu']:>8.2f}{m['cpu'] / m['wall']:>7.2f}{m['rss']:>8.0f}")
        e, c = median["engine"], median["control"]
        total = verify(case)
        print(f"{case:<9}{'ratio':<9}{e['wall'] / c['wall']:>8.2f}{'':>26}{e['cpu'] / c['cpu']:>8.2f}{'':>7}{e['rss'] / c['rss']:>8.2f}"
              f"   engine / control; {KINDS[case][1]:,} rows, {size / 1e6:,.1f} MB in, equal sums ({total:.6f})", flush=True)


if __name__ == "__main__":
    main()
