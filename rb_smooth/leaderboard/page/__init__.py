"""The leaderboard as one HTML file, built from files alone; it needs no network, no server and no torch.

Start with render.py, which fills the templates. boards.py, rows.py: models in comparable groups. reference_models.py:
headline, ranks and models to compare with. details.py, gallery.py: one entry's panel. charts.py: SVG. server.py: serve.
"""
