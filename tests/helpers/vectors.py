"""The values printed in the specifications, as JSON with lower-case hex."""

import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parent.parent / "vectors"


def load_vectors(name: str) -> Any:
    """What `tests/vectors/<name>.json` holds."""
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
