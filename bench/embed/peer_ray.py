"""The same with Ray Data: an actor that keeps the model, fed with batches. usage: peer_ray.py MODEL TEXTS OUT THREADS"""
import csv
import logging
import os
import shutil
import sys

import pyarrow as pa

os.environ.update(RAY_USAGE_STATS_ENABLED="0", HF_HUB_OFFLINE="1")
import ray

MODEL, TEXTS, OUT, THREADS = *sys.argv[1:4], int(sys.argv[4])


class Embed:
    def __init__(self):
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(THREADS)
        self.model = SentenceTransformer(MODEL, device="cpu")

    def __call__(self, batch):
        batch["embedding"] = self.model.encode(list(batch["text"]), batch_size=32, show_progress_bar=False)
        return batch


shutil.rmtree(OUT, ignore_errors=True)
ray.init(num_cpus=THREADS, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
ray.data.DataContext.get_current().enable_progress_bars = False
with open(TEXTS, newline="", encoding="utf-8") as f:
    rows = [row[1] + " " + row[2] for row in csv.reader(f)]
table = pa.table({"id": pa.array(range(len(rows)), pa.int64()), "text": rows})
# One actor with all threads: two with one each need the model twice and are no faster. Large batches, which encode sorts by length.
ray.data.from_arrow(table).map_batches(
    Embed, batch_size=4096, compute=ray.data.ActorPoolStrategy(size=1), num_cpus=1
).drop_columns(["text"]).write_parquet(OUT)
