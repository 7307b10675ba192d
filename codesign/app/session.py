"""What one visitor has changed: the state, the baseline and the address bar. All of it lives in `st.session_state`.

The answers are shared between visitors: they are kept by the text that they answer, and nothing writes to them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from codesign.app import answers, fields, specs, state, uploads
from codesign.app.answers import Answer, Solved
from codesign.app.specs import Fault
from codesign.app.state import State
from codesign.errors import CodesignError

Changes = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Current:
    """What a page draws: what is asked and its answer; what is pinned, and its plan where it has one."""

    state: State
    answer: Answer
    pinned: State | None
    baseline: Solved | None


@st.cache_resource(max_entries=128, show_spinner=False)
def answered(text: str, changes: Changes) -> Answer:
    """The answer to a spec, kept by its text."""
    return answers.answer(text, changes)


def start() -> None:
    """At the first run of a visit, take what the link asks for."""
    if "state" in st.session_state:
        return
    st.session_state.state = State()
    st.session_state.pinned = None
    st.session_state.refused = None
    query = st.query_params.to_dict()
    try:
        st.session_state.state = state.from_query(query)
        if said := state.unknown(query):
            st.session_state.refused = Fault(said)
        if "pin" in query:
            st.session_state.pinned = state.pin_from_text(query["pin"])
    except CodesignError as error:
        st.session_state.refused = specs.fault_of(error)


def current() -> Current:
    """What is asked now, and its answer."""
    asked: State = st.session_state.state
    pinned: State | None = st.session_state.pinned
    before = answered(pinned.base, pinned.changes).solved if pinned else None
    return Current(asked, answered(asked.base, asked.changes), pinned, before)


def visit() -> str:
    """A name for this visit, made up when it is first wanted."""
    name: str = st.session_state.setdefault("visit", uuid.uuid4().hex)
    return name


def asked() -> State:
    """What is asked now."""
    found: State = st.session_state.state
    return found


def written() -> Mapping[str, Any] | None:
    """The spec that the visit starts from as plain data, without the changed fields; none where it cannot be read."""
    found = answered(asked().base, ()).document
    return None if found is None else found.data


def write_link(page: str = "") -> None:
    """Put what is asked into the address bar; parameters of pages stay as they are.

    The browser drops them where the visitor goes to another `page`, of which the server may not know.
    """
    turned = st.session_state.get("page", page) != page
    st.session_state["page"] = page
    asked: State = st.session_state.state
    pinned: State | None = st.session_state.pinned
    wanted = state.to_query(asked)
    if pinned and state.fits_link(asked) and state.fits_link(pinned):
        wanted["pin"] = state.pin_to_text(pinned)
    there = st.query_params.to_dict()
    for name in there:
        if (turned or name not in wanted) and (name in state.RESERVED or state.is_field(name)):
            del st.query_params[name]
    if turned or any(there.get(name) != value for name, value in wanted.items()):
        st.query_params.update(wanted)


def refused() -> Fault | None:
    """Why the last upload or link was not taken; said until the next change."""
    return st.session_state.refused


# ---------------------------------------------------------------------------------------------------- what changes it


def _take(new: State) -> None:
    st.session_state.state = new
    st.session_state.refused = None


def change(path: str, new: Any) -> None:
    """A widget has another value."""
    asked: State = st.session_state.state
    base = answered(asked.base, ()).document
    try:
        _take(fields.edited(asked, base, path, new) if base else asked.change(path, fields.text(new)))
    except CodesignError as error:
        st.session_state.refused = specs.fault_of(error)


def adopt(changes: Sequence[tuple[str, str | None]]) -> None:
    """Take several fields at once, for example a layout that a search found: (dotted field, YAML text or None: as written)."""
    asked: State = st.session_state.state
    try:
        for path, value in changes:
            asked = asked.change(path, value)
        _take(asked)
    except CodesignError as error:
        st.session_state.refused = specs.fault_of(error)


def take_example(name: str) -> None:
    _take(State(example=name))


def take_text(text: str) -> None:
    """A spec edited as text."""
    _take(state.of_text(text))


def take_upload(data: bytes, name: str) -> None:
    """A file; where it cannot be read the spec stays as it is."""
    asked: State = st.session_state.state
    try:
        _take(state.of_text(uploads.taken(data, name, specs.written(asked.base, asked.changes))))
    except CodesignError as error:
        st.session_state.refused = specs.fault_of(error)


def undo() -> None:
    """Back to the spec without the changed fields."""
    asked: State = st.session_state.state
    _take(State(asked.example, asked.text))


def pin() -> None:
    """What is asked now becomes the baseline."""
    st.session_state.pinned = st.session_state.state


def unpin() -> None:
    st.session_state.pinned = None


def back_to_baseline() -> None:
    if st.session_state.pinned is not None:
        _take(st.session_state.pinned)
