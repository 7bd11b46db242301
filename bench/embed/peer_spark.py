"""The same with Spark: a pandas UDF over batches of 10,000 rows, a model for each Python process. usage: peer_spark.py MODEL TEXTS OUT THREADS"""
import csv
import os
import shutil
import sys
from typing import Iterator

os.environ.update(HF_HUB_OFFLINE="1", PYSPARK_PYTHON=sys.executable, PYSPARK_DRIVER_PYTHON=sys.executable)
import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import ArrayType, FloatType

MODEL, TEXTS, OUT, THREADS = *sys.argv[1:4], int(sys.argv[4])
shutil.rmtree(OUT, ignore_errors=True)
spark = (
    SparkSession.builder.master(f"local[{THREADS}]").config("spark.driver.memory", "2g").config("spark.ui.enabled", "false")
    .config("spark.sql.execution.arrow.pyspark.enabled", "true").config("spark.sql.execution.arrow.maxRecordsPerBatch", "10000").getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")


@pandas_udf(ArrayType(FloatType()))
def embed(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)  # Each core has a process of its own.
    model = SentenceTransformer(MODEL, device="cpu")
    for texts in batches:
        yield pd.Series(list(model.encode(texts.tolist(), batch_size=32, show_progress_bar=False)))


with open(TEXTS, newline="", encoding="utf-8") as f:
    rows = pd.DataFrame({"text": [row[1] + " " + row[2] for row in csv.reader(f)]})
rows.insert(0, "id", range(len(rows)))
frame = spark.createDataFrame(rows).repartition(THREADS)
frame.withColumn("embedding", embed("text")).drop("text").write.parquet(OUT)
spark.stop()
