"""Recipes: YAML files, sections, overrides, typed schema, and lookup of components by name.

Imports core, components and data. Open resolver.py first, then registry.py.
"""
