"""`app`: the what-if app in a browser."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from typing import Annotated

import typer

from codesign.cli.options import STYLE, epilog
from codesign.errors import SpecError

commands = typer.Typer(**STYLE)


@commands.command(epilog=epilog("codesign app", "codesign app --port 8600 --headless", "codesign app --address 0.0.0.0"))
def app(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the page.")] = 8501,
    address: Annotated[
        str, typer.Option("--address", help="Address to listen on; 0.0.0.0 lets others on the network in.")
    ] = "127.0.0.1",
    headless: Annotated[bool, typer.Option("--headless", help="Open no browser.")] = False,
) -> None:
    """The what-if app: pin a plan, change one thing, see what moved and why. Ends with Ctrl+C.

    Needs the extra packages of codesign[app].
    """
    if importlib.util.find_spec("streamlit") is None:
        raise SpecError("the app needs Streamlit, which is not installed: pip install 'codesign[app]'")
    _refuse_taken(address, port)
    sys.stdout.flush()
    os.execv(sys.executable, command(port, address, headless))


def _refuse_taken(address: str, port: int) -> None:
    """Say it before Streamlit would end with an error of its own."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise SpecError(f"--port {port}: cannot listen on {address}:{port}: {error.strerror}; try another --port") from None


def command(port: int, address: str, headless: bool) -> list[str]:
    """What is run in place of this process; settings that are no option here stand in .streamlit/config.toml."""
    from codesign.spec import datafiles

    return [
        sys.executable, "-m", "streamlit", "run", str(datafiles.root("app.py")), f"--server.port={port}",
        f"--server.address={address}", f"--server.headless={str(headless).lower()}", "--server.fileWatcherType=none",
        "--browser.gatherUsageStats=false",
    ]
