"""The same with Spark: a pandas UDF over batches of 10,000 rows, a model for each Python process. peer_spark.py csv|parquet FOLDER OUT"""

import os
import sys
from collections.abc import Iterator

os.environ.update(PYSPARK_PYTHON=sys.executable, PYSPARK_DRIVER_PYTHON=sys.executable)
import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf

MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../examples/wine/model/model.onnx")
COLUMNS = [
    "fixed acidity", "volatile acidity", "citric acid", "residual sugar", "chlorides", "free sulfur dioxide",
    "total sulfur dioxide", "density", "pH", "sulphates", "alcohol",
]

kind, source, out = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[*]").config("spark.driver.memory", "4g").config("spark.ui.enabled", "false")
    .config("spark.sql.execution.arrow.maxRecordsPerBatch", "10000").getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
with open(MODEL, "rb") as f:
    model = spark.sparkContext.broadcast(f.read())


@pandas_udf("double")
def predict(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # each core has a process of its own
    session = ort.InferenceSession(model.value, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for columns in batches:
        yield pd.Series(session.run(None, {name: np.column_stack([c.to_numpy() for c in columns])})[0].ravel())


if kind == "csv":
    schema = ", ".join(f"`{c}` double" for c in COLUMNS) + ", quality bigint"
    rows = spark.read.option("header", True).option("sep", ";").option("mode", "FAILFAST").schema(schema).csv(f"{source}/*.csv")
else:
    rows = spark.read.parquet(f"{source}/*.parquet")
rows.withColumn("prediction", predict(*[f"`{c}`" for c in COLUMNS])).write.option("compression", "snappy").parquet(out)
spark.stop()
