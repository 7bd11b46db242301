#!/usr/bin/env python3
"""Embeds news with bin/engine and with other programs, in turn, each a whole process from its start to its exit, and prints medians
and ratios; control.py is a loop around ONNX Runtime by hand. bin/bench-embed compares without what starts and ends. Environment:

    TEXTS=../shared/data/ag-news-3800.csv   a CSV file without header: class, title, description
    ROWS=3800             how many of its texts; more than it has repeats them with a number in front
    RUNS=3                runs of each program
    THREADS=              threads of the models' calls, all together; all cores without it
    BUDGET=256            padded tokens of a call of control.py
    PEERS=st,ray,spark    sentence-transformers on torch too, and Ray Data and Spark around it; 1 means all three. They are installed into
                          bench/embed/data/venv (two gigabytes); Spark needs Java
    MODEL=                the folder of all-MiniLM-L6-v2; scripts/fetch-minilm.sh fetches it without this
    ENGINE=bin/engine

CPU is user + system of the process and its children, RSS the peak of the largest of them. The vectors of all programs are compared.
"""

import csv
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DATA, OUT = HERE / "data", HERE / "out"
TEXTS = pathlib.Path(os.environ.get("TEXTS", ROOT.parent / "shared" / "data" / "ag-news-3800.csv"))
ROWS = int(os.environ.get("ROWS", "3800"))
RUNS = int(os.environ.get("RUNS", "3"))
THREADS = os.environ.get("THREADS") or str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
BUDGET = os.environ.get("BUDGET", "256")
PEERS = {"": [], "0": [], "1": ["st", "ray", "spark"]}.get(os.environ.get("PEERS", ""), os.environ.get("PEERS", "").split(","))
ENGINE = os.environ.get("ENGINE", str(ROOT / "bin" / "engine"))
VENV = DATA / "venv"


def output_of(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def prepare():
    DATA.mkdir(exist_ok=True)
    OUT.mkdir(exist_ok=True)
    if not TEXTS.exists():
        sys.exit(f"{TEXTS}: no such file; set TEXTS to a CSV file without header: class, title, description")
    with open(TEXTS, newline="", encoding="utf-8") as f:
        texts = list(csv.reader(f))
    with open(DATA / "texts.csv", "w", newline="", encoding="utf-8") as f:
        out = csv.writer(f, quoting=csv.QUOTE_ALL)
        for i in range(ROWS):
            row = list(texts[i % len(texts)])
            if i >= len(texts):
                row[1] = f"{i // len(texts)} {row[1]}"  # equal texts would be computed once
            out.writerow(row)
    if PEERS and not (VENV / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", HERE / "requirements-peers.txt"], check=True)
        (VENV / "installed").touch()
    model = os.environ.get("MODEL") or output_of(ROOT / "scripts" / "fetch-minilm.sh")
    return model, output_of(ROOT / "bin" / "bench-embed", "-graph", "-model", model)


def commands(model, graph):
    texts = DATA / "texts.csv"
    all_programs = {
        "engine": [ENGINE, "run", HERE / "job.yaml", "--data-dir", OUT / "state", "--set", f"steps.0.embed.model={model}",
                   "--set", f"resources.cpu={THREADS}", "-o", "json"],
        "control": [sys.executable, HERE / "control.py", model, graph, texts, OUT / "control.parquet", THREADS, BUDGET],
    }
    for peer in PEERS:
        all_programs[peer] = [VENV / "bin" / "python", HERE / f"peer_{peer}.py", model, texts, OUT / f"{peer}.parquet", THREADS]
    return all_programs


def run(name, command):
    for left in ("state", "engine"):
        if name == "engine":
            shutil.rmtree(OUT / left, ignore_errors=True)
    log = OUT / f"{name}.log"
    with open(log, "wb") as f:
        start = time.monotonic()
        # This process imports no NumPy while it measures: on Linux a child's peak RSS begins at its parent's.
        process = subprocess.Popen(command, stdout=f, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{name}: exit code {process.returncode}\n{log.read_text(errors='replace')[-4000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss * unit / 1e6}


def compare(programs):
    """Prints how far the others' vectors are from the engine's."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq


    def read(paths):
        table = pa.concat_tables([pq.read_table(p) for p in paths])
        if "id" in table.column_names:  # Written in any order.
            table = table.sort_by("id")
        return table["embedding"].combine_chunks().flatten().to_numpy().reshape(ROWS, -1).astype(np.float64)

    engine = read(sorted((OUT / "engine").glob("part-*.parquet")))
    for name in programs:
        if name != "engine":
            path = OUT / f"{name}.parquet"
            other = read(sorted(path.glob("*.parquet")) if path.is_dir() else [path])
            cosine = (engine * other).sum(1) / np.linalg.norm(engine, axis=1) / np.linalg.norm(other, axis=1)
            print(f"{name}: vectors differ by {abs(engine - other).max():.1e} at most, smallest cosine {cosine.min():.12f}")


def main():
    programs = commands(*prepare())
    print(f"{ROWS} texts, {THREADS} threads; load at start {os.getloadavg()[0]:.1f}; medians of {RUNS} interleaved runs")
    results = {name: [] for name in programs}
    names = list(programs)
    for i in range(RUNS):
        for name in names if i % 2 == 0 else names[::-1]:
            results[name].append(run(name, programs[name]))
    median = {name: {k: statistics.median(r[k] for r in runs) for k in runs[0]} for name, runs in results.items()}
    print(f"{'program':<23}{'wall s':>8}{'min':>7}{'max':>7}{'texts/s':>9}{'CPU s':>8}{'RSS MB':>8}{'wall, CPU, RSS to the engine':>32}")
    for name, m in median.items():
        walls = [r["wall"] for r in results[name]]
        e = median["engine"]
        print(f"{name:<23}{m['wall']:>8.2f}{min(walls):>7.2f}{max(walls):>7.2f}{ROWS / m['wall']:>9.1f}{m['cpu']:>8.2f}{m['rss']:>8.0f}"
              f"{m['wall'] / e['wall']:>18.2f}{m['cpu'] / e['cpu']:>7.2f}{m['rss'] / e['rss']:>7.2f}")
    compare(programs)


if __name__ == "__main__":
    main()
