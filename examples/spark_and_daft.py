"""The same callable in Spark's and Daft's columns: a batch of paths in, a batch of labels out.

The predictor is made once in each process, where it is first needed: it is not sent there.

pip install pandas daft, or pyspark
"""

from functools import cache
from typing import Any

import pandas

import toplabel


@cache
def predictor() -> toplabel.Predictor:
    """This process's own."""
    return toplabel.load()


def label_column(paths: pandas.Series) -> pandas.Series:
    """The label of each image; None where it has none."""
    return pandas.Series([one.label for one in predictor()(list(paths))], paths.index)


def with_label_in_spark(frame: Any) -> Any:
    """A `pyspark.sql.DataFrame` with a column `path`, and one more: `label`."""
    from pyspark.sql.functions import pandas_udf

    return frame.withColumn("label", pandas_udf(label_column, "string")("path"))


def with_label_in_daft(frame: Any) -> Any:
    """The same of a `daft.DataFrame`."""
    import daft

    @daft.func.batch(return_dtype=daft.DataType.string())
    def label(paths: daft.Series) -> list[str | None]:
        found = label_column(pandas.Series(paths.to_pylist()))
        return [None if pandas.isna(one) else one for one in found]

    return frame.with_column("label", label(frame["path"]))
