"""The leaderboard as one HTML file, built from files alone; it needs no network, no server and no torch.

Start with render.py, which fills the templates. reference_models.py: headline, ranks and models to compare with.
details.py: one entry's panel. charts.py and scatter.py: the numbers of charts.svg.j2. server.py: serve.
"""
