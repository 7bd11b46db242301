#!/usr/bin/env python3
"""Scores wine rows with files and with an S3 server on this machine (versitygw), in turn, and prints medians and ratios: input in S3,
output in S3, and both. The server's CPU comes from the same cores. Environment:

    ROWS=10000000         rows, in 16 files
    RUNS=5                runs of each kind in each case
    CASES=csv,parquet
    ENGINE=bin/engine     the program
    VERSITYGW=.tools/versitygw

Each run is a whole process, from its start to its exit, with its input in the page cache, into a new prefix or folder. A ratio above 1
says that S3 is faster. CPU is that of the program, "server" that of the server meanwhile, both in seconds and the least of all runs;
the last column is the ratio of CPU, both together against files.
"""

import hashlib
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

os.environ.setdefault("RUNS", "5")
os.environ.setdefault("CASES", "csv,parquet")

import bench  # noqa: E402
import measure  # noqa: E402

SERVER = os.environ.get("VERSITYGW", str(bench.ROOT / ".tools" / "versitygw"))
ROOT = bench.HERE / "out" / "s3"
KEYS = {"AWS_ACCESS_KEY_ID": "score", "AWS_SECRET_ACCESS_KEY": "score-secret", "AWS_REGION": "us-east-1"}
KINDS = {"files": (False, False), "read": (True, False), "write": (False, True), "both": (True, True)}


def serve():
    """Starts the server over the folder ROOT, in which each folder is a bucket."""
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{s.getsockname()[1]}"
    server = subprocess.Popen([SERVER, "--port", address, "--access", KEYS["AWS_ACCESS_KEY_ID"], "--secret", KEYS["AWS_SECRET_ACCESS_KEY"],
                               "--region", KEYS["AWS_REGION"], "--health", "/health", "--quiet", "posix", ROOT],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://{address}/health", timeout=1).close()
            return server, f"http://{address}"
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                sys.exit(f"{SERVER} does not answer")
            time.sleep(0.02)


def job(case, kind, out):
    """Writes the job file of a kind."""
    read, write = KINDS[kind]
    source = f"s3://{case}/*.{case}" if read else f"{bench.HERE}/data/{case}/*.{case}"
    further = ', delimiter: ";"' if case == "csv" else ""
    path = bench.HERE / "out" / f"s3-{case}-{kind}.yaml"
    path.write_text(f"""name: bench-s3-{case}-{kind}
source:
  {case}: {{paths: ["{source}"]{further}}}
batch: {{rows: 10000}}
steps:
  - infer: {{model: {bench.ROOT}/examples/wine/model, output: prediction}}
sink:
  parquet: {{path: "{f's3://out/{out}' if write else bench.HERE / 'out' / out}", mode: error, compression: snappy}}
resources: {{cpu: 1}}
""")
    return path


def seconds(process):
    """The CPU seconds of a process so far; 0 where there is no /proc."""
    try:
        fields = pathlib.Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / measure.TICK


def run(case, kind, number, server):
    out = f"{case}-{kind}-{number}"
    state, local = bench.HERE / "out" / "state", bench.HERE / "out" / out
    shutil.rmtree(state, ignore_errors=True)
    shutil.rmtree(local, ignore_errors=True)
    log = bench.HERE / "out" / f"s3-{case}-{kind}.log"
    before = seconds(server)
    got = measure.run([bench.ENGINE, "run", job(case, kind, out), "--data-dir", state, "-o", "json"], log)
    got["server"] = seconds(server) - before
    text = log.read_text(errors="replace")
    rows = json.loads(text[text.index("{"):text.rindex("}") + 1])["rows_written"]
    if rows != bench.ROWS:
        sys.exit(f"{case}, {kind}: wrote {rows} rows of {bench.ROWS}\n{text[-2000:]}")
    shutil.rmtree(local, ignore_errors=True)
    shutil.rmtree(ROOT / "out" / out, ignore_errors=True)
    return got


def main():
    (bench.HERE / "out").mkdir(exist_ok=True)
    server, endpoint = serve()
    os.environ.update(KEYS, AWS_ENDPOINT_URL=endpoint, AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    try:
        (ROOT / "out").mkdir()
        print(f"{os.cpu_count()} cores, {bench.cpu_model()}; load at start {os.getloadavg()[0]:.1f}; {bench.RUNS} interleaved runs of {bench.ROWS:,} rows")
        print(f"{'case':<9}{'kind':<7}{'wall s':>8}{'min':>7}{'max':>7}{'CPU s':>8}{'server':>8}{'mem. MB':>9}{'ratio':>8}{'of min':>8}{'of CPU':>8}")
        for case in bench.CASES:
            bench.data(case)
            (ROOT / case).mkdir()
            for path in (bench.HERE / "data" / case).glob(f"*.{case}"):
                os.link(path, ROOT / case / path.name)
                # As an upload would have left it.
                os.setxattr(path, "user.etag", f'"{hashlib.md5(path.read_bytes()).hexdigest()}"'.encode())
            results = {kind: [] for kind in KINDS}
            for i in range(bench.RUNS):
                for kind in list(KINDS)[:: 1 if i % 2 == 0 else -1]:
                    results[kind].append(run(case, kind, i, server.pid))
            walls = {kind: [r["wall"] for r in runs] for kind, runs in results.items()}
            cpu = {kind: min(r["cpu"] + r["server"] for r in runs) for kind, runs in results.items()}
            for kind, runs in results.items():
                w = walls[kind]
                print(f"{case:<9}{kind:<7}{statistics.median(w):>8.2f}{min(w):>7.2f}{max(w):>7.2f}{min(r['cpu'] for r in runs):>8.2f}"
                      f"{min(r['server'] for r in runs):>8.2f}{max(r['memory'] for r in runs):>9.0f}"
                      f"{statistics.median(walls['files']) / statistics.median(w):>8.2f}{min(walls['files']) / min(w):>8.2f}{cpu['files'] / cpu[kind]:>8.2f}", flush=True)
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(ROOT, ignore_errors=True)


if __name__ == "__main__":
    main()
