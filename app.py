"""The what-if app: `streamlit run app.py`, or `codesign app`."""

from codesign.app.shell import main

main()
