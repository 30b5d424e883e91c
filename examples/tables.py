"""Predictions as tables: pandas at once, DuckDB on what a run has written.

pip install pandas duckdb
"""

import tempfile
from pathlib import Path

import duckdb

import toplabel

HERE = Path(__file__).parent

table = toplabel.load()(str(HERE)).to_pandas()
print(table[["label", "score"]].round(2).to_string())

with tempfile.TemporaryDirectory() as folder:
    labels = Path(folder, "labels.csv")
    toplabel.run([str(HERE)], labels)
    query = f"SELECT label, round(score, 2) FROM '{labels}' WHERE score > 0.3 ORDER BY score"
    print(duckdb.sql(query).fetchall())
