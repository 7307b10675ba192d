"""One step of a plan on a time axis: what every pipeline rank computes, communicates and waits for, and its memory.

`timeline(plan)` gives a plain record, `trace(timeline)` its text in the Chrome trace format, `strip(timeline)` a few rows
to draw. Totals of the pacing rank are the parts of the plan's step, and every track ends with the step. Without a replay,
`shares(plan)` says what that rank does and `hidden(plan)` how much communication runs beside its compute.
"""

from codesign.timeline.hidden import hidden
from codesign.timeline.passes import Gap
from codesign.timeline.record import MAX_EVENTS, Timeline, Track, timeline
from codesign.timeline.strips import StripRow, shares, strip
from codesign.timeline.trace import trace
from codesign.timeline.tracks import Event

__all__ = ["MAX_EVENTS", "Event", "Gap", "StripRow", "Timeline", "Track", "hidden", "shares", "strip", "timeline", "trace"]
