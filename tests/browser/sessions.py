"""Sessions of a Streamlit server without a browser: the server's own protocol over a WebSocket, for load and cross-talk.

A browser a session would measure the browser. A session opens the page as a link does (`query`), then changes widgets by
their label, and gets back what the page shows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

_INPUTS = {"text_area": "string_value", "text_input": "string_value", "selectbox": "string_value", "number_input": "double_value",
           "slider": "double_array_value", "checkbox": "bool_value"}  # fmt: skip
_LARGEST = 64 * 2**20


@dataclass
class Session:
    """One open page. `metrics`: value of each metric by label; `errors`: texts of error boxes; `faults`: exceptions shown."""

    address: str
    query: str = ""
    metrics: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    widgets: dict[str, tuple[str, str]] = field(default_factory=dict)  # label -> (kind, id)
    _states: dict[str, WidgetState] = field(default_factory=dict)
    _socket: Any = None
    _page: str = ""

    async def open(self) -> float:
        """Connect and run the page once; seconds until it is whole."""
        url = self.address.replace("http://", "ws://") + "/_stcore/stream"
        self._socket = await websocket_connect(
            HTTPRequest(url, headers={"Origin": self.address}), subprotocols=["streamlit"], max_message_size=_LARGEST
        )
        return await self._run()

    async def change(self, label: str, value: Any) -> float:
        """Set the widget of that label; seconds until the page has answered."""
        kind, identity = self.widgets[label]
        state = WidgetState(id=identity)
        target = _INPUTS[kind]
        if target == "double_array_value":
            state.double_array_value.data.append(value)
        else:
            setattr(state, target, value)
        self._states[identity] = state
        return await self._run()

    def close(self) -> None:
        self._socket.close()

    async def _run(self) -> float:
        message = BackMsg()
        message.rerun_script.query_string = self.query
        message.rerun_script.page_script_hash = self._page
        for state in self._states.values():
            message.rerun_script.widget_states.widgets.append(state)
        self.metrics, self.errors, self.faults, self.widgets = {}, [], [], {}
        start = time.monotonic()
        await self._socket.write_message(message.SerializeToString(), binary=True)
        while True:
            data = await self._socket.read_message()
            if data is None:
                raise ConnectionError("the server closed the session")
            answer = ForwardMsg()
            answer.ParseFromString(data)
            kind = answer.WhichOneof("type")
            if kind == "new_session":
                self._page = answer.new_session.page_script_hash
            elif kind == "delta":
                self._take(answer.delta)
            elif kind == "script_finished":
                return time.monotonic() - start

    def _take(self, delta: Any) -> None:
        if delta.WhichOneof("type") != "new_element":
            return
        element = delta.new_element
        kind = element.WhichOneof("type")
        one = getattr(element, kind)
        if kind == "metric":
            self.metrics[one.label] = one.body
        elif kind == "alert" and one.format == one.ERROR:
            self.errors.append(one.body)
        elif kind == "exception":
            self.faults.append(f"{one.type}: {one.message}")
        elif kind in _INPUTS:
            self.widgets[one.label] = (kind, one.id)
