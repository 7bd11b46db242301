#!/usr/bin/env python3
"""Trains the example's model: an ElasticNet that predicts the quality of wine-like rows, as an MLflow model folder.

    python examples/wine/train.py                       writes examples/wine/model
    python examples/wine/train.py --out DIR             writes another folder
    python examples/wine/train.py --compare DIR         also prints how far the coefficients are from those in DIR
    python examples/wine/train.py --rows-to FILE.csv    also writes the training rows

Needs numpy, scikit-learn, onnx and skl2onnx (requirements-test.txt), not MLflow. The rows are those of wine.go, and
training is deterministic: coordinate descent in a fixed order to a tight tolerance.
"""

import argparse
import json
import pathlib

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ROWS, SEED = 5000, 1

# What follows up to `rows` is wine.go in Python; see there. The integer arithmetic gives the same rows.
COLUMNS = [
    "fixed acidity", "volatile acidity", "citric acid", "residual sugar", "chlorides", "free sulfur dioxide",
    "total sulfur dioxide", "density", "pH", "sulphates", "alcohol", "quality",
]
DECIMALS = [1, 3, 2, 2, 3, 0, 0, 4, 2, 2, 1, 0]
STEP = [1, 5, 1, 5, 1, 1, 1, 1, 1, 1, 1]
PROBABILITIES = np.array([0, 655, 3277, 16384, 32768, 49152, 62259, 64881, 65536])
QUANTILES = np.array([
    [46, 52, 61, 71, 79, 92, 118, 133, 159],
    [120, 180, 270, 390, 520, 640, 840, 1020, 1580],
    [0, 0, 0, 9, 26, 42, 60, 70, 100],
    [90, 140, 160, 190, 220, 260, 510, 830, 1550],
    [12, 42, 54, 70, 79, 90, 126, 358, 611],
    [1, 3, 4, 7, 14, 21, 35, 50, 72],
    [3, 5, 7, 13, 22, 42, 80, 105, 217],
    [9901, 9922, 9936, 9956, 9968, 9978, 10000, 10012, 10037],
    [274, 293, 306, 321, 331, 340, 357, 370, 401],
    [33, 42, 47, 55, 62, 73, 93, 126, 200],
    [84, 90, 92, 95, 102, 111, 125, 134, 149],
])


def random(seed, index, column):
    """SplitMix64 at the position of a row and column; index is an array of uint64, and so is the result."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) * np.uint64(0xD1342543DE82EF95) + (index * np.uint64(16) + np.uint64(column + 1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def rows(seed, count):
    """Rows 0 to count as int64 of shape [count, 12], in units of each column's last decimal."""
    index = np.arange(count, dtype=np.uint64)
    out = np.empty((count, 12), np.int64)
    for column in range(11):
        u = (random(seed, index, column) >> np.uint64(48)).astype(np.int64)
        k = np.searchsorted(PROBABILITIES, u, side="right")
        low, high = QUANTILES[column][k - 1], QUANTILES[column][k]
        value = low + (high - low) * (u - PROBABILITIES[k - 1]) // (PROBABILITIES[k] - PROBABILITIES[k - 1])
        out[:, column] = value // STEP[column] * STEP[column]
    out[:, 6] += out[:, 5]
    score = (56000 - 11 * (out[:, 1] - 530) - 19 * (out[:, 4] - 87) - 30 * (out[:, 6] - 46)
             - 50 * (out[:, 8] - 331) + 90 * (out[:, 9] - 66) + 280 * (out[:, 10] - 104))
    noise = random(seed, index, 11)
    total = sum(((noise >> np.uint64(16 * i)) & np.uint64(0xFFFF)).astype(np.int64) for i in range(4))
    score += total * 10 // 63 - 20805
    out[:, 11] = np.clip((np.maximum(score, 0) + 5000) // 10000, 3, 8)
    return out


def floats(table):
    return table / np.power(10.0, DECIMALS)


def write_csv(table, path):
    def text(units, decimals):
        s = f"{units // 10**decimals}.{units % 10**decimals:0{decimals}d}" if decimals else str(units)
        return s.rstrip("0").rstrip(".") if decimals else s

    with open(path, "w", newline="\n") as f:
        f.write(";".join(f'"{c}"' for c in COLUMNS) + "\n")
        for row in table.tolist():
            f.write(";".join(text(v, d) for v, d in zip(row, DECIMALS)) + "\n")


def train(table):
    from sklearn.linear_model import ElasticNet

    values = floats(table)
    # The measurements are not scaled, so a small penalty keeps those with small units in the model.
    return ElasticNet(alpha=0.001, l1_ratio=0.5, tol=1e-12, max_iter=100_000).fit(values[:, :11], values[:, 11])


def to_onnx(model):
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType

    # DoubleTensorType keeps the computation in float64 from end to end.
    return convert_sklearn(model, name="wine-elasticnet", initial_types=[("X", DoubleTensorType([None, 11]))], target_opset=17)


def coefficients(folder):
    """All float64 constants of the graph of a model folder: the eleven coefficients and the intercept."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(pathlib.Path(folder) / "model.onnx").graph
    arrays = [numpy_helper.to_array(i) for i in graph.initializer]
    found = np.sort(np.concatenate([a.ravel() for a in arrays if a.dtype == np.float64]))
    if found.shape != (12,):
        raise SystemExit(f"{folder}: expected 11 coefficients and an intercept, found {found.size} constants")
    return found


# As MLflow 3 writes it, with the parts that it draws by chance fixed, so that retraining changes no file.
MLMODEL = """\
flavors:
  onnx:
    code: null
    data: model.onnx
    onnx_session_options: null
    onnx_version: {onnx}
    providers:
    - CUDAExecutionProvider
    - CPUExecutionProvider
  python_function:
    data: model.onnx
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.onnx
    python_version: {python}
is_signature_from_type_hint: false
mlflow_version: {mlflow}
model_id: null
model_size_bytes: {size}
model_uuid: m-00000000000000000000000000000001
prompts: null
signature:
  inputs: '{inputs}'
  outputs: '{outputs}'
  params: null
type_hint_from_example: false
utc_time_created: '2026-11-23 00:00:00.000000'
"""
VERSIONS = {"mlflow": "3.17.2", "numpy": "2.4.6", "onnx": "1.23.2", "onnxruntime": "1.29.0"}
PYTHON = "3.11.7"


def write_folder(folder, model):
    folder.mkdir(parents=True, exist_ok=True)
    data = model.SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    inputs = json.dumps([{"type": "double", "name": c, "required": True} for c in COLUMNS[:11]])
    outputs = json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 1]}}])
    (folder / "MLmodel").write_text(MLMODEL.format(
        onnx=VERSIONS["onnx"], mlflow=VERSIONS["mlflow"], python=PYTHON, size=len(data), inputs=inputs, outputs=outputs))
    pins = [f"{name}=={version}" for name, version in VERSIONS.items()]
    (folder / "requirements.txt").write_text("\n".join(pins) + "\n")
    (folder / "conda.yaml").write_text(
        f"channels:\n- conda-forge\ndependencies:\n- python={PYTHON}\n- pip\n- pip:\n"
        + "".join(f"  - {pin}\n" for pin in pins) + "name: mlflow-env\n")
    (folder / "python_env.yaml").write_text(
        f"python: {PYTHON}\nbuild_dependencies:\n- pip\n- setuptools\n- wheel\ndependencies:\n- -r requirements.txt\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "model")
    parser.add_argument("--compare", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--rows-to", type=pathlib.Path, metavar="FILE")
    args = parser.parse_args()

    table = rows(SEED, ROWS)
    if args.rows_to:
        write_csv(table, args.rows_to)
    write_folder(args.out, to_onnx(train(table)))
    if args.compare:
        difference = np.abs(coefficients(args.out) - coefficients(args.compare)).max()
        print(json.dumps({"max_difference": float(difference)}))


if __name__ == "__main__":
    main()
