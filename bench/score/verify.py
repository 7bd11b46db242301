"""Prints the rows of a folder of Parquet files and the sums of some columns, as JSON. verify.py FOLDER"""

import glob
import json
import sys

import numpy as np
import pyarrow.parquet as pq

result = {"rows": 0, "prediction": 0.0, "alcohol": 0.0, "quality": 0.0}
for path in sorted(glob.glob(f"{sys.argv[1]}/*.parquet")):
    file = pq.ParquetFile(path)
    for batch in file.iter_batches(columns=["prediction", "alcohol", "quality"]):
        result["rows"] += batch.num_rows
        for column in ("prediction", "alcohol", "quality"):
            result[column] += float(np.sum(batch.column(column).to_numpy(zero_copy_only=False), dtype=np.float64))
print(json.dumps(result))
