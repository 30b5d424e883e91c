"""Label many photos with Hugging Face's pipeline.

python hf_pipeline.py default|batched MODEL_FOLDER PHOTO...
"""

import json
import sys
import time

import declare_operators  # noqa: F401  (before transformers looks for torchvision)
import torch
from transformers import pipeline

mode, folder, *photos = sys.argv[1:]
classify = pipeline("image-classification", model=folder, device="cpu")
options = {"batch_size": 32, "num_workers": 2} if mode == "batched" else {}
index_of = {name: index for index, name in classify.model.config.id2label.items()}

classify(photos[:4], **options)
started = time.perf_counter()
answers = classify(photos, top_k=1, **options)
seconds = time.perf_counter() - started
indices = [index_of[answer[0]["label"]] for answer in answers]
print(json.dumps({"seconds": seconds, "indices": indices, "threads": torch.get_num_threads()}))
