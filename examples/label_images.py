"""Label one image, several, and as many as there are."""

from pathlib import Path

import toplabel

HERE = Path(__file__).parent

# one image
print(toplabel.label(HERE / "coffee.jpg"))

# several, with their scores; one that cannot be read is a record with an error
model = toplabel.load()
for prediction in model([HERE / "cat.jpg", HERE / "missing.jpg"]):
    print(prediction.label, prediction.score, prediction.error and prediction.error.code)

# any number, in order, in bounded memory
for prediction in model.stream(HERE):
    print(Path(prediction.source).name, prediction.label)
