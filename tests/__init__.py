"""Tests do the same whatever the environment says."""

import os

for _name in [name for name in os.environ if name.startswith("DUALPOOL_")]:
    del os.environ[_name]
# All that they ask runs on this machine, which no proxy knows.
os.environ["no_proxy"] = f"127.0.0.1,localhost,{os.environ.get('no_proxy', '')}"
