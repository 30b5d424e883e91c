"""The same callable in Spark's and Daft's columns: a batch of paths in, a batch of labels out.

The predictor is made once in each process, where it is first needed: it is not sent there.

    spark: udf = pandas_udf(label_column, "string"); frame.withColumn("label", udf("path"))
    daft:  frame.with_column("label", daft.udf(return_dtype=str)(label_column)(frame["path"]))
"""

from functools import cache

import pandas

import toplabel


@cache
def predictor() -> toplabel.Predictor:
    """This process's own."""
    return toplabel.load()


def label_column(paths: pandas.Series) -> pandas.Series:
    """The label of each image; None where it has none."""
    return pandas.Series([one.label for one in predictor()(list(paths))], paths.index)
