"""The runner by itself, on a throw-away registry of moving boxes: what is ordered, reused, explained and refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from codesign import graph
from codesign.graph import quantity

INDEXES = {"box": ("red", "blue")}
LEAVES: dict[str, Any] = {
    "rate_Bps": np.array([2.0]),
    "wait_s": np.array([1.0]),
    "mode": "plain",
    "size_B[red]": np.array([4.0]),
    "size_B[blue]": np.array([10.0]),
}


@pytest.fixture()
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A registry with a small tree under `total_s`, and the names of its functions in the order in which they are called.

    box_s[red] = 4 / 2 = 2, box_s[blue] = 10 / 2 = 5, boxes_s = 7, pause_s = 1, total_s = 8, slowest_s = 5.
    """
    monkeypatch.setattr(graph, "REGISTRY", {})
    monkeypatch.setattr(graph, "_PROGRAMS", {})
    called: list[str] = []

    @quantity("s", parts=("boxes_s", "pause_s"), hides=("slowest_s",), source="sum")
    def total_s(pause_s, slowest_s, boxes_s, mode):
        """All boxes and the pause."""
        called.append("total_s")
        return boxes_s + pause_s

    @quantity("s")
    def boxes_s(box_s):
        called.append("boxes_s")
        return graph.add(box_s.values())

    @quantity("s", worst_of=("box_s",))
    def slowest_s(box_s):
        called.append("slowest_s")
        return graph.worst(box_s.values())

    @quantity("s", over="box", source="definition")
    def box_s(box, size_B, rate_Bps):
        """One box."""
        called.append(f"box_s[{box}]")
        return size_B / rate_Bps

    @quantity("s")
    def pause_s(wait_s, mode):
        called.append("pause_s")
        return wait_s * (1.0 if mode == "plain" else 3.0)

    @quantity("B", over="box")
    def doubled_B(twice_B):
        called.append("doubled_B")
        return twice_B * 1.0

    @quantity("B", over="box")
    def twice_B(size_B):
        called.append("twice_B")
        return 2.0 * size_B

    @quantity("B")
    def all_sizes_B(size_B):
        called.append("all_sizes_B")
        return graph.add(size_B.values())

    return called


def _program(*targets: str, leaves: dict[str, Any] = LEAVES) -> graph.Program:
    return graph.program(targets, INDEXES, leaves)


# ---------------------------------------------------------------------------------------------------- order, pruning


def test_inputs_come_before_what_needs_them_whatever_the_order_of_registration(calls: list[str]) -> None:
    program = _program("total_s")
    done: set[Any] = set()
    for step in program.steps:
        for how, what in step.inputs:
            keys = [key for _, key in what] if how == "mapping" else [what] if how == "value" else []
            assert all(key in done for key in keys if isinstance(key, tuple)), step.key
        done.add(step.key)
    assert program.run(LEAVES)["total_s", None] == np.array([8.0])
    assert len(calls) == len(set(calls)) == len(program.steps)


def test_only_what_the_targets_rest_on_is_evaluated(calls: list[str]) -> None:
    program = _program("pause_s")
    values = program.run(LEAVES)
    assert calls == ["pause_s"]
    assert program.leaves == {"wait_s", "mode"}
    assert program.depends["pause_s", None] == {"wait_s", "mode"}
    assert {key for key in values if isinstance(key, tuple)} == {("pause_s", None)}


def test_a_total_rests_on_the_leaves_of_all_its_inputs(calls: list[str]) -> None:
    assert _program("total_s").depends["total_s", None] == set(LEAVES)


def test_equal_questions_share_one_program(calls: list[str]) -> None:
    assert _program("total_s") is _program("total_s", leaves={**LEAVES, "rate_Bps": np.array([9.0])})
    assert _program("total_s") is not _program("pause_s")


# ---------------------------------------------------------------------------------------------------- index sets


def test_an_indexed_quantity_sees_its_own_member_and_others_see_the_mapping(calls: list[str]) -> None:
    values = _program("total_s", "doubled_B", "all_sizes_B").run(LEAVES)
    assert values["box_s", "red"] == 2.0 and values["box_s", "blue"] == 5.0
    assert values["twice_B", "blue"] == 20.0 and values["doubled_B", "blue"] == 20.0
    assert values["boxes_s", None] == 7.0 and values["slowest_s", None] == 5.0
    assert values["all_sizes_B", None] == 14.0
    assert {"box_s[red]", "box_s[blue]"} <= set(calls)


def test_a_plain_leaf_serves_every_member_and_comes_before_a_family(calls: list[str]) -> None:
    values = _program("boxes_s", leaves={**LEAVES, "size_B": np.array([6.0])}).run({**LEAVES, "size_B": np.array([6.0])})
    assert values["box_s", "red"] == values["box_s", "blue"] == 3.0


def test_a_given_leaf_takes_the_place_of_a_quantity_of_its_name(calls: list[str]) -> None:
    leaves = {**LEAVES, "pause_s": np.array([100.0])}
    assert _program("total_s", leaves=leaves).run(leaves)["total_s", None] == 107.0
    assert "pause_s" not in calls


def test_a_row_of_a_batch_is_the_value_of_one(calls: list[str]) -> None:
    program = _program("total_s")
    rates = np.array([2.0, 4.0, 5.0])
    batch = program.run({**LEAVES, "rate_Bps": rates})["total_s", None]
    alone = [program.run({**LEAVES, "rate_Bps": rates[at : at + 1]})["total_s", None][0] for at in range(3)]
    assert batch.tolist() == alone


# ---------------------------------------------------------------------------------------------------- overrides


def test_an_override_replaces_a_quantity_wherever_it_is_used(calls: list[str]) -> None:
    values = _program("total_s").run(LEAVES, {"pause_s": 20.0})
    assert values["pause_s", None].tolist() == [20.0]
    assert values["total_s", None] == 27.0
    assert "pause_s" not in calls


def test_an_override_of_an_indexed_quantity_is_for_all_members_or_for_each(calls: list[str]) -> None:
    program = _program("total_s")
    assert program.run(LEAVES, {"box_s": 3.0})["boxes_s", None] == 6.0
    each = program.run(LEAVES, {"box_s": {"red": np.array([1.0]), "blue": np.array([9.0])}})
    assert (each["boxes_s", None], each["slowest_s", None]) == (10.0, 9.0)
    assert not any(name.startswith("box_s") for name in calls)


def test_an_override_is_gone_in_the_next_run(calls: list[str]) -> None:
    program = _program("total_s")
    program.run(LEAVES, {"pause_s": 20.0})
    assert program.run(LEAVES)["total_s", None] == 8.0


# ---------------------------------------------------------------------------------------------------- update


def test_an_update_gives_equal_values_and_evaluates_only_what_rests_on_the_change(calls: list[str]) -> None:
    program = _program("total_s")
    values = program.run({**LEAVES, "mode": "plain"})
    for mode in ("slow", "plain", "slow"):
        calls.clear()
        before = dict(values)
        values = program.update(values, {"mode": mode})
        assert 0 < len(calls) < len(program.steps), (mode, calls)
        calls.clear()
        fresh = program.run({**LEAVES, "mode": mode})
        assert len(calls) == len(program.steps)
        assert values.keys() == fresh.keys()
        assert all(np.array_equal(values[key], fresh[key]) for key in fresh)
        assert before["mode"] != mode  # what was given is left as it was
    assert values["total_s", None] == 10.0


def test_an_update_leaves_out_what_another_program_has_evaluated(calls: list[str]) -> None:
    whole = _program("total_s")
    values = whole.run({**LEAVES, "mode": "plain"})
    calls.clear()
    held = whole.update(values, {"mode": "slow"}, whole)
    assert calls == [] and held["total_s", None] == values["total_s", None] and held["mode"] == "slow"


# ---------------------------------------------------------------------------------------------------- refusals


def test_circular_quantities_are_named(calls: list[str]) -> None:
    @quantity("s")
    def hen_s(egg_s):
        return egg_s

    @quantity("s")
    def egg_s(hen_s):
        return hen_s

    with pytest.raises(ValueError, match="circular quantities: hen_s -> egg_s -> hen_s"):
        _program("hen_s")


def test_a_missing_input_names_who_needs_it(calls: list[str]) -> None:
    leaves = {name: value for name, value in LEAVES.items() if name != "rate_Bps"}
    with pytest.raises(graph.MissingInput, match="'box_s' needs 'rate_Bps'"):
        _program("total_s", leaves=leaves)


def test_half_a_family_of_leaves_is_a_missing_input(calls: list[str]) -> None:
    leaves = {name: value for name, value in LEAVES.items() if name != "size_B[blue]"}
    with pytest.raises(graph.MissingInput, match="'all_sizes_B' needs 'size_B'"):
        _program("all_sizes_B", leaves=leaves)
    with pytest.raises(graph.MissingInput, match="'box_s' needs 'size_B'"):
        _program("total_s", leaves=leaves)


def test_an_unknown_target_is_refused(calls: list[str]) -> None:
    with pytest.raises(graph.MissingInput, match="unknown quantity 'nothing_s'"):
        _program("nothing_s")


def _named(name: str, module: str = __name__) -> Callable[..., Any]:
    def function(wait_s):
        return wait_s

    function.__name__, function.__module__ = name, module
    return function


def test_a_second_equation_for_a_name_is_refused(calls: list[str]) -> None:
    before = graph.REGISTRY["pause_s"]
    with pytest.raises(ValueError, match=f"two equations for 'pause_s': {__name__} and elsewhere"):
        quantity("s")(_named("pause_s", "elsewhere"))
    assert graph.REGISTRY["pause_s"] is before


def test_a_name_whose_suffix_is_of_another_unit_is_refused(calls: list[str]) -> None:
    with pytest.raises(ValueError, match="'rest_B' is registered in 's', its suffix says 'B'"):
        quantity("s")(_named("rest_B"))
    with pytest.raises(ValueError, match="'rest' is registered in 's', its suffix says '1'"):
        quantity("s")(_named("rest"))
    assert not {"rest_B", "rest"} & set(graph.REGISTRY)


def test_an_unknown_unit_is_refused_with_those_that_are_known(calls: list[str]) -> None:
    with pytest.raises(ValueError, match=r"unknown unit 'furlong'; allowed: .*Bps"):
        quantity("furlong")


# ---------------------------------------------------------------------------------------------------- explanation


def _explain(depth: int = 3, **overrides: Any) -> graph.Explanation:
    program = _program("total_s")
    return graph.explain(
        program, program.run(LEAVES, overrides), ("total_s", None), leaf_source=lambda name: f"spec: {name}",
        depth=depth, overridden=frozenset(overrides),
    )


def test_an_explanation_tells_what_each_input_is_to_the_number_above_it(calls: list[str]) -> None:
    top = _explain()
    assert (top.name, top.unit, top.role, top.doc, top.source) == (
        "total_s", "s", "total", "All boxes and the pause.", "sum")
    roles = {child.name: child.role for child in top.inputs}
    assert roles == {"pause_s": "part", "slowest_s": "hidden", "boxes_s": "part", "mode": "leaf"}
    pause, slowest, boxes, _ = top.inputs
    assert [(one.name, one.member, one.role) for one in slowest.inputs] == [
        ("box_s", "red", "worst_of"), ("box_s", "blue", "worst_of")]
    assert [(one.name, one.member, one.role) for one in boxes.inputs] == [
        ("box_s", "red", "input"), ("box_s", "blue", "input")]
    red = boxes.inputs[0]
    assert (red.value, red.doc, red.source) == (np.array([2.0]), "One box.", "definition")
    assert [(leaf.name, leaf.unit, leaf.source, leaf.inputs) for leaf in red.inputs] == [
        ("size_B[red]", "B", "spec: size_B[red]", ()), ("rate_Bps", "Bps", "spec: rate_Bps", ())]
    assert sum(child.value for child in top.inputs if child.role == "part") == top.value
    assert [child.name for child in pause.inputs] == ["wait_s", "mode"]


def test_an_explanation_stops_at_its_depth_and_at_an_override(calls: list[str]) -> None:
    assert _explain(depth=0).inputs == ()
    assert all(child.inputs == () for child in _explain(depth=1).inputs)
    boxes = next(child for child in _explain(boxes_s=50.0).inputs if child.name == "boxes_s")
    assert (boxes.role, boxes.inputs, boxes.value) == ("override", (), np.array([50.0]))


# ---------------------------------------------------------------------------------------------------- units


def test_homogeneous_equations_have_no_unit_errors(calls: list[str]) -> None:
    program = _program("total_s", "doubled_B", "all_sizes_B")
    assert graph.unit_errors(program, program.run(LEAVES)) == []


@pytest.mark.parametrize(
    ("unit", "name", "function"),
    [
        ("s", "late_s", lambda wait_s: wait_s + 1e-3),
        ("s", "swapped_s", lambda wait_s, rate_Bps: wait_s * rate_Bps),
        ("B", "bytes_B", lambda wait_s: wait_s * 5.0),
        ("1", "share", lambda wait_s: wait_s / 7.0),
    ],
)
def test_a_constant_with_a_unit_hidden_in_an_equation_is_found(
    calls: list[str], unit: str, name: str, function: Callable[..., Any]
) -> None:
    function.__name__ = name
    quantity(unit)(function)
    program = _program(name)
    values = program.run(LEAVES)
    (found,) = graph.unit_errors(program, values)
    assert found.startswith(f"{name}: ")
    assert graph.unit_errors(program, values, frozenset({name})) == []


# ---------------------------------------------------------------------------------------------------- arrays


def test_addition_is_from_first_to_last() -> None:
    rows = [np.array([1e16]), np.array([-1e16]), np.array([1.0])]
    assert graph.add(rows).tolist() == [1.0]
    assert graph.add(reversed(rows)).tolist() == [0.0]  # 1 is lost beside 1e16
    assert graph.add(row for row in ()).tolist() == [0.0]


def test_worst_is_the_elementwise_maximum_of_rows_that_broadcast() -> None:
    assert graph.worst([np.array([1.0, 9.0]), np.array([5.0])]).tolist() == [5.0, 9.0]
    assert graph.worst([]).tolist() == [0.0]


def test_stack_lays_rows_that_broadcast_along_a_new_axis() -> None:
    stacked = graph.stack(np.array([1.0, 2.0]), np.array([3.0]))
    assert stacked.tolist() == [[1.0, 2.0], [3.0, 3.0]]
