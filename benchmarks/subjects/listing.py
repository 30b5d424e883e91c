"""List the inputs of a run into a manifest; names a second and the peak of memory.

python listing.py FOLDER OUTPUT
"""

import json
import resource
import sys
import time
from pathlib import Path

from toplabel.readers import list_entries
from toplabel.runs.manifest import write_listing

folder, output = sys.argv[1:]
started = time.perf_counter()
rows = write_listing(list_entries([folder]), Path(output)).rows
seconds = time.perf_counter() - started
peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
print(json.dumps({"seconds": seconds, "rows": rows, "peak_mb": peak_mb}))
