"""A program of its own for what bench-embed's job does: ONNX Runtime and the official tokenizers, texts sorted by length, calls of a
budget of padded tokens, one a thread beside each other, the same graph and threads. usage: control.py MODEL GRAPH TEXTS OUT THREADS BUDGET"""
import csv
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

model, graph, texts, out, threads, budget = *sys.argv[1:5], int(sys.argv[5]), int(sys.argv[6])
tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
tokenizer.enable_truncation(256)
tokenizer.no_padding()
with open(texts, newline="", encoding="utf-8") as f:
    ids = [e.ids for e in tokenizer.encode_batch([row[1] + " " + row[2] for row in csv.reader(f)])]
options = ort.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
names = [i.name for i in session.get_inputs()]
order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
groups = []
while order:
    n = max(1, budget // len(ids[order[0]]))
    groups.append(order[:n])
    order = order[n:]


def embed(group):
    tokens = np.zeros((len(group), len(ids[group[0]])), np.int64)
    mask = np.zeros_like(tokens)
    for row, i in enumerate(group):
        tokens[row, :len(ids[i])], mask[row, :len(ids[i])] = ids[i], 1
    feeds = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
    hidden = session.run(None, {name: feeds[name] for name in names})[0]  # other threads run meanwhile
    weights = mask.astype(np.float32)
    v = np.einsum("bsh,bs->bh", hidden, weights, optimize=True) / weights.sum(1, keepdims=True)
    return v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12)


with ThreadPoolExecutor(threads) as pool:
    results = list(pool.map(embed, groups))
vectors = np.empty((len(ids), results[0].shape[1]), np.float32)
for group, v in zip(groups, results):
    vectors[group] = v
column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
pq.write_table(pa.table({"embedding": column}), out)
