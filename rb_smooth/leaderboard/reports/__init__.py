"""Reports on a board's entries: ranks, differences, one entry in full, paper tables, bundles. Needs no torch."""
