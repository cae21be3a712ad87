"""What hstnn-deploy costs, measured: `python -m benchmarks`. See README.md beside this file."""

import os

# Large pages for large tensors, as `hstnn` has them (hstnn_deploy/__main__.py): before torch, which reads it once; and
# for the processes that are started from here.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
