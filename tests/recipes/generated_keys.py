"""Writes what is known of a recipe's keys: `keys.json` and the page of the documents.

python -m tests.recipes.generated_keys
"""

import json
from pathlib import Path

from tests.recipes.recipe_keys import known_keys

import penjing
from penjing.recipes import recipe_text
from penjing.recipes.keys_page import keys_page

KEYS = Path(penjing.__file__).parent / "recipes" / "keys.json"
PAGE = Path(__file__).parents[2] / "docs" / "recipe-keys.md"


def keys_text():
    """What `keys.json` should hold."""
    return json.dumps(known_keys(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    KEYS.write_text(keys_text(), "utf-8")
    recipe_text.read_known_keys.cache_clear()
    PAGE.write_text(keys_page(), "utf-8")
