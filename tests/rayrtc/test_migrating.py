"""docs/migrating.md says of each name of FastRTC whether it is here; this is where that is true.

FastRTC itself is not needed: what it has is listed in `fastrtc_names.txt`.
"""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

import rayrtc
from rayrtc.messages import MessageType

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (`.+?`) \| (same|changed|absent) \|(.*)\|$", re.MULTILINE)


class Row(NamedTuple):
    """What the document says of a name."""

    verdict: str
    text: str


class Fact(NamedTuple):
    """A name of FastRTC: its module, and its parameters if it can be called."""

    module: str
    parameters: str | None


class Handler(rayrtc.AsyncStreamHandler):
    async def receive(self, frame: rayrtc.AudioFrame) -> None: ...

    async def emit(self) -> rayrtc.AudioEmitType: ...

    def copy(self) -> "Handler":
        return Handler()


def documented() -> dict[str, dict[str, Row]]:
    """The rows of each section by the names in their first column."""
    sections: dict[str, dict[str, Row]] = {}
    for section in (ROOT / "docs" / "migrating.md").read_text().split("\n## ")[1:]:
        rows = sections[section.splitlines()[0]] = {}
        for names, verdict, text in ROW.findall(section):
            for name in re.findall(r"`([^`]+)`", names):
                assert name not in rows, f"{name} has two rows"
                rows[name] = Row(verdict, text)
    return sections


def facts() -> dict[str, Fact]:
    found: dict[str, Fact] = {}
    module = ""
    for line in (Path(__file__).parent / "fastrtc_names.txt").read_text().splitlines():
        if line.startswith("["):
            module = line.strip("[]")
        elif not line.startswith("#"):
            name, call, parameters = line.partition("(")
            found[name] = Fact(module, parameters[:-1] if call else None)
    return found


SECTIONS = documented()
FACTS = facts()
OTHER = ("Import paths", "Routes", "Messages")
NAMES = {
    name: row
    for title, rows in SECTIONS.items()
    if title not in OTHER
    for name, row in rows.items()
}
PRESENT = [name for name, row in NAMES.items() if row.verdict != "absent"]


def reply(audio: rayrtc.AudioFrame) -> None: ...


def subject(name: str) -> Any:
    """What to look at for `name`: an instance where attributes are set by the constructor."""
    examples: dict[str, Any] = {
        "Stream": lambda: rayrtc.Stream(Handler(), modality="audio"),
        "StreamHandlerBase": Handler,
        "ReplyOnPause": lambda: rayrtc.ReplyOnPause(reply),
        "ReplyOnStopWords": lambda: rayrtc.ReplyOnStopWords(reply, ["computer"]),
        "AdditionalOutputs": rayrtc.AdditionalOutputs,
        "CloseStream": rayrtc.CloseStream,
    }
    return examples[name]() if name in examples else getattr(rayrtc, name, None)


def has(name: str) -> bool:
    owner, _, member = name.rpartition(".")
    if not owner:
        return name in rayrtc.__all__
    if member in getattr(getattr(rayrtc, owner), "__annotations__", ()):
        return True  # a key, or an attribute that is set by a constructor
    return member in dir(subject(owner))  # the value may be there in a call only


def parameters(function: Any) -> dict[str, inspect.Parameter]:
    found = dict(inspect.signature(function).parameters)
    found.pop("self", None)
    return found


def ours(name: str) -> Any:
    owner, _, member = name.rpartition(".")
    if not owner:
        return getattr(rayrtc, name)
    if name == "StreamHandlerBase.shutdown":
        return rayrtc.StreamHandler.shutdown
    return inspect.getattr_static(getattr(rayrtc, owner), member)


def test_every_name_has_a_row_and_every_row_a_name() -> None:
    assert set(FACTS) == set(NAMES)


@pytest.mark.parametrize("name", PRESENT)
async def test_name_is_here(name: str) -> None:
    """A call that was written for FastRTC binds; what does not is named in the row."""
    assert has(name)
    declared = FACTS[name].parameters
    if declared is None:
        return
    theirs = parameters(eval(f"lambda {declared}: None"))
    function = ours(name)
    here = {} if isinstance(function, property) else parameters(function)  # gives an endpoint
    if NAMES[name].verdict == "changed":
        excused = re.findall(r"`(\w+)`", NAMES[name].text)
        theirs = {key: value for key, value in theirs.items() if key not in excused}
        here = {key: value for key, value in here.items() if key in theirs}
    assert list(here)[: len(theirs)] == list(theirs)
    for parameter in here:
        default = here[parameter].default
        if parameter not in theirs:
            assert default is not inspect.Parameter.empty, f"{parameter} is new and has no default"
        else:
            assert here[parameter].kind == theirs[parameter].kind
            assert theirs[parameter].default in (inspect.Parameter.empty, ..., default)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(PRESENT)))
async def test_name_is_absent(name: str) -> None:
    with pytest.raises((AttributeError, ImportError)):  # the latter says what to do instead
        getattr(rayrtc, name)
    assert not has(name)


@pytest.mark.parametrize(("path", "row"), SECTIONS["Import paths"].items())
def test_import_path(path: str, row: Row) -> None:
    name = path.replace("fastrtc", "rayrtc", 1)
    if row.verdict == "absent":
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)
        return
    module = importlib.import_module(name)
    for fact, (where, _) in FACTS.items():
        inside = where == path.removeprefix("fastrtc.") or where.startswith(path[8:] + ".")
        if inside and "." not in fact and NAMES[fact].verdict != "absent":
            assert getattr(module, fact) is getattr(rayrtc, fact), fact


def test_every_module_has_a_path() -> None:
    modules = {f"fastrtc.{fact.module}" for fact in FACTS.values()}
    packages = {module.rpartition(".")[0] for module in modules} - {"fastrtc"}
    assert set(SECTIONS["Import paths"]) == modules | packages


def test_routes_are_here() -> None:
    app = FastAPI()
    rayrtc.Stream(Handler(), modality="audio").mount(app)
    here = {
        f"{method} {context.path}"
        for context in iter_route_contexts(app.router.routes)
        for method in (context.methods or {"WS"})
    }
    assert set(SECTIONS["Routes"]) == {
        "POST /webrtc/offer",
        "WS /websocket/offer",
        "WS /telephone/handler",
        "POST /telephone/incoming",
    }
    assert set(SECTIONS["Routes"]) <= here


def test_messages_are_here() -> None:
    assert set(SECTIONS["Messages"]) == set(get_args(MessageType))


def test_a_handler_module_moves_by_one_word() -> None:
    """As people write it, from whichever module of FastRTC."""
    code = (
        "from fastrtc import ReplyOnPause, Stream\n"
        "from fastrtc.pause_detection import get_silero_model\n"
        "from fastrtc.reply_on_pause import AlgoOptions, AppState, create_message\n"
        "from fastrtc.tracks import HandlerType, WebRTCData\n"
        "from fastrtc.utils import AdditionalOutputs, audio_to_bytes, current_channel\n"
        "import fastrtc.utils as utils\n"
        "utils.audio_to_float32\n"
    )
    exec(code.replace("fastrtc", "rayrtc"), {})
