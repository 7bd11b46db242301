"""The same with sentence-transformers on torch, with its own defaults. usage: peer_st.py MODEL TEXTS OUT THREADS"""
import csv
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from sentence_transformers import SentenceTransformer

model, texts, out, threads = *sys.argv[1:4], int(sys.argv[4])
torch.set_num_threads(threads)
with open(texts, newline="", encoding="utf-8") as f:
    all_texts = [row[1] + " " + row[2] for row in csv.reader(f)]
vectors = SentenceTransformer(model, device="cpu").encode(all_texts, batch_size=32, show_progress_bar=False)
column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
pq.write_table(pa.table({"embedding": column}), out)
