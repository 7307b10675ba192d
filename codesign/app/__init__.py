"""The what-if app: `app.py` runs `shell.main`. State and texts are plain functions; pages draw and compute nothing.

state.py     what is asked, as plain data, and its link
specs.py     specs that come from a page: bounded, data only
uploads.py   files that come from a page
fields.py    the inputs that have a widget
answers.py   from what is asked to plan and run, kept by their text
session.py   what one visitor has changed, and the address bar
starters.py  sections that a page can add to a spec
sidebar.py   the left side; parts.py: what pages share; charts.py, run_charts.py: Vega-Lite
pages/       one file a question; pages/__init__.py lists them
"""
