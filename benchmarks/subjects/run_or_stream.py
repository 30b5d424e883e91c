"""Label a folder by `run`, or by `stream` with a line of JSON for each; the seconds of it.

python run_or_stream.py run|stream FOLDER OUTPUT
"""

import json
import sys
import time

import toplabel
from toplabel.image.paths import expand

how, folder, output = sys.argv[1:]
with toplabel.load() as model:
    model("examples/cat.jpg")
    started = time.perf_counter()
    if how == "run":
        count = toplabel.run(folder, output, model=model).inputs
    else:
        count = 0
        with open(output, "w", encoding="utf-8") as file:
            for prediction in model.stream(expand([folder])):
                file.write(json.dumps(prediction.to_dict()) + "\n")
                count += 1
    seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "count": count}))
