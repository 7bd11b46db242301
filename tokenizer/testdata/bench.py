"""Prints the official library's time for each text of stdin (one JSON string a line), alone on one core.

    python bench.py TOKENIZER.json MAX_TOKENS

One JSON object a line: {"median_ns": over the texts, "mean_ns": of all texts, "version"}. encode_batch_fast in one call is
the library's quickest way (no offsets), so that is the control; each text's own time is the better of encode and of
encode_batch_fast with that text alone, of five rounds.
"""
import json
import os
import statistics
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
import tokenizers

tok = tokenizers.Tokenizer.from_file(sys.argv[1])
tok.no_padding()
tok.enable_truncation(int(sys.argv[2]))
texts = [json.loads(line) for line in sys.stdin]
fast = getattr(tok, "encode_batch_fast", tok.encode_batch)
fast(texts)
rounds, mean = 5, float("inf")
single = [float("inf")] * len(texts)
for _ in range(rounds):
    start = time.perf_counter_ns()
    fast(texts)
    mean = min(mean, (time.perf_counter_ns() - start) / len(texts))
for _ in range(rounds):
    for i, text in enumerate(texts):
        start = time.perf_counter_ns()
        tok.encode(text)
        middle = time.perf_counter_ns()
        fast([text])
        end = time.perf_counter_ns()
        single[i] = min(single[i], middle - start, end - middle)
print(json.dumps({"median_ns": statistics.median(single), "mean_ns": mean, "version": tokenizers.__version__}))
