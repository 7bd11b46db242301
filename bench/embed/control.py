"""A program of its own for what bench-embed's job does: ONNX Runtime and the official tokenizers, texts sorted by length, calls of a
budget of padded tokens, the same graph and threads. usage: control.py MODEL GRAPH TEXTS OUT THREADS BUDGET"""
import csv
import sys

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
options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
names = [i.name for i in session.get_inputs()]
order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
vectors = None
at = 0
while at < len(order):
    length = len(ids[order[at]])
    group = order[at:at + max(1, budget // length)]
    at += len(group)
    tokens = np.zeros((len(group), length), np.int64)
    mask = np.zeros_like(tokens)
    for row, i in enumerate(group):
        tokens[row, :len(ids[i])], mask[row, :len(ids[i])] = ids[i], 1
    feeds = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
    hidden = session.run(None, {name: feeds[name] for name in names})[0]
    weights = mask.astype(np.float32)
    v = np.einsum("bsh,bs->bh", hidden, weights, optimize=True) / weights.sum(1, keepdims=True)
    v /= np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12)
    if vectors is None:
        vectors = np.empty((len(ids), v.shape[1]), np.float32)
    vectors[group] = v
column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
pq.write_table(pa.table({"embedding": column}), out)
