"""List the inputs of a run into a manifest; names a second and the peak of memory.

python listing.py FOLDER OUTPUT
"""

import json
import resource
import sys
import time
from pathlib import Path

from toplabel.runs.manifest import write_listing
from toplabel.runs.readers.inputs import list_entries

folder, output = sys.argv[1:]
started = time.perf_counter()
rows = write_listing(list_entries([folder]), Path(output)).rows
seconds = time.perf_counter() - started
peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
print(json.dumps({"seconds": seconds, "rows": rows, "peak_mb": peak_mb}))
