"""A web application of your own around a predictor; `toplabel serve` is one that is finished.

pip install fastapi uvicorn python-multipart
uvicorn fastapi_app:app
"""

from typing import Annotated, Any

from fastapi import FastAPI, File, HTTPException

import toplabel

app = FastAPI()
model = toplabel.load()  # one for all threads


@app.post("/label")
def label(image: Annotated[bytes, File()]) -> dict[str, Any]:  # not async: FastAPI uses a thread
    """The label of an uploaded image."""
    try:
        prediction = model(image, top_k=3)
    except toplabel.ImageError as error:
        raise HTTPException(422, {"code": error.code, "message": error.message}) from error
    return prediction.to_dict()
