"""The same with Daft: a class that keeps the model, called with batches of 10,000 rows. peer_daft.py csv|parquet FOLDER OUT"""

import os
import sys

os.environ.update(DAFT_PROGRESS_BAR="0", DO_NOT_TRACK="1", DAFT_ANALYTICS_ENABLED="0")
import daft
import numpy as np
from daft import DataType, Series

MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../examples/wine/model/model.onnx")
COLUMNS = [
    "fixed acidity", "volatile acidity", "citric acid", "residual sugar", "chlorides", "free sulfur dioxide",
    "total sulfur dioxide", "density", "pH", "sulphates", "alcohol",
]

kind, source, out = sys.argv[1:]


@daft.cls
class Predict:
    def __init__(self):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # Daft runs as many at a time as there are cores
        self.session = ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name

    @daft.method.batch(return_dtype=DataType.float64(), batch_size=10_000)
    def __call__(
        self, a: Series, b: Series, c: Series, d: Series, e: Series, f: Series, g: Series, h: Series, i: Series, j: Series, k: Series
    ):
        x = np.column_stack([s.to_arrow().to_numpy(zero_copy_only=False) for s in (a, b, c, d, e, f, g, h, i, j, k)])
        return Series.from_numpy(self.session.run(None, {self.name: x})[0].ravel())


if kind == "csv":
    schema = {c: DataType.float64() for c in COLUMNS} | {"quality": DataType.int64()}
    rows = daft.read_csv(f"{source}/*.csv", delimiter=";", schema=schema)
else:
    rows = daft.read_parquet(f"{source}/*.parquet")
rows.with_column("prediction", Predict()(*[rows[c] for c in COLUMNS])).write_parquet(out, compression="snappy")
