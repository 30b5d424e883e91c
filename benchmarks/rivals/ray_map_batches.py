"""Label a folder as Ray Data's examples do: read_images, map, map_batches with an eager model.

python ray_map_batches.py WEIGHTS FOLDER OUTPUT
"""

import logging
import os
import sys

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import numpy as np
import ray
import torch
from networks import build
from PIL import Image

weights, folder, output = sys.argv[1:]
HERE = os.path.dirname(os.path.abspath(__file__))
ray.init(
    num_cpus=2,
    include_dashboard=False,
    log_to_driver=False,
    _node_ip_address="127.0.0.1",
    runtime_env={"env_vars": {"PYTHONPATH": HERE}},
)
logging.getLogger("ray.data").setLevel(logging.ERROR)
ray.data.DataContext.get_current().enable_progress_bars = False


class Preprocess:
    """A photo as the model's tensor."""

    def __init__(self) -> None:
        _, self.transform = build("lite0", weights=weights)

    def __call__(self, row: dict) -> dict:
        """A row with an image in, one with a tensor out."""
        image = Image.fromarray(row["image"])
        return {"path": row["path"], "tensor": self.transform(image).numpy()}


class Classify:
    """The eager model on a batch."""

    def __init__(self) -> None:
        self.model, _ = build("lite0", weights=weights)

    def __call__(self, batch: dict) -> dict:
        """Tensors in, classes out."""
        with torch.inference_mode():
            scores = self.model(torch.from_numpy(np.stack(batch["tensor"]))).softmax(-1)
        top = scores.topk(5)
        return {
            "path": batch["path"],
            "index": top.indices[:, 0].numpy(),
            "score": top.values[:, 0].numpy(),
        }


pool = ray.data.ActorPoolStrategy(size=1)
(
    ray.data.read_images(folder, mode="RGB", include_paths=True)
    .map(Preprocess, compute=pool, num_cpus=0.5)
    .map_batches(Classify, batch_size=32, compute=pool, num_cpus=0.5)
    .write_csv(output)
)
