"""Label one photo with an ONNX program, and nothing more.

python bare_onnxruntime.py PHOTO PROGRAM LABELS
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image

photo, program, labels = sys.argv[1:]
with open(labels) as file:
    names = file.read().splitlines()

image = Image.open(photo).convert("RGB")
scale = 256 / min(image.size)
image = image.resize((int(image.width * scale), int(image.height * scale)), Image.BICUBIC)
left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
image = image.crop((left, top, left + 224, top + 224))
tensor = (np.asarray(image, dtype=np.float32) / 255 - 0.5) / 0.5

session = onnxruntime.InferenceSession(program)
batch = tensor.transpose(2, 0, 1)[None]
(logits,) = session.run(None, {session.get_inputs()[0].name: batch})
scores = np.exp(logits[0] - logits[0].max())
scores /= scores.sum()
for index in scores.argsort()[::-1][:5]:
    print(f"{names[index]}\t{scores[index]:.4f}")
