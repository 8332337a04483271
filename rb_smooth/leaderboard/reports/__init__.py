"""What a board says of its entries: ranks, differences, portraits, tables, bundles. Reads files, and costs no torch."""
