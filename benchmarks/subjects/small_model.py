"""Write a small ONNX model with its preprocessing and labels: which colour dominates.

python small_model.py FOLDER
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from toplabel.preprocess.preprocess import Preprocess

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
nodes = [
    helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0),
    helper.make_node("MatMul", ["mean", "matrix"], ["logits"]),
]
matrix = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
graph = helper.make_graph(
    nodes,
    "colours",
    [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 32, 32])],
    [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
    [onnx.numpy_helper.from_array(matrix, "matrix")],
)
opsets = [helper.make_opsetid("", 13)]
onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "small.onnx")
preprocess = Preprocess(
    input_size=(32, 32), resize_mode="squash", resize_size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3
)
(folder / "preprocess.json").write_text(json.dumps(preprocess.to_dict()))
(folder / "labels.txt").write_text("\n".join(f"class {n}" for n in range(10)))
