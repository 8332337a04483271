"""The leaderboard as one HTML file, built from files alone; it needs no network, no server and no torch.

Start with render.py, which fills the templates. boards.py and rows.py: models in comparable groups; landmarks.py:
headline and reference models; details.py and gallery.py: one entry's panel; charts.py: SVG; server.py: `serve`.
"""
