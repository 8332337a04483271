"""From the files of recipes to checked values: YAML, sections, overrides, names looked up.

Imports core, components and data. Open resolver.py first, then registry.py.
"""
