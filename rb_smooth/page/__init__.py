"""The leaderboard as a page: one HTML file made of files alone, which needs no network, no server and no torch.

rows.py is one model, and boards.py says who stands on which board and what may be ranked; bearings.py, how good a model
is, compared with what; details.py, all that is known of one entry of ours; drawings.py and inlining.py make the charts,
pictures.py the gallery; building.py fills the templates, and serving.py shows the page.
"""
