"""Reads an output folder over and over as any reader of it would, and looks whether it sees whole, committed rows, each once.

Commands come as lines of JSON on standard input, answers go to standard output, a line of JSON each:

  {"command": "watch", "path": ..., "format": "parquet"|"csv", "mode": ..., "old": n, "new": n, "reference": file, "partition": column|"",
   "s3": {...}|null}
  {"command": "stop"}  answers {"reads": n, "seen": n, "error": text or null}

Rows have an "id": those of the job are 0 to new - 1, those of the job before it 1,000,000 and up, old of them. reference is a
folder of Parquet files with all of them. In S3 mode overwrite shows old and new rows beside each other for a while.
"""

import json
import os
import sys
import threading

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.fs as fs
import pyarrow.parquet as pq

BASE = 1_000_000


class Watch:
    def __init__(self, order):
        self.order = order
        self.reads = 0
        self.seen = np.zeros(0, dtype=np.int64)
        self.error = None
        self.end = threading.Event()
        if order.get("s3"):
            self.files = fs.S3FileSystem(**order["s3"])
        else:
            self.files = fs.LocalFileSystem()
        self.reference = pq.read_table(order["reference"]).sort_by("id").combine_chunks()
        self.ids = self.reference["id"].to_numpy()
        self.old = self.ids[self.ids >= BASE][: order["old"]]
        self.new = self.ids[self.ids < BASE][: order["new"]]
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while True:
            last = self.end.is_set()
            try:
                self.look()
                self.reads += 1
            except Exception as e:  # what a reader sees, whatever it is, is the answer
                self.error = f"after {self.reads} reads: {type(e).__name__}: {e}"
                return
            if last:
                return
            self.end.wait(0.005)

    def read(self):
        path, kind = self.order["path"], self.order["format"]
        if self.files.get_file_info(path).type == fs.FileType.NotFound:
            return None
        if kind == "csv":
            kind = ds.CsvFileFormat(
                parse_options=pa.csv.ParseOptions(newlines_in_values=True),
                convert_options=pa.csv.ConvertOptions(column_types=self.reference.schema),
            )
        partitioning = None
        if column := self.order["partition"]:
            partitioning = ds.partitioning(pa.schema([self.reference.schema.field(column)]), flavor="hive")
        data = ds.dataset(path, format=kind, filesystem=self.files, exclude_invalid_files=False, partitioning=partitioning)
        if not data.files:
            return None
        table = data.to_table()
        return table.select(self.reference.schema.names) if partitioning else table

    def look(self):
        overwrite = self.order["mode"] == "overwrite"
        try:
            table = self.read()
        except OSError as e:
            if not isinstance(e, FileNotFoundError) and "NOT_FOUND" not in str(e) and "NO_SUCH_KEY" not in str(e):
                raise
            if overwrite:
                return  # what was there went between the listing and the reading: a reader begins again
            if len(self.seen) or len(self.old):
                raise
            return  # an empty folder in S3 is none, whatever the last look said
        if table is None and overwrite:
            # A folder that was opened just before it was exchanged is emptied while it is listed: a reader begins again.
            table = self.read()
        if table is None:
            if len(self.seen) or len(self.old):
                raise ValueError("no rows, where there were some")
            return
        table = table.sort_by("id")
        ids = table["id"].to_numpy()
        if len(np.unique(ids)) != len(ids):
            values, counts = np.unique(ids, return_counts=True)
            raise ValueError(f"rows twice: {values[counts > 1][:10]}")
        known = np.searchsorted(self.ids, ids)
        if len(ids) and (known.max() >= len(self.ids) or not (self.ids[known] == ids).all()):
            raise ValueError("a row that is nobody's")
        wanted = self.reference.take(pa.array(known))
        if table.schema.names != wanted.schema.names:
            raise ValueError(f"columns {table.schema.names}")
        for name in table.schema.names:
            if not table[name].equals(wanted[name]):
                raise ValueError(f"rows have another {name}: {table[name]} instead of {wanted[name]}"[:2000])
        if overwrite and self.order.get("s3"):
            pass
        elif overwrite:
            for whole in (self.old, self.new):
                if len(whole) == len(ids) and (whole == ids).all():
                    break
            else:
                raise ValueError(f"{len(ids)} rows, neither the old output nor the new one")
        elif not np.isin(self.old, ids).all():
            raise ValueError("rows of the earlier job are gone")
        elif not np.isin(self.seen, ids).all():
            raise ValueError("rows that were there are gone")
        self.seen = ids


def main():
    watch = None
    for line in sys.stdin:
        order = json.loads(line)
        if order["command"] == "watch":
            watch = Watch(order)
            answer = {}
        else:
            watch.end.set()
            watch.thread.join()
            answer = {"reads": watch.reads, "seen": len(watch.seen), "error": watch.error}
        print(json.dumps(answer), flush=True)
    if watch:
        watch.end.set()
    os._exit(0)


main()
