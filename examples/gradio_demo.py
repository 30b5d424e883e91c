"""A page to drop an image on, by Gradio; `toplabel serve` has one that needs nothing else.

pip install --no-deps gradio  (6.31 asks for a Pillow older than toplabel's; it runs with this one)
python gradio_demo.py
"""

import gradio
import numpy as np

import toplabel

model = toplabel.load()


def label(image: np.ndarray | None) -> dict[str, float]:
    """The five best classes of an image, uint8 (H, W, 3), for Gradio's component of labels."""
    if image is None:
        return {}
    try:
        found = model(image, top_k=5).top or ()
    except toplabel.ImageError as error:
        raise gradio.Error(error.message) from error
    return {one.label: one.score for one in found}


demo = gradio.Interface(label, gradio.Image(), gradio.Label(), title=model.name)

if __name__ == "__main__":
    demo.launch()
