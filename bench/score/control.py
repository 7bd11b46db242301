"""The control of bench-score: what a user would write with Polars and ONNX Runtime. control.py csv|parquet FOLDER OUT"""

import os
import sys

import numpy as np
import onnxruntime as ort
import polars as pl

MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../examples/wine/model/model.onnx")
COLUMNS = [
    "fixed acidity", "volatile acidity", "citric acid", "residual sugar", "chlorides", "free sulfur dioxide",
    "total sulfur dioxide", "density", "pH", "sulphates", "alcohol",
]
SCHEMA = {c: pl.Float64 for c in COLUMNS} | {"quality": pl.Int64}
BATCH = 10_000

kind, source, out = sys.argv[1:]
options = ort.SessionOptions()
options.intra_op_num_threads = 1  # Polars runs as many batches at a time as there are cores
session = ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name


def infer(frame):
    x = np.ascontiguousarray(frame.select(COLUMNS).to_numpy())
    parts = [session.run(None, {name: x[i:i + BATCH]})[0].ravel() for i in range(0, max(len(x), 1), BATCH)]
    return frame.with_columns(pl.Series("prediction", np.concatenate(parts)))


os.makedirs(out, exist_ok=True)
if kind == "csv":
    rows = pl.scan_csv(f"{source}/*.csv", separator=";", schema=SCHEMA)
else:
    rows = pl.scan_parquet(f"{source}/*.parquet")
rows.map_batches(infer, streamable=True, schema=SCHEMA | {"prediction": pl.Float64}).sink_parquet(
    f"{out}/out.parquet", compression="snappy")
