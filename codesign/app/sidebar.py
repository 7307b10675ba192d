"""The left side: where the spec comes from, its fields, its text, its files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from codesign.app import fields, session, specs, state, uploads
from codesign.app.fields import AUTOMATIC, Field
from codesign.app.parts import show_fault
from codesign.app.session import Current
from codesign.app.starters import starters
from codesign.errors import CodesignError
from codesign.report import view
from codesign.spec.load import Document

HALF = 94  # pixels of a short field: two of them beside each other
OPEN = ("Layout", "Training")
YES, NO = "yes", "no"
OWN = "(your own spec)"


def draw(now: Current) -> None:
    """All of it; what is wrong with an upload or a link is said on top."""
    with st.sidebar:
        with st.container():  # one place, so that the tabs below stay as they are when more is said here
            _source(now)
            if (fault := session.refused()) is not None:
                show_fault(fault)
        tabs = st.tabs(list(TABS), key="side", on_change="rerun")
        for tab, part in zip(tabs, TABS.values(), strict=True):
            if tab.open:
                with tab:
                    part(now)


# ---------------------------------------------------------------------------------------------------- the source


def _source(now: Current) -> None:
    names = [*state.examples(), *([OWN] if now.state.text else [])]
    st.session_state["source"] = OWN if now.state.text else now.state.example
    st.selectbox("Start from", names, key="source", on_change=_take_source)
    if now.state.changes:
        changed = ", ".join(path for path, _ in now.state.changes)
        st.caption(f"Changed: {view.plain(changed)}")
        st.button("Undo all changes", key="undo", on_click=session.undo, width="stretch")
    if not state.fits_link(now.state):
        st.caption("This spec is too long for a link: share the file.")


def _take_source() -> None:
    if st.session_state["source"] != OWN:
        session.take_example(st.session_state["source"])


# ---------------------------------------------------------------------------------------------------- the fields


def _fields(now: Current) -> None:
    found = now.answer.document
    if found is None:
        st.caption("The fields are shown where the text can be read: see YAML.")
        return
    for group, members in fields.shown(found).items():
        box = st.expander(group, expanded=group in OPEN, key=f"group-{group}", on_change="rerun")
        if box.open:  # what is not looked at is not drawn
            with box, st.container(horizontal=True, gap="small"):
                for one in members:
                    _field(one, found, now)
    if not fields.value_written(found, "run"):
        starter = starters()["run"]
        st.button("Plan the whole run", key="add-run", on_click=session.adopt, args=(starter.changes(found),), width="stretch")
        st.caption(f"It adds: {view.plain(starter.said(found))}")


def _is_short(one: Field) -> bool:
    """The degrees of the layout: small numbers under short names."""
    return one.path.startswith("layout.") and one.kind in ("count", "number")


def _field(one: Field, found: Document, now: Current) -> None:
    value = fields.value(found, one.path)
    key = f"field:{one.path}"
    if one.kind == "choice" and isinstance(value, dict):  # a section in place of a name: one more choice, as it is written
        value = fields.section_text(value)
        one = replace(one, options=(*one.options, value))
    if not one.takes(value):
        _as_text(one, value)
        return
    width = HALF if _is_short(one) else "stretch"
    given: dict[str, Any] = {"key": key, "help": one.help, "on_change": _changed, "args": (one.path, key), "width": width}
    if one.kind in ("choice", "flag"):
        options = one.options if one.kind == "choice" else (YES, NO)
        st.session_state[key] = AUTOMATIC if value is None else _as_option(value)
        st.selectbox(one.label, [*([AUTOMATIC] if one.optional else []), *options], **given)
    elif one.kind == "count":
        st.session_state[key] = value
        st.number_input(one.label, _whole(one.low), _whole(one.high), None, 1, placeholder=_derived(one, now), **given)
    else:
        st.session_state[key] = "" if value is None else fields.shown_text(one.path, value)
        st.text_input(one.label, placeholder=_derived(one, now), **given)


def _as_text(one: Field, value: Any) -> None:
    """A value that the widget cannot show: text where it is one value, a word about it where it is a section."""
    key = f"text:{one.path}"
    is_section = isinstance(value, dict | list)
    st.session_state[key] = "set in the YAML" if is_section else "" if value is None else fields.shown_text(one.path, value)
    st.text_input(one.label, key=key, help=one.help, disabled=is_section, on_change=_changed, args=(one.path, key))


def _changed(path: str, key: str) -> None:
    value = st.session_state[key]
    session.change(path, {"": None, AUTOMATIC: None, YES: True, NO: False}.get(value, value))


def _as_option(value: Any) -> str:
    return YES if value is True else NO if value is False else value


def _derived(one: Field, now: Current) -> str:
    """What a field that is left open is in this plan."""
    if now.answer.solved is None or not one.path.startswith("layout."):
        return AUTOMATIC
    value = getattr(now.answer.solved.plan.problem.spec.layout, one.path.removeprefix("layout."), None)
    return AUTOMATIC if value is None else str(value)


def _whole(bound: float | None) -> int | None:
    return None if bound is None else int(bound)


# ---------------------------------------------------------------------------------------------------- text and files


def _written(now: Current) -> str:
    try:
        return specs.written(now.state.base, now.state.changes)
    except CodesignError:
        return now.state.base


def _editor(now: Current) -> None:
    st.session_state["yaml"] = _written(now)
    st.text_area("Spec (YAML)", key="yaml", height=560, max_chars=specs.MAX_TEXT_B, on_change=_edited,
                 help="Everything that can be asked. Ctrl+Enter takes it.")


def _edited() -> None:
    session.take_text(st.session_state["yaml"])


def _files(now: Current) -> None:
    st.file_uploader("Upload a spec or a Hugging Face config.json", type=list(uploads.KINDS), key="upload",
                     on_change=_uploaded, max_upload_size=uploads.MAX_UPLOAD_MB)
    st.download_button("Download the spec (YAML)", lambda: _written(now), "spec.yaml", "text/yaml", on_click="ignore",
                       width="stretch", key="download-spec")
    solved = now.answer.solved
    if solved is not None:
        st.download_button("Download it resolved", lambda: view.resolved_yaml(solved.plan), "resolved.yaml", "text/yaml",
                           on_click="ignore", width="stretch", key="download-resolved",
                           help="With every preset, default and derived field filled in.")


TABS = {"Fields": _fields, "YAML": _editor, "Files": _files}


def _uploaded() -> None:
    file = st.session_state["upload"]
    if file is not None:
        session.take_upload(file.getvalue(), file.name)
