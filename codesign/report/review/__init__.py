"""The design review: one document made from a plan, written as HTML or as Markdown.

document = review.of_plan(plan, run)
review.html(document), review.markdown(document)
"""

from codesign.report.review.build import of_change, of_plan
from codesign.report.review.html import html
from codesign.report.review.markdown import markdown

__all__ = ["html", "markdown", "of_change", "of_plan"]
