"""A bundle as a model of MLflow's: a table of paths in, a table of labels out.

The bundle travels as an artifact, so that whoever loads the model needs no PyTorch.

pip install mlflow
"""

import tempfile
from pathlib import Path

import mlflow.pyfunc
import pandas

import toplabel

HERE = Path(__file__).parent


class Labeller(mlflow.pyfunc.PythonModel):
    """What MLflow loads and calls."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        """Once, where the model is loaded."""
        self.model = toplabel.load(context.artifacts["bundle"])

    def predict(
        self,
        context: mlflow.pyfunc.PythonModelContext,
        model_input: pandas.DataFrame,
        params: dict[str, object] | None = None,
    ) -> pandas.DataFrame:
        """A row for each: its label, score, and why there is none."""
        table = self.model(list(model_input["path"])).to_pandas()
        return table[["label", "score", "error_code"]]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder, "lite0.toplabel")
        toplabel.load().save(bundle)
        mlflow.pyfunc.save_model(
            Path(folder, "model"),
            python_model=Labeller(),
            artifacts={"bundle": str(bundle)},
            pip_requirements=[f"toplabel=={toplabel.__version__}"],
        )
        model = mlflow.pyfunc.load_model(str(Path(folder, "model")))
        images = [str(HERE / "coffee.jpg"), str(HERE / "missing.jpg")]
        print(model.predict(pandas.DataFrame({"path": images})).to_string())
