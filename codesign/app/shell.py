"""The frame of the app: title, navigation, the left side; then the page that was asked for."""

from __future__ import annotations

import streamlit as st

from codesign.app import session, sidebar
from codesign.app.pages import PAGES


def main() -> None:
    """One run of the script."""
    st.set_page_config(page_title="codesign", layout="wide")
    st.set_option("client.showErrorDetails", "none")  # a fault of ours goes to the log, not to the page
    session.start()
    pages = [
        st.Page(page.draw, title=page.title, url_path=page.path, default=page is PAGES[0])
        for page in PAGES
    ]
    chosen = st.navigation(pages, position="top")
    sidebar.draw(session.current())
    chosen.run()
    session.write_link(chosen.url_path)
