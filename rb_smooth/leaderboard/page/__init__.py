"""The leaderboard as a page: one HTML file made of files alone, which needs no network, no server and no torch.

rows.py is one model, and boards.py says who stands on which board and what may be ranked; landmarks.py, how good a
model is, compared with what; details.py, all that is known of one entry of ours; charts.py and svg.py make the charts,
gallery.py the gallery; render.py fills the templates, and server.py shows the page.
"""
