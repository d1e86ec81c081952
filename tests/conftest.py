"""Settings for all tests: a cache folder of their own, so that the user's is neither used nor filled."""

import os
from pathlib import Path

os.environ.setdefault("TRACEJIT_CACHE_DIR", str(Path(__file__).resolve().parent.parent / ".pytest_cache" / "tracejit"))
