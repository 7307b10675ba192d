"""One step of a plan on a time axis: what every pipeline rank computes, communicates and waits for, and its memory.

`timeline(plan)` gives a plain record, `trace(timeline)` its text in the Chrome trace format, `strip(timeline)` a few rows
to draw. `hidden(plan)` the seconds of communication that run beside compute.
Totals of the pacing rank are the parts of the plan's step, and every track ends with the step.
"""

from codesign.timeline.hidden import hidden
from codesign.timeline.passes import Gap
from codesign.timeline.record import MAX_EVENTS, StripRow, Timeline, Track, strip, timeline
from codesign.timeline.trace import trace
from codesign.timeline.tracks import Event

__all__ = ["MAX_EVENTS", "Event", "Gap", "StripRow", "Timeline", "Track", "hidden", "strip", "timeline", "trace"]
