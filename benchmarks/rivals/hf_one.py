"""Label one photo with Hugging Face's pipeline.

python hf_one.py PHOTO MODEL_FOLDER
"""

import sys

import declare_operators  # noqa: F401  (before transformers looks for torchvision)
from transformers import pipeline

photo, folder = sys.argv[1:]
classify = pipeline("image-classification", model=folder, device="cpu")
best = classify(photo, top_k=1)[0]
print(f"{best['label']}\t{best['score']:.4f}")
