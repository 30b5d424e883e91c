"""Serve EfficientNet-Lite0 with LitServe, its batching on, as its documentation writes it.

python litserve_server.py PORT WEIGHTS
"""

import base64
import io
import sys

import litserve
import torch
from networks import build
from PIL import Image

port, weights = sys.argv[1:]


class Classifier(litserve.LitAPI):
    """An image as base64 in, its class out."""

    def setup(self, device: str) -> None:
        """Load the network."""
        self.model, self.transform = build("lite0", weights=weights)

    def decode_request(self, request: dict[str, str]) -> torch.Tensor:
        """The image as a tensor."""
        image = Image.open(io.BytesIO(base64.b64decode(request["image"])))
        return self.transform(image.convert("RGB"))

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Several as one."""
        return torch.stack(inputs)

    def predict(self, batch: torch.Tensor) -> torch.Tensor:
        """Scores."""
        with torch.inference_mode():
            return self.model(batch).softmax(dim=1)

    def unbatch(self, output: torch.Tensor) -> list[torch.Tensor]:
        """One as several."""
        return list(output)

    def encode_response(self, output: torch.Tensor) -> dict[str, float]:
        """The best class and its score."""
        score, index = output.max(dim=0)
        return {"index": int(index), "score": float(score)}


if __name__ == "__main__":
    api = Classifier(max_batch_size=8, batch_timeout=0.01)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="error")
