"""Published failure reports: rates and lost time, each report told by the rest; and the data file of default rates.

`python -m codesign.evidence.failures` prints the predictions; with `--write` it writes `spec/data/failure_rates.yaml`.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from codesign.evidence.score import mark
from codesign.spec import datafiles, failure_rates, profiles
from codesign.spec.goodput import fabric_units

NODE = 8.0  # accelerators; published rates are by server of eight
DAY_H = 24.0
MONTH_H = 730.5
# Student's t, 90th percentile, by degrees of freedom (any table of it)
T90 = (3.078, 1.886, 1.638, 1.533, 1.476, 1.440, 1.415, 1.397, 1.383, 1.372)
# Llama 3, Table 5: which causes are which component; the two remaining ones are split below
CAUSES = {
    "accelerator": ("faulty GPU", "GPU HBM3 memory", "GPU SRAM memory", "GPU system processor", "GPU thermal interface + sensor"),
    "host": (
        "host maintenance (unplanned)", "SSD", "power supply", "server chassis", "IO expansion board", "CPU",
        "system memory",
    ),
    "nic": ("NIC",),
    "software": ("software bug", "NCCL watchdog timeouts", "dependency"),
    "corruption": ("silent data corruption",),
}  # fmt: skip
FABRIC = "network switch/cable"


@dataclass(frozen=True)
class Rate:
    """A reported rate of interruptions of large jobs. `fitted`: part of the pool; else why it is only predicted."""

    name: str
    report: str  # the row that it is from: what is left out together
    per_1000_node_days: float
    accelerators: float
    fitted: bool = True
    why: str = ""

    @property
    def hours(self) -> float:
        """Mean time to failure of the reported job or cluster."""
        return DAY_H / (self.per_1000_node_days / 1000.0 * self.accelerators / NODE)


@dataclass(frozen=True)
class Lost:
    """A reported share of time that was lost. `bound`: at most that. `hours`: its own mean time to failure, if printed."""

    name: str
    report: str
    share: float
    accelerators: float
    hours: float | None = None
    bound: bool = False


@dataclass(frozen=True)
class Prediction:
    """What the other reports say of one: `value` and an 80 % interval, beside what is printed."""

    name: str
    printed: float
    value: float
    low: float
    high: float
    bound: bool = False

    @property
    def holds(self) -> bool:
        return self.low <= self.printed and (self.bound or self.printed <= self.high)


# ---------------------------------------------------------------------------------------------------- what is reported


@cache
def reports() -> Mapping[str, dict[str, Any]]:
    """The rows of measured_runs/failures.jsonl by id."""
    path = datafiles.root("measured_runs") / "failures.jsonl"
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return {row["id"]: row for row in rows}


def _per_node_days(events: float, accelerators: float, days: float) -> float:
    return 1000.0 * events / (accelerators / NODE * days)


def _number(text: str | float) -> float:
    return float(text.strip("<>~").replace(",", "").replace("%", "")) if isinstance(text, str) else float(text)


def _size(text: str) -> float:
    """The accelerators named in 'dense, 9600 GPUs, 3 months'."""
    return float(re.findall(r"([0-9,]+) GPUs", text)[0].replace(",", ""))


def _above(text: str) -> tuple[float, float]:
    """Share lost and accelerators of '~0.9 for jobs above 1024 GPUs'."""
    return 1.0 - _number(text.partition(" ")[0]), _size(text)


def rates() -> list[Rate]:
    """Every report with interruptions over known accelerators and time."""
    row = reports()
    llama, rsc, bloom = row["llama3-405b-54d"], row["meta-rsc-2023"], row["bloom-2022"]
    opt, crusoe, hsdp = row["opt175b-2021"], row["crusoe-h200"], row["ft-hsdp-100k"]
    restarts = opt["counts"]["manual restarts (paper)"] + opt["counts"]["automatic restarts (paper, estimate)"]
    crashes, weekly = crusoe["counts"]["failures"], next(iter(bloom["counts"].values()))

    def counted(name: str, held: dict[str, Any], events: float) -> Rate:
        days = _number(held["days"])
        return Rate(name, held["id"], _per_node_days(events, held["accelerators"], days), held["accelerators"])

    found = [
        counted("llama-3", llama, llama["unexpected"]),
        *(
            Rate(name.lower(), rsc["id"], rate, rsc["accelerators"][name])
            for name, rate in rsc["failures_per_1000_node_days"].items()
        ),
        counted("opt-175b", opt, restarts),
        counted("bloom", bloom, weekly),
        counted("crusoe-h200", crusoe, crashes),
    ]
    why = "a job's own time to failure, beside the rate of its cluster: the report shows two populations"
    for name, size in (("rsc job of 8", "8 GPUs"), ("rsc job of 1024", "1024 GPUs (measured)")):
        accelerators = _number(size.partition(" ")[0])
        events = DAY_H / rsc["mttf_hours"][size]
        found.append(Rate(name, rsc["id"], _per_node_days(events, accelerators, 1.0), accelerators, False, why))
    day = 24 * 60 / hsdp["mttf_minutes"]
    why = "its rate and its mean time contradict each other 2.8 times"
    found.append(Rate("ft-hsdp", hsdp["id"], _per_node_days(day, hsdp["accelerators"], 1.0), hsdp["accelerators"], False, why))
    return found


def lost() -> list[Lost]:
    """Every report with a share of lost time at a known number of accelerators."""
    row = reports()
    llama, mega, byte = row["llama3-405b-54d"], row["megascale-10k"], row["byterobust-3mo"]
    rsc, hsdp = row["meta-rsc-2023"], row["ft-hsdp-100k"]
    hours = hsdp["mttf_minutes"] / 60.0
    (dense, dense_size), (moe, moe_size) = ((share, _size(name)) for name, share in byte["ettr"].items())

    def bound(held: dict[str, Any]) -> float:
        return 1.0 - _number(held["effective_training_time"]) / 100.0

    return [
        Lost("llama-3", llama["id"], bound(llama), llama["accelerators"], llama["mttf_hours"], True),
        Lost("megascale", mega["id"], bound(mega), _number(mega["accelerators"]), None, True),
        Lost("byterobust dense", byte["id"], 1.0 - dense, dense_size),
        Lost("byterobust moe", byte["id"], 1.0 - moe, moe_size),
        Lost("rsc above 1024", rsc["id"], *_above(rsc["ettr"]), rsc["mttf_hours"]["1024 GPUs (measured)"]),
        Lost("ft-hsdp before", hsdp["id"], 1.0 - hsdp["effective_training_time"]["before"], hsdp["accelerators"], hours),
        Lost("ft-hsdp after", hsdp["id"], 1.0 - hsdp["effective_training_time"]["after"], hsdp["accelerators"], hours),
    ]  # fmt: skip


# Rows that give no rate or no lost time over known accelerators, and why.
UNUSED = {
    "gemini25-v5p": "several interruptions an hour on several pods: neither is a number",
    "gemini1-goodput": "no accelerators printed",
    "palm-spikes": "loss spikes, not failures; no days printed",
    "tpuv4-components": "rates of single components, not of a job",
    "alibaba-c4": "no accelerators printed",
    "alibaba-hpn-links": "rates of links and switches: they split the network's share",
    "olmo-hybrid": "no accelerators printed; its recovery times are used",
    "superbench": "defective nodes at validation, not failures of a run",
    "semianalysis-mtbi": "a range by hearsay",
    "vast-405b": "no accelerators printed; it restates Llama 3",
    "intellect1-nodes": "the worst case only",
    "imbue-70b": "not confirmed, no numbers",
}


# ---------------------------------------------------------------------------------------------------- each told by the rest


def _told(logs: Sequence[float]) -> tuple[float, float]:
    """Mean of logarithms, and the half-width of the 80 % interval of one more of them."""
    count = len(logs)
    spread = float(np.std(logs, ddof=1))
    return float(np.mean(logs)), T90[min(count - 1, len(T90)) - 1] * spread * math.sqrt(1.0 + 1.0 / count)


def _pool(but: str = "") -> list[float]:
    return [math.log(rate.per_1000_node_days) for rate in rates() if rate.fitted and rate.report != but]


def predicted_hours() -> list[Prediction]:
    """Mean time to failure of each report, hours, from the rates of the others."""
    found = []
    for rate in rates():
        middle, half = _told(_pool(rate.report))
        scale = DAY_H / (rate.accelerators / NODE / 1000.0)
        low, value, high = (scale / math.exp(middle + sign * half) for sign in (1, 0, -1))
        found.append(Prediction(rate.name, rate.hours, value, low, high))
    return found


def _lost_hours(but: str) -> list[float]:
    """Logarithms of the hours lost with each interruption: -ln(goodput) x mean time to failure, reports of a bound left out."""
    rate = math.exp(float(np.mean(_pool(but))))
    logs = []
    for one in lost():
        if one.report != but and not one.bound:
            hours = one.hours or DAY_H / (rate / 1000.0 * one.accelerators / NODE)
            logs.append(math.log(-math.log1p(-one.share) * hours))
    return logs


def predicted_lost() -> list[Prediction]:
    """Share of time lost in each report, from the rates and the hours lost with an interruption of the others.

    1 - e^(-rate hours): EQ-63 where the loss of an interruption is a restart. Both spreads are in the interval.
    """
    found = []
    for one in lost():
        rate, rate_half = _told(_pool(one.report))
        hours, hours_half = _told(_lost_hours(one.report))
        half = math.hypot(rate_half, hours_half)
        met = math.log(one.accelerators / NODE / 1000.0 / DAY_H) + rate + hours
        low, value, high = (-math.expm1(-math.exp(met + sign * half)) for sign in (-1, 0, 1))
        found.append(Prediction(one.name, one.share, value, low, high, one.bound))
    return found


def lines() -> Iterator[str]:
    """Bar 2: each report told by the rest, and how many of the intervals hold."""
    for title, made, unit in (
        ("mean time to failure, hours", predicted_hours(), "{:.3g} h"), ("lost time, share", predicted_lost(), "{:.1%}"),
    ):  # fmt: skip
        yield title
        for one in made:
            printed, value, low, high = (unit.format(x) for x in (one.printed, one.value, one.low, one.high))
            at_most = "at most " if one.bound else ""
            said = f"printed {at_most}{printed}, told {value} ({low} to {high})"
            yield f"  {one.name:18} {said}{'' if one.holds else '  OUTSIDE'}"
        share = held(made)
        yield f"  {mark(share >= 0.75)} the 80 % interval holds in {share:.0%} of {len(made)} (bar 75 %)"
    for name, why in UNUSED.items():
        yield f"  not told: {name}: {why}"


def held(made: Sequence[Prediction]) -> float:
    """Share of the predictions whose interval holds."""
    return sum(one.holds for one in made) / len(made)


# ---------------------------------------------------------------------------------------------------- the default rates


def shares() -> dict[str, float]:
    """Share of interruptions by component: the causes of Llama 3, its network split by the rates of links and switches."""
    row = reports()["llama3-405b-54d"]
    counts, total = row["counts"], sum(row["counts"].values())
    found = {name: sum(counts[cause] for cause in causes) / total for name, causes in CAUSES.items()}
    cables, switches = _llama_fabric()
    monthly = reports()["alibaba-hpn-links"]["monthly_failure_fraction"]
    link, switch = cables * monthly["NIC-ToR link"], switches * monthly["ToR switch"]
    network = counts[FABRIC] / total
    return {**found, "link": network * link / (link + switch), "switch": network * switch / (link + switch)}


def _llama_fabric() -> tuple[float, float]:
    out = profiles.load("h100-sxm-80gb", fabric="llama3-roce").scale_out
    assert out is not None
    accelerators = float(reports()["llama3-405b-54d"]["accelerators"])
    return fabric_units(accelerators, out.rail_group.value, out.pod.value, out.taper.value, 64.0)


def mean_hours(per_1000_node_days: float) -> dict[str, float]:
    """Mean time between failures of one unit of each component, hours, at a rate of all of them together."""
    accelerators = float(reports()["llama3-405b-54d"]["accelerators"])
    cables, switches = _llama_fabric()
    units = {
        "accelerator": accelerators, "host": accelerators / NODE, "nic": accelerators, "link": cables,
        "switch": switches, "software": accelerators, "corruption": accelerators,
    }  # fmt: skip
    job = per_1000_node_days / 1000.0 * accelerators / NODE / DAY_H  # interruptions an hour
    found = shares()
    return {name: units[name] / (job * found[name]) for name in units}


def data_file() -> str:
    """The text of codesign/spec/data/failure_rates.yaml."""
    middle, half = _told(_pool())
    pooled = [rate for rate in rates() if rate.fitted]
    mix = "split by the causes of Llama 3 (Table 5), links and switches by the rates of Alibaba HPN"
    out = [
        "# Written by codesign.evidence.failures from measured_runs/failures.jsonl. Hours are of one unit: an accelerator, a",
        "# host, a NIC, a cable, a switch; of software and silent corruption its part on one accelerator. No report has a rate",
        "# of sites.",
        "sets:",
    ]

    def put(name: str, rate: float, kind: str, source: str, sizes: Sequence[float], extra: Sequence[str] = ()) -> None:
        out.extend([f"  {name}:", f"    per_1000_node_days: {rate:.4g}", f"    largest: {max(sizes):g}  # accelerators"])
        out.extend([f"    kind: {kind}", f"    source: {json.dumps(source)}"])
        out.extend(f"    {line}" for line in extra)
        out.append("    mean_hours_between_failures:")
        out.extend(f"      {part}: {hours:.5g}" for part, hours in mean_hours(rate).items())

    names = ", ".join(rate.name for rate in pooled)
    spread = [f"low: {math.exp(-half):.4g}  # factors of the 80 % interval of one more report", f"high: {math.exp(half):.4g}"]
    put("pooled", math.exp(middle), "fitted", f"geometric mean of {names}; {mix}", [rate.accelerators for rate in pooled], spread)
    for rate in pooled:
        title = reports()[rate.report]["source"]["title"]
        own = rate.name == "llama-3"
        split = "its causes, links and switches by the rates of Alibaba HPN" if own else mix
        kind = "measured" if own else "fitted"
        put(rate.name, rate.per_1000_node_days, kind, f"{title}; {split}", [rate.accelerators])
    out.append("practice:")
    byte, olmo = reports()["byterobust-3mo"], reports()["olmo-hybrid"]
    robust, hybrid = byte["source"]["title"], olmo["source"]["title"]
    placed_s, started_s = 60.0 * _number(byte["failover_minutes"].split()[0]), 60.0 * olmo["recovery_minutes"]["median"]
    for name, seconds, kind, source in (
        ("detect", float(byte["detect_seconds"]), "measured", robust),
        ("reschedule", placed_s, "measured", f"{robust}: more than 10 min at 10,000 GPUs"),
        ("restart", started_s, "assumed", f"{hybrid}: median recovery, taken for the start-up alone"),
    ):
        out.extend([f"  {name}:", f"    s: {seconds:g}", f"    kind: {kind}", f"    source: {json.dumps(source)}"])
    return "\n".join(out) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    if "--write" in (sys.argv[1:] if argv is None else argv):
        failure_rates.FILE.write_text(data_file(), encoding="utf-8")
    for line in lines():
        print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
