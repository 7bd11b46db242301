#!/usr/bin/env python3
"""Shows that the memory of bin/engine does not grow with its input: scores ever more wine rows to Parquet, from CSV and from
Parquet, in one huge file and in many, and prints the peak memory of all its processes together. Environment:

    ROWS=1000000,10000000,50000000   rows, from few to many
    FILES=1,64                       files that they are in
    FORMATS=csv,parquet
    LIMIT=500                        MB that no run may exceed; the program ends with 1 if one does
    ENGINE=bin/engine

An input is made before its run and deleted after it: 50 million rows of CSV are 2.7 GB. bench/score/data/memory and
bench/score/out hold them.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import measure

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ROWS = [int(n) for n in os.environ.get("ROWS", "1000000,10000000,50000000").split(",")]
FILES = [int(n) for n in os.environ.get("FILES", "1,64").split(",")]
FORMATS = os.environ.get("FORMATS", "csv,parquet").split(",")
LIMIT = float(os.environ.get("LIMIT", "500"))
ENGINE = os.environ.get("ENGINE", str(ROOT / "bin" / "engine"))
DATA, OUT = HERE / "data" / "memory", HERE / "out" / "memory"


def peak(kind, rows, files):
    """Scores one input and returns what it measured, with the bytes of the input."""
    shutil.rmtree(DATA, ignore_errors=True)
    made = subprocess.run([ROOT / "bin" / "wine-generate", "-rows", str(rows), "-files", str(files), "-format", kind, "-out", DATA],
                          capture_output=True, text=True)
    if made.returncode != 0:
        sys.exit(made.stderr)
    size = sum(path.stat().st_size for path in DATA.iterdir())
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    measured = measure.run(
        [ENGINE, "run", HERE / f"{kind}.yaml", "--data-dir", OUT / "state", "--set", f"source.{kind}.paths.0={DATA}/*.{kind}",
         "--set", f"sink.parquet.path={OUT}/out", "-o", "json"], OUT / "log", tree=sys.platform == "linux")
    shutil.rmtree(OUT)
    shutil.rmtree(DATA)
    return measured | {"size": size}


def main():
    print(f"{'input':<9}{'files':>6}{'rows':>12}{'MB in':>9}{'wall s':>8}{'peak MB':>9}{'to the smallest':>17}", flush=True)
    worst = 0
    for kind in FORMATS:
        for files in FILES:
            first = None
            for rows in ROWS:
                m = peak(kind, rows, files)
                first = first or m["memory"]
                worst = max(worst, m["memory"])
                print(f"{kind:<9}{files:>6}{rows:>12,}{m['size'] / 1e6:>9,.1f}{m['wall']:>8.2f}{m['memory']:>9.0f}{m['memory'] / first:>17.2f}", flush=True)
    print(f"at most {worst:.0f} MB, the limit is {LIMIT:.0f}")
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
