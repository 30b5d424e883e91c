"""Serve EfficientNet-Lite0 with FastAPI and eager PyTorch, as tutorials write it.

python fastapi_server.py PORT WEIGHTS
"""

import io
import sys

import torch
import uvicorn
from fastapi import FastAPI, UploadFile
from networks import build
from PIL import Image

port, weights = sys.argv[1:]
app = FastAPI()
model, transform = build("lite0", weights=weights)


@app.post("/predict")
async def predict(file: UploadFile) -> dict[str, float]:
    """The best class and its score."""
    image = Image.open(io.BytesIO(await file.read())).convert("RGB")
    batch = transform(image).unsqueeze(0)
    with torch.no_grad():
        scores = model(batch)[0].softmax(dim=0)
    score, index = scores.max(dim=0)
    return {"index": int(index), "score": float(score)}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="error")
