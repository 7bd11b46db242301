"""The same with Ray Data: an actor that keeps the model, fed with batches of 10,000 rows. peer_ray.py csv|parquet FOLDER OUT"""

import logging
import os
import sys

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import numpy as np
import pyarrow.csv
import ray

MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../examples/wine/model/model.onnx")
COLUMNS = [
    "fixed acidity", "volatile acidity", "citric acid", "residual sugar", "chlorides", "free sulfur dioxide",
    "total sulfur dioxide", "density", "pH", "sulphates", "alcohol",
]

kind, source, out = sys.argv[1:]


class Predict:
    def __init__(self):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name

    def __call__(self, batch):
        x = np.column_stack([batch[c] for c in COLUMNS])
        batch["prediction"] = self.session.run(None, {self.name: x})[0].ravel()
        return batch


ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
ray.data.DataContext.get_current().enable_progress_bars = False
if kind == "csv":
    rows = ray.data.read_csv(
        source, file_extensions=["csv"], parse_options=pyarrow.csv.ParseOptions(delimiter=";"),
        convert_options=pyarrow.csv.ConvertOptions(column_types={c: "float64" for c in COLUMNS} | {"quality": "int64"}),
    )
else:
    rows = ray.data.read_parquet(source, file_extensions=["parquet"])
# One actor: the other core reads and writes. Two take as long here.
rows.map_batches(
    Predict, batch_size=10_000, compute=ray.data.ActorPoolStrategy(size=max(1, (os.cpu_count() or 1) // 2)), num_cpus=1
).write_parquet(out, compression="snappy")
